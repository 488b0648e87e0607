"""The ledger: what the Operations of an instance say has been asked, tried and done.

Pure: reads Operations, decides when the next attempt is due; never makes one.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from api.kinds import NOTHING, Metadata, RetryRule, parse_time
from api.operation import Call
from api.reasons import Outcome, Reason

CONNECTION_BACKOFF = timedelta(seconds=2)
LONGEST_CONNECTION_BACKOFF = timedelta(minutes=1)
"""A server that is away costs nobody anything but a Job a minute."""
LONGEST_CALL_BACKOFF = timedelta(minutes=5)
SLOW_BACKOFF = timedelta(minutes=5)
LONGEST_SLOW_BACKOFF = timedelta(minutes=30)
"""For what is wrong until someone changes something that the controller cannot see, such as a procedure."""
JITTER = 0.2

CALL_REASONS = frozenset({Reason.PROCEDURE_FAILED, Reason.TIMEOUT})
"""Faults of the procedure itself: they count against the class's `retry.limit`."""

AFTER_A_CALL = CALL_REASONS | {
    Reason.SUCCEEDED,
    Reason.CONNECTION_LOST,
    Reason.CRASHED,
    Reason.CREDENTIALS_LOST,
    Reason.INTERRUPTED,
    Reason.JOB_LOST,
    Reason.RESULT_INVALID,
}
"""Reasons that tell by themselves of a call which may have had an effect."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One Operation as the ledger needs it."""

    metadata: Metadata
    type: str
    sequence: int
    attempt: int
    database: tuple[str, str]
    """(namespace, name)."""
    database_uid: str
    instance: str
    instance_uid: str
    endpoint: str
    requested_by: str
    request: str
    basis: str
    generated: bool
    writes_secret: bool
    secret: str
    timeout: timedelta
    outcome: str
    """"" while it runs."""
    reason: str
    message: str
    called: bool
    connected: bool
    """Whether its Job had logged in."""
    started_at: datetime | None
    finished_at: datetime | None
    result_keys: tuple[str, ...] = ()
    """Keys that its procedures returned."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read an Operation manifest."""
        spec = manifest["spec"]
        status = manifest.get("status") or NOTHING
        database = spec["databaseRef"]
        secret = spec.get("secret")
        calls = [Call.parse(call) for call in spec["calls"]]
        return cls(
            metadata=Metadata.parse(manifest),
            type=spec["type"],
            sequence=spec["sequence"],
            attempt=spec["attempt"],
            database=(database["namespace"], database["name"]),
            database_uid=database["uid"],
            instance=spec["instanceRef"]["name"],
            instance_uid=spec["instanceRef"]["uid"],
            endpoint=spec["server"]["endpoint"],
            requested_by=spec["requestedBy"],
            request=spec.get("request", ""),
            basis=spec["basis"],
            generated=spec.get("generated", False),
            writes_secret=secret is not None,
            secret=secret["name"] if secret else "",
            timeout=sum((call.timeout for call in calls), timedelta()),
            outcome=status.get("outcome", ""),
            reason=status.get("reason", ""),
            message=status.get("message", ""),
            called=status.get("called", False),
            connected="connection" in status,
            started_at=parse_time(status.get("startedAt")),
            finished_at=parse_time(status.get("finishedAt")),
            # The same few words in thousands of entries.
            result_keys=tuple(map(sys.intern, status.get("resultKeys", ()))),
        )

    @property
    def name(self) -> str:
        """Its name, also its Job's and its ServiceAccount's."""
        return self.metadata.name

    @property
    def running(self) -> bool:
        """Whether nobody has reported yet."""
        return not self.outcome

    @property
    def succeeded(self) -> bool:
        """Whether it did what was asked."""
        return self.outcome == Outcome.SUCCEEDED

    @property
    def may_have_acted(self) -> bool:
        """Whether its call may have had an effect on the server, for this claim.

        What a create found there before it is not its effect: neither reset nor deleted on its account.
        """
        return self.running or self.succeeded or (self.called and self.reason != Reason.ALREADY_EXISTS)

    def dated(self, now: datetime) -> Self:
        """The same, as having ended when it can have: a report carries the clock of its node, which may be hours off.

        Before it was made, or in the future: then it ended when it was made, for all that the API server's clock tells.
        """
        made, ended = self.metadata.created_at, self.finished_at
        if made is None or ended is None or made <= ended <= now:
            return self
        return replace(self, finished_at=made)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All Operations ever made under one instance name, oldest first, and those of the present claim among them."""

    entries: tuple[Entry, ...]
    instance_uid: str
    told: int = 0
    """The latest sequence that a status told of: Operations may have been deleted since."""

    @classmethod
    def of(cls, entries: Sequence[Entry], instance_uid: str, told: int = 0) -> Self:
        """Put entries in their order."""
        return cls(tuple(sorted(entries, key=lambda entry: (entry.sequence, entry.attempt))), instance_uid, told)

    @property
    def own(self) -> tuple[Entry, ...]:
        """The entries of the present claim; an earlier claim of the same name has another uid."""
        return tuple(entry for entry in self.entries if entry.instance_uid == self.instance_uid)

    @property
    def last(self) -> Entry | None:
        """The present claim's latest entry."""
        own = self.own
        return own[-1] if own else None

    @property
    def last_success(self) -> Entry | None:
        """The present claim's latest entry that did what was asked."""
        return next((entry for entry in reversed(self.own) if entry.succeeded), None)

    @property
    def may_exist(self) -> bool:
        """Whether the server may hold something for this claim."""
        return any(entry.may_have_acted and entry.type != "delete" for entry in self.own)

    @property
    def returned(self) -> frozenset[str]:
        """Keys that procedures have returned for this claim."""
        return frozenset(key for entry in self.own for key in entry.result_keys)

    def turn(self, kind: str, request: str, database_uid: str) -> tuple[int, int]:
        """(sequence, attempt) of the next Operation: a retry of the last, or a new request.

        A Database that took over the claim begins anew: attempts of one sequence share a generated password.
        """
        last = self.last
        if last is not None and not last.succeeded and last.sequence >= self.told:
            asked = (last.type, last.request, last.database_uid)
            if asked == (kind, request, database_uid):
                return last.sequence, last.attempt + 1
        return max(self.entries[-1].sequence if self.entries else 0, self.told) + 1, 1

    def attempts(self, entry: Entry) -> tuple[Entry, ...]:
        """All attempts of `entry`'s request up to it."""
        return tuple(e for e in self.own if e.sequence == entry.sequence and e.attempt <= entry.attempt)


