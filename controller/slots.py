"""How many Jobs an endpoint bears at once and a minute, and who is next.

Waiting requests are served in turn over namespaces, deletions and others by turns, so that neither a namespace that
asks for two hundred databases nor a wave of creates starves anybody.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field

Key = tuple[str, str]
"""(namespace, name) of a Database."""

WINDOW = 60.0
"""Seconds over which `operationsPerMinute` counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """An endpoint's `maxConcurrentJobs` and `operationsPerMinute` (0: no limit)."""

    jobs: int
    per_minute: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A request for a slot: for which Database, as which Operation, deleting or not."""

    key: Key
    operation: str
    deletes: bool


@dataclass(slots=True)
class _Lane:
    """Waiting keys, first come first served within a namespace, in turn over namespaces."""

    namespaces: OrderedDict[str, deque[Key]] = field(default_factory=OrderedDict)

    def push(self, key: Key) -> None:
        waiting = self.namespaces.setdefault(key[0], deque())
        if key not in waiting:
            waiting.append(key)

    def pop(self) -> Key | None:
        if not self.namespaces:
            return None
        namespace, waiting = self.namespaces.popitem(last=False)
        key = waiting.popleft()
        if waiting:
            self.namespaces[namespace] = waiting
        return key

    def discard(self, key: Key) -> None:
        waiting = self.namespaces.get(key[0])
        if waiting is not None and key in waiting:
            waiting.remove(key)
            if not waiting:
                del self.namespaces[key[0]]


@dataclass(slots=True)
class _Endpoint:
    occupied: set[str] = field(default_factory=set)
    kept: set[Key] = field(default_factory=set)
    """Whom a slot that became free is kept for, until they have been handled."""
    deletions: _Lane = field(default_factory=_Lane)
    others: _Lane = field(default_factory=_Lane)
    deletion_next: bool = True
    starts: deque[float] = field(default_factory=deque)

    def lane(self, turn: Turn) -> _Lane:
        return self.deletions if turn.deletes else self.others

    def next(self) -> Key | None:
        lanes = (self.deletions, self.others) if self.deletion_next else (self.others, self.deletions)
        for lane in lanes:
            if (key := lane.pop()) is not None:
                self.deletion_next = lane is self.others
                return key
        return None


class Slots:
    """The slots of all endpoints. What occupies them is told by `occupy` and `release`, from what really exists."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endpoints: dict[str, _Endpoint] = {}

    def request(self, endpoint: str, turn: Turn, limits: Limits, now: float) -> float | None:
        """Ask for a slot at `now` (monotonic seconds).

        Returns None when it is granted, else the seconds after which to ask again at the latest; a key that waits for
        a slot is also named by a later `release`.
        """
        with self._lock:
            state = self._endpoints.setdefault(endpoint, _Endpoint())
            if turn.operation in state.occupied:
                return None
            while state.starts and now - state.starts[0] >= WINDOW:
                state.starts.popleft()
            if limits.per_minute and len(state.starts) >= limits.per_minute:
                return WINDOW - (now - state.starts[0])
            if turn.key in state.kept:
                state.kept.discard(turn.key)
            elif len(state.occupied) + len(state.kept) >= limits.jobs:
                state.lane(turn).push(turn.key)
                return WINDOW
            state.lane(turn).discard(turn.key)
            state.occupied.add(turn.operation)
            if limits.per_minute:
                state.starts.append(now)
            return None

    def give_back(self, endpoint: str, turn: Turn) -> None:
        """The slot that was granted has no Operation after all: it is kept for the same key until `settle`."""
        with self._lock:
            state = self._endpoints[endpoint]
            state.occupied.discard(turn.operation)
            if state.starts:
                state.starts.pop()
            state.kept.add(turn.key)

    def occupy(self, endpoint: str, operation: str) -> None:
        """`operation` has, or is about to have, a Job that runs."""
        with self._lock:
            self._endpoints.setdefault(endpoint, _Endpoint()).occupied.add(operation)

    def release(self, endpoint: str, operation: str) -> Key | None:
        """`operation` has no running Job any more; returns the key whose turn it is now."""
        with self._lock:
            state = self._endpoints.get(endpoint)
            if state is None or operation not in state.occupied:
                return None
            state.occupied.discard(operation)
            return self._grant(state)

    def settle(self, key: Key) -> list[Key]:
        """`key` was handled: slots that were kept for it and that it did not take go to the keys returned."""
        with self._lock:
            # Wherever it is: a Database may be gone, or elsewhere, when its turn comes.
            keeping = [state for state in self._endpoints.values() if key in state.kept]
            for state in keeping:
                state.kept.discard(key)
            return [granted for state in keeping if (granted := self._grant(state)) is not None]

    def occupied(self) -> dict[str, int]:
        """Running Jobs by endpoint."""
        with self._lock:
            return {name: len(state.occupied) for name, state in self._endpoints.items()}

    @staticmethod
    def _grant(state: _Endpoint) -> Key | None:
        key = state.next()
        if key is not None:
            state.kept.add(key)
        return key
