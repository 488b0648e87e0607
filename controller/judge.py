"""The verdict on each Database from what the caches hold, worked out anew only when what it rests on changed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance
from controller.compliance import UNCONCERNED, Compliance, Surroundings, compliance, settled
from controller.observed import Namespace
from controller.occupancy import Member, Occupancy, Place, Where
from kube.cache import Cache
from policy.question import Peer
from policy.rules import DatabasePolicy

Key = tuple[str, str]
"""(namespace, name) of a Database."""


class Caches(Protocol):
    """What a verdict rests on."""

    databases: list[Cache[Database]]
    instances: Cache[DatabaseInstance]
    namespaces: Cache[Namespace]
    endpoints: Cache[DatabaseEndpoint]
    classes: Cache[DatabaseClass]
    policies: Cache[DatabasePolicy]


@dataclass(frozen=True, slots=True)
class _Basis:
    """Everything that a verdict was made from, as far as it can differ from one time to the next."""

    uid: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    held_by: tuple[object, ...]
    """Finalizers and owners."""
    around: Surroundings
    rules: int
    occupancy: int


class Judge:
    """Judges by the policies of now; safe from any thread."""

    def __init__(self, caches: Caches, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._caches = caches
        self._clock = clock
        self._occupancy = Occupancy(caches.databases, caches.instances)
        self._versions = itertools.count(1)
        self._rules = 0
        self._peers: dict[tuple[Where, str], tuple[tuple[int, int], tuple[Peer, ...]]] = {}
        self._verdicts: dict[Key, tuple[_Basis, Compliance]] = {}
        caches.policies.on_change(self._changed)
        # Which others a policy counts hangs on their namespaces' labels and on their endpoints' classes.
        caches.namespaces.on_change(lambda old, new: self._changed() if _relabelled(old, new) else None)
        caches.endpoints.on_change(lambda old, new: self._changed() if _reclassed(old, new) else None)

    def compliance(self, database: Database, *, claimed: bool) -> Compliance:
        """What there is against it; nothing while it is being deleted, or its namespace is not known yet."""
        metadata = database.metadata
        namespace = self._caches.namespaces.get(metadata.namespace)
        if metadata.terminating or namespace is None:
            return UNCONCERNED
        endpoint = self._caches.endpoints.get(database.endpoint)
        cls = None if endpoint is None else self._caches.classes.get(endpoint.class_name)
        around = Surroundings(namespace.metadata.labels, endpoint, cls, claimed)
        basis = _Basis(
            uid=metadata.uid,
            generation=metadata.generation,
            labels=metadata.labels,
            annotations=metadata.annotations,
            held_by=(*metadata.finalizers, *metadata.owners),
            around=around,
            rules=self._rules,
            occupancy=self._occupancy.version,
        )
        key = (metadata.namespace, metadata.name)
        known, now = self._verdicts.get(key), self._clock()
        if known is not None and not _due(known[1], now) and _same(known[0], basis, counted=known[1].counted):
            return known[1]
        former = known[1] if known is not None and known[0].uid == metadata.uid else None
        verdict = settled(compliance(database, around, self._caches.policies.values(), self), former, now)
        self._verdicts[key] = (basis, verdict)
        return verdict

    def forget(self, key: Key) -> None:
        """The Database is gone."""
        self._verdicts.pop(key, None)

    def peers(self, where: Where, name: str) -> Iterable[Peer]:
        """See `Room`."""
        version = (self._occupancy.version, self._rules)
        known = self._peers.get((where, name))
        if known is not None and known[0] == version:
            return known[1]
        counted = Counter(member.place for member in self._occupancy.members(where, name))
        peers = tuple(self.peer(place, count) for place, count in counted.items())
        self._peers[where, name] = (version, peers)
        return peers

    def members(self, where: Where, name: str) -> Iterable[Member]:
        """See `Room`."""
        return self._occupancy.members(where, name)

    def peer(self, place: Place, count: int) -> Peer:
        """See `Room`."""
        namespace, endpoint = self._caches.namespaces.get(place[0]), self._caches.endpoints.get(place[1])
        labels = {} if namespace is None else namespace.metadata.labels
        return Peer(labels, place[1], "" if endpoint is None else endpoint.class_name, count)

    def _changed(self, *_: Any) -> None:
        self._rules = next(self._versions)


def _relabelled(old: Namespace | None, new: Namespace | None) -> bool:
    return old is not None and new is not None and old.metadata.labels != new.metadata.labels


def _reclassed(old: DatabaseEndpoint | None, new: DatabaseEndpoint | None) -> bool:
    return old is None or new is None or old.class_name != new.class_name


def _due(verdict: Compliance, now: datetime) -> bool:
    return verdict.silence is not None and verdict.silence.ask_again <= now


def _same(before: _Basis, now: _Basis, *, counted: bool) -> bool:
    if counted and before.occupancy != now.occupancy:
        return False
    return _telling(before) == _telling(now)


def _telling(basis: _Basis) -> tuple[object, ...]:
    around = basis.around
    return (
        (basis.uid, basis.generation, basis.rules, around.claimed),
        (basis.labels, basis.annotations, basis.held_by, around.labels),
        _version(around.endpoint),
        _version(around.cls),
    )


def _version(held: DatabaseEndpoint | DatabaseClass | None) -> tuple[object, ...]:
    if held is None:
        return ()
    metadata = held.metadata
    return metadata.uid, metadata.generation, metadata.labels, metadata.annotations
