"""Whatever happens in whatever order, a plan keeps its promises.

A small model of the world carries out the plan's steps on the very values that the caches would hold; hypothesis
decides what users, administrators, Jobs, crashes and time do in between. Nothing of the controller is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.reasons import Reason
from tests.controller.model import Model, happen

FAILURES = [reason for reason in Reason if reason is not Reason.SUCCEEDED]
ROTATES = [None, "", "one", "two"]

ACTIONS = st.one_of(
    st.tuples(st.just("job"), st.sampled_from([Reason.SUCCEEDED, Reason.CREDENTIALS_LOST, *FAILURES]), st.booleans()),
    st.tuples(st.just("job"), st.none(), st.booleans()),
    st.tuples(st.just("success")),
    st.tuples(st.just("delete")),
    st.tuples(st.just("force"), st.booleans()),
    st.tuples(st.just("apply"), st.booleans()),
    st.tuples(st.just("rotate"), st.sampled_from(ROTATES)),
    st.tuples(st.just("schedule"), st.sampled_from([0, 1800, 4000, 7200])),
    st.tuples(st.just("secret lost")),
    st.tuples(st.just("abandon")),
    st.tuples(st.just("relabel"), st.text(max_size=3)),
    st.tuples(st.just("policy"), st.sampled_from(["Delete", "Retain", None])),
    st.tuples(st.just("class"), st.sampled_from(["gone", "back", "edited", "other"])),
    st.tuples(st.just("endpoint"), st.sampled_from(["gone", "back", "edited"])),
    st.tuples(st.just("secret")),
    st.tuples(st.just("forget operations")),
    st.tuples(st.just("restore")),
    st.tuples(st.just("wait"), st.integers(min_value=1, max_value=14_400)),
    st.tuples(st.just("crash"), st.integers(min_value=0, max_value=4)),
    st.tuples(st.just("second leader"), st.integers(min_value=1, max_value=5)),
)

# Half of them begin with a Database that is Ready, where most of what can be lost is.
HISTORIES = st.builds(
    lambda ready, rest: [("success",)] * ready + rest, st.booleans(), st.lists(ACTIONS, min_size=3, max_size=25)
)


def keep_promises(actions: Sequence[tuple[Any, ...]]) -> None:
    """Let `actions` happen, each followed by the controller's work; then nothing goes wrong any more."""
    model = Model()
    model.settle()
    for action in actions:
        happen(model, action)
        model.settle()
    model.heal()

    model.assert_at_rest()


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
def test_promises_hold_and_everything_converges(actions: list[tuple[Any, ...]]) -> None:
    keep_promises(actions)


def test_a_claim_that_a_backup_brings_back_is_not_given_up() -> None:
    """Its Database was seen to go, but not this claim of it: nothing tells that its database is gone."""
    failed = ("job", Reason.PROCEDURE_FAILED, False)
    keep_promises([("success",), ("delete",), failed, ("force", True), ("apply", True), failed, ("restore",)])


# What has to do with a server that comes and goes; what users do besides is above.
AWAY = st.one_of(
    st.tuples(st.just("probe"), st.sampled_from([Reason.SUCCEEDED, *(one for one in Reason if one.of_endpoint)])),
    st.tuples(st.just("job"), st.sampled_from(FAILURES), st.booleans()),
    st.tuples(st.just("success")),
    st.tuples(st.just("secret")),
    st.tuples(st.just("delete")),
    st.tuples(st.just("rotate"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("wait"), st.integers(min_value=1, max_value=14_400)),
    st.tuples(st.just("crash"), st.integers(min_value=0, max_value=4)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(AWAY, min_size=3, max_size=15))
def test_nothing_starts_where_nobody_can_log_in_and_all_goes_on_afterwards(actions: list[tuple[Any, ...]]) -> None:
    keep_promises(actions)


@pytest.mark.soak
@settings(max_examples=10_000, deadline=None)
@given(HISTORIES)
def test_promises_hold_in_ten_thousand_histories(actions: list[tuple[Any, ...]]) -> None:
    keep_promises(actions)
