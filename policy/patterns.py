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
_TOKEN = re.compile(r"\\[pP]\{[^}]*\}|\\Q.*?\\E|\{(\d+)(?:,(\d*))?\}|" + _PART.pattern, re.DOTALL)
"""The same, and what may stand for several of them."""
LARGEST = 2000
"""Parts of a pattern with its repetitions written out. Time goes with parts × characters: half a second for the longest
parameter and the worst of patterns, against hundreds of times as much without a limit."""


def matches(pattern: str, value: str) -> bool:
    """Whether `pattern` is found in `value`; a pattern that is none is found nowhere."""
    # CEL's engine hands both on as C strings, which end at a NUL: "a\0anything" would pass for "a".
    sound = "\0" not in value and "\0" not in pattern and _written_out(pattern) <= LARGEST
    return sound and _evaluated(pattern, value) is True


@lru_cache(maxsize=1024)
def _written_out(pattern: str) -> int:
    """How many characters, classes and groups a pattern is with each repetition as often as it may be."""
    groups, last = [0], 0
    for token in _TOKEN.finditer(pattern):
        part = token[0]
        if part == "(":
            groups.append(0)
            last = 0
        elif token[1]:
            groups[-1] += last * (max(int(token[1]), int(token[2] or 0), 1) - 1)
            last *= max(int(token[1]), int(token[2] or 0), 1)
        else:
            last = 1 + (groups.pop() if part == ")" and len(groups) > 1 else len(part) if part[:2] == r"\Q" else 0)
            groups[-1] += last
    return sum(groups)


@lru_cache(maxsize=1024)
def pattern_fault(pattern: str) -> str | None:
    """What keeps `pattern` from compiling, in words; None when nothing does."""
    if "\0" in pattern:
        return "contains a NUL character; remove it"
    if (parts := _written_out(pattern)) > LARGEST:
        return f"has {parts} parts when its repetitions are written out, and at most {LARGEST} are matched; repeat less"
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
