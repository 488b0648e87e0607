"""What is known of an endpoint, what that means to Operations, and when a probe's turn has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.kinds import DatabaseEndpoint, Metadata
from api.probe import Inspection, ProbeReport
from api.reasons import Reason
from controller.endpoints import Findings, endpoint_status
from controller.knowledge import Knowledge, Lore, Probed, heard_at, lost_with
from controller.ledger import Entry
from controller.news import news_of_endpoint
from controller.observed import JobState
from controller.probing import Probe
from controller.request import Asked, Request, operation_spec
from controller.standing import Gate, Login, Standing, gate_of, healed, login_of, probe_turn, standing_of
from tests.controller.builders import (
    NOW,
    database,
    database_class,
    endpoint,
    instance,
    metadata,
    observed,
    operation,
    reported,
    time,
)

BASIS = "class.login"
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
OFF: dict[str, Any] = {"probe": {"every": "0"}}


def login(reason: Reason = Reason.SUCCEEDED, at: datetime = NOW, basis: str = "login") -> Login:
    return Login(basis, reason, "" if reason is Reason.SUCCEEDED else f"it says {reason}", at)


def probed(reason: Reason = Reason.SUCCEEDED, at: datetime = NOW, **procedures: Inspection) -> Probed:
    connection = {"serverVersion": "PostgreSQL 15.3", "tlsVersion": "TLSv1.3"} if reason is Reason.SUCCEEDED else {}
    report = ProbeReport(reason, login(reason).message, at.isoformat(), 12, connection, procedures)
    return Probed(f"probe-{at}", BASIS, login(reason, at), report)


def told(findings: Findings, before: DatabaseEndpoint | None = None, now: datetime = NOW) -> DatabaseEndpoint:
    """The endpoint with the status that was written, as the API server merges it."""
    before = before or endpoint()
    status = endpoint_status(before, findings, now)
    assert status is not None
    merged = {**before.status, **status}
    if "connection" in merged:
        merged["connection"] = {key: value for key, value in merged["connection"].items() if value is not None}
    return replace(before, status=merged)


def found(standing: Standing | None = None, probe: Probed | None = None) -> Findings:
    return Findings((), standing, BASIS, probe)


def condition(endpoint: DatabaseEndpoint, kind: str = "Reachable") -> dict[str, Any]:
    return next(one for one in endpoint.status["conditions"] if one["type"] == kind)


def an_operation(reason: Reason, *, connected: bool, at: datetime = NOW) -> Entry:
    target = Request(database(), endpoint(), database_class()).secret(instance())
    entry = operation(operation_spec(observed(instance=instance()), instance(), Asked("create"), target))
    return replace(reported(entry, reason, at=at), connected=connected)


# What was learnt


@pytest.mark.parametrize(
    ("reason", "connected", "reachable"),
    [
        (Reason.SUCCEEDED, True, "True"),
        (Reason.SUCCEEDED, False, None),
        (Reason.PROCEDURE_FAILED, True, "True"),
        (Reason.PROCEDURE_MISSING, True, "True"),
        (Reason.CONNECTION_LOST, True, None),
        (Reason.TIMEOUT, True, None),
        (Reason.JOB_LOST, False, None),
        (Reason.SECRET_CONFLICT, False, None),
        (Reason.ENDPOINT_UNREACHABLE, False, "False"),
        (Reason.CREDENTIALS_REFUSED, False, "False"),
    ],
)
def test_an_operation_teaches_whether_one_can_log_in(
    reason: Reason,
    connected: bool,  # noqa: FBT001 - pytest calls it
    reachable: str | None,
) -> None:
    taught = login_of(an_operation(reason, connected=connected))

    assert (taught.reachable if taught else None) == reachable


def test_the_latest_word_counts_whoever_said_it_and_its_status_outlives_the_process() -> None:
    unreachable = standing_of(endpoint(), "login", login(Reason.ENDPOINT_UNREACHABLE))
    said = told(found(unreachable))
    later = NOW + MINUTE
    back = standing_of(said, "login", login(at=later))
    said_back = told(found(back), said, later)

    assert standing_of(said, "login", None) == unreachable
    assert standing_of(said, "login", login(at=NOW - MINUTE)) == unreachable
    assert back == Standing(login(at=later), later)
    assert condition(said_back)["status"] == "True"
    assert standing_of(said_back, "login", login(Reason.ENDPOINT_UNREACHABLE)) == Standing(
        replace(login(at=later), message="the last login succeeded"), later
    )


def test_a_changed_endpoint_is_unknown_until_somebody_tries() -> None:
    said = told(found(Standing(login(Reason.CREDENTIALS_REFUSED), NOW)))

    assert standing_of(said, "another", login(Reason.CREDENTIALS_REFUSED)) is None


def test_an_operation_that_began_before_a_change_says_nothing_of_the_endpoint_after_it() -> None:
    knowledge = Knowledge()
    knowledge.learn("main", login(at=NOW, basis="new"))
    knowledge.learn("main", login(Reason.CREDENTIALS_REFUSED, NOW + MINUTE, "old"))
    knowledge.learn("main", login(Reason.CREDENTIALS_REFUSED, NOW - MINUTE, "new"))

    assert knowledge.of("main", "new").login == login(at=NOW, basis="new")
    assert knowledge.of("main", "never").login is None
    assert knowledge.of("other", "new").login is None


def test_what_is_seen_to_happen_happens_now_whatever_its_nodes_clock_says() -> None:
    fast, slow = NOW + 10 * MINUTE, NOW - 10 * MINUTE

    assert heard_at(fast, NOW, live=True) == heard_at(slow, NOW, live=True) == NOW
    assert heard_at(fast, NOW, live=False) == NOW
    assert heard_at(slow, NOW, live=False) == slow


@pytest.mark.parametrize("reported_first", [True, False])
def test_a_probe_that_has_reported_is_not_lost_whatever_the_clocks_say(
    reported_first: bool,  # noqa: FBT001 - pytest calls it
) -> None:
    said, later = probed(at=NOW), NOW + MINUTE
    ended = JobState(
        Metadata.parse({"metadata": metadata(said.job, creationTimestamp=time(later))}), "Failed", "", "", later
    )
    lost = lost_with(ended, BASIS)
    assert lost is not None
    knowledge = Knowledge()
    for one in (said, lost) if reported_first else (lost, said):
        knowledge.learn_probe("main", one)

    assert knowledge.of("main", "login") == Lore(said.login, said)


# The gate


def standing(reason: Reason, at: datetime = NOW, since: datetime = NOW) -> Standing:
    return Standing(login(reason, at), since)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.of_endpoint])
def test_with_probes_no_operation_starts_where_the_last_login_failed(reason: Reason) -> None:
    for later in (SECOND, timedelta(hours=9)):
        assert gate_of(endpoint(), standing(reason), NOW + later).bar == login(reason)


def test_where_nobody_has_tried_yet_one_tries_and_the_others_wait() -> None:
    assert gate_of(endpoint(), None, NOW) == Gate(alone=True)
    assert gate_of(endpoint(**OFF), None, NOW) == Gate()


@pytest.mark.parametrize("reason", [Reason.SUCCEEDED, Reason.TOO_MANY_CONNECTIONS, Reason.JOB_LOST])
def test_what_is_no_fault_of_the_endpoint_bars_nobody(reason: Reason) -> None:
    for spec in ({}, OFF):
        assert gate_of(endpoint(**spec), standing(reason), NOW) == Gate()


def test_without_probes_every_request_tries_a_server_that_is_away_by_itself() -> None:
    assert gate_of(endpoint(**OFF), standing(Reason.ENDPOINT_UNREACHABLE), NOW) == Gate()


def test_without_probes_one_for_all_tries_an_account_that_was_refused() -> None:
    refused, off = standing(Reason.CREDENTIALS_REFUSED), endpoint(**OFF)
    before, after = (gate_of(off, refused, NOW + 5 * MINUTE + late) for late in (-SECOND, SECOND))

    assert before == Gate(bar=refused.login, until=NOW + 5 * MINUTE)
    assert after == Gate(alone=True)


def test_a_request_that_failed_for_its_endpoint_goes_on_when_somebody_else_has_logged_in() -> None:
    failed = an_operation(Reason.ENDPOINT_UNREACHABLE, connected=False)
    raised = an_operation(Reason.PROCEDURE_FAILED, connected=True)
    back = standing(Reason.SUCCEEDED, NOW + SECOND, NOW + SECOND)

    assert healed(back, failed)
    assert not healed(back, raised)
    assert not healed(standing(Reason.SUCCEEDED, NOW - SECOND), failed)
    assert not healed(standing(Reason.ENDPOINT_UNREACHABLE, NOW + SECOND), failed)
    assert not healed(None, failed)


# Turns of probes


def turns(
    reason: Reason, lasting: timedelta, takes: timedelta = timedelta(), **spec: Any
) -> Iterator[tuple[timedelta, str]]:
    """When an endpoint is probed that always answers the same, since its first probe; with the turn's name."""
    seen, probed_at, now = standing(reason), NOW, NOW
    while True:
        turn = probe_turn(endpoint(**spec), seen, probed_at, now)
        if turn is None or turn.due - NOW > lasting:
            return
        if turn.due > now:
            now = turn.due
            continue
        yield now - NOW, turn.slot
        now += takes
        seen, probed_at = replace(seen, login=login(reason, now)), now


