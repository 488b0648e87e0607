"""Leadership ends before the next begins, whatever the leader's requests wait for."""

from __future__ import annotations

import threading

import pytest

from api.resources import NAMESPACES, PODS
from kube.client import Client
from kube.lease import Lease, LeaseName
from tests.e2e.proxy import SILENT, Asked, Fault, Gate, Proxy

pytestmark = pytest.mark.integration

NAMESPACE = "leases"


class Silence(Gate):
    """The API server is not heard of any more."""

    def arrives(self, asked: Asked) -> Fault | None:
        return Fault(SILENT)


def test_a_leader_whose_requests_hang_has_stopped_before_another_leads(
    direct: Client, client: Client, way: Proxy
) -> None:
    """A connection that is dead without a word keeps a request waiting for longer than a lease lasts."""
    direct.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    # Its Pod is still there: only time can tell that it does not lead any more.
    container = {"name": "controller", "image": "x"}
    direct.create(PODS, {"metadata": {"name": "first", "namespace": NAMESPACE}, "spec": {"containers": [container]}})
    first = Lease(client, LeaseName(NAMESPACE, "lead", "first"))
    second = Lease(direct, LeaseName(NAMESPACE, "lead", "second"))
    story: list[str] = []

    def follow() -> None:
        second.acquire()
        story.append("the second leads")

    first.acquire()
    story.append("the first leads")
    way.gate = Silence()
    follower = threading.Thread(target=follow)
    follower.start()
    lost = first.hold()
    story.append("the first has stopped")
    follower.join(60)

    assert lost
    assert story == ["the first leads", "the first has stopped", "the second leads"]
