"""Jobs whose Pods Kubernetes does not start, or ends."""

from __future__ import annotations

from api.resources import JOBS
from tests.e2e.cluster import OPERATOR, Cluster
from tests.e2e.quotas import QUOTAS, quota
from tests.e2e.scene import Scene


def test_a_pod_that_is_refused_is_told_and_waited_for(cluster: Cluster, scene: Scene) -> None:
    """Where the Job is, whoever waits for it may not look."""
    quota(scene, {"count/pods": "0"}, OPERATOR)
    try:
        shop = scene.apply()
        condition = shop.wait_reason("JobNotStarted")
    finally:
        cluster.delete(QUOTAS, "none", OPERATOR)
    shop.wait_ready()

    assert f"in namespace {OPERATOR} has not started: no Pod could be made: quota" in condition["message"]
    assert [event["type"] for event in shop.events() if event["reason"] == "JobNotStarted"] == ["Warning"]
    assert len(shop.effects) == 1
    assert len(shop.operations()) == 1


def test_a_job_that_somebody_deletes_amid_its_call_is_started_again(cluster: Cluster, scene: Scene) -> None:
    """Its call is waited for: on the server it has the lock."""
    shop = scene.applied("shop")
    scene.dbms.hold(shop.identity)
    scene.apply("shop")
    shop.wait_called()
    [job] = shop.jobs()
    cluster.delete(JOBS, job["metadata"]["name"], OPERATOR)
    scene.dbms.let_go(shop.identity)
    shop.wait_ready()

    shop.wait_no_rights()
    assert {operation["status"]["outcome"] for operation in shop.operations()} == {"Succeeded"}
