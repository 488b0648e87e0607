"""Which Databases take up room, where, and in which order they came: what quotas are counted by. Reads caches.

A claim takes up room until the database is gone or released. What has no claim yet comes after all that have one, in
the order of creation.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from api.kinds import Database, DatabaseInstance
from kube.cache import Cache

Where = Literal["namespace", "endpoint"]
Place = tuple[str, str]
"""(namespace, endpoint)."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Member:
    """One Database, or a claim whose Database is gone."""

    key: tuple[str, str]
    endpoint: str
    claimed: bool
    since: datetime
    """When it was claimed; without a claim, when the Database was created."""
    uid: str

    @property
    def place(self) -> Place:
        """Where it takes up room."""
        return self.key[0], self.endpoint

    def before(self, other: Member) -> bool:
        """Whether room goes to it rather than to `other`."""
        return (not self.claimed, self.since, self.uid) < (not other.claimed, other.since, other.uid)


class Occupancy:
    """Members by namespace and by endpoint, counted anew only after something came or went."""

    def __init__(self, databases: Iterable[Cache[Database]], instances: Cache[DatabaseInstance]) -> None:
        self._databases = tuple(databases)
        self._instances = instances
        self._lock = threading.Lock()
        self._counted: dict[tuple[Where, str], Mapping[Place, int]] = {}
        self.version = 0
        """Another one after every change that may matter."""
        for cache in self._databases:
            cache.on_change(self._changes(lambda database: (database.metadata.uid, database.metadata.terminating)))
        instances.on_change(self._changes(lambda instance: (instance.metadata.uid, instance.claim, instance.phase)))

    def _changes(self, telling: Callable[..., object]) -> Callable[..., None]:
        def listener(old: Database | DatabaseInstance | None, new: Database | DatabaseInstance | None) -> None:
            if old is None or new is None or telling(old) != telling(new):
                with self._lock:
                    self.version += 1
                    self._counted.clear()

        return listener

    def members(self, where: Where, name: str) -> Iterator[Member]:
        """Everything that takes up room in a namespace or on an endpoint, in no order."""
        claims = {}
        for instance in self._instances.by("claim-namespace" if where == "namespace" else "endpoint", name):
            claim = instance.claim
            if claim is not None and instance.phase != "Released":
                claims[claim.namespace, claim.name] = _member(
                    (claim.namespace, claim.name), instance.endpoint, instance, claimed=True
                )
        yield from claims.values()
        for cache in self._databases:
            for database in cache.by(where, name):
                key = (database.metadata.namespace, database.metadata.name)
                if key not in claims and not database.metadata.terminating:
                    yield _member(key, database.endpoint, database, claimed=False)

    def counts(self, where: Where, name: str) -> Mapping[Place, int]:
        """How many members there are, by place."""
        with self._lock:
            version, known = self.version, self._counted.get((where, name))
        if known is not None:
            return known
        counted = Counter(member.place for member in self.members(where, name))
        with self._lock:
            if version == self.version:
                self._counted[where, name] = counted
        return counted


def _member(key: tuple[str, str], endpoint: str, holder: Database | DatabaseInstance, *, claimed: bool) -> Member:
    metadata = holder.metadata
    return Member(key, endpoint, claimed, metadata.created_at or _LONG_AGO, metadata.uid)
