"""The webhook's Pods are replaced and its certificate changes while Databases are created: nobody notices."""

from __future__ import annotations

import time

import pytest

from api.resources import DATABASES
from tests.e2e.certificates import replace_certificate
from tests.e2e.cluster import OPERATOR, PODS, RELEASE, Cluster, eventually
from tests.e2e.scene import Scene
from tests.e2e.steady import Steadily

ADMITTED = "?dryRun=All"
"""As a create up to its storage: both webhooks are called, and no Job follows."""


def creating(scene: Scene) -> Steadily:
    """Creates one Database after another."""
    path = DATABASES.path(namespace=scene.namespace) + ADMITTED
    client = scene.cluster.client
    return Steadily(lambda number: client._request("POST", path, None, scene.database_manifest(f"steady-{number}")))


def replace_pods(cluster: Cluster) -> None:
    """A rolling restart, to the end of the last Pod that goes."""
    cluster.kubectl("rollout", "restart", f"deployment/{RELEASE}-webhook", "-n", OPERATOR)
    cluster.wait_rollout("webhook")
    selector = "app.kubernetes.io/component=webhook"
    eventually(lambda: cluster.find(PODS, OPERATOR, selector) == cluster.pods_of("webhook"), "the old Pods are gone")


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.soak)], ids=["once", "a minute"])
def test_a_rolling_restart_and_a_new_certificate_fail_no_create(cluster: Cluster, scene: Scene, seconds: int) -> None:
    before = {pod["metadata"]["name"] for pod in cluster.pods_of("webhook")}
    with creating(scene) as creates:
        creates.wait_more()
        end = time.monotonic() + seconds
        while True:
            replace_pods(cluster)
            replace_certificate(cluster)
            creates.wait_more()
            if time.monotonic() >= end:
                break

    assert creates.refusals == []
    assert before.isdisjoint(pod["metadata"]["name"] for pod in cluster.pods_of("webhook"))