def test_a_server_that_is_away_is_probed_soon_and_then_once_a_minute() -> None:
    times = [time.total_seconds() for time, _ in turns(Reason.ENDPOINT_UNREACHABLE, 5 * MINUTE)]

    assert times == [2, 6, 14, 30, 62, 122, 182, 242]


def test_an_account_that_was_refused_is_tried_every_five_to_thirty_minutes() -> None:
    times = [time / MINUTE for time, _ in turns(Reason.CREDENTIALS_REFUSED, timedelta(hours=3))]

    assert times == [5, 15, 35, 65, 95, 125, 155]


def test_a_server_that_answers_is_probed_as_often_as_the_endpoint_says() -> None:
    times = [time / MINUTE for time, _ in turns(Reason.SUCCEEDED, timedelta(hours=1))]

    assert times == [10, 20, 30, 40, 50, 60]
    assert [*turns(Reason.SUCCEEDED, timedelta(hours=1), **OFF)] == []


@given(
    st.sampled_from([Reason.ENDPOINT_UNREACHABLE, Reason.CREDENTIALS_REFUSED, Reason.SUCCEEDED]),
    st.timedeltas(timedelta(), timedelta(minutes=2)),
)
def test_no_two_probes_share_a_name_and_none_follows_hard_upon_another(reason: Reason, takes: timedelta) -> None:
    """However long each takes; a failed login counts from its end."""
    first = {Reason.ENDPOINT_UNREACHABLE: 2 * SECOND, Reason.CREDENTIALS_REFUSED: 5 * MINUTE}.get(reason, timedelta())
    found = [*turns(reason, timedelta(hours=2), takes)]

    assert found
    assert len({slot for _, slot in found}) == len(found)
    assert all(later - earlier >= takes + first for (earlier, _), (later, _) in pairwise(found))


