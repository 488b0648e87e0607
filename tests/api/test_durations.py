"""Durations as Go writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.durations import LONGEST, format_duration, parse_duration


@given(st.timedeltas(timedelta(), LONGEST))
def test_a_duration_written_out_reads_back_as_itself(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text(max_size=20) | st.text("0123456789.hmsunµμ", max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta() <= duration <= LONGEST


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta()),
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0.000001s", timedelta(microseconds=1)),
        ("250ms", timedelta(milliseconds=250)),
        ("3us", timedelta(microseconds=3)),
        ("3µs", timedelta(microseconds=3)),
        ("1500ns", timedelta(microseconds=1)),
        ("1000000000ns", timedelta(seconds=1)),
        ("1m1h", timedelta(minutes=61)),
        ("2562047h", LONGEST),
    ],
)
def test_a_duration_reads_as_go_reads_it(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "1", "s", "-1s", "1d", "1 s", "1s ", "1s\n", "1,5s", "1e3s", "١s", "1h-1m", "9" * 200 + "s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 90s, 10m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["2562047h1us", "99999999999999999999s"])
def test_a_duration_longer_than_go_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the longest is 2562047h"):
        parse_duration(text)
