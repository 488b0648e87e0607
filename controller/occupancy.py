"""Which Databases take up room, where, and in which order they came: what quotas are counted by. Reads caches.

A claim takes up room until the database is gone or released. What has no claim yet comes after all that have one, in
the order of creation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
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


class Occupancy:
    """Members by namespace and by endpoint, put in order anew only after something came or went."""

    def __init__(self, databases: Iterable[Cache[Database]], instances: Cache[DatabaseInstance]) -> None:
        self._databases = tuple(databases)
        self._instances = instances
        self._lock = threading.Lock()
        self._known: dict[tuple[Where, str], tuple[Member, ...]] = {}
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
                    self._known.clear()

        return listener

    def members(self, where: Where, name: str) -> tuple[Member, ...]:
        """Everything that takes up room in a namespace or on an endpoint; whom room goes to first comes first."""
        with self._lock:
            version, known = self.version, self._known.get((where, name))
        if known is not None:
            return known
        members = tuple(sorted(self._members(where, name), key=lambda m: (not m.claimed, m.since, m.uid)))
        with self._lock:
            if version == self.version:
                self._known[where, name] = members
        return members

    def _members(self, where: Where, name: str) -> Iterator[Member]:
        claims = {}
        for instance in self._instances.by("claim-namespace" if where == "namespace" else "endpoint", name):
            claim = instance.claim
            if claim is not None and instance.phase != "Released":
                key = (claim.namespace, claim.name)
                claims[key] = _member(key, instance.endpoint, instance, claimed=True)
        yield from claims.values()
        for cache in self._databases:
            for database in cache.by(where, name):
                key = (database.metadata.namespace, database.metadata.name)
                if key not in claims and not database.metadata.terminating:
                    yield _member(key, database.endpoint, database, claimed=False)


def _member(key: tuple[str, str], endpoint: str, holder: Database | DatabaseInstance, *, claimed: bool) -> Member:
    metadata = holder.metadata
    return Member(key, endpoint, claimed, metadata.created_at or _LONG_AGO, metadata.uid)
