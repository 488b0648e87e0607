"""The ledger: when the next attempt is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from api.kinds import RetryRule
from api.reasons import Reason
from controller.ledger import Entry, Ledger, exhausted, next_attempt
from controller.request import Asked, Request, operation_spec
from tests.controller.builders import NOW, database, database_class, endpoint, instance, observed, operation, reported

RETRY = RetryRule(limit=3, backoff=timedelta(seconds=10))


def attempts(*reasons: Reason) -> Ledger:
    """A create that failed for these reasons, one after the other."""
    secret = Request(database(), endpoint(), database_class()).secret(instance())
    first = operation(operation_spec(observed(instance=instance()), instance(), Asked("create"), secret))
    entries = [
        reported(replace(first, attempt=number), reason, at=NOW) for number, reason in enumerate(reasons, start=1)
    ]
    return Ledger.of(entries, first.instance_uid)


def wait(ledger: Ledger) -> timedelta:
    last = last_of(ledger)
    due = next_attempt(ledger, last, last.basis, RETRY)
    assert due is not None
    return due - NOW


def last_of(ledger: Ledger) -> Entry:
    assert ledger.last is not None
    return ledger.last


def about(seconds: float) -> pytest.approx:  # type: ignore[valid-type]
    return pytest.approx(seconds, rel=0.21)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40)])
def test_a_failing_procedure_is_called_again_later_each_time(failures: int, seconds: float) -> None:
    assert wait(attempts(*[Reason.PROCEDURE_FAILED] * failures)).total_seconds() == about(seconds)


def test_behind_the_limit_a_failing_procedure_is_called_slowly() -> None:
    ledger = attempts(*[Reason.PROCEDURE_FAILED] * 4)

    assert exhausted(ledger, last_of(ledger), RETRY)
    assert wait(ledger).total_seconds() == about(300)


def test_a_server_that_is_away_is_asked_within_a_minute_or_so_for_ever() -> None:
    ledger = attempts(*[Reason.ENDPOINT_UNREACHABLE] * 50)

    assert not exhausted(ledger, last_of(ledger), RETRY)
    assert wait(ledger).total_seconds() == about(60)


def test_another_reason_starts_the_backoff_anew() -> None:
    ledger = attempts(*[Reason.ENDPOINT_UNREACHABLE] * 9, Reason.PROCEDURE_FAILED)

    assert wait(ledger).total_seconds() == about(10)


def test_what_only_a_change_can_mend_is_tried_slowly() -> None:
    assert wait(attempts(Reason.PROCEDURE_MISSING)).total_seconds() == about(300)
    assert wait(attempts(*[Reason.PROCEDURE_MISSING] * 20)).total_seconds() == about(1800)


def test_a_change_is_tried_at_once() -> None:
    ledger = attempts(Reason.PROCEDURE_MISSING)

    assert next_attempt(ledger, last_of(ledger), "another", RETRY) is None


def test_the_wait_is_the_same_whenever_it_is_asked_for() -> None:
    ledger = attempts(Reason.PROCEDURE_FAILED)

    assert wait(ledger) == wait(ledger)


def test_attempts_count_within_a_request_and_requests_count_on() -> None:
    ledger = attempts(Reason.PROCEDURE_FAILED)

    assert ledger.turn("create", "", "uid-team-a-shop") == (1, 2)
    assert ledger.turn("delete", "", "uid-team-a-shop") == (2, 1)


def test_a_request_that_succeeded_is_not_retried() -> None:
    assert attempts(Reason.SUCCEEDED).turn("create", "", "uid-team-a-shop") == (2, 1)
