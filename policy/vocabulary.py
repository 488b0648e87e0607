"""What there is in the variables of expressions, and where an expression reads a field that there is none of.

The engine knows of no fields before it evaluates: `has(object.spec.deletionProtectoin)` would be false for ever, and
`usage.namespaces` an error that refuses everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from policy.expressions import VARIABLES

ANYTHING: Mapping[str, Any] = {}
"""Nothing is known of what is below."""
_NAMED = {"name": ANYTHING, "labels": ANYTHING}
_ANNOTATED = {**_NAMED, "annotations": ANYTHING}
_PROCEDURE = {"name": ANYTHING, "timeout": ANYTHING}
_METADATA = (
    "name generateName namespace uid resourceVersion generation labels annotations finalizers ownerReferences "
    "creationTimestamp deletionTimestamp deletionGracePeriodSeconds"
)
_DATABASE = {
    "apiVersion": ANYTHING,
    "kind": ANYTHING,
    "metadata": dict.fromkeys(_METADATA.split(), ANYTHING),
    "spec": {
        "endpoint": ANYTHING,
        "params": ANYTHING,
        "deletionPolicy": ANYTHING,
        "deletionProtection": ANYTHING,
        "rotation": {"every": ANYTHING},
    },
    "status": ANYTHING,
}
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "object": _DATABASE,
    "oldObject": _DATABASE,
    "request": {
        "operation": ANYTHING,
        "name": ANYTHING,
        "namespace": ANYTHING,
        "dryRun": ANYTHING,
        "userInfo": {"username": ANYTHING, "groups": ANYTHING},
    },
    "namespaceObject": {"metadata": _NAMED},
    "class": {
        "metadata": _ANNOTATED,
        "spec": {
            "driver": ANYTHING,
            "operations": dict.fromkeys(("create", "rotate", "delete"), _PROCEDURE),
            "credentials": ANYTHING,
            "params": ANYTHING,
            "deletionPolicy": ANYTHING,
        },
    },
    "endpoint": {
        "metadata": _ANNOTATED,
        "spec": {
            "className": ANYTHING,
            "host": ANYTHING,
            "port": ANYTHING,
            "database": ANYTHING,
            "credentialsSecretRef": {"name": ANYTHING},
            "tls": dict.fromkeys(("mode", "minimumVersion", "serverName"), ANYTHING),
            "maxConcurrentJobs": ANYTHING,
            "operationsPerMinute": ANYTHING,
        },
    },
    "usage": {"namespace": ANYTHING, "endpoint": ANYTHING},
}
"""By variable: what `policy/question.py` gives, field by field."""

_TEXTS = re.compile(
    r"""[rR]?(?:"{3}.*?"{3}|'{3}.*?'{3})|[rR]"[^"\n]*"|[rR]'[^'\n]*'"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*""",
    re.DOTALL,
)
_PATH = re.compile(rf"(?<![\w.])({'|'.join(VARIABLES)})((?:\s*\.\s*\??\s*[A-Za-z_]\w*\b(?!\s*\())+)")
_STEP = re.compile(r"[A-Za-z_]\w*")
_BOUND = re.compile(r"\(\s*([A-Za-z_]\w*)\s*,(?:\s*([A-Za-z_]\w*)\s*,)?")


_ASKED = re.compile(r"\bnull\b|\brequest\s*\.\s*\??\s*operation\b")


def unknown_fields(expression: str) -> Iterator[str]:
    """A sentence for each field that an expression of sound syntax reads and that there is none of, with its place."""
    for path in _paths(_bare(expression)):
        yield from _unknown(expression, path)


def reads_unasked(expression: str, variable: str) -> bool:
    """Whether an expression reads a field of a variable, and plainly never asks whether that is there."""
    bare = _bare(expression)
    return any(path[1] == variable for path in _paths(bare)) and _ASKED.search(bare) is None


def _bare(expression: str) -> str:
    """An expression with blanks for its texts and comments."""
    return _TEXTS.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), expression)


def _paths(bare: str) -> Iterator[re.Match[str]]:
    # A macro's own variable may be called like one of ours.
    bound = {name for names in _BOUND.findall(bare) for name in names}
    return (path for path in _PATH.finditer(bare) if path[1] not in bound)


def _unknown(expression: str, path: re.Match[str]) -> Iterator[str]:
    known, place = FIELDS[path[1]], path[1]
    for step in _STEP.finditer(path[2]):
        if not known:
            return
        if step[0] not in known:
            at = path.start(2) + step.start()
            line, column = expression.count("\n", 0, at) + 1, at - expression.rfind("\n", 0, at)
            yield f"line {line}, column {column}: {place} has no {step[0]}; it has {', '.join(sorted(known))}"
            return
        known, place = known[step[0]], f"{place}.{step[0]}"
