"""Patience with the API server has an end, and no refusal is asked again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from provisioner_job import kubernetes
from provisioner_job.kubernetes import ApiError, Rights, patiently
from provisioner_job.ledger import passes


def answering(*statuses: int) -> tuple[Callable[[], str], list[int]]:
    """A question that is answered with these statuses in turn, then with "yes"; and how it was asked."""
    left, asked = list(statuses), []

    def ask() -> str:
        asked.append(1)
        if left:
            raise ApiError(left.pop(0), "Reason", "message")
        return "yes"

    return ask, asked


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_an_api_server_that_cannot_answer_now_is_asked_again(status: int) -> None:
    ask, asked = answering(status, status)

    assert patiently(ask, 10) == "yes"
    assert len(asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_refusal_is_final(status: int) -> None:
    ask, asked = answering(status)

    with pytest.raises(ApiError):
        patiently(ask, 10)

    assert len(asked) == 1


@pytest.mark.parametrize("status", [0, 403, 409, 503])
def test_the_operation_is_read_again_when_rights_are_late_or_another_write_came_between(status: int) -> None:
    ask, asked = answering(status, status)

    assert patiently(ask, 10, passes) == "yes"
    assert len(asked) == 3


def test_rights_that_an_api_server_does_not_know_yet_are_waited_for() -> None:
    ask, asked = answering(403, 503, 403)

    assert patiently(ask, 10, Rights().awaited) == "yes"
    assert len(asked) == 4


def test_rights_that_were_taken_away_are_not_waited_for_as_long_as_a_server_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A namespace that is deleted takes the Roles along, and waits for the Job."""
    monkeypatch.setattr(kubernetes, "RIGHTS_SECONDS", 0.05)
    ask, asked = answering(*[503] * 2, *[403] * 100)

    with pytest.raises(ApiError) as raised:
        patiently(ask, 600, Rights().awaited)

    assert raised.value.status == 403
    assert len(asked) == 4


def test_a_refusal_that_is_not_the_authorizers_is_final() -> None:
    ask, asked = answering(403)

    with pytest.raises(ApiError):
        patiently(ask, 10, Rights(lambda error: "cannot patch" in error.message).awaited)

    assert len(asked) == 1


def test_patience_ends_before_the_server_can_answer() -> None:
    ask, _ = answering(*[503] * 10)

    with pytest.raises(ApiError):
        patiently(ask, 0.3)


def test_a_server_that_says_when_is_believed() -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        raise ApiError(429, "TooManyRequests", "later", {"retryAfterSeconds": 60})

    with pytest.raises(ApiError):
        patiently(ask, 10)

    assert len(asked) == 1


def test_an_error_says_what_it_was() -> None:
    error = ApiError(403, "Forbidden", "no", {"causes": [{"reason": "NamespaceTerminating"}, {}]})

    assert str(error) == "403 Forbidden: no"
    assert error.causes == ("NamespaceTerminating", "")