def test_a_probe_comes_at_once_where_nobody_has_looked_and_after_a_change_of_the_class() -> None:
    new = probe_turn(endpoint(), None, None, NOW)
    unexplored = probe_turn(endpoint(), standing(Reason.SUCCEEDED), None, NOW)

    assert new is not None
    assert unexplored is not None
    assert new.due == unexplored.due == NOW
    assert probe_turn(endpoint(**OFF), None, None, NOW) is None


def test_a_controller_that_starts_anew_takes_the_same_turn() -> None:
    """So that the Job that is there already, or was, is not made twice."""
    refused = standing(Reason.CREDENTIALS_REFUSED)
    moments = [NOW + 16 * MINUTE, NOW + 30 * MINUTE]
    made = [probe_turn(endpoint(), refused, None, moment) for moment in moments]
    names = {Probe(endpoint(), database_class(), BASIS, turn).name for turn in made if turn is not None}

    assert len(names) == 1
    assert names.pop().removeprefix("probe-").isalnum()


# What the status says


def test_the_status_has_the_facts_and_what_the_procedures_are_like() -> None:
    probe = probed(
        create=Inspection(found=True, callable=True, public=True, message="everybody; REVOKE it"),
        delete=Inspection(found=False, callable=None, public=None, message="delete_db does not exist"),
    )
    said = told(found(Standing(probe.login, NOW), probe))

    assert said.status["connection"] == {"serverVersion": "PostgreSQL 15.3", "tlsVersion": "TLSv1.3"}
    assert said.status["basis"] == {"login": "login", "probe": BASIS}
    assert [c["type"] for c in said.status["conditions"]] == [
        "Ready",
        "Reachable",
        "ProceduresFound",
        "ProceduresPrivate",
    ]
    assert condition(said)["reason"] == "Reached"
    assert condition(said, "ProceduresFound")["message"] == "delete: delete_db does not exist"
    assert condition(said, "ProceduresPrivate")["reason"] == "GrantedToPublic"
    assert condition(said, "ProceduresPrivate")["message"] == "create: everybody; REVOKE it"


