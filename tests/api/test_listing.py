"""Names in a sentence."""

from __future__ import annotations

from api.listing import listed, quoted


def test_of_many_names_a_few_are_named_and_the_rest_is_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([*"abcde"]) == "a, b, c, d, e"
    assert listed([*"abcdefg"]) == "a, b, c, d, e and 2 more"
    assert listed([*"abc"], most=1) == "a and 2 more"


def test_values_stand_in_quotes() -> None:
    assert quoted(("small", "large")) == '"small", "large"'
