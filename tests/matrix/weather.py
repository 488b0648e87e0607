"""What can go wrong between a program and what it talks to, made to happen: at the API server, and on a line to a DBMS.

Each is one event, made by chance or once for each request, and counted. What happens to a whole server is in
`troubles`.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.e2e.proxy import CUT, SILENT, WRITES, Asked, Fault, Gate
from tests.matrix.kubelet import Mishap

ERROR = Fault(500, "InternalError")
BUSY = Fault(429, "TooManyRequests")
CONFLICT = Fault(409, "Conflict")
EXPIRED = Fault(410, "Expired")
BROKEN = Fault(CUT)
HUSHED = Fault(SILENT)
NAMES = {ERROR: "500", BUSY: "429", CONFLICT: "409", EXPIRED: "410", BROKEN: "cut", HUSHED: "timeout"}


def fits(fault: Fault, asked: Asked) -> bool:
    """Whether an API server could answer so: conflicts are about writes, what is gone is what was listed or watched."""
    if fault is CONFLICT:
        return asked.method in WRITES
    if fault is EXPIRED:
        return asked.watches or "limit=" in asked.target
    return True


class Weather(Gate):
    """Has requests fail on their way, or after they were done; otherwise asks the gate behind."""

    def __init__(self, behind: Gate, before: Callable[[Asked], Fault | None], after: Callable[[Asked], Fault | None]):
        self._behind = behind
        self._before = before
        self._after = after

    def arrives(self, asked: Asked) -> Fault | None:
        """It may go no further."""
        return self._before(asked) or self._behind.arrives(asked)

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """It was done, and the answer may get lost."""
        return self._behind.answered(asked, status) or self._after(asked)


class Once:
    """Each request fails once with the same fault.

    The same method on the same object or collection is the same request; to try, to do and to watch are three.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._seen: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()

    def __call__(self, asked: Asked) -> Fault | None:
        """The fault, or None."""
        place = asked.method, urlsplit(asked.target).path, "dryRun=" in asked.target, asked.watches
        # Nobody leads while a Lease cannot be renewed, which is no fault of a request's.
        if not fits(self._fault, asked) or "/leases/" in place[1]:
            return None
        with self._lock:
            if place in self._seen:
                return None
            self._seen.add(place)
        return self._fault

    @property
    def made(self) -> int:
        """How many."""
        return len(self._seen)


class Storm:
    """Faults at random, until so many have happened."""

    def __init__(self, chance: random.Random, most: int, share: float) -> None:
        """`share` of all requests and exchanges fails."""
        self._chance = chance
        self.most = most
        self._share = share
        self._lock = threading.Lock()
        self.made: Counter[str] = Counter()

    @property
    def over(self) -> bool:
        """Whether all have happened."""
        return self.made.total() >= self.most

    def note(self, what: str) -> None:
        """Count one that somebody else makes."""
        with self._lock:
            self.made[what] += 1

    def request(self, asked: Asked) -> Fault | None:
        """What happens to a request of the controller or of a Job."""
        with self._lock:
            if self.over or self._chance.random() >= self._share:
                return None
            # A timeout costs the one who waits many seconds: it is as rare as it is.
            [fault] = self._chance.choices([ERROR, BUSY, CONFLICT, EXPIRED, BROKEN, HUSHED], [30, 15, 20, 10, 20, 2])
            if not fits(fault, asked):
                fault = ERROR
            self.made[f"API {NAMES[fault]}"] += 1
            return fault

    def exchange(self, what: str) -> Mishap | None:
        """What happens to something that is said on a line."""
        with self._lock:
            if self.over or self._chance.random() >= self._share / 2:
                return None
            mishap: Mishap = self._chance.choice([*Mishap])
            self.made[f"DBMS {mishap.value}"] += 1
            return mishap
