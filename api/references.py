"""References: what stands between the braces of a template, such as `.Params.size | default "1"`.

Knows which roots and keys exist and what a pipe does; never knows where the values come from. Kept on the standard
library alone: every Job pays for this import.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import NamedTuple

from api.percent import percent_encoded

Values = Mapping[str, Mapping[str, str | Mapping[str, str]]]
"""By root, then by key; `.Metadata.labels` and `.Metadata.annotations` hold one level more."""

_KEYS: dict[str, tuple[str, ...] | None] = {
    "Metadata": ("name", "namespace", "uid", "labels", "annotations"),
    "Params": None,
    "Endpoint": ("name", "host", "port", "database"),
    "Operation": ("id",),
    "Generated": ("password",),
    "Result": None,
}
"""The keys under each root; None: whatever the class, the user or the procedure names."""
_MAPS = frozenset({("Metadata", "labels"), ("Metadata", "annotations")})
_ALIASES = {"Parameters": "Params"}

ALL_ROOTS = frozenset(_KEYS)

_FUNCTIONS: dict[str, Callable[[str], str]] = {
    # Go writes a space as "+", which is one in a query only: in a URI's password libraries take it for a plus.
    "urlquery": lambda value: percent_encoded(value.encode()),
    "lower": str.lower,
    "upper": str.upper,
    "b64enc": lambda value: b64encode(value.encode()).decode("ascii"),
}

SUPPORTED = (
    "supported are references such as {{ .Metadata.name }} and {{ .Params.size }}, "
    'with the pipes urlquery, default "x", lower, upper, trunc N and b64enc'
)
_SHOWN = 20
"""How many available names a message lists."""
_SHOWN_TEXT = 200
"""How many characters of a template it shows."""


class TemplateError(ValueError):
    """A template that cannot be parsed or rendered; the message says the cure and never contains a value."""


class MissingValue(TemplateError):
    """A reference whose key has no value; `reference` is the first such."""

    def __init__(self, message: str, reference: Reference):
        super().__init__(message)
        self.reference = reference


class Pipe(NamedTuple):
    """One step of a pipeline; `argument` is the text of `default`, the number of `trunc`, else None."""

    name: str
    argument: str | int | None = None

    def __str__(self) -> str:
        if isinstance(self.argument, str):
            return f"{self.name} {_quote(self.argument)}"
        return self.name if self.argument is None else f"{self.name} {self.argument}"

    def apply(self, value: str | None) -> str | None:
        """What becomes of `value`; None, a missing value, stays missing in all pipes but `default`."""
        if self.name == "default":
            return value or str(self.argument)
        if value is None:
            return None
        if self.name == "trunc":
            # sprig cuts bytes, which can leave half a character; this cuts characters.
            count = int(self.argument or 0)
            return value[:count] if count >= 0 else value[count:]
        return _FUNCTIONS[self.name](value)


class Reference(NamedTuple):
    """One `{{ … }}`: a path such as `("Metadata", "labels", "team")` and the pipes that its value goes through."""

    path: tuple[str, ...]
    pipes: tuple[Pipe, ...] = ()

    @classmethod
    def parse(cls, expression: str) -> Reference:
        """Read what stands between the braces; raises TemplateError."""
        reference = re.match(_PATH, expression)
        if reference is None:
            raise TemplateError(_refusal(expression))
        path = tuple(reference["path"].split(".")[1:])
        path = (_ALIASES.get(path[0], path[0]), *path[1:])
        _check_path(path)
        pipes: list[Pipe] = []
        position = reference.end()
        while position < len(expression):
            pipe = re.compile(_PIPE).match(expression, position)
            if pipe is None:
                raise TemplateError(f"it goes on after {shortened(expression[:position].strip())}; {SUPPORTED}")
            pipes.append(_parse_pipe(pipe["name"], pipe["argument"]))
            position = pipe.end()
        return cls(path, tuple(pipes))

    def __str__(self) -> str:
        return " | ".join([self.name, *map(str, self.pipes)])

    @property
    def root(self) -> str:
        """`Metadata`, `Params`, …"""
        return self.path[0]

    @property
    def name(self) -> str:
        """Its path as a template writes it, without pipes: `.Params.size`."""
        return "".join(f".{key}" for key in self.path)

    def lookup(self, values: Values) -> str | None:
        """The value at its path before any pipe; None when there is none."""
        found: str | Mapping[str, str] | None = values[self.root].get(self.path[1])
        if len(self.path) > 2:
            found = found.get(self.path[2]) if isinstance(found, Mapping) else None
        return found if isinstance(found, str) else None

    def value(self, values: Values) -> str | None:
        """The value at its path after all pipes; None when there is none."""
        value = self.lookup(values)
        for pipe in self.pipes:
            value = pipe.apply(value)
        return value


def available(reference: Reference, values: Values) -> str:
    """What could have been referred to instead of `reference`, in words: names, never values."""
    siblings: str | Mapping[str, str | Mapping[str, str]] | Mapping[str, str] = values.get(reference.root, {})
    if len(reference.path) > 2 and isinstance(siblings, Mapping):
        siblings = siblings.get(reference.path[1], {})
    prefix = "".join(f".{key}" for key in reference.path[:-1])
    names = sorted(siblings) if isinstance(siblings, Mapping) else []
    if not names:
        return f"there is no {prefix} at all"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "available are " + ", ".join(f"{prefix}.{name}" for name in names[:_SHOWN]) + more


def is_identifier(text: str) -> bool:
    """Whether Go takes `text` as a field name: letters of any script, digits, underscore; no digit first."""
    return (
        bool(text)
        and not text[0].isdecimal()
        and all(character == "_" or character.isalpha() or character.isdecimal() for character in text)
    )


# Compiled where they are used first (`re` keeps them): most Jobs meet no reference.
# A string may contain the delimiters. Alternatives begin with different characters, so nothing backtracks.
STRING = r'"(?:[^"\\\n]|\\[^\n])*"|`[^`]*`'
_PATH = r"[ \t]*(?P<path>(?:\.\w+)+)[ \t]*(?=\||\Z)"
_PIPE = r"\|[ \t]*(?P<name>\w+)(?:[ \t]+(?P<argument>" + STRING + r'|[^ \t|"`]+))?[ \t]*(?=\||\Z)'
_NUMBER = r"[+-]?(?:0|[1-9][0-9]{0,8})"
_ESCAPE = (
    r"""\\(?:(?P<simple>[abfnrtv\\"])|(?P<byte>x[0-9a-fA-F]{2}|[0-3][0-7]{2})"""
    r"""|(?P<rune>u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}))|(?P<bad>\\)|(?P<text>[^\\]+)"""
)
_SIMPLE = dict(zip('abfnrtv\\"', '\a\b\f\n\r\t\v\\"', strict=True))
_SIMPLE_BACK = {value: "\\" + key for key, value in _SIMPLE.items()}


def _check_path(path: tuple[str, ...]) -> None:
    root, *keys = path
    name = shortened("".join(f".{key}" for key in path))
    if root not in _KEYS:
        raise TemplateError(f"{name} is unknown; available are {', '.join(f'.{known}' for known in _KEYS)}")
    if not all(map(is_identifier, keys)):
        raise TemplateError(f"{name} is no reference; a key is letters, digits and _, and begins with no digit")
    known = _KEYS[root]
    if not keys:
        raise TemplateError(f"{name} is not one value; write {name}.{known[0] if known else 'key'}")
    if known is not None and keys[0] not in known:
        raise TemplateError(f"{name} is unknown; available are {', '.join(f'.{root}.{key}' for key in known)}")
    depth = 2 if (root, keys[0]) in _MAPS else 1
    if len(keys) < depth:
        raise TemplateError(f"{name} is not one value; write {name}.key")
    if len(keys) > depth:
        parent = "".join(f".{key}" for key in path[: depth + 1])
        raise TemplateError(f"{name} is unknown; {parent} is a text and has no keys")


def _parse_pipe(name: str, argument: str | None) -> Pipe:
    if name in _FUNCTIONS:
        if argument is not None:
            raise TemplateError(f"the pipe {name} takes no argument")
        return Pipe(name)
    if name == "default":
        if argument is None or argument[0] not in '"`':
            raise TemplateError('the pipe default takes a text in quotes; write default "x"')
        return Pipe(name, argument[1:-1].replace("\r", "") if argument[0] == "`" else _unquote(argument[1:-1]))
    if name == "trunc":
        if argument is None or not re.fullmatch(_NUMBER, argument):
            raise TemplateError("the pipe trunc takes a number; write trunc 63, or trunc -63 for the last 63")
        return Pipe(name, int(argument))
    raise TemplateError(f"there is no pipe {name}; {SUPPORTED}")


def _unquote(text: str) -> str:
    """What a Go string literal means (Go specification, "String literals"); `\\xHH` and octal are bytes."""
    data = bytearray()
    for match in re.finditer(_ESCAPE, text):
        if match["text"]:
            data += match["text"].encode()
        elif simple := match["simple"]:
            data += _SIMPLE[simple].encode()
        elif byte := match["byte"]:
            data.append(int(byte[1:], 16) if byte[0] == "x" else int(byte, 8))
        elif rune := match["rune"]:
            data += _rune(int(rune[1:], 16)).encode()
        else:
            raise TemplateError('the text of default has an escape that Go does not know; write \\\\ for a "\\"')
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TemplateError("the text of default is not UTF-8") from None


def _rune(code: int) -> str:
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise TemplateError("the text of default has an escape that is no character")
    return chr(code)


def _quote(text: str) -> str:
    escaped = (_SIMPLE_BACK.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c) for c in text)
    return f'"{"".join(escaped)}"'


def _refusal(expression: str) -> str:
    """Why something between braces is no reference, in words."""
    stripped = expression.strip()
    if not stripped:
        return f"{{{{ }}}} is empty; {SUPPORTED}"
    if stripped.startswith("/*"):
        return f"comments are not supported; {SUPPORTED}"
    if expression[0] == "-" or expression[-1] == "-":
        return f"the trim markers {{{{- and -}}}} are not supported; {SUPPORTED}"
    return f"{{{{ {shortened(stripped)} }}}} is not supported; {SUPPORTED}"


def shortened(text: str) -> str:
    """As much of a text as a message shows."""
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "…"
