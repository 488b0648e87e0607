"""The CRDs and the table of defaults say the same."""

from __future__ import annotations

from typing import Any

import pytest

from api.defaults import DEFAULTS, EACH, Field, defaulted
from tests.api.test_schemas import USER_WRITTEN, structure

Json = dict[str, Any]


def of_crd(schema: Json) -> dict[str, Field]:
    """The defaults below an object of a CRD."""
    fields = {name: field for name, child in schema.get("properties", {}).items() if (field := field_of(child))}
    each = schema.get("additionalProperties")
    if isinstance(each, dict) and (field := field_of(each)):
        fields[EACH] = field
    return fields


def field_of(schema: Json) -> Field | None:
    """One field; None when nothing has a default there."""
    within = of_crd(schema)
    return Field(schema.get("default"), within) if within or "default" in schema else None


@pytest.mark.parametrize("kind", sorted(USER_WRITTEN))
def test_the_table_has_the_defaults_of_the_crd_and_no_others(kind: str) -> None:
    assert of_crd(structure(USER_WRITTEN[kind])) == DEFAULTS[kind]


def test_what_is_said_stays_and_what_is_not_is_filled_in() -> None:
    spec = {"operations": {"create": {"name": "x", "timeout": "5s"}}, "params": {"a": {"required": False}, "b": {}}}

    assert defaulted("DatabaseClass", {"spec": spec}) == {
        "spec": {
            "operations": {"create": {"name": "x", "timeout": "5s", "inputs": {}}},
            "params": {"a": {"required": False}, "b": {"required": True}},
            "credentials": ["password"],
            "retry": {"limit": 5, "backoff": "5s"},
        }
    }
    assert defaulted("DatabaseEndpoint", {"spec": {"tls": {"mode": "VerifyCA"}, "probe": None}})["spec"] == {
        "tls": {"mode": "VerifyCA", "minimumVersion": "1.2"},
        "allowedNamespaces": {"from": "All"},
        "maxConcurrentJobs": 5,
        "operationsPerMinute": 0,
        "probe": {"every": "10m"},
    }


@pytest.mark.parametrize("spec", [None, [], "text", 5])
def test_another_shape_is_left_alone(spec: Any) -> None:
    assert defaulted("Database", {"spec": spec}).get("spec") == spec
