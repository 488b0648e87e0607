"""A queue of names: each at most once, none handled twice at a time, failures backed off key by key."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.05
LONGEST_BACKOFF = 60.0
"""Seconds before a key whose handling failed is handled again."""


class Queue(Generic[K]):
    """Keys to reconcile. A key added while it is handled is handled once more afterwards."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._ready: dict[K, float] = {}
        self._delayed: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._count = itertools.count()
        self._closed = False

    def add(self, key: K) -> None:
        """Have `key` handled as soon as a worker is free."""
        with self._condition:
            if key in self._active:
                self._again.add(key)
            else:
                self._ready.setdefault(key, time.monotonic())
                self._condition.notify()

    def add_after(self, key: K, seconds: float) -> None:
        """Have `key` handled in `seconds`, or earlier if that was agreed before."""
        due = time.monotonic() + seconds
        with self._condition:
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._delayed, (due, next(self._count), key))
                self._condition.notify()

    def take(self) -> K | None:
        """Wait for a key; None once the queue is closed. Give it back with `done` or `failed`."""
        with self._condition:
            while not self._closed:
                self._promote()
                if self._ready:
                    key = next(iter(self._ready))
                    del self._ready[key]
                    self._active.add(key)
                    return key
                self._condition.wait(self._delayed[0][0] - time.monotonic() if self._delayed else None)
            return None

    def done(self, key: K) -> None:
        """`key` was handled."""
        with self._condition:
            self._failures.pop(key, None)
            self._release(key)

    def failed(self, key: K) -> None:
        """`key` could not be handled: try again, later each time."""
        with self._condition:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            self._release(key)
        backoff = min(FIRST_BACKOFF * 2 ** min(failures, 16), LONGEST_BACKOFF)
        self.add_after(key, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def close(self) -> None:
        """Let every `take` return None."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def depth(self) -> int:
        """Keys that wait for a worker now."""
        with self._condition:
            return len(self._ready)

    def oldest(self) -> float:
        """Seconds that the longest waiting key has waited; 0 when none waits."""
        with self._condition:
            return time.monotonic() - next(iter(self._ready.values())) if self._ready else 0.0

    def _release(self, key: K) -> None:
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._ready.setdefault(key, time.monotonic())
            self._condition.notify()

    def _promote(self) -> None:
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            if self._due.get(key) != due:
                continue
            del self._due[key]
            if key in self._active:
                self._again.add(key)
            else:
                self._ready.setdefault(key, now)
