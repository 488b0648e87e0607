"""Everything fails that can: DBMS, line and API server, each in each way, and at random. All Databases converge."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import pytest

from api.resources import CLASSES
from kube.errors import AlreadyExists, NotFound
from tests.e2e.cluster import eventually
from tests.e2e.proxy import Asked, Fault, Gate
from tests.matrix.engines import Engine, class_spec
from tests.matrix.estate import Applied, Estate
from tests.matrix.kubelet import Mishap
from tests.matrix.troubles import TROUBLES
from tests.matrix.weather import BROKEN, BUSY, CONFLICT, ERROR, EXPIRED, HUSHED, NAMES, Once, Storm, Weather
from tests.servers.pki import KeyPair

pytestmark = [
    pytest.mark.integration,
    # An API server that is killed between a connection and its TLS handshake: Python's ssl leaves the socket behind.
    pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"),
]

T = TypeVar("T")
TIMEOUT = 3
"""Seconds that a call may take here."""
LASTS = {"stopped": 2.0, "paused": TIMEOUT + 5.0, "slow": TIMEOUT + 5.0, "full": 2.0}
MOMENTS = {"slow": "wanted?", "full": "started"}
"""When it begins, if not when the server has the call."""
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

    engine: Engine
    name: str
    certificate: KeyPair

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._over = threading.Event()
        self.struck = False

    def __call__(self) -> None:
        """It begins now."""
        self._stack.enter_context(TROUBLES[self.name](self.engine.server, self.certificate))
        self.struck = True
        threading.Timer(LASTS[self.name], self._end).start()

    def _end(self) -> None:
        self._stack.close()
        self._over.set()

    def wait(self) -> None:
        """Until it is over."""
        assert self.struck, f"{self.name} has not happened"
        assert self._over.wait(30), f"{self.name} is not over"


Befalls = Callable[[str], Callable[[], None]]
"""Prepares what happens in an operation of this type; what it gives waits until that is over."""


def lived(applied: Applied, befalls: Befalls = lambda kind: lambda: None) -> None:
    """A Database through its three operations, and what befalls each."""
    asks = {"create": applied.again, "rotate": applied.rotate}
    for kind, ask in asks.items():
        over = befalls(kind)
        ask()
        applied.wait_settled(kind, PATIENCE)
        over()
        assert applied.engine.refuses(applied.secret() or {}) == "", applied.describe()
    over = befalls("delete")
    applied.delete()
    applied.wait_let_go(PATIENCE)
    over()
    applied.wait_gone(PATIENCE)
    applied.line.close()


@dataclass(frozen=True)
class Table:
    """Rows of faults; in each, a Database of each engine, and the fault in its create, its rotate and its delete."""

    estate: Estate
    certificate: KeyPair
    calls: Mapping[str, str]
    """When the server of an engine has the call: a moment of a journey."""

    def prepare(self, engine: Engine) -> Applied:
        """A Database, still to be applied, whose calls may not take long."""
        return self.estate.prepare(engine, f"{engine.name}-hasty")

    def of_server(self, engine: Engine, name: str) -> None:
        """The server is stopped, paused, slow or full in the midst of each operation."""
        applied = self.prepare(engine)

        def befalls(kind: str) -> Callable[[], None]:
            strike = Strike(engine, name, self.certificate)
            self.estate.moments[applied.key(kind)] = {MOMENTS.get(name, self.calls[engine.name]): strike}
            return strike.wait

        lived(applied, befalls)

    def of_line(self, engine: Engine, mishap: Mishap) -> None:
        """The connection breaks in the midst of each call."""
        applied = self.prepare(engine)
        calling = self.calls[engine.name]
        moment = calling.replace("asked", "answered") if mishap is Mishap.HALF else calling
        to_come: list[str] = []

        def happens(what: str) -> Mishap | None:
            journey = self.estate.kubelet.current.get(applied.key("")[:2])
            if not to_come or journey is None or journey.moment(what) != moment:
                return None
            to_come.pop()
            return mishap

        def befalls(kind: str) -> Callable[[], None]:
            def over() -> None:
                assert to_come == [], f"{mishap.value} has not happened in {to_come}"

            to_come.append(kind)
            return over

        applied.line.mishap = happens
        lived(applied, befalls)

    def of_api(self, engine: Engine, once: Once) -> None:
        """Every request fails once, before or after it was done."""
        lived(self.prepare(engine))

        assert once.made > 5, f"it has happened {once.made} times"

    def of_restart(self, engine: Engine) -> None:
        """The API server is killed and started again while each call runs: watches, leases and answers are lost."""
        applied = self.prepare(engine)

        def befalls(kind: str) -> Callable[[], None]:
            restart = threading.Thread(target=self.estate.api.restart)

            def over() -> None:
                assert restart.ident is not None, "it was not restarted"
                restart.join()

            self.estate.moments[applied.key(kind)] = {self.calls[engine.name]: restart.start}
            return over

        lived(applied, befalls)

    def row(self, fault: str, act: Callable[[Engine], None], *, at_a_time: bool = True) -> list[str]:
        """Do it with all engines; prints the row, and gives what is wrong."""
        engines = self.estate.engines
        with ThreadPoolExecutor(len(engines) if at_a_time else 1) as pool:
            wrong = list(pool.map(lambda engine: outcome(lambda: act(engine)), engines))
        print(f"{fault:<50}" + "".join(f"{'NOT SURVIVED' if each else 'survived':<14}" for each in wrong), flush=True)
        return [f"{fault}: {each}" for each in wrong if each]


@pytest.fixture
def table(estate: Estate, certificate: KeyPair, hasty: None) -> Table:
    """With its head printed, and a rehearsal that tells how many requests come before each engine's call."""
    table = Table(estate, certificate, {})
    with ThreadPoolExecutor(len(estate.engines)) as pool:
        calls = list(pool.map(lambda engine: call_of(table.prepare(engine)), estate.engines))
    names = [engine.name for engine in estate.engines]
    print(f"\n{'fault, in each of create, rotate, delete':<50}" + "".join(f"{name:<14}" for name in names))
    return Table(estate, certificate, dict(zip(names, calls, strict=True)))


