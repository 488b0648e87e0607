"""Jobs whose Pod does not run: who waits is told why, and looked at again until it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.reasons import Reason
from controller.observed import JobState, Observed, PendingPod, Start
from controller.plan import START_INTERVAL, START_PATIENCE, Plan, plan
from controller.steps import RevokeStray
from tests.controller.builders import NOW, OPERATOR, annotated, database, instance, job, metadata, observed
from tests.controller.test_plan import after

BEGUN = {"startTime": "2026-11-21T12:00:00Z"}


def pod(**status: Any) -> PendingPod:
    labels = {"batch.kubernetes.io/job-name": "db-instance-1-1"}
    return PendingPod.parse({"metadata": metadata("db-instance-1-1-xyz", OPERATOR, labels=labels), "status": status})


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]}


def started(obstacle: str = "", *, seconds: float = 60, settled: bool = False, **parts: Any) -> Observed:
    """A create whose Job this controller has known for so long."""
    world = after(observed(instance=instance(), **parts), "create", None)
    name = world.entries[0].name
    start = Start(NOW - timedelta(seconds=seconds), obstacle, settled)
    return replace(world, jobs={name: job(name)}, starts={name: start})


def told(decided: Plan) -> tuple[bool, str, str]:
    assert decided.verdict is not None
    return decided.verdict.ready, decided.verdict.reason, decided.verdict.message


@pytest.mark.parametrize(
    ("status", "obstacle"),
    [
        ({}, ""),
        (waiting("ContainerCreating"), ""),
        (waiting("ImagePullBackOff", "Back-off pulling"), "ImagePullBackOff: Back-off pulling"),
        (waiting("CreateContainerConfigError", "secret not found"), "CreateContainerConfigError: secret not found"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]},
            "Unschedulable: 0/3",
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True"}]}, ""),
    ],
)  # fmt: skip
def test_a_pod_says_what_it_waits_for(status: dict[str, Any], obstacle: str) -> None:
    assert pod(**status).obstacle == obstacle
    assert pod(**status).job == "db-instance-1-1"


@pytest.mark.parametrize(
    ("status", "podless"),
    [
        ({}, False),
        (BEGUN, True),
        (BEGUN | {"active": 1}, False),
        (BEGUN | {"terminating": 1}, False),
        (BEGUN | {"failed": 1}, False),
        (BEGUN | {"uncountedTerminatedPods": {"succeeded": ["uid"]}}, False),
        (BEGUN | {"uncountedTerminatedPods": {}}, True),
    ],
)
def test_a_job_that_has_begun_and_has_no_pod_was_refused_one(status: dict[str, Any], podless: bool) -> None:  # noqa: FBT001
    assert JobState.parse({"metadata": metadata("j", OPERATOR), "status": status}).podless is podless


def test_whoever_waits_for_a_pod_is_told_why_it_does_not_start() -> None:
    decided = plan(started("ImagePullBackOff:  no such\n image"), NOW)
    ready, reason, message = told(decided)

    assert (ready, reason) == (False, Reason.JOB_NOT_STARTED)
    assert message.startswith("the Pod of Job db-instance-1-1 in namespace dbaas-system has not started: ")
    assert message.endswith("ImagePullBackOff: no such image")
    assert decided.step is None
    assert decided.look_again == NOW + START_INTERVAL


def test_a_pod_is_given_time() -> None:
    decided = plan(started("ContainerCreating", seconds=1), NOW)

    assert told(decided)[1] == "Provisioning"
    assert decided.look_again == NOW + START_PATIENCE - timedelta(seconds=1)


@pytest.mark.parametrize(("settled", "look_again"), [(True, None), (False, NOW + START_INTERVAL)])
def test_a_job_that_runs_is_left_alone(settled: bool, look_again: object) -> None:  # noqa: FBT001
    decided = plan(started(settled=settled), NOW)

    assert told(decided)[1] == "Provisioning"
    assert decided.look_again == look_again


def test_a_rotation_whose_pod_does_not_start_takes_nothing_away() -> None:
    bound = annotated(database(), "dbaas.bedag.ch/rotate", "1")
    calls = dict(instance().calls)
    held = instance("Bound", calls=tuple((calls | {"rotate": calls["create"]}).items()))
    world = after(observed(instance=held, database=bound), "create", Reason.SUCCEEDED)
    world = after(world, "rotate", None)
    name = world.entries[-1].name
    starts = {name: Start(NOW - timedelta(minutes=1), "Unschedulable: 0/3", settled=False)}
    ready, reason, message = told(plan(replace(world, jobs={name: job(name)}, starts=starts), NOW))

    assert (ready, reason) == (True, "RotationFailed")
    assert "still carries the earlier credentials; the Pod of Job" in message


def test_rights_of_an_operation_that_somebody_deleted_are_taken_back() -> None:
    world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
    step = plan(replace(world, strays=frozenset({"db-instance-2-1"})), NOW).step

    assert step == RevokeStray("db-instance-2-1", "team-a")


def test_a_deletion_whose_pod_does_not_start_says_how_to_let_go() -> None:
    world = after(observed(instance=instance("Deleting"), database=database(deleted=True)), "delete", None)
    name = world.entries[-1].name
    starts = {name: Start(NOW - timedelta(minutes=1), "Unschedulable: 0/3", settled=False)}
    _, reason, message = told(plan(replace(world, jobs={name: job(name)}, starts=starts), NOW))

    assert reason == Reason.JOB_NOT_STARTED
    assert message.startswith("deletion: the Pod of Job")
    assert "spec.deletionPolicy: Retain lets it go" in message
