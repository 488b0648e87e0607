"""A secret that the Job knows does not get out, however a program quotes it."""

from __future__ import annotations

import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from provisioner_job.redaction import MARK, SHORT, Redactor

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "an SQL literal": lambda s: "'" + s.replace("'", "''") + "'",
    "an SQL identifier": lambda s: '"' + s.replace('"', '""') + '"',
    "an E string": lambda s: "E'" + s.replace("\\", "\\\\").replace("'", "''") + "'",
    "a MySQL literal": lambda s: "'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'",
    "JSON": json.dumps,
    "JSON as UTF-8": lambda s: json.dumps(s, ensure_ascii=False),
    "Python": repr,
    "a URL": lambda s: f"postgres://u:{quote(s, safe='')}@h/",
    "a URL in lower case": lambda s: _lower(quote(s, safe="")),
    "a form": quote_plus,
    "base64": lambda s: b64encode(s.encode()).decode(),
    "base64 for URLs": lambda s: urlsafe_b64encode(s.encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
}
secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=SHORT, max_size=30)


def _lower(percent: str) -> str:
    return "".join(f"%{part[:2].lower()}{part[2:]}" if i else part for i, part in enumerate(percent.split("%")))


@settings(max_examples=40)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@given(secret=secrets, before=st.text(max_size=5), after=st.text(max_size=5))
def test_a_secret_is_gone_in_every_form(form: Callable[[str], str], secret: str, before: str, after: str) -> None:
    quoted = form(secret)
    assume(MARK[0] not in secret and quoted not in before + after)
    redactor = Redactor()
    redactor.add(secret)
    cleaned = redactor.clean(before + quoted + after)

    assert quoted not in cleaned
    assert secret not in cleaned
    assert secret not in unquote(cleaned)
    assert MARK in cleaned


@given(secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=12), before=st.binary(), after=st.binary())
def test_a_secret_inside_something_encoded_is_gone(secret: str, before: bytes, after: bytes) -> None:
    """A Secret's `data` in an error message holds a dsn that holds the password."""
    redactor = Redactor()
    redactor.add(secret)
    whole = b64encode(before + secret.encode() + after).decode()

    assert MARK in redactor.clean(whole)


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", "\\r\\n", "\\\\n", "\n    "], ids=repr)
@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=12, max_size=80),
    before=st.binary(max_size=90),
    after=st.binary(max_size=90),
)
@settings(max_examples=30)
def test_a_secret_inside_lines_of_base64_is_gone(
    width: int, end: str, secret: str, before: bytes, after: bytes
) -> None:
    """As MIME, PEM and PostgreSQL's encode() break them, and as JSON quotes the breaks; wherever the breaks fall."""
    redactor = Redactor()
    redactor.add(secret)
    whole = b64encode(before + secret.encode() + after).decode()
    lines = end.join(whole[at : at + width] for at in range(0, len(whole), width))
    cleaned = redactor.clean(f"say '{lines}'.")

    assert MARK in cleaned
    assert lines not in cleaned


def test_a_password_of_many_bytes_is_gone_in_mime() -> None:
    """58 bytes are the first that do not fit into one line."""
    for password in ("p" * 58, "é" * 40, "correct horse battery staple " * 5):
        redactor = Redactor()
        redactor.add(password)

        assert redactor.clean(f"({encodebytes(password.encode()).decode().rstrip()})").rstrip("=)") == f"({MARK}"


def test_lines_without_a_secret_stay_as_they_are() -> None:
    redactor = Redactor()
    redactor.add("hunter22")
    lines = encodebytes(bytes(range(200))).decode() + "and so on\nhunter2\n"

    assert redactor.clean(lines) == lines


@given(st.lists(secrets, min_size=1, max_size=4), st.text(max_size=20))
def test_text_without_secrets_stays(known: list[str], text: str) -> None:
    redactor = Redactor()
    redactor.add(*known)
    cleaned = redactor.clean(text)

    assert MARK in cleaned or cleaned == text


def test_of_two_secrets_the_longer_is_not_left_half() -> None:
    redactor = Redactor()
    redactor.add("correct")
    redactor.add("correct horse battery")

    assert redactor.clean("is 'correct horse battery' wrong?") == f"is '{MARK}' wrong?"


@pytest.mark.parametrize("short", ["a", "1", "abc", "é"])
def test_a_very_short_secret_is_replaced_only_where_it_stands_alone(short: str) -> None:
    redactor = Redactor()
    redactor.add(short)
    sentence = "a database can't be abcdefg1, 12 or élan"

    assert redactor.clean(f"password '{short}' refused") == f"password '{MARK}' refused"
    assert len(redactor.clean(sentence)) > len(sentence) - 10


def test_an_empty_secret_is_none() -> None:
    redactor = Redactor()
    redactor.add("", "  ")

    assert redactor.clean("a b  c") == "a b  c"


def test_everything_in_a_json_value_is_cleaned() -> None:
    redactor = Redactor()
    redactor.add("hunter22")
    value = {"hunter22": ["x", {"y": "is hunter22"}, ("hunter22", 5, None, True)]}

    assert redactor.clean_value(value) == {MARK: ["x", {"y": f"is {MARK}"}, [MARK, 5, None, True]]}


def test_one_more_secret_does_not_make_it_forget_the_others() -> None:
    redactor = Redactor()
    redactor.add("first one")
    redactor.add("second one")

    assert redactor.clean("first one, second one") == f"{MARK}, {MARK}"
