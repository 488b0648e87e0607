"""A Job that dies anywhere: after any of its requests to the API server or to the DBMS, nothing is lost or left."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.matrix.engines import Engine
from tests.matrix.estate import Applied, Estate

pytestmark = pytest.mark.integration

KINDS = ("create", "rotate", "delete")
STEPS = (
    "started",
    "read",
    "secret read",
    "secret tried",
    "connecting",
    "locking",
    "wanted?",
    "calling",
    "secret written",
    "reported",
)


@dataclass(frozen=True)
class Case:
    """Where the Job of one Operation is killed."""

    engine: Engine
    kind: str
    at: int
    """Which of its events, counted from 1."""
    step: str


def named(events: Sequence[str]) -> list[str]:
    """The step of the story that each event belongs to."""
    wanted = events.index("wanted?")
    before = [at for at, event in enumerate(events[:wanted]) if event == "asked"]
    steps = []
    for at, event in enumerate(events):
        if event not in ("asked", "answered"):
            steps.append(event)
        elif at > wanted:
            steps.append("calling")
        else:
            steps.append("locking" if at >= before[-1] else "connecting")
    return steps


def brought_to(estate: Estate, engine: Engine, kind: str, stop_at: int | None = None) -> Applied:
    """A Database whose first Job of this type goes as far as it is allowed to, and what comes of it."""
    applied = estate.apply(engine)
    if stop_at is not None:
        estate.stops[applied.key(kind)] = stop_at
    applied.wait_settled("create")
    first = applied.secret() or {}
    if kind == "rotate":
        applied.rotate()
        applied.wait_settled("rotate")
        assert (applied.secret() or {})["password"] != first["password"]
    assert engine.refuses(applied.secret() or {}) == ""
    applied.delete()
    applied.wait_gone()
    applied.line.close()
    return applied


def rehearsed(estate: Estate, engine: Engine, kind: str) -> list[Case]:
    """Every place at which a Job of this type can be killed."""
    applied = brought_to(estate, engine, kind)
    [journey] = estate.journeys[applied.key(kind)]
    return [Case(engine, kind, at, step) for at, step in enumerate(named(journey.events), 1)]


def played(estate: Estate, case: Case) -> str:
    """What is wrong after this case; "" when nothing is."""
    try:
        applied = brought_to(estate, case.engine, case.kind, case.at)
    except AssertionError as error:
        return f"{case.engine.name} {case.kind} killed at {case.at} ({case.step}): {error}"
    first = estate.journeys[applied.key(case.kind)][0]
    # What TCP brings together is one event less: the last place of a story may not be there.
    died = (first.process is not None and first.process.returncode < 0) or len(first.events) < case.at
    return "" if died else f"{case.engine.name} {case.kind} was not killed at {case.at} ({case.step})"


def play(estate: Estate, cases: Sequence[Case]) -> list[str]:
    """Play all cases, some at a time; prints the table and gives what is wrong."""
    with ThreadPoolExecutor(12) as pool:
        wrong = list(pool.map(lambda case: played(estate, case), cases))
    print(f"\n{'survived / killed':<22}" + "".join(f"{step:>16}" for step in STEPS))
    for name, kind in dict.fromkeys((case.engine.name, case.kind) for case in cases):
        cells = []
        for step in STEPS:
            of = [w for c, w in zip(cases, wrong, strict=True) if (c.engine.name, c.kind, c.step) == (name, kind, step)]
            cells.append(f"{of.count('')}/{len(of)}" if of else "-")
        print(f"{name + ' ' + kind:<22}" + "".join(f"{cell:>16}" for cell in cells))
    return [each for each in wrong if each]


def all_cases(estate: Estate) -> list[Case]:
    """Every engine, every type of Operation, every event."""
    pairs = [(engine, kind) for engine in estate.engines for kind in KINDS]
    with ThreadPoolExecutor(len(pairs)) as pool:
        return [case for cases in pool.map(lambda pair: rehearsed(estate, *pair), pairs) for case in cases]


def test_a_job_killed_at_some_step_loses_nothing_and_leaves_nothing(estate: Estate, chance: random.Random) -> None:
    """Two places for each engine and type of Operation; the soak plays all."""
    cases = all_cases(estate)
    pairs = dict.fromkeys((case.engine.name, case.kind) for case in cases)
    some = [
        case
        for pair in pairs
        for case in chance.sample([case for case in cases if (case.engine.name, case.kind) == pair], 2)
    ]

    assert play(estate, some) == []


@pytest.mark.soak
def test_a_job_killed_after_any_of_its_requests_loses_nothing_and_leaves_nothing(estate: Estate) -> None:
    assert play(estate, all_cases(estate)) == []
