"""What a Database's status says: conditions after kstatus, the last Operation, the binding. Pure.

kstatus (cli-utils): an object is current when Ready is True at its generation, in progress while Reconciling is True,
failed while Stalled is True; the latter two are absent when they are not true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.binding import secret_name
from api.kinds import Database, conditions_of
from api.reasons import (
    CONDITION_POLICY_COMPLIANT,
    CONDITION_READY,
    CONDITION_RECONCILING,
    CONDITION_STALLED,
    ConditionReason,
)
from controller.ledger import Entry
from controller.observed import Observed
from controller.rotation import last_rotated, rotate_handled

MESSAGE_LIMIT = 2048


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it stands with a Database."""

    ready: bool
    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False
    entry: Entry | None = None


def ready(entry: Entry | None) -> Verdict:
    """Its database exists and its Secret works."""
    return Verdict(
        ready=True, reason=ConditionReason.PROVISIONED, message="the Secret is ready to be bound", entry=entry
    )


def rotation_failed(message: str, entry: Entry | None) -> Verdict:
    """Its Secret is as good as it was; a wanted rotation did not come about."""
    return Verdict(ready=True, reason=ConditionReason.ROTATION_FAILED, message=message, entry=entry)


def working(
    reason: ConditionReason | str, message: str, *, entry: Entry | None = None, deleting: bool = False
) -> Verdict:
    """Something is being done, or will be tried again."""
    return Verdict(ready=False, reason=str(reason), message=_prefix(deleting) + message, reconciling=True, entry=entry)


def stalled(
    reason: ConditionReason | str, message: str, *, entry: Entry | None = None, deleting: bool = False
) -> Verdict:
    """Nothing will better until someone changes something."""
    return Verdict(ready=False, reason=str(reason), message=_prefix(deleting) + message, stalled=True, entry=entry)


def _prefix(deleting: bool) -> str:  # noqa: FBT001
    return "deletion: " if deleting else ""


def desired_status(observed: Observed, database: Database, verdict: Verdict, now: datetime) -> dict[str, Any]:
    """The whole status, ready to be merged; what is None is to be removed."""
    instance = observed.instance
    bound = verdict.ready or (instance is not None and instance.phase == "Bound")
    entry = verdict.entry or observed.ledger.last
    endpoint = observed.endpoint
    rotated = last_rotated(observed, database)
    return {
        "observedGeneration": database.metadata.generation,
        "conditions": _conditions(observed, database, verdict, now),
        "binding": {"name": secret_name(database.metadata.name)} if bound else None,
        "instance": None if instance is None else instance.metadata.name,
        "className": (endpoint.class_name if endpoint else None) or (instance.class_name if instance else None),
        "lastOperation": None if entry is None else _last_operation(entry),
        "lastRotated": None if rotated is None else rfc3339(rotated),
        "rotateHandled": rotate_handled(observed, database),
    }


def changed(current: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether writing `desired` would change anything."""
    return any(current.get(key) != _present(value) for key, value in desired.items())


def _present(value: Any) -> Any:
    return {key: v for key, v in value.items() if v is not None} if isinstance(value, dict) else value


def _conditions(observed: Observed, database: Database, verdict: Verdict, now: datetime) -> list[dict[str, Any]]:
    told = (verdict.reason, verdict.message)
    wanted = [(CONDITION_READY, "True" if verdict.ready else "False", *told)]
    if verdict.reconciling:
        wanted.append((CONDITION_RECONCILING, "True", *told))
    if verdict.stalled:
        wanted.append((CONDITION_STALLED, "True", *told))
    before = conditions_of(database.status)
    found = observed.compliance
    if (found.concerned or found.violations) and not found.as_told:
        status = "False" if found.denied else "True"
        wanted.append((CONDITION_POLICY_COMPLIANT, status, found.reason, found.message))
    conditions = []
    for kind, status, reason, message in wanted:
        conditions.append(
            {
                "type": kind,
                "status": status,
                "reason": str(reason),
                "message": message[:MESSAGE_LIMIT],
                "observedGeneration": database.metadata.generation,
                "lastTransitionTime": turned_at(before.get(kind), status, now),
            }
        )
    if (database.metadata.terminating or found.as_told) and CONDITION_POLICY_COMPLIANT in before:
        # Nobody judges it any more, or not yet; what was said stands.
        conditions.append(before[CONDITION_POLICY_COMPLIANT])
    return conditions


def _last_operation(entry: Entry) -> dict[str, Any]:
    times = {"startedAt": entry.started_at, "finishedAt": entry.finished_at}
    operation: dict[str, Any] = {
        "name": entry.name,
        "type": entry.type,
        "outcome": entry.outcome or None,
        "reason": entry.reason or None,
        "message": entry.message or None,
        "requestedBy": entry.requested_by,
    }
    # None is kept: merged over the last Operation's, it takes that one's words away.
    return operation | {key: None if time is None else rfc3339(time) for key, time in times.items()}


def turned_at(former: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    """A condition's lastTransitionTime: `now`, unless the one before had this status already."""
    same = former is not None and former["status"] == status
    return str(former["lastTransitionTime"]) if former is not None and same else rfc3339(now)


def rfc3339(time: datetime) -> str:
    """A time as the API server writes `metav1.Time`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
