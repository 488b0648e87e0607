"""Manifests as people keep them: YAML or JSON files of several documents and lists, read as kubectl reads them.

Knows where each field stands and which key stands twice; nothing of what an object means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from api.faults import Fault
from api.kinds import Manifest

_TAG = "tag:yaml.org,2002:"
_NODES = 200_000
"""How many values one file may have; aliases make few lines into many."""


class Unreadable(ValueError):
    """A file that is neither YAML nor JSON; the message begins with file and line."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    file: str
    number: int
    """Of the document in its file, from 1."""
    line: int
    """Where the object begins, from 1."""
    manifest: Manifest
    twice: tuple[Fault, ...] = ()
    """The keys that stand twice in it."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """By path, its parts joined with dots."""

    def line_of(self, path: str) -> int:
        """Where a field stands, or the nearest one around it that does; `path` as faults have it."""
        parts = path.replace("[", ".").replace("]", "").split(".")
        places = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((self.lines[place] for place in places if place in self.lines), self.line)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with the scalars that Go's library knows: dates are texts, `y` is true, 1:30 is no number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own


_BOOLEANS = {"y": True, "yes": True, "on": True, "true": True, "n": False, "no": False, "off": False, "false": False}
for _name, _pattern in {
    "bool": r"y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|true|True|TRUE|false|False|FALSE",
    "null": r"|~|null|Null|NULL",
    "int": r"[-+]?(0|[1-9][0-9_]*|0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
    "merge": "<<",
}.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern})\Z"), None)


def read(text: str, file: str) -> Iterator[Document]:
    """The objects of a file's text, those of lists one by one; raises Unreadable."""
    # JSON is not quite a part of YAML 1.1: tabs, and halves of surrogate pairs.
    documents = _from_json(text) if text.lstrip()[:1] in ("{", "[") else None
    for number, document in enumerate(documents or _from_yaml(text, file), 1):
        if document.value is None:
            continue
        yield from _objects(document, file, number)


@dataclass
class _Parsed:
    """A document as it is being read."""

    line: int
    value: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    twice: list[Fault] = field(default_factory=list)
    _left: int = _NODES

    def convert(self, node: yaml.Node, path: str = "") -> Any:
        """A node as JSON has it; ValueError for what JSON has not."""
        self._left -= 1
        if self._left < 0:
            raise yaml.MarkedYAMLError(problem="has too many values", problem_mark=node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._child(item, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        whole: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        began: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    merged = {**self._merged(source, path), **merged}
                continue
            name = _key(key)
            place = f"{path}.{name}" if path else name
            line = key.start_mark.line + 1
            if name in whole:
                self.twice.append(Fault(place, f"stands twice, on lines {began[name]} and {line}; keep one of them"))
            began[name] = line
            whole[name] = self._child(key, value, place)
        return {**merged, **whole}

    def _child(self, where: yaml.Node, node: yaml.Node, path: str) -> Any:
        self.lines[path.replace("[", ".").replace("]", "")] = where.start_mark.line + 1
        return self.convert(node, path)

    def _merged(self, source: yaml.Node, path: str) -> dict[str, Any]:
        value = self.convert(source, path)
        if not isinstance(value, dict):
            raise yaml.MarkedYAMLError(problem="<< takes a map", problem_mark=source.start_mark)
        return value


def _from_yaml(text: str, file: str) -> Iterator[_Parsed]:
    line = 1
    try:
        for node in yaml.compose_all(text, _Loader):
            line = node.start_mark.line + 1
            document = _Parsed(line)
            document.value = document.convert(node)
            yield document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise Unreadable(f"{place}: is no YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise Unreadable(f"{file}: is no YAML: {str(error).splitlines()[0]}") from None
    except (RecursionError, ValueError):
        raise Unreadable(f"{file}:{line}: is no manifest: nested too deeply, or a number out of bounds") from None


def _from_json(text: str) -> list[_Parsed] | None:
    """A JSON text as one document; None when it is none."""
    document = _Parsed(line=1)

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for name, value in pairs:
            if name in seen:
                document.twice.append(Fault(name, "stands twice in one object; keep one of them"))
            seen[name] = value
        return seen

    try:
        # Half a surrogate pair is JSON, but no text; what is no number is not even JSON.
        whole = json.loads(text, object_pairs_hook=distinct, parse_constant=_refuse_constant)
        document.value = json.loads(_sound(json.dumps(whole, ensure_ascii=False))) if "\\u" in text else whole
    except (ValueError, RecursionError):
        return None
    return [document]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _objects(document: _Parsed, file: str, number: int) -> Iterator[Document]:
    # What is no object is some other file's business: one of Helm's values, or a list of patches.
    value: dict[str, Any] = document.value if isinstance(document.value, dict) else {}
    if not (str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list)):
        yield Document(file, number, document.line, value, tuple(document.twice), document.lines)
        return
    for index, item in enumerate(value["items"]):
        prefix, spelled = f"items.{index}.", f"items[{index}]."
        line = document.lines.get(prefix[:-1], document.line)
        lines = {path[len(prefix) :]: at for path, at in document.lines.items() if path.startswith(prefix)}
        twice = tuple(
            Fault(fault.path.removeprefix(spelled), fault.message)
            for fault in document.twice
            # Of JSON only the key is known, not where it stands.
            if fault.path.startswith(spelled) or not fault.path.startswith("items[")
        )
        yield Document(file, number, line, item if isinstance(item, dict) else {}, twice, lines)


def _key(node: yaml.Node) -> str:
    value = _scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if value is None:
        raise yaml.MarkedYAMLError(problem="a key must be a text", problem_mark=node.start_mark)
    return value if isinstance(value, str) else json.dumps(value)


def _sound(text: str) -> str:
    """A text as Go reads it: with U+FFFD for half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _scalar(node: yaml.ScalarNode) -> Any:
    text = _sound(node.value)
    match node.tag.removeprefix(_TAG):
        case "str" | "merge":
            return text
        case "null":
            return None
        case "bool":
            return _BOOLEANS[text.lower()]
        case "int":
            bare = text.replace("_", "")
            octal = re.fullmatch(r"[-+]?0[0-7]+", bare)
            return int(bare, 8 if octal else 0)
        case "float":
            number = float(text)
            return int(number) if number.is_integer() else number
    raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not known", problem_mark=node.start_mark)
