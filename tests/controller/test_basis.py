"""What a request rests on: what is tried again at once when it changes, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.kinds import RetryRule
from api.labels import ADOPT, RETRY
from api.reasons import Outcome, Reason
from controller.basis import basis_of, endpoint_basis
from controller.ledger import Ledger, next_attempt
from controller.observed import Observed
from controller.request import Asked, Request, operation_spec
from tests.controller.builders import (
    NOW,
    account_secret,
    database,
    database_class,
    endpoint,
    instance,
    observed,
    operation,
    reported,
)

FAILURES = [reason for reason in Reason if reason is not Reason.SUCCEEDED]


def annotated(thing: Any, **annotations: str) -> Any:
    """The same object with other annotations; its generation stays, as the API server has it."""
    return replace(thing, metadata=replace(thing.metadata, annotations=annotations))


def edited(thing: Any) -> Any:
    return replace(thing, metadata=replace(thing.metadata, generation=2))


def recreated(thing: Any) -> Any:
    return replace(thing, metadata=replace(thing.metadata, uid="another"))


CHANGES: dict[str, Callable[[], Observed]] = {
    "the Database is edited": lambda: observed(database=edited(database())),
    "retry is set on the Database": lambda: observed(database=annotated(database(), **{RETRY: "1"})),
    "retry is set without a value": lambda: observed(database=annotated(database(), **{RETRY: ""})),
    "adoption is asked for": lambda: observed(database=annotated(database(), **{ADOPT: "true"})),
    "the class is edited": lambda: observed(cls=edited(database_class())),
    "the class is another of its name": lambda: observed(cls=recreated(database_class())),
    "the endpoint is edited": lambda: observed(endpoint=edited(endpoint())),
    "the endpoint is another of its name": lambda: observed(endpoint=recreated(endpoint())),
    "retry is set on the endpoint": lambda: observed(endpoint=annotated(endpoint(), **{RETRY: "1"})),
    "the endpoint's Secret is edited": lambda: observed(secrets={"main-account": account_secret("2")}),
    "the endpoint's Secret is gone": lambda: observed(secrets={"main-account": None}),
}


def failed(reason: Reason) -> Ledger:
    """A create that has just failed for this reason."""
    secret = Request(database(), endpoint(), database_class()).secret(instance())
    entry = operation(operation_spec(observed(instance=instance()), instance(), Asked("create"), secret))
    return Ledger.of([reported(entry, reason, at=NOW)], entry.instance_uid)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reason", FAILURES)
def test_every_failure_is_tried_again_at_once_when_what_it_rests_on_changes(reason: Reason, change: str) -> None:
    ledger = failed(reason)

    assert ledger.last is not None
    assert next_attempt(ledger, ledger.last, basis_of(CHANGES[change]()), RetryRule()) is None


@pytest.mark.parametrize("reason", FAILURES)
def test_while_nothing_changes_every_failure_waits_and_what_only_a_change_can_mend_waits_longest(
    reason: Reason,
) -> None:
    ledger = failed(reason)
    assert ledger.last is not None

    due = next_attempt(ledger, ledger.last, basis_of(observed()), RetryRule())

    assert due is not None
    seconds = (due - NOW).total_seconds()
    assert (240 <= seconds <= 360) if reason.outcome is Outcome.STALLED else (1 <= seconds <= 6)


@pytest.mark.parametrize("key", ["team", "kubectl.kubernetes.io/last-applied-configuration"])
def test_an_annotation_of_somebody_else_is_no_reason_to_try_again(key: str) -> None:
    assert basis_of(observed(database=annotated(database(), **{key: "x"}))) == basis_of(observed())


def test_what_logins_depend_on_is_told_apart_from_the_rest() -> None:
    before = endpoint_basis(basis_of(observed()))

    assert endpoint_basis(basis_of(CHANGES["the Database is edited"]())) == before
    assert endpoint_basis(basis_of(CHANGES["the class is edited"]())) == before
    assert endpoint_basis(basis_of(CHANGES["the endpoint's Secret is edited"]())) != before
