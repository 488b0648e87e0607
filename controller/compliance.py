"""What policies, and its endpoint, have against a Database that exists. Pure; asks nobody.

Before a Database has a claim, a policy that denies holds it back. Afterwards it is only told: nothing that exists is
blocked or taken away. Of an expression that does not answer nothing is told before it has gone on for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import accumulate, takewhile
from typing import Any, Protocol, Self

from api.kinds import Database, DatabaseClass, DatabaseEndpoint
from api.labels import REQUESTED_BY
from api.reasons import ConditionReason
from api.resources import DATABASES
from api.stamp import Stamp
from controller.occupancy import Member, Place, Where
from policy.evaluation import Violation, concerns, reconsidered
from policy.question import Peer, Question, Usage
from policy.quotas import room_taken
from policy.rules import DatabasePolicy

FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = timedelta(hours=6)
"""Until an expression that has not answered is asked again: as long as it has not, within these."""
PATIENCE = timedelta(minutes=5)
"""For how long an expression that does not answer leaves what was said of a Database that exists as it is."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Some expression has not answered."""

    since: datetime
    ask_again: datetime
    passing: bool
    """Whether it may well be the moment's, and not the expression's, fault."""

    @classmethod
    def after(cls, former: Silence | None, now: datetime) -> Self:
        """At `now` there was no answer (again)."""
        since = now if former is None else former.since
        lasted = now - since
        return cls(since, now + min(max(lasted, FIRST_WAIT), LONGEST_WAIT), lasted < PATIENCE)


@dataclass(frozen=True, slots=True)
class Compliance:
    """The verdict on one Database."""

    concerned: bool = False
    """Whether any policy is about it."""
    counted: bool = False
    """Whether the verdict depends on how many others there are: then claims are made one after the other."""
    violations: tuple[Violation, ...] = ()
    claimed: bool = False
    """Whether it has its claim, so that nothing is held back."""
    silence: Silence | None = None
    """None: every expression has answered."""
    as_told: bool = False
    """Whether nothing is known but what the Database's status says already."""

    @property
    def denied(self) -> tuple[Violation, ...]:
        """What would be refused."""
        return tuple(found for found in self.violations if found.enforcement == "Deny")

    @property
    def undecided(self) -> bool:
        """Whether nothing would be refused but for want of an answer, which may come yet."""
        silence = self.silence
        return silence is not None and silence.passing and all(found.unanswered for found in self.denied)

    @property
    def reason(self) -> ConditionReason:
        """In one word."""
        if denied := self.denied:
            quota = all(found.quota for found in denied)
            return ConditionReason.QUOTA_EXCEEDED if quota else ConditionReason.POLICY_VIOLATED
        return ConditionReason.POLICY_WARNED if self.violations else ConditionReason.COMPLIANT

    @property
    def message(self) -> str:
        """In sentences: policy, field and cure of each violation, as far as there is room; those that deny first."""
        if not self.violations:
            return "no policy has anything against it"
        ordered = sorted(self.violations, key=lambda found: found.enforcement != "Deny")
        return f"{_listed([f'{found.path}: {found.message}' for found in ordered])}. {self._cure()}"

    def _cure(self) -> str:
        if not self.denied:
            return "This is a warning: nothing is refused on its account"
        if self.claimed:
            stays = "It stays, and is rotated and deleted as before"
            fixed = any(found.path.startswith(("spec.endpoint", "spec.params")) for found in self.denied)
            return f"{stays}; {'endpoint and params stay as they are: ' if fixed else ''}{_EXEMPTION}"
        if self.reason == ConditionReason.QUOTA_EXCEEDED:
            return "It goes on by itself as soon as there is room"
        return "It goes on as soon as this is mended; to change endpoint or params, delete it and apply it anew"


def _listed(sentences: Sequence[str]) -> str:
    """So many of them that what follows from them fits into a status too; one at least."""
    short = [s if len(s) <= _LONGEST_SENTENCE else s[: _LONGEST_SENTENCE - 1] + "…" for s in sentences]
    lengths = accumulate(len(sentence) + 2 for sentence in short)
    fitting = max(sum(length <= _LONGEST_LIST for length in lengths), 1)
    more = [f"and {len(short) - fitting} more"] if len(short) > fitting else []
    return "; ".join([*short[:fitting], *more])


