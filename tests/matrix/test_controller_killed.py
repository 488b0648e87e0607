"""A controller that dies after any of its writes: started again, it goes on from there."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from tests.e2e.cluster import eventually
from tests.e2e.proxy import CUT, WRITES, Asked, Fault, Gate
from tests.matrix.engines import Engine
from tests.matrix.estate import Applied, Estate

pytestmark = pytest.mark.integration

OTHERS = ("leases", "webhookconfigurations", "databaseendpoints", "databaseclasses", "events")
"""What a controller writes besides what concerns one Database."""


class Guillotine(Gate):
    """Kills the controller when the n-th of its writes is done, before it hears of it. Once."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._lock = threading.Lock()
        self._left = 0
        self.fallen = threading.Event()

    def after(self, writes: int) -> None:
        """Fall after so many writes from now."""
        with self._lock:
            self.fallen.clear()
            self._left = writes

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """It was done."""
        about = asked.method in WRITES and status < 300 and not any(other in asked.target for other in OTHERS)
        with self._lock:
            if not (about and self._left):
                return None
            self._left -= 1
            if self._left:
                return None
        self._kill()
        self.fallen.set()
        return Fault(CUT)


def survives(estate: Estate, guillotine: Guillotine, act: Callable[[], None], settled: Callable[[], None]) -> None:
    """Do something with a controller that dies and is started again as soon as it is dead."""
    restarted = threading.Event()

    def restart() -> None:
        while not restarted.is_set():
            if guillotine.fallen.wait(0.05):
                guillotine.fallen.clear()
                estate.controller.start()
                return

    waiter = threading.Thread(target=restart)
    waiter.start()
    try:
        act()
        settled()
    finally:
        guillotine.after(0)
        restarted.set()
        waiter.join()
        if not estate.controller.alive:
            estate.controller.start()


def lived_through(estate: Estate, guillotine: Guillotine, engine: Engine, writes: int) -> Applied:
    """A Database created, rotated and deleted by a controller that dies after so many writes of each."""
    applied: list[Applied] = []
    guillotine.after(writes)
    survives(
        estate,
        guillotine,
        lambda: applied.append(estate.apply(engine)),
        lambda: applied[0].wait_settled("create"),
    )
    [database] = applied
    assert engine.refuses(database.secret() or {}) == ""
    guillotine.after(writes)
    survives(estate, guillotine, database.rotate, lambda: database.wait_settled("rotate"))
    assert engine.refuses(database.secret() or {}) == ""
    guillotine.after(writes)
    survives(estate, guillotine, database.delete, database.wait_gone)
    types = [operation["spec"]["type"] for operation in database.operations()]
    assert types == ["create", "rotate", "delete"], database.describe()
    database.line.close()
    return database


@pytest.fixture
def guillotine(estate: Estate) -> Guillotine:
    """In front of the API server; it falls when it is told to."""
    made = Guillotine(estate.controller.kill)
    estate.way.gate = made
    eventually(lambda: estate.controller.alive, "the controller runs")
    return made


def test_a_controller_killed_after_some_write_goes_on_from_there(
    estate: Estate, guillotine: Guillotine, chance: random.Random
) -> None:
    """Three operations, each called once. The soak takes every write."""
    engine = chance.choice(estate.engines)

    lived_through(estate, guillotine, engine, chance.randint(1, 8))


@pytest.mark.soak
def test_a_controller_killed_after_any_write_goes_on_from_there(estate: Estate, guillotine: Guillotine) -> None:
    """Of a request's dozen."""
    print(f"\n{'engine':<12} killed after write n of each create, rotate and delete")
    for engine in estate.engines:
        survived = []
        for writes in range(1, 15):
            lived_through(estate, guillotine, engine, writes)
            survived.append(writes)
        print(f"{engine.name:<12} {' '.join(map(str, survived))}", flush=True)

        assert survived == list(range(1, 15))
