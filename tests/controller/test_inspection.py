"""What a user's Secret has lost, judged by what its Job wrote."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from api.binding import KEYS_LIMIT, keys_text, keys_told
from api.labels import DATABASE_UID, KEYS
from controller.inspection import lacks

WRITTEN = {"host": b"h", "comment": b"", "password": b"p", "uri": b"u"}


def secret(data: dict[str, bytes] | None, **annotations: str) -> dict[str, Any]:
    """As the API server sends it; by default with the note that a Job leaves."""
    encoded = {key: b64encode(value).decode() for key, value in data.items()} if data is not None else None
    noted = {DATABASE_UID: "mine", KEYS: keys_text(WRITTEN), **annotations}
    return {"metadata": {"annotations": {key: value for key, value in noted.items() if value}}, "data": encoded}


def without(*keys: str) -> dict[str, bytes]:
    return {key: value for key, value in WRITTEN.items() if key not in keys}


def test_what_is_as_its_job_wrote_it_lacks_nothing() -> None:
    """A key that procedures return empty included, and what users have added."""
    assert lacks(secret(WRITTEN), "mine") == ()
    assert lacks(secret({**WRITTEN, "theirs": b"", "more": b"x"}), "mine") == ()
    assert lacks(secret(without("comment")), "mine") == ()


@pytest.mark.parametrize(
    ("data", "lost"),
    [
        (without("password"), ("password",)),
        ({**WRITTEN, "password": b""}, ("password",)),
        ({**without("host"), "uri": b""}, ("host", "uri")),
        ({"theirs": b"x"}, ("host", "password", "uri")),
        (None, ("host", "password", "uri")),
    ],
)
def test_keys_that_were_taken_out_or_emptied_are_named(data: dict[str, bytes], lost: tuple[str, ...]) -> None:
    assert lacks(secret(data), "mine") == lost


def test_a_key_that_was_overwritten_is_its_users_business() -> None:
    assert lacks(secret({**WRITTEN, "password": b"theirs"}), "mine") == ()


def test_somebody_elses_secret_lacks_nothing_here() -> None:
    assert lacks(secret(None), "another") == ()
    assert lacks({"metadata": {}, "data": None}, "mine") == ()


def test_of_one_whose_keys_nobody_noted_only_emptiness_is_known() -> None:
    assert lacks(secret(without("password"), **{KEYS: ""}), "mine") == ()
    assert lacks(secret({"password": b"", "host": b""}, **{KEYS: ""}), "mine") == ("every key",)


def test_the_note_names_keys_with_a_value_and_is_left_out_when_it_takes_too_much() -> None:
    assert keys_text(WRITTEN) == "host,password,uri"
    assert keys_told(keys_text(WRITTEN)) == {"host", "password", "uri"}
    assert keys_text({f"k{number:05}": b"v" for number in range(KEYS_LIMIT // 6)}) == ""
    assert keys_told("") == frozenset()
