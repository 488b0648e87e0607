"""RE2 patterns, found in a value or not, in time linear in the value's length.

Python's own engine backtracks and takes `$` for "before a last line break" too; CEL's `matches` is what the API server
uses for the same purpose, and runs RE2.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cel_expr_python import cel

_ENVIRONMENT = cel.NewEnv(variables={"value": cel.Type.STRING, "pattern": cel.Type.STRING})
_MATCHES = _ENVIRONMENT.compile("value.matches(pattern)")

_MULTILINE = re.compile(r"\(\?[a-zA-Z]*m")
_FLAGS = re.compile(r"\A\(\?[a-zA-Z]+\)")
_WHOLE = re.compile(r"(?:\^|\\A).*(?:(?<!\\)(?:\\\\)*\$|\\z)", re.DOTALL)
_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
"""An escape, a character class, or one character."""


def matches(pattern: str, value: str) -> bool:
    """Whether `pattern` is found in `value`; a pattern that is none is found nowhere."""
    # CEL's engine hands both on as C strings, which end at a NUL: "a\0anything" would pass for "a".
    return "\0" not in value and "\0" not in pattern and _evaluated(pattern, value) is True


@lru_cache(maxsize=1024)
def pattern_fault(pattern: str) -> str | None:
    """What keeps `pattern` from compiling, in words; None when nothing does."""
    if "\0" in pattern:
        return "contains a NUL character; remove it"
    answer = _evaluated(pattern, "")
    if isinstance(answer, bool):
        return None
    reason = str(answer).rpartition("invalid regular expression: ")[2]
    return f"is no RE2 pattern: {reason}"


def covers_whole(pattern: str) -> bool:
    """Whether a pattern plainly begins at a value's start and ends at its end, each of its alternatives.

    False for some that do so in another way: good for a warning, no more.
    """
    if _MULTILINE.search(pattern):
        return False
    return all(_WHOLE.fullmatch(alternative) for alternative in _alternatives(_FLAGS.sub("", pattern)))


def _alternatives(pattern: str) -> list[str]:
    """A pattern cut at the bars that stand in no parentheses."""
    depth, found = 0, [""]
    for part in _PART.findall(pattern):
        depth += (part == "(") - (part == ")")
        if part == "|" and not depth:
            found.append("")
        else:
            found[-1] += part
    return found


def _evaluated(pattern: str, value: str) -> object:
    return _MATCHES.eval(data={"value": value, "pattern": pattern}).value()