_LONGEST_SENTENCE = 500
_LONGEST_LIST = 1700
"""Characters; a condition's message has room for 2,048."""
_EXEMPTION = "an administrator can exempt it by spec.match"
UNCONCERNED = Compliance()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Database is judged in; the namespace by its labels."""

    labels: Mapping[str, str]
    endpoint: DatabaseEndpoint | None
    cls: DatabaseClass | None
    claimed: bool


class Room(Protocol):
    """Who else takes up room, and what there is to know of a place."""

    def peers(self, where: Where, name: str) -> Iterable[Peer]:
        """The Databases in a namespace or on an endpoint, by place; the judged one included."""

    def members(self, where: Where, name: str) -> Iterable[Member]:
        """Each of them, in the order in which room goes to them."""

    def peer(self, place: Place, count: int) -> Peer:
        """A place as quotas see it."""


def compliance(database: Database, around: Surroundings, policies: Sequence[DatabasePolicy], room: Room) -> Compliance:
    """The verdict on a Database that is not being deleted."""
    question = _question(database, around, _Others(database, room))
    about = [policy for policy in policies if concerns(policy, question)]
    found = reconsidered(about, question)
    counted = any(policy.counts for policy in about)
    if counted and found:
        # There may be too many; now it matters who came first.
        found = reconsidered(about, replace(question, usage=_Earlier(database, policies, room)))
    violations = (*found, *_closed(database, around))
    return Compliance(bool(about), counted, violations, around.claimed)


def settled(found: Compliance, former: Compliance | None, now: datetime) -> Compliance:
    """The verdict that follows `former` when `found` is what was found now.

    Where an expression of a policy did not answer, what that policy had against a Database that exists stands for a
    while. One that has no claim is held back meanwhile, as admission would refuse it.
    """
    silent = {violation.policy for violation in found.violations if violation.unanswered}
    if not silent:
        return found
    silence = Silence.after(former.silence if former is not None else None, now)
    found = replace(found, silence=silence)
    if not found.claimed or not silence.passing:
        return found
    if former is None or former.as_told:
        return replace(found, violations=(), as_told=True)
    answered = {violation for violation in found.violations if not violation.unanswered}
    kept = {v for v in former.violations if v.policy in silent and not v.unanswered}
    return replace(found, violations=tuple(sorted(answered | kept)))


def _closed(database: Database, around: Surroundings) -> Iterable[Violation]:
    endpoint, namespace = around.endpoint, database.metadata.namespace
    if endpoint is not None and not endpoint.allowed_namespaces.matches(around.labels):
        message = (
            f'DatabaseEndpoint "{endpoint.metadata.name}" is not open to namespace "{namespace}"; its '
            "spec.allowedNamespaces says which labels it asks for"
        )
        yield Violation("spec.endpoint", message, "", "Deny")


def _question(database: Database, around: Surroundings, usage: Usage) -> Question:
    metadata = database.metadata
    stamp = Stamp.read(metadata.annotations.get(REQUESTED_BY, ""))
    manifest = _manifest(database, stored=around.claimed)
    return Question(
        # A claim is made for a new Database; what exists is judged as if it were applied again.
        operations=frozenset({"UPDATE" if around.claimed else "CREATE"}),
        name=metadata.name,
        namespace=metadata.namespace,
        user=stamp.user,
        groups=stamp.all_groups,
        dry_run=False,
        object=manifest,
        old=manifest if around.claimed else {},
        labels=around.labels,
        endpoint=around.endpoint,
        cls=around.cls,
        usage=usage,
    )


def _manifest(database: Database, *, stored: bool) -> dict[str, Any]:
    """A Database as expressions see it in an update or, not `stored` yet, in its creation."""
    metadata = database.metadata
    told = {
        "name": metadata.name,
        "generateName": metadata.generate_name,
        "namespace": metadata.namespace,
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version if stored else None,
        "generation": metadata.generation,
        "creationTimestamp": metadata.created_at and metadata.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "labels": dict(metadata.labels),
        "annotations": dict(metadata.annotations),
        "finalizers": list(metadata.finalizers),
        "ownerReferences": list(metadata.owners),
    }
    present = {key: value for key, value in told.items() if value}
    return {
        "apiVersion": DATABASES.api_version,
        "kind": DATABASES.kind,
        "metadata": present,
        "spec": dict(database.spec),
        **({"status": dict(database.status)} if stored else {}),
    }


@dataclass(frozen=True, slots=True)
class _Others:
    """All others, whoever came first."""

    database: Database
    room: Room

    def in_namespace(self) -> Iterable[Peer]:
        """See `Usage`."""
        return self._peers("namespace", self.database.metadata.namespace)

    def on_endpoint(self) -> Iterable[Peer]:
        """See `Usage`."""
        return self._peers("endpoint", self.database.endpoint)

    def _peers(self, where: Where, name: str) -> Iterable[Peer]:
        yield from self.room.peers(where, name)
        # Itself, which is no other.
        yield self.room.peer((self.database.metadata.namespace, self.database.endpoint), -1)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """Those to whom room goes first."""

    database: Database
    policies: Sequence[DatabasePolicy]
    room: Room

    def in_namespace(self) -> Iterable[Peer]:
        """See `Usage`."""
        return self._peers("namespace", self.database.metadata.namespace, lambda member: True)

    def on_endpoint(self) -> Iterable[Peer]:
        """Without those that a quota of their own namespace holds back: else they could crowd others out."""
        own, held = self.database.metadata.namespace, dict[Place, bool]()

        def counts(member: Member) -> bool:
            if member.claimed or member.key[0] == own:
                return True
            if member.place not in held:
                held[member.place] = self._held_at_home(member.place)
            return not held[member.place]

        return self._peers("endpoint", self.database.endpoint, counts)

    def _peers(self, where: Where, name: str, counts: Callable[[Member], bool]) -> Iterable[Peer]:
        key = (self.database.metadata.namespace, self.database.metadata.name)
        for member in takewhile(lambda member: member.key != key, self.room.members(where, name)):
            if counts(member):
                yield self.room.peer(member.place, 1)

    def _held_at_home(self, place: Place) -> bool:
        """Whether claims have taken all the room that a quota leaves to the place's namespace."""
        claims = [self.room.peer(m.place, 1) for m in self.room.members("namespace", place[0]) if m.claimed]
        there = self.room.peer(place, 1)
        return any(
            policy.per_namespace is not None
            and policy.enforcement == "Deny"
            and policy.match.scope(there.labels, there.endpoint, there.class_name)
            and room_taken(policy, claims) >= policy.per_namespace
            for policy in self.policies
        )
