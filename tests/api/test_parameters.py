"""A Database's parameters under the rules of its class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.faults import Fault
from api.kinds import DatabaseClass
from api.parameters import effective_params, parameter_faults


def class_with(params: Mapping[str, Any] | None) -> DatabaseClass:
    spec: dict[str, Any] = {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}
    if params is not None:
        spec["params"] = params
    return DatabaseClass.parse({"metadata": {"name": "small"}, "spec": spec})


def matches(pattern: str, value: str) -> bool:
    return re.search(pattern, value) is not None


def faults(rules: Mapping[str, Any] | None, params: Mapping[str, str]) -> list[str]:
    return [str(fault) for fault in parameter_faults(class_with(rules), params, matches)]


def test_a_class_without_params_takes_any_parameter() -> None:
    assert faults(None, {"anything": "goes"}) == []
    assert effective_params(class_with(None), {"a": "1"}) == {"a": "1"}


def test_a_default_stands_in_for_what_is_not_given_and_for_nothing_else() -> None:
    cls = class_with({"size": {"default": "10"}, "color": {"default": "red"}, "name": {}})

    assert effective_params(cls, {"size": ""}) == {"size": "", "color": "red"}


def test_a_class_that_declares_no_parameter_refuses_all() -> None:
    assert faults({}, {"a": "1"}) == [
        'spec.params.a: DatabaseClass "small" does not know it; the parameters it knows: none'
    ]


def test_every_fault_is_reported_with_its_path_and_its_cure() -> None:
    rules = {
        "size": {"description": "in GiB", "enum": ["10", "20"]},
        "color": {"enum": ["red", "blue"]},
        "note": {"maxLength": 5, "pattern": "^[a-z]*$"},
        "hint": {"required": False},
    }

    assert faults(rules, {"color": "green", "note": "TOO LONG", "colour": "red"}) == [
        'spec.params.color: is not an allowed value; allowed are "red", "blue"',
        'spec.params.colour: DatabaseClass "small" does not know it; the parameters it knows: color, hint, note, size',
        "spec.params.note: is 8 characters long; at most 5 are allowed",
        "spec.params.note: must match the pattern ^[a-z]*$",
        'spec.params.size: DatabaseClass "small" requires it (in GiB); add it; allowed are "10", "20"',
    ]


def test_a_default_that_breaks_its_own_pattern_is_noticed() -> None:
    cls = class_with({"note": {"default": "A", "pattern": "^[a-z]$"}})

    assert parameter_faults(cls, {}, matches) == [Fault("spec.params.note", "must match the pattern ^[a-z]$")]
