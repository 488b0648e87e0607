"""A Database that is deleted, or given up, while a Job of its own runs: what began ends, and nothing else begins."""

from __future__ import annotations

import random

import pytest

from api.labels import ABANDON
from api.resources import DATABASES, OPERATIONS
from tests.e2e.cluster import OPERATOR, eventually
from tests.matrix.estate import NAMESPACE, Applied, Estate

pytestmark = pytest.mark.integration


def types(database: Applied) -> list[str]:
    """Of its requests."""
    return [*{each["spec"]["sequence"]: each["spec"]["type"] for each in database.operations()}.values()]


@pytest.mark.parametrize("kind", ["create", "rotate"])
def test_what_is_under_way_ends_before_the_database_is_deleted(
    estate: Estate, chance: random.Random, kind: str
) -> None:
    engine = chance.choice(estate.engines)
    database = estate.prepare(engine, engine.name)
    estate.moments[database.key(kind)] = {"asked 1": database.delete}
    database.again()
    if kind == "rotate":
        database.wait_settled("create")
        database.rotate()
    database.wait_gone()

    assert types(database) == [*dict.fromkeys(("create", kind)), "delete"]
    assert [each["status"]["outcome"] for each in database.operations()][-2:] == ["Succeeded", "Succeeded"]
    database.line.close()


@pytest.mark.parametrize("kind", ["create", "rotate", "delete"])
def test_an_operation_that_somebody_deletes_amid_its_call_takes_nothing_with_it(estate: Estate, kind: str) -> None:
    """Its Job goes with it, when the server has done what it was asked for and nobody has heard of it."""
    [engine] = [engine for engine in estate.engines if engine.name == "postgresql"]
    database = estate.prepare(engine, engine.name)

    def remove() -> None:
        journey = estate.journeys[database.key(kind)][-1]
        estate.client.delete(OPERATIONS, database.operations()[-1]["metadata"]["name"], namespace=OPERATOR)
        assert journey.process is not None
        journey.process.kill()

    estate.moments[database.key(kind)] = {"answered 2": remove}
    database.again()
    if kind == "create":
        database.wait_settled("create")
    elif kind == "rotate":
        database.wait_settled("create")
        database.rotate()
        database.wait_settled("rotate")
    if kind != "delete":
        assert engine.refuses(database.secret() or {}) == "", database.describe()
    else:
        database.wait_settled("create")
    database.delete()
    database.wait_gone()
    database.line.close()


def test_a_job_whose_database_is_abandoned_calls_nothing_any_more(estate: Estate, chance: random.Random) -> None:
    """Before it calls it asks whether it is still wanted."""
    engine = chance.choice(estate.engines)
    database = estate.apply(engine)
    database.wait_settled("create")

    def abandon() -> None:
        patch = {"metadata": {"annotations": {ABANDON: "true"}}}
        estate.client.patch(DATABASES, database.name, patch, namespace=NAMESPACE)
        eventually(lambda: database.get() is None, "it is gone")

    estate.moments[database.key("delete")] = {"read": abandon}
    database.delete()
    eventually(lambda: database.get() is None and database.remains() == [], "nothing remains here")
    [journey] = estate.journeys[database.key("delete")]
    eventually(lambda: journey.process is not None and journey.process.poll() is not None, "its Job has ended")

    assert database.operations()[-1]["status"]["reason"] == "OperationSuperseded"
    assert engine.present(database.identity) != []
    database.line.close()
