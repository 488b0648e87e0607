"""Which Events a user sees."""

from __future__ import annotations

from dataclasses import replace

from api.reasons import Reason
from controller.news import news_of_status, news_of_step
from controller.plan import plan
from controller.status import desired_status
from controller.steps import SetPhase
from tests.controller.builders import NOW, database, instance, observed
from tests.controller.test_plan import after, bound, rotated, told


def test_a_rotation_is_told_once() -> None:
    world = rotated(bound({"dbaas.bedag.ch/rotate": "x"}), "annotation:x")
    decided = plan(world, NOW)
    assert world.database is not None
    assert decided.verdict is not None
    status = desired_status(world, world.database, decided.verdict, NOW)
    later = told(world, **status).database
    assert later is not None

    assert "Rotated" in [news.reason for news in news_of_status(world.database, decided.verdict, status)]
    assert list(news_of_status(later, decided.verdict, status)) == []


def test_a_failed_rotation_is_a_warning() -> None:
    world = rotated(bound({"dbaas.bedag.ch/rotate": "x"}), "annotation:x", Reason.PROCEDURE_FAILED)
    decided = plan(world, NOW)
    assert world.database is not None
    assert decided.verdict is not None
    status = desired_status(world, world.database, decided.verdict, NOW)

    [news] = news_of_status(world.database, decided.verdict, status)
    assert (news.reason, news.normal) == ("RotationFailed", False)


def test_release_adoption_and_recovery_are_told() -> None:
    retained = instance("Released", uid="former")
    lost = bound()
    assert lost.instance is not None
    lost = replace(lost, entries=(), instance=instance(calls=tuple(lost.instance.calls.items())))
    lost = after(after(lost, "create", Reason.JOB_LOST), "create", Reason.CREDENTIALS_LOST)
    missing = replace(bound(), secret_missing_after=1)
    steps = [
        SetPhase(retained, "Released"),
        plan(observed(namesake=retained), NOW).step,
        plan(lost, NOW).step,
        plan(missing, NOW).step,
        plan(observed(database=database(deleted=True)), NOW).step,
    ]

    told_of = [news_of_step(step) for step in steps if step is not None]
    reasons = [news and news.reason for news in told_of]
    assert reasons == ["Released", "Adopted", "Recovering", "SecretMissing", None]