def test_the_status_is_not_written_for_every_login() -> None:
    """Neither for another Operation nor for another probe that finds the same."""
    fine = Inspection(found=True, callable=True, public=False)
    said = told(found(Standing(login(), NOW), probed(create=fine)))
    later = NOW + timedelta(hours=1)
    again = probed(at=later, create=fine)

    assert endpoint_status(said, found(standing_of(said, "login", login(at=later)), again), later) is None
    assert endpoint_status(said, found(standing_of(said, "login", None)), later) is None


def test_a_server_that_goes_away_keeps_its_facts_and_says_why_and_since_when() -> None:
    said = told(found(Standing(login(), NOW), probed(create=Inspection(found=True, callable=True, public=False))))
    later = NOW + timedelta(hours=1)
    away = probed(Reason.ENDPOINT_UNREACHABLE, later)
    gone = told(found(standing_of(said, "login", away.login), away), said, later + MINUTE)
    events = [*news_of_endpoint(said, gone.status)]

    assert condition(gone)["reason"] == "EndpointUnreachable"
    assert condition(gone)["message"] == "it says EndpointUnreachable"
    assert condition(gone)["lastTransitionTime"] == "2026-11-21T13:00:00Z"
    assert gone.status["connection"] == said.status["connection"]
    assert condition(gone, "ProceduresFound")["status"] == "True"
    assert [(news.reason, news.normal) for news in events] == [("EndpointUnreachable", False)]


def test_what_is_well_from_the_start_is_no_news_and_what_is_not_is() -> None:
    fine = told(found(Standing(login(), NOW), probed(create=Inspection(found=True, callable=True, public=False))))
    open_ = told(found(Standing(login(), NOW), probed(create=Inspection(found=True, callable=True, public=True))))

    assert [*news_of_endpoint(endpoint(), fine.status)] == []
    assert [news.reason for news in news_of_endpoint(endpoint(), open_.status)] == ["GrantedToPublic"]
    assert [news.reason for news in news_of_endpoint(fine, open_.status)] == ["GrantedToPublic"]
    assert [*news_of_endpoint(open_, open_.status)] == []


def test_facts_of_an_earlier_connection_go_with_it() -> None:
    """Plain text after TLS has no cipher any more."""
    said = told(found(Standing(login(), NOW), probed()))
    plain = probed(at=NOW + MINUTE)
    assert plain.report is not None
    report = plain.report._replace(connection={"serverVersion": "PostgreSQL 15.3"})
    patch = endpoint_status(said, found(Standing(login(), NOW), replace(plain, report=report)), NOW)

    assert patch is not None
    assert patch["connection"] == {"serverVersion": "PostgreSQL 15.3", "tlsVersion": None}
