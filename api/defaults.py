"""What the API server writes where a manifest says nothing: the CRDs' defaults, without an API server.

`tests/api/test_defaults.py` holds this table and the CRDs in `chart/templates/crds` equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

EACH = "*"
"""Stands for every key of a map."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field's default, None if it has none; and the defaults of what is in it, wherever it is there."""

    default: Any = None
    within: Mapping[str, Field] = field(default_factory=dict)


_PROCEDURE = Field(within={"inputs": Field({}), "timeout": Field("60s")})
_STATUS = Field({"observedGeneration": -1})

DEFAULTS: Mapping[str, Mapping[str, Field]] = {
    "Database": {"spec": Field(within={"params": Field({})}), "status": _STATUS},
    "DatabaseClass": {
        "spec": Field(
            within={
                "operations": Field(within=dict.fromkeys(("create", "rotate", "delete"), _PROCEDURE)),
                "credentials": Field(["password"]),
                "params": Field(within={EACH: Field(within={"required": Field(True)})}),  # noqa: FBT003 - a value
                "retry": Field({}, {"limit": Field(5), "backoff": Field("5s")}),
            }
        ),
    },
    "DatabaseEndpoint": {
        "spec": Field(
            within={
                "tls": Field({}, {"mode": Field("VerifyFull"), "minimumVersion": Field("1.2")}),
                "allowedNamespaces": Field({"from": "All"}, {"from": Field("All")}),
                "maxConcurrentJobs": Field(5),
                "operationsPerMinute": Field(0),
                "probe": Field({}, {"every": Field("10m")}),
            }
        ),
        "status": _STATUS,
    },
    "DatabasePolicy": {"spec": Field(within={"enforcement": Field("Deny"), "match": Field({})})},
}
"""The defaults of each kind that users write."""


def defaulted(kind: str, manifest: Json) -> dict[str, Any]:
    """`manifest` as the API server would hand it on; a null counts as absent where there is a default."""
    return _filled(dict(manifest), DEFAULTS[kind])


def _filled(whole: dict[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    if EACH in fields:
        return {key: _within(value, fields[EACH]) for key, value in whole.items()}
    for name, known in fields.items():
        value = whole.get(name)
        if value is None:
            value = known.default
        if value is not None:
            whole[name] = _within(value, known)
    return whole


def _within(value: Any, known: Field) -> Any:
    return _filled(dict(value), known.within) if known.within and isinstance(value, Mapping) else value
