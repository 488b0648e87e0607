"""What Events tell: Ready changing its reason, rotations, adoption, release, recovery; an endpoint's turns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.kinds import Database, DatabaseEndpoint, conditions_of
from api.reasons import CONDITION_POLICY_COMPLIANT, CONDITION_READY, ConditionReason
from api.requests import MISSING_SECRET, RECOVERY
from controller.status import Verdict
from controller.steps import AdoptInstance, SetPhase, StartOperation, Step

_OWN = frozenset(ConditionReason)
"""Reasons that are no Operation's or probe's: to wait for one of them is nothing to be warned of."""


@dataclass(frozen=True, slots=True)
class News:
    """One Event."""

    reason: str
    note: str
    normal: bool = True


def news_of_status(database: Database, verdict: Verdict, status: Mapping[str, Any]) -> Iterator[News]:
    """What a status that was just written says that the one before did not."""
    rotated = status.get("lastRotated")
    if rotated is not None and rotated != database.status.get("lastRotated"):
        yield News("Rotated", f"the credentials were rotated at {rotated}; restart what does not read its Secret anew")
    before, after = conditions_of(database.status), conditions_of(status)
    former = before.get(CONDITION_READY)
    if former is None or (former["status"] == "True", former["reason"]) != (verdict.ready, verdict.reason):
        normal = verdict.ready or (verdict.reconciling and verdict.entry is None and verdict.reason in _OWN)
        yield News(verdict.reason, verdict.message, normal and verdict.reason != ConditionReason.ROTATION_FAILED)
    yield from _news_of_policies(before.get(CONDITION_POLICY_COMPLIANT), after.get(CONDITION_POLICY_COMPLIANT), verdict)


def _news_of_policies(
    former: Mapping[str, Any] | None, present: Mapping[str, Any] | None, verdict: Verdict
) -> Iterator[News]:
    """What policies have against it by now; that they have nothing only where they had."""
    if present is None or (former is not None and former["message"] == present["message"]):
        return
    compliant = present["reason"] == ConditionReason.COMPLIANT
    if present["reason"] != verdict.reason and not (compliant and former is None):
        yield News(present["reason"], present["message"], compliant)


def news_of_step(step: Step) -> News | None:
    """What a step that was just carried out means to the user."""
    match step:
        case AdoptInstance(instance, _):
            return News(
                "Adopted", f"took over the database that DatabaseInstance {instance.metadata.name} had retained"
            )
        case SetPhase(instance, "Released"):
            return News("Released", f"the database is kept; DatabaseInstance {instance.metadata.name} holds its name")
        case StartOperation(spec) if spec.request == RECOVERY and spec.attempt == 1:
            return News("Recovering", "the credentials never reached the Secret; they are being reset", normal=False)
        case StartOperation(spec) if spec.request == MISSING_SECRET and spec.attempt == 1:
            message = "the Secret, or a key of it, was deleted or emptied; it is being written again"
            return News("SecretMissing", message, normal=False)
    return None


def news_of_endpoint(endpoint: DatabaseEndpoint, status: Mapping[str, Any]) -> Iterator[News]:
    """Conditions that turned, or are wrong for another reason than before; what is well from the start is no news."""
    former = conditions_of(endpoint.status)
    for condition in status["conditions"]:
        kind, state, before = condition["type"], condition["status"], former.get(condition["type"])
        well = state == "True"
        if before is None and well:
            continue
        if before is not None and (well or before["reason"] == condition["reason"]) and before["status"] == state:
            continue
        yield News(condition["reason"], f"{kind}: {condition['message']}", normal=well)
