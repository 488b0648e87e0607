"""Go durations: `1h30m`, `90s`, `250ms`."""

from __future__ import annotations

import re
from datetime import timedelta

_NANOSECONDS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1000,
    "µs": 1000,
    "ns": 1,
}
DURATION_PATTERN = r"([0-9]+(\.[0-9]+)?(h|ms|us|µs|ns|m|s))+"
_TERM = re.compile(r"([0-9]+)(?:\.([0-9]+))?(h|ms|us|µs|ns|m|s)")
_WHOLE = re.compile(DURATION_PATTERN)
LONGEST = timedelta(hours=2562047)
"""What Go's time.Duration holds (int64 nanoseconds), in whole hours."""
_LONGEST_TEXT = 100
"""Characters; beyond it a text is no duration, and not worth the arithmetic."""


def parse_duration(text: str) -> timedelta:
    """Read a non-negative Go duration, to the microsecond below; `0` needs no unit.

    Raises ValueError with the cure.
    """
    if text == "0":
        return timedelta()
    if len(text) > _LONGEST_TEXT or not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is not a duration; write for example 90s, 10m or 1h30m")
    nanoseconds = sum(_term(*term) for term in _TERM.findall(text))
    if nanoseconds // 1000 > LONGEST // timedelta(microseconds=1):
        raise ValueError(f"{text!r} is longer than a duration can be; the longest is {format_duration(LONGEST)}")
    return timedelta(microseconds=nanoseconds // 1000)


def _term(whole: str, fraction: str, unit: str) -> int:
    size = _NANOSECONDS[unit]
    scale: int = 10 ** len(fraction)
    return int(whole) * size + int(fraction or "0") * size // scale


def format_duration(duration: timedelta) -> str:
    """Write a non-negative duration as Go would read it, with the largest whole units: `1h30m`, `0s`."""
    microseconds = duration // timedelta(microseconds=1)
    text = ""
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)):
        count, microseconds = divmod(microseconds, size)
        if count:
            text += f"{count}{unit}"
    return text or "0s"
