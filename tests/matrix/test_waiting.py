"""Who waits for a slot of an endpoint, and who goes away while they wait."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from api.reasons import ConditionReason
from api.resources import ENDPOINTS
from tests.e2e.cluster import eventually
from tests.matrix.estate import Applied, Estate

pytestmark = pytest.mark.integration


def waits(applied: Applied) -> bool:
    """Whether it is told that it waits for a slot."""
    conditions = ((applied.get() or {}).get("status") or {}).get("conditions") or ()
    return any(condition["reason"] == ConditionReason.WAITING_FOR_SLOT for condition in conditions)


def test_who_is_deleted_while_waiting_for_a_slot_keeps_it_from_nobody(estate: Estate) -> None:
    """Its turn comes when it is gone; the slot goes on to whoever asks next."""
    busy = estate.prepare(estate.engines[0], estate.engines[0].name)
    estate.client.patch(ENDPOINTS, busy.name, {"spec": {"maxConcurrentJobs": 1}})
    waiting, late = replace(busy, name=f"{busy.name}-waiting"), replace(busy, name=f"{busy.name}-late")
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert over.wait(60)

    estate.moments[busy.key("create")] = {"wanted?": hold}
    busy.again()
    assert begun.wait(60)
    waiting.again(busy.name)
    eventually(lambda: waits(waiting), "it waits")
    waiting.delete()
    eventually(lambda: waiting.get() is None, "it is gone")
    over.set()
    busy.wait_settled("create")
    late.again(busy.name)
    late.wait_settled("create")

    assert late.engine.refuses(late.secret() or {}) == ""
    for applied in (busy, late):
        applied.delete()
        applied.wait_gone()
    busy.line.close()
