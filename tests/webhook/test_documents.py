"""Manifests as people keep them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from webhook.documents import Document, Unreadable, read


def read_all(text: str) -> list[Document]:
    return list(read(text, "f.yaml"))


def value(text: str) -> Any:
    (document,) = read_all(f"a: {text}")
    return document.manifest["a"]


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("yes", True),
        ("y", True),
        ("off", False),
        ('"yes"', "yes"),
        ("2026-01-01", "2026-01-01"),
        ("12:30", "12:30"),
        ("010", 8),
        ("0o10", 8),
        ("09", 9),
        ("0x1F", 31),
        ("-1_000", -1000),
        ("1.5", 1.5),
        ("1e3", 1000),
        ("1.2.3", "1.2.3"),
        ("~", None),
        ("", None),
        ("!!str 5", "5"),
        ("=", "="),
        (r'"\ud83d"', "\ufffd"),
        (r'"a\ud83d\ude00"', "a😀"),
    ],
)
def test_scalars_are_what_kubectl_makes_of_them(text: str, read_as: object) -> None:
    found = value(text)

    assert (found, type(found)) == (read_as, type(read_as))


def test_keys_become_texts_as_in_json() -> None:
    assert value("{0: x, yes: x, 1.5: z}") == {"0": "x", "true": "x", "1.5": "z"}


def test_documents_and_lists_are_taken_apart_with_their_lines() -> None:
    text = """\
kind: A
spec:
  params: {size: 1}
---
# nothing
---
kind: List
items:
  - kind: B
    spec:
      size: 1
  - kind: C
"""
    first, second, third = read_all(text)

    assert [(d.manifest["kind"], d.number, d.line) for d in (first, second, third)] == [
        ("A", 1, 1),
        ("B", 3, 9),
        ("C", 3, 12),
    ]
    assert first.line_of("spec.params.size") == first.line_of("spec.params[size]") == 3
    assert second.line_of("spec.size") == 11
    assert second.line_of("metadata.name") == second.line


def test_a_key_that_stands_twice_is_reported_where_it_stands() -> None:
    text = "kind: List\nitems:\n- {kind: A}\n- kind: B\n  spec:\n    a.b: 1\n    c: [{d: 1, d: 2}]\n    a.b: 2\n"

    first, second = read_all(text)

    assert first.twice == ()
    assert [str(fault) for fault in second.twice] == [
        "spec.c[0].d: stands twice, on lines 7 and 7; keep one of them",
        "spec.a.b: stands twice, on lines 6 and 8; keep one of them",
    ]


def test_a_key_that_stands_twice_in_json_is_reported() -> None:
    (document,) = read_all('{"kind": "A", "spec": {"a": 1,\t"\\u0061": 2}}')

    assert [fault.path for fault in document.twice] == ["a"]


def test_half_a_surrogate_pair_is_what_go_makes_of_it() -> None:
    (document,) = read_all(r'{"\ud83d": ["\ude00", "\ud83d\ude00"]}')

    assert document.manifest == {"\ufffd": ["\ufffd", "😀"]}


def test_what_is_no_number_in_json_is_none() -> None:
    (document,) = read_all('{"a": NaN, "b": -Infinity}')

    assert document.manifest == {"a": "NaN", "b": "-Infinity"}


def test_a_merged_map_gives_what_is_not_there() -> None:
    (document,) = read_all("w: &w {a: 1, b: 1}\nx: {<<: *w, b: 2}\nz: {<<: [*w, {a: 3, c: 3}]}")

    assert document.manifest["x"] == {"a": 1, "b": 2}
    assert document.manifest["z"] == {"a": 1, "b": 1, "c": 3}
    assert document.twice == ()


def test_what_is_no_object_is_somebody_elses() -> None:
    assert [document.manifest for document in read_all("- a\n---\ntext\n---\nkind: A\n")] == [{}, {}, {"kind": "A"}]


BILLION = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [", "f.yaml:2:5: is no YAML: "),
        ("a: 1\nb: {{ .Values.x }}", "f.yaml:2"),
        ("a: \x01", "f.yaml: is no YAML: "),
        ("a: !secret x", "f.yaml:1:4: is no YAML: the tag !secret is not known"),
        ("{[a]: 1}", "f.yaml:1:2: is no YAML: a key must be a text"),
        ("a: &x [*x]", "f.yaml:1: is no manifest"),
        (BILLION, "has too many values"),
        ("a: " + "[" * 5000, "f.yaml:1"),
        ("a: " + "9" * 5000, "f.yaml:1: is no manifest"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str, words: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(words)):
        read_all(text)


# PyYAML writes other kinds of line breaks where it reads none, and y and n, which are truth values to Go, unquoted.
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=8).filter(
    lambda text: text not in set("yYnN") and not any(character.isdigit() for character in text)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS, JSON, min_size=1, max_size=4))
def test_what_is_written_is_what_is_read(manifest: dict[str, Any]) -> None:
    manifest |= {"kind": "A"}
    written = yaml.safe_dump(manifest, allow_unicode=True)

    assert [d.manifest for d in read_all(written)] == [manifest]
    assert [d.manifest for d in read_all(json.dumps(manifest))] == [manifest]
