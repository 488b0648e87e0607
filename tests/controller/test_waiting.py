"""What becomes of requests whose endpoint is away, refuses the account, or has not been tried yet."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.kinds import DatabaseInstance
from api.labels import ROTATE
from api.reasons import ConditionReason, Reason
from controller.ledger import Entry
from controller.observed import Observed
from controller.plan import MOST_HEALED, plan
from controller.request import Asked, Request, operation_spec
from controller.standing import Login, Standing
from controller.steps import StartOperation
from tests.controller.builders import (
    NOW,
    annotated,
    database,
    database_class,
    endpoint,
    instance,
    observed,
    operation,
    reported,
)

HOUR = timedelta(hours=1)
OPERATIONS = {
    kind: {"name": f"{kind}_db", "inputs": {"name": "{{ .Metadata.namespace }}-{{ .Metadata.name }}"}}
    for kind in ("create", "rotate", "delete")
}
CLASS = database_class(operations=OPERATIONS)


def standing(reason: Reason, at: Any = NOW) -> Standing:
    return Standing(Login("login", reason, "postgres.example.test:5432 says no", at), at)


def claimed(phase: str = "Pending") -> DatabaseInstance:
    return instance(phase, calls=Request(database(), endpoint(), CLASS).freeze().calls)


def seen(reason: Reason | None, held: DatabaseInstance | None = None, **parts: Any) -> Observed:
    known = None if reason is None else standing(reason)
    return observed(cls=CLASS, instance=held or claimed(), standing=known, **parts)


def attempt(number: int, reason: Reason) -> Entry:
    target = Request(database(), endpoint(), CLASS).secret(claimed())
    spec = operation_spec(seen(None), claimed(), Asked("create"), target)
    return replace(reported(operation(spec._replace(attempt=number)), reason), attempt=number)


@pytest.mark.parametrize(
    ("reason", "stalls"), [(Reason.ENDPOINT_UNREACHABLE, False), (Reason.CREDENTIALS_REFUSED, True)]
)
def test_a_request_waits_for_its_endpoint_with_the_endpoints_reason(
    reason: Reason,
    stalls: bool,  # noqa: FBT001 - pytest calls it
) -> None:
    decided = plan(seen(reason), NOW + HOUR)

    assert decided.step is None
    assert decided.look_again is None
    assert decided.verdict is not None
    assert decided.verdict.reason == reason
    assert decided.verdict.message.startswith("postgres.example.test:5432 says no; it goes on by itself")
    assert (decided.verdict.stalled, decided.verdict.reconciling) == (stalls, not stalls)


def test_a_deletion_waits_too_and_says_how_to_do_without() -> None:
    created = attempt(1, Reason.SUCCEEDED)
    waiting = seen(
        Reason.ENDPOINT_UNREACHABLE, claimed("Deleting"), database=database(deleted=True), entries=(created,)
    )
    decided = plan(waiting, NOW + HOUR)

    assert decided.step is None
    assert decided.verdict is not None
    assert decided.verdict.message.startswith("deletion: ")
    assert "deletionPolicy: Retain" in decided.verdict.message


def test_a_rotation_that_waits_takes_nothing_away() -> None:
    created = attempt(1, Reason.SUCCEEDED)
    asking = annotated(database(), ROTATE, "now")
    waiting = seen(Reason.ENDPOINT_UNREACHABLE, claimed("Bound"), database=asking, entries=(created,))
    decided = plan(waiting, NOW + HOUR)

    assert decided.step is None
    assert decided.verdict is not None
    assert decided.verdict.ready
    assert decided.verdict.reason == ConditionReason.ROTATION_FAILED
    assert "says no" in decided.verdict.message


def test_a_database_that_is_ready_does_not_mind() -> None:
    created = attempt(1, Reason.SUCCEEDED)
    decided = plan(seen(Reason.CREDENTIALS_REFUSED, claimed("Bound"), entries=(created,)), NOW + HOUR)

    assert decided.verdict is not None
    assert decided.verdict.ready
    assert decided.verdict.reason == ConditionReason.PROVISIONED


def test_the_first_request_after_a_change_of_the_endpoint_tries_for_all() -> None:
    first, known = (plan(seen(reason), NOW).step for reason in (None, Reason.SUCCEEDED))

    assert isinstance(first, StartOperation)
    assert first.alone
    assert isinstance(known, StartOperation)
    assert not known.alone


def test_backoff_ends_when_somebody_has_logged_in() -> None:
    """Unless the server answers everybody but this request again and again."""
    moment = NOW + timedelta(seconds=1)
    for attempts in range(1, MOST_HEALED + 2):
        failed = attempt(attempts, Reason.ENDPOINT_UNREACHABLE)
        entries = tuple(replace(failed, attempt=number) for number in range(1, attempts + 1))
        back = replace(seen(None, entries=entries), standing=standing(Reason.SUCCEEDED, moment))
        decided = plan(back, moment)

        assert isinstance(decided.step, StartOperation) == (attempts <= MOST_HEALED)
        assert (decided.look_again is not None) == (attempts > MOST_HEALED)
