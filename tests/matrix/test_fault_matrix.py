"""Everything fails that can: DBMS, line and API server, each in each way, and at random. All Databases converge."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pytest

from api.resources import CLASSES
from kube.errors import AlreadyExists, NotFound
from tests.e2e.cluster import eventually
from tests.e2e.proxy import Asked, Fault, Gate
from tests.matrix.engines import Engine, RealEngine, class_spec
from tests.matrix.estate import Applied, Estate
from tests.matrix.kubelet import Mishap
from tests.matrix.troubles import TROUBLES
from tests.matrix.weather import BROKEN, BUSY, CONFLICT, ERROR, EXPIRED, HUSHED, NAMES, Once, Storm, Weather
from tests.servers.pki import KeyPair

pytestmark = pytest.mark.integration

T = TypeVar("T")
TIMEOUT = 3
"""Seconds that a call may take here."""
LASTS = {"stopped": 2.0, "paused": TIMEOUT + 5.0, "slow": TIMEOUT + 5.0, "full": 2.0}
MOMENTS = {"stopped": "calling", "paused": "calling", "slow": "wanted?", "full": "started"}
WAITS = 20.0
"""Seconds that somebody waits in the storm before they want the next thing all the same."""
MANY = 100
"""Faults, with which nobody is in a hurry."""
PATIENCE = 150
"""Seconds: more than the longest pause after what heals by itself, less than after what somebody has to change."""


@pytest.fixture(scope="session")
def certificate(estate: Estate) -> KeyPair:
    """Of every server that is started again."""
    return estate.authority.issue("again", ["127.0.0.1"])


@pytest.fixture(scope="session")
def hasty(estate: Estate) -> None:
    """Classes whose calls may not take long: their names end in -hasty."""
    for engine in estate.engines:
        spec = class_spec(engine)
        for call in spec["operations"].values():
            call["timeout"] = f"{TIMEOUT}s"
        estate.client.create(CLASSES, {"metadata": {"name": f"{engine.name}-hasty"}, "spec": spec})


@contextlib.contextmanager
def weather(
    estate: Estate, before: Callable[[Asked], Fault | None], after: Callable[[Asked], Fault | None]
) -> Iterator[None]:
    """The controller's way to the API server, and the Jobs', while the block runs."""
    estate.way.gate = Weather(Gate(), before, after)
    estate.door.gate = Weather(estate.kubelet.door, before, after)
    # Watches begin under it.
    estate.way.cut()
    try:
        yield
    finally:
        estate.way.gate, estate.door.gate = Gate(), estate.kubelet.door


def calm(asked: Asked) -> None:
    """No fault."""


def persistently(ask: Callable[[], T]) -> T | None:
    """What a user does whom the API server has not answered: ask again."""

    def asked() -> tuple[T | None]:
        try:
            return (ask(),)
        except (AlreadyExists, NotFound):
            return (None,)

    return eventually(asked, "the API server answers", 60)[0]


# One fault after the other


@dataclass
class Strike:
    """Something that befalls a server for some seconds, once."""

    engine: RealEngine
    name: str
    certificate: KeyPair

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._over = threading.Event()
        self.struck = False

    def __call__(self) -> None:
        """It begins now."""
        self._stack.enter_context(TROUBLES[self.name](self.engine, self.certificate))
        self.struck = True
        threading.Timer(LASTS[self.name], self._end).start()

    def _end(self) -> None:
        self._stack.close()
        self._over.set()

    def wait(self) -> None:
        """Until it is over."""
        assert self.struck, f"{self.name} has not happened"
        assert self._over.wait(30), f"{self.name} is not over"


def lived(applied: Applied, befalls: Callable[[str], None] = lambda kind: None) -> None:
    """A Database through its three operations; `befalls` prepares what happens in each."""
    befalls("create")
    applied.again()
    applied.wait_settled("create", PATIENCE)
    assert applied.engine.refuses(applied.secret() or {}) == "", applied.describe()
    befalls("rotate")
    applied.rotate()
    applied.wait_settled("rotate", PATIENCE)
    assert applied.engine.refuses(applied.secret() or {}) == "", applied.describe()
    befalls("delete")
    applied.delete()
    applied.wait_gone(PATIENCE)
    applied.line.close()


def of_server(estate: Estate, engine: RealEngine, name: str, certificate: KeyPair) -> None:
    """The server is stopped, paused, slow or full in the midst of each operation."""
    applied = estate.prepare(engine, f"{engine.name}-hasty")
    strikes: list[Strike] = []

    def befalls(kind: str) -> None:
        for earlier in strikes:
            earlier.wait()
        strikes.append(Strike(engine, name, certificate))
        estate.moments[applied.key(kind)] = {MOMENTS[name]: strikes[-1]}

    lived(applied, befalls)
    for strike in strikes:
        strike.wait()


def of_line(estate: Estate, engine: Engine, mishap: Mishap) -> None:
    """The connection breaks in the midst of each call."""
    applied = estate.prepare(engine, f"{engine.name}-hasty")
    left: list[str] = []

    def happens(what: str) -> Mishap | None:
        journey = estate.kubelet.current.get(applied.key("")[:2])
        events = [] if journey is None else [*journey.events, what]
        calling = ["wanted?", "asked", "answered"] if mishap is Mishap.HALF else ["wanted?", "asked"]
        if not left or events[-len(calling) :] != calling:
            return None
        left.pop()
        return mishap

    applied.line.mishap = happens
    lived(applied, left.append)

    assert left == [], f"{mishap.value} has not happened in {left}"


def of_api(estate: Estate, engine: Engine, once: Once) -> None:
    """Every request fails once, before or after it was done."""
    lived(estate.prepare(engine, f"{engine.name}-hasty"))

    assert once.made > 5, f"it has happened {once.made} times"


def of_restart(estate: Estate, engine: Engine) -> None:
    """The API server is killed and started again while each call runs: watches, leases and answers are lost."""
    applied = estate.prepare(engine, f"{engine.name}-hasty")
    restarted: list[threading.Thread] = []

    def restart() -> None:
        restarted.append(threading.Thread(target=estate.api.restart))
        restarted[-1].start()

    def befalls(kind: str) -> None:
        for earlier in restarted:
            earlier.join()
        estate.moments[applied.key(kind)] = {"calling": restart}

    lived(applied, befalls)
    for thread in restarted:
        thread.join()

    assert len(restarted) == 3


def outcome(act: Callable[[], None]) -> str:
    """What is wrong after it; "" when nothing is."""
    try:
        act()
    except AssertionError as error:
        return str(error)
    return ""


E = TypeVar("E", bound=Engine)


def row(fault: str, engines: Sequence[E], act: Callable[[E], None]) -> list[str]:
    """Do it with all engines at a time; prints a row of the table, and gives what is wrong."""
    with ThreadPoolExecutor(len(engines)) as pool:
        wrong = list(pool.map(lambda engine: outcome(lambda: act(engine)), engines))
    cells = [
        f"{engine.name} {'NOT SURVIVED' if each else 'survived':<14}"
        for engine, each in zip(engines, wrong, strict=True)
    ]
    print(f"{fault:<44} {' '.join(cells)}", flush=True)
    return [f"{fault}: {each}" for each in wrong if each]


@pytest.mark.soak
def test_each_fault_in_each_operation_is_survived(estate: Estate, certificate: KeyPair, hasty: None) -> None:
    """One table; a row is a Database of each engine, and the fault in its create, its rotate and its delete."""
    every = estate.engines
    real = [engine for engine in every if isinstance(engine, RealEngine)]
    wrong: list[str] = []
    print(f"\n{'fault, in each of create, rotate, delete':<44} engines")
    for name in TROUBLES:
        wrong += row(f"DBMS {name}", real, lambda engine: of_server(estate, engine, name, certificate))  # noqa: B023
    for mishap in Mishap:
        wrong += row(mishap.value, every, lambda engine: of_line(estate, engine, mishap))  # noqa: B023
    for fault in (ERROR, BUSY, CONFLICT, EXPIRED, BROKEN):
        for done in (False, True):
            once = Once(fault)
            with weather(estate, calm if done else once, once if done else calm):
                name = f"API {NAMES[fault]}, {'done all the same' if done else 'not done'}, of each request"
                wrong += row(name, every, lambda engine: of_api(estate, engine, once))  # noqa: B023
    once, jobs = Once(HUSHED), estate.kubelet.door.journeys
    # The controller's patience is thirty seconds: it meets the silence among the faults at random.
    with weather(estate, lambda asked: once(asked) if asked.token in jobs else None, calm):
        wrong += row("API timeout, of each request of a Job", every, lambda engine: of_api(estate, engine, once))
    for engine in every:
        wrong += row("API server restarted", [engine], lambda engine: of_restart(estate, engine))

    assert not wrong, "\n".join(wrong)


# Faults at random


class Users:
    """People who apply, rotate and delete Databases whatever the weather, and want it all to be true in the end."""

    def __init__(self, estate: Estate, storm: Storm, chance: random.Random) -> None:
        self.estate = estate
        self.storm = storm
        self._seeds = chance

    def user(self) -> Callable[[], tuple[Applied, bool]]:
        """One of them: what they do until the storm is over; gives their Database, and whether they want it."""
        chance = random.Random(self._seeds.random())
        engine = chance.choice(self.estate.engines)
        applied = self.estate.prepare(engine, f"{engine.name}-hasty")
        applied.line.mishap = self.storm.exchange
        return lambda: self._acts(applied, chance)

    def _acts(self, applied: Applied, chance: random.Random) -> tuple[Applied, bool]:
        turn, wanted = 0, False
        while not self.storm.over or not turn:
            turn += 1
            if not wanted:
                persistently(applied.again)
                wanted = True
            elif chance.random() < 0.5:
                persistently(lambda: applied.rotate(f"turn {turn}"))  # noqa: B023
            else:
                persistently(applied.delete)
                wanted = False
            # Some do not wait until one thing is done before they want the next.
            if chance.random() < 0.7:
                self._wait(applied, wanted=wanted)
        return applied, wanted

    def _wait(self, applied: Applied, *, wanted: bool) -> None:
        """For a while: it need not come in the storm."""
        with contextlib.suppress(AssertionError):
            eventually(lambda: self._done(applied, wanted=wanted), "it has what it wants", WAITS)

    def _done(self, applied: Applied, *, wanted: bool) -> bool:
        return self.storm.over or (applied.ready if wanted else applied.get() is None)


def plague(estate: Estate, storm: Storm, chance: random.Random, certificate: KeyPair) -> None:
    """Whole servers fail, one at a time, until the storm is over."""
    real = [engine for engine in estate.engines if isinstance(engine, RealEngine)]
    while not storm.over:
        # Kubernetes' own controllers take half a minute to get over it: for few faults, that is too long.
        if storm.most > MANY and chance.random() < 0.1:
            storm.note("API server restarted")
            estate.api.restart()
        else:
            engine, (name, trouble) = chance.choice(real), chance.choice([*TROUBLES.items()])
            storm.note(f"DBMS {name}")
            with trouble(engine, certificate):
                time.sleep(chance.uniform(0.2, TIMEOUT + 4))
        time.sleep(chance.uniform(1, 4))


def weathered(estate: Estate, chance: random.Random, certificate: KeyPair, *, faults: int, databases: int) -> None:
    """So many Databases in so many faults; then the sky clears, and everything is as it was asked for."""
    storm = Storm(chance, faults, 0.06)
    users = Users(estate, storm, chance)
    everybody = [users.user() for _ in range(databases)]
    with weather(estate, storm.request, storm.request):
        breaker = threading.Thread(target=plague, args=(estate, storm, chance, certificate))
        breaker.start()
        with ThreadPoolExecutor(databases) as pool:
            left = [future.result() for future in [pool.submit(each) for each in everybody]]
        breaker.join()
    print("\n" + "\n".join(f"{number:5} {what}" for what, number in sorted(storm.made.items())), flush=True)
    settled(left)


def asked_for(applied: Applied) -> bool:
    """Apply it if it is not there; False while an earlier one of its name is on its way out."""
    found = applied.get()
    if found is None:
        applied.again()
        return True
    return "deletionTimestamp" not in found["metadata"]


def settled(left: list[tuple[Applied, bool]]) -> None:
    """What is wanted is there and can be used, what is not is gone; then nobody wants anything, and nothing is left."""
    wrong = []
    for applied in (applied for applied, wanted in left if wanted):
        eventually(lambda: asked_for(applied), f"{applied.name} is asked for", PATIENCE)  # noqa: B023
    for applied, wanted in left:
        if wanted:
            wrong.append(outcome(lambda: applied.wait_settled("create", PATIENCE)))  # noqa: B023
            secret = applied.secret()
            refused = "there is no Secret" if secret is None else applied.engine.refuses(secret)
            wrong.append(f"{applied.describe()}: {refused}" if refused else "")
        else:
            wrong.append(outcome(lambda: applied.wait_gone(PATIENCE)))  # noqa: B023
    wrong = [each for each in wrong if each]
    assert not wrong, "\n".join(wrong)
    for applied, wanted in left:
        if wanted:
            persistently(applied.delete)
    for applied, _ in left:
        applied.wait_gone(PATIENCE)
        applied.line.close()


def test_faults_at_random_lose_nothing_and_leave_nothing(
    estate: Estate, chance: random.Random, certificate: KeyPair, hasty: None
) -> None:
    """Forty of them over six Databases; the soak makes a thousand."""
    weathered(estate, chance, certificate, faults=40, databases=6)


@pytest.mark.soak
def test_a_thousand_faults_at_random_lose_nothing_and_leave_nothing(
    estate: Estate, chance: random.Random, certificate: KeyPair, hasty: None
) -> None:
    weathered(estate, chance, certificate, faults=1000, databases=50)
