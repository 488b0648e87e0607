"""The rights of a Job when what grants them is disturbed: not missing while it runs, not left when it has ended."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from api.operation import Report
from api.reasons import Reason
from api.resources import OPERATIONS, SERVICE_ACCOUNTS
from tests.e2e.cluster import OPERATOR, eventually
from tests.e2e.proxy import CUT, Asked, Fault, Gate
from tests.matrix.engines import Engine
from tests.matrix.estate import Applied, Estate

pytestmark = pytest.mark.integration

NOW = "2026-01-01T00:00:00.000Z"


class Grant(Gate):
    """Does something at the second Role of the controller: the first is of the Secret, this one is a Job's."""

    def __init__(self, before: Callable[[], None] = lambda: None, after: Fault | None = None) -> None:
        self._before = before
        self._after = after
        self._roles = 0
        self.met = False

    def arrives(self, asked: Asked) -> Fault | None:
        """The request for a Role."""
        if self._is_role(asked):
            self._roles += 1
            if self._roles == 2:
                self._before()
        return None

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """The answer to it."""
        if not (self._is_role(asked) and self._roles == 2) or self.met:
            return None
        self.met = True
        return self._after

    @staticmethod
    def _is_role(asked: Asked) -> bool:
        return asked.method == "POST" and asked.target.partition("?")[0].endswith("/roles")


@pytest.fixture
def engine(estate: Estate, chance: random.Random) -> Engine:
    eventually(lambda: estate.controller.alive, "the controller runs")
    return chance.choice(estate.engines)


def settled(estate: Estate, engine: Engine, gate: Grant) -> Applied:
    """A Database that has become Ready while the gate was there, and all rights of Jobs gone."""
    estate.way.gate = gate
    try:
        database = estate.apply(engine)
        database.wait_settled("create")
    finally:
        estate.way.gate = Gate()
    assert gate.met
    return database


def test_a_job_stays_when_the_answer_to_its_grant_is_lost(estate: Estate, engine: Engine) -> None:
    """It may be at its call already: deleted, it would be called for once more."""
    database = settled(estate, engine, Grant(after=Fault(CUT)))
    processes = estate.journeys[database.key("create")]

    assert [operation["spec"]["attempt"] for operation in database.operations()] == [1]
    assert len(processes) == 1
    assert engine.refuses(database.secret() or {}) == ""

    database.delete()
    database.wait_gone()
    database.line.close()


def test_rights_that_are_granted_too_late_are_taken_back(estate: Estate, engine: Engine) -> None:
    """Another leader has seen the Operation end and has taken its account away, which is what others go by."""

    def end() -> None:
        operations = estate.client.list(OPERATIONS, namespace=OPERATOR)[0]
        [called] = [each["metadata"]["name"] for each in operations if not each.get("status")]
        report = Report(
            reason=Reason.KUBERNETES_UNAVAILABLE,
            message="ended by somebody else",
            started_at=NOW,
            finished_at=NOW,
            called=False,
            reported_by="Controller",
        )
        status = {"status": report.manifest()}
        estate.client.patch(OPERATIONS, called, status, namespace=OPERATOR, subresource="status")
        estate.client.delete(SERVICE_ACCOUNTS, called, namespace=OPERATOR)

    database = settled(estate, engine, Grant(before=end))

    assert [operation["spec"]["attempt"] for operation in database.operations()] == [1, 2]

    database.delete()
    database.wait_gone()
    database.line.close()
