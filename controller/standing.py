"""How it stands with an endpoint: whether one can log in there, since when, and when to try again. Pure.

Whoever logs in, or tries to, teaches it: probes and Operations alike. What was learnt holds for the endpoint's basis of
then; changed, it is unknown, and one tries before the others do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from api.kinds import NOTHING, DatabaseEndpoint, conditions_of, parse_time
from api.reasons import CONDITION_REACHABLE, EndpointReason, Outcome, Reason
from controller.basis import endpoint_basis
from controller.ledger import (
    CONNECTION_BACKOFF,
    LONGEST_CONNECTION_BACKOFF,
    LONGEST_SLOW_BACKOFF,
    SLOW_BACKOFF,
    Entry,
)

Reachable = Literal["True", "False", "Unknown"]

_UNTOLD = frozenset({Reason.JOB_LOST, Reason.JOB_NOT_STARTED, Reason.CRASHED, Reason.INTERRUPTED})
"""With these nothing is known of the server: the probe itself came to nothing."""


@dataclass(frozen=True, slots=True)
class Login:
    """What one attempt to log in taught."""

    basis: str
    """`endpoint_basis` of what it was made with."""
    reason: Reason
    """SUCCEEDED: it has logged in."""
    message: str
    at: datetime

    @property
    def reachable(self) -> Reachable:
        """The status of the condition that tells it."""
        if self.reason is Reason.SUCCEEDED:
            return "True"
        return "Unknown" if self.reason in _UNTOLD else "False"

    @property
    def bars(self) -> bool:
        """Whether whoever else tries now would fare the same."""
        return self.reason.of_endpoint


@dataclass(frozen=True, slots=True)
class Standing:
    """The latest that is known at the endpoint's present basis."""

    login: Login
    since: datetime
    """When `login.reachable` became what it is: retries are counted from here."""


def _reason(word: str) -> Reason | None:
    try:
        return Reason(word)
    except ValueError:
        # Of another release, or none.
        return None


def login_of(entry: Entry) -> Login | None:
    """What a reported Operation teaches of its endpoint; None for nothing."""
    reason, basis = _reason(entry.reason), endpoint_basis(entry.basis)
    if entry.finished_at is None or reason is None:
        return None
    if reason.of_endpoint:
        return Login(basis, reason, entry.message, entry.finished_at)
    # What was lost or timed out after the login says nothing of the next one.
    answered = reason is Reason.PROCEDURE_FAILED or reason.outcome is not Outcome.RETRY
    return Login(basis, Reason.SUCCEEDED, "", entry.finished_at) if entry.connected and answered else None


def told(endpoint: DatabaseEndpoint) -> Login | None:
    """What the endpoint's status says, as of when it began to say so; None while it says nothing."""
    condition = conditions_of(endpoint.status).get(CONDITION_REACHABLE)
    at = None if condition is None else parse_time(condition["lastTransitionTime"])
    if condition is None or at is None:
        return None
    reason = Reason.SUCCEEDED if condition["reason"] == EndpointReason.REACHED else _reason(condition["reason"])
    basis = (endpoint.status.get("basis") or NOTHING).get("login", "")
    return None if reason is None else Login(basis, reason, condition["message"], at)


def standing_of(endpoint: DatabaseEndpoint, basis: str, seen: Login | None) -> Standing | None:
    """How it stands at `basis`, from the status and from what was seen since; None: nobody has tried yet."""
    said = told(endpoint)
    known = [login for login in (said, seen) if login is not None and login.basis == basis]
    if not known:
        return None
    latest = max(known, key=lambda login: login.at)
    same = said is not None and said.basis == basis and said.reachable == latest.reachable
    return Standing(latest, said.at if said is not None and same else latest.at)


# When to try again


def slot(standing: Standing, every: timedelta, moment: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the turn to try that `moment` falls in; turns are counted from `standing.since`.

    A server that is away is tried after 2 s, then up to once a minute; what refuses the account after 5 minutes, then
    up to every 30, so that nothing locks it; one that answers, `every` so often.
    """
    begin, (step, longest) = standing.since, _steps(standing.login, every)
    while begin + step <= moment:
        if step >= longest:
            begin += (moment - begin) // longest * longest
            break
        begin, step = begin + step, min(step * 2, longest)
    return begin, begin + step


def _steps(login: Login, every: timedelta) -> tuple[timedelta, timedelta]:
    if login.reason is Reason.SUCCEEDED:
        return every, every
    if login.reason.outcome is Outcome.RETRY:
        return CONNECTION_BACKOFF, LONGEST_CONNECTION_BACKOFF
    return SLOW_BACKOFF, LONGEST_SLOW_BACKOFF


def _due(standing: Standing, every: timedelta) -> datetime:
    """When to try again: in the turn after the last attempt's, and not right after it."""
    _, end = slot(standing, every, standing.login.at)
    return max(end, standing.login.at + _steps(standing.login, every)[0])


# What it means to Operations


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether an Operation may start on the endpoint now."""

    bar: Login | None = None
    """Why not."""
    alone: bool = False
    """Only while no other runs there: it is the one that tries."""
    until: datetime | None = None
    """When to ask again; None: when the endpoint changes."""


OPEN = Gate()


def gate_of(endpoint: DatabaseEndpoint, standing: Standing | None, now: datetime) -> Gate:
    """What the endpoint's standing allows.

    With probes it is theirs to try a bad endpoint. Without, every request tries an unreachable server by itself, and
    one for all tries an account that was refused.
    """
    probed = endpoint.probe_every > timedelta()
    if standing is None:
        return Gate(alone=probed)
    login = standing.login
    if not login.bars:
        return OPEN
    if probed:
        return Gate(bar=login)
    if login.reason is not Reason.CREDENTIALS_REFUSED:
        return OPEN
    due = _due(standing, endpoint.probe_every)
    return Gate(bar=login, until=due) if now < due else Gate(alone=True)


def healed(standing: Standing | None, failed: Entry) -> bool:
    """Whether somebody has logged in since `failed` could not."""
    reason = _reason(failed.reason)
    if standing is None or failed.finished_at is None or reason is None or not reason.of_endpoint:
        return False
    return standing.login.reachable == "True" and standing.login.at > failed.finished_at


# When to probe


@dataclass(frozen=True, slots=True)
class Turn:
    """A probe's turn: what tells it from others, and when the one after it can be."""

    slot: str
    due: datetime
    lasts: timedelta


FIRST = "first"
"""The slot of what nobody has looked at yet."""


def probe_turn(
    endpoint: DatabaseEndpoint, standing: Standing | None, probed_at: datetime | None, now: datetime
) -> Turn | None:
    """The next turn to probe, due now or later; None: never.

    probed_at: when the last probe of this endpoint, its Secrets and its class was made; None: there is none.
    """
    every = endpoint.probe_every
    if every <= timedelta():
        return None
    reached = standing is not None and standing.login.reachable == "True"
    if standing is None or (reached and probed_at is None):
        # An Operation may have been there first; what it cannot tell is looked up.
        return Turn(FIRST, now, timedelta())
    due = _due(standing, every) if not reached or probed_at is None else slot(standing, every, probed_at)[1]
    begin, end = slot(standing, every, max(due, now))
    return Turn(begin.isoformat(), due, end - begin)
