"""The JSON patch between two manifests."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.webhook.builders import patched
from webhook.patch import applied, difference

LEAVES = st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab/~", max_size=2)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab/~", max_size=2), JSON, max_size=4)


def test_only_what_differs_is_touched() -> None:
    old = {"metadata": {"annotations": {"a/b": "1"}, "finalizers": ["x"]}, "spec": {"gone": 1, "kept": 2}}
    new = {"metadata": {"annotations": {"a/b": "2"}, "finalizers": ["x", "y"]}, "spec": {"kept": 2, "new": {}}}

    assert difference(old, new) == [
        {"op": "replace", "path": "/metadata/annotations/a~1b", "value": "2"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "y"},
        {"op": "remove", "path": "/spec/gone"},
        {"op": "add", "path": "/spec/new", "value": {}},
    ]


@given(OBJECTS, OBJECTS)
@example({"a": [False]}, {"a": [0]})
def test_the_patch_of_two_manifests_turns_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = b64encode(json.dumps(difference(old, new)).encode()).decode()

    # Compared as text: to Python 1 is True.
    assert json.dumps(patched(old, {"patch": patch}), sort_keys=True) == json.dumps(new, sort_keys=True)


@given(OBJECTS, OBJECTS)
def test_a_patch_is_applied_as_the_api_server_would(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = json.dumps(old, sort_keys=True)

    assert json.dumps(applied(old, difference(old, new)), sort_keys=True) == json.dumps(new, sort_keys=True)
    assert json.dumps(old, sort_keys=True) == before


@given(OBJECTS)
def test_nothing_is_done_where_nothing_differs(manifest: dict[str, Any]) -> None:
    assert difference(manifest, json.loads(json.dumps(manifest))) == []
