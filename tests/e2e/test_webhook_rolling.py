"""The webhook's Pods are replaced and its certificate changes while Databases are created: nobody notices."""

from __future__ import annotations

import threading
import time

import pytest

from api.resources import DATABASES, SECRETS
from kube.errors import KubeError
from tests.e2e.cluster import OPERATOR, PODS, RELEASE, Cluster, eventually
from tests.e2e.scene import Scene
from tests.e2e.test_webhook_outage import TLS, certificate

ADMITTED = "?dryRun=All"
"""As a create up to its storage: both webhooks are called, and no Job follows."""


class Creating(threading.Thread):
    """Creates one Database after another, and keeps what came of those that failed."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        self._scene = scene
        self._over = threading.Event()
        self.created = 0
        self.failures: list[str] = []

    def run(self) -> None:
        path = DATABASES.path(namespace=self._scene.namespace) + ADMITTED
        while not self._over.wait(0.02):
            manifest = self._scene.database_manifest(f"steady-{self.created}")
            try:
                self._scene.cluster.client._request("POST", path, None, manifest)
            except KubeError as error:
                self.failures.append(error.message)
            self.created += 1

    def wait_more(self, number: int = 20) -> None:
        """Wait until it has created so many more."""
        enough = self.created + number + 1
        eventually(lambda: self.created >= enough, f"{number} more creates")

    def __enter__(self) -> Creating:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(30)


def replace_pods(cluster: Cluster) -> None:
    """A rolling restart, to the end of the last Pod that goes."""
    cluster.kubectl("rollout", "restart", f"deployment/{RELEASE}-webhook", "-n", OPERATOR)
    cluster.wait_rollout("webhook")
    selector = "app.kubernetes.io/component=webhook"
    eventually(
        lambda: cluster.find(PODS, OPERATOR, selector) == cluster.pods_of("webhook"), "the old Pods are gone", 90
    )


def replace_certificate(cluster: Cluster) -> None:
    """Have the controller issue another."""
    served = certificate(cluster, TLS)
    cluster.delete(SECRETS, TLS, OPERATOR)
    eventually(lambda: certificate(cluster, TLS) not in ("", served), "a new certificate is there", 60)


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.soak)], ids=["once", "a minute"])
def test_a_rolling_restart_and_a_new_certificate_fail_no_create(cluster: Cluster, scene: Scene, seconds: int) -> None:
    before = {pod["metadata"]["name"] for pod in cluster.pods_of("webhook")}
    with Creating(scene) as creating:
        creating.wait_more()
        end = time.monotonic() + seconds
        while True:
            replace_pods(cluster)
            replace_certificate(cluster)
            creating.wait_more()
            if time.monotonic() >= end:
                break

    assert creating.failures == []
    assert before.isdisjoint(pod["metadata"]["name"] for pod in cluster.pods_of("webhook"))
