"""Why an Operation was asked for, as its `spec.request` says it: the ledger is read by these words after a crash."""

from __future__ import annotations

SCHEDULE = "schedule"
"""`spec.rotation.every` has passed."""
RECOVERY = "recovery"
"""Credentials were lost on their way: reset, because the database is the claim's own."""
MISSING_SECRET = "missing-secret"  # noqa: S105 - a word
"""The Secret, or a key of it, was deleted or emptied."""
_ANNOTATION = "annotation:"


def by_annotation(value: str) -> str:
    """The request of a rotate annotation of this value."""
    return _ANNOTATION + value


def annotation_value(request: str) -> str | None:
    """The value of the rotate annotation that asked; None when something else did."""
    return request.removeprefix(_ANNOTATION) if request.startswith(_ANNOTATION) else None