def call_of(applied: Applied) -> str:
    """The moment at which the server has the call: of all requests that are wanted, a create's is the last."""
    lived(applied)
    events = applied.estate.journeys[applied.key("create")][-1].events
    return f"asked {events[events.index('wanted?') : events.index('secret written')].count('asked')}"


def outcome(act: Callable[[], None]) -> str:
    """What is wrong after it; "" when nothing is."""
    try:
        act()
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.soak
def test_each_fault_in_each_operation_is_survived(estate: Estate, table: Table) -> None:
    wrong: list[str] = []
    for name in TROUBLES:
        wrong += table.row(f"DBMS {name}", lambda engine: table.of_server(engine, name))  # noqa: B023
    for mishap in Mishap:
        wrong += table.row(f"DBMS {mishap.value}", lambda engine: table.of_line(engine, mishap))  # noqa: B023
    for fault in (ERROR, BUSY, CONFLICT, EXPIRED, BROKEN, HUSHED):
        for done in (False, True):
            once = Once(fault)
            patience = estate.impatient() if fault is HUSHED else contextlib.nullcontext()
            with patience, weather(estate, calm if done else once, once if done else calm):
                name = f"API {NAMES[fault]}, {'done all the same' if done else 'not done'}, of each request"
                wrong += table.row(name, lambda engine: table.of_api(engine, once))  # noqa: B023
    wrong += table.row("API server restarted", table.of_restart, at_a_time=False)

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
    while not storm.over:
        # Kubernetes' own controllers take half a minute to get over it: for few faults, that is too long.
        if storm.most > MANY and chance.random() < 0.1:
            storm.note("API server restarted")
            estate.api.restart()
        else:
            engine, (name, trouble) = chance.choice(estate.engines), chance.choice([*TROUBLES.items()])
            storm.note(f"DBMS {name}")
            with trouble(engine.server, certificate):
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