def next_attempt(ledger: Ledger, failed: Entry, basis: str, retry: RetryRule) -> datetime | None:
    """When to try again after `failed`; None means at once.

    What a request rests on (`basis`) having changed is the best reason to try: no backoff then.
    """
    if failed.basis != basis or failed.finished_at is None:
        return None
    attempts = ledger.attempts(failed)
    return failed.finished_at + _jittered(_backoff(failed, attempts, retry), failed.name)


def exhausted(ledger: Ledger, failed: Entry, retry: RetryRule) -> bool:
    """Whether the procedure has failed more often than its class wants to see."""
    calls = [entry for entry in ledger.attempts(failed) if entry.reason in CALL_REASONS and entry.basis == failed.basis]
    return failed.reason in CALL_REASONS and len(calls) > retry.limit


def _backoff(failed: Entry, attempts: Sequence[Entry], retry: RetryRule) -> timedelta:
    same = 0
    for entry in reversed(attempts):
        if entry.reason != failed.reason or entry.basis != failed.basis:
            break
        same += 1
    if failed.outcome == Outcome.STALLED:
        return min(SLOW_BACKOFF * (1 << min(same - 1, 10)), LONGEST_SLOW_BACKOFF)
    if failed.reason in CALL_REASONS:
        if same > retry.limit:
            return min(SLOW_BACKOFF * (1 << min(same - retry.limit - 1, 10)), LONGEST_SLOW_BACKOFF)
        return min(retry.backoff * (1 << min(same - 1, 20)), LONGEST_CALL_BACKOFF)
    return min(CONNECTION_BACKOFF * (1 << min(same - 1, 20)), LONGEST_CONNECTION_BACKOFF)


def _jittered(backoff: timedelta, name: str) -> timedelta:
    # From the name, so that the same observation always gives the same plan.
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 0xFFFFFFFF
    return backoff * (1 - JITTER + 2 * JITTER * share)
