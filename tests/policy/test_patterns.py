"""RE2 patterns."""

from __future__ import annotations

import pytest

from policy.patterns import covers_whole, matches, pattern_fault


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ("^[a-z]+$", "abc", True),
        ("^[a-z]+$", "abc\n", False),
        ("b", "abc", True),
        ("^.$", "é", True),
        ("^a$", "a\0; drop", False),
        ("", "", True),
        ("(", "(", False),
    ],
)
def test_a_pattern_is_found_as_the_api_server_would_find_it(pattern: str, value: str, found: bool) -> None:  # noqa: FBT001
    assert matches(pattern, value) is found


def test_a_pattern_that_would_backtrack_takes_no_time() -> None:
    assert not matches("^(a*)*b$", "a" * 16384)


def test_what_is_no_pattern_is_said_in_words() -> None:
    assert pattern_fault("^[a-z]+$") is None
    assert pattern_fault("(") == "is no RE2 pattern: missing ): ("
    assert pattern_fault("(?=a)") == "is no RE2 pattern: invalid perl operator: (?="
    assert pattern_fault("a\0(") == "contains a NUL character; remove it"


@pytest.mark.parametrize(
    "pattern", ["^a$", "^a$|^b$", "^(a|b)$", "^[a|b]$", "^[]|]$", r"^a\\$", "(?i)^a$", r"\Aa\z", r"^\($", "^$"]
)
def test_a_pattern_for_a_whole_value_is_known_as_such(pattern: str) -> None:
    assert covers_whole(pattern)


@pytest.mark.parametrize("pattern", ["a", "^a", "a$", "^a|b$", r"^a\$", "(?m)^a$", "(?im)^a$", "", "^", "^(a$|b)c"])
def test_a_pattern_for_a_part_of_a_value_is_known_as_such(pattern: str) -> None:
    assert not covers_whole(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(.?.?.?.?){1000}x",
        "(([a-z]?){30}|([b-z]?){31}){30}",
        "((a{2}){30}){40}",
        "(?:[a-z]{500}){2,7}",
        r"(\pN?){2,1000}",
    ],
)
def test_a_pattern_that_would_take_seconds_is_refused_and_found_nowhere(pattern: str) -> None:
    assert "repeat less" in str(pattern_fault(pattern))
    assert not matches(pattern, "a" * 1000)


@pytest.mark.parametrize(
    "pattern", ["^[a-z]{1,1000}$", r"^(\d{1,3}\.){3}\d{1,3}$", r"^\{9999\}$", "^[{9999}]*$", "^.{1,}$"]
)
def test_ordinary_repetitions_are_fine(pattern: str) -> None:
    assert pattern_fault(pattern) is None
