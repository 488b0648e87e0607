"""The webhook is away: nothing unjudged comes in, and what exists goes on, or goes away. Its certificate is renewed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kube.errors import KubeError
from tests.e2e.certificates import CA, TLS, bundles, replace_certificate
from tests.e2e.cluster import DEPLOYMENTS, OPERATOR, PODS, RELEASE, Cluster, eventually
from tests.e2e.release import webhook_answers
from tests.e2e.scene import Scene
from tests.e2e.steady import Steadily


@contextmanager
def webhook_away(cluster: Cluster) -> Iterator[None]:
    """No webhook is there, and API servers know."""
    replicas = cluster.client.get(DEPLOYMENTS, f"{RELEASE}-webhook", namespace=OPERATOR)["spec"]["replicas"]
    cluster.scale("webhook", 0)
    eventually(lambda: not cluster.find(PODS, OPERATOR, "app.kubernetes.io/component=webhook"), "none is left")
    try:
        yield
    finally:
        cluster.scale("webhook", replicas)
        eventually(lambda: webhook_answers(cluster), "the webhook is back")


def test_without_the_webhook_nothing_comes_in_and_what_exists_works_and_can_be_deleted(
    cluster: Cluster, scene: Scene
) -> None:
    shop, held, kept = scene.apply("shop"), scene.applied("held"), scene.apply("kept", deletionProtection=True)
    shop.wait_ready()
    kept.wait_ready()
    scene.dbms.hold(held.identity)
    cluster.kubectl_apply(scene.database_manifest("held"))
    held.wait_called()
    with webhook_away(cluster):
        created = cluster.kubectl_apply(scene.database_manifest("late"), check=False)
        classed = cluster.kubectl_apply(scene.class_manifest("late"), check=False)

        assert created.code != 0
        assert 'failed calling webhook "mutate.dbaas.bedag.ch"' in created.err
        assert 'failed calling webhook "validate.dbaas.bedag.ch"' in classed.err
        assert shop.condition()["status"] == "True"

        scene.dbms.let_go(held.identity)
        held.wait_ready()
        shop.delete_and_wait()
        held.delete_and_wait()
        with pytest.raises(KubeError, match="webhook"):
            kept.delete()

    assert kept.condition()["status"] == "True"
    assert not scene.dbms.exists(shop.identity)
    scene.apply("late").wait_ready()
    kept.patch({"spec": {"deletionProtection": False}})


def restarts(cluster: Cluster) -> set[tuple[str, int]]:
    """Which pods of the webhook there are, and how often each was restarted."""
    pods = cluster.pods_of("webhook")
    return {(pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods}


@pytest.mark.parametrize("lost", [TLS, CA])
def test_a_lost_certificate_is_made_anew_without_a_restart_while_requests_succeed(
    cluster: Cluster, scene: Scene, lost: str
) -> None:
    """With the authority itself gone, the old one stays trusted until every replica serves by the new."""
    shop = scene.apply()
    shop.wait_ready()
    before, bundle = restarts(cluster), bundles(cluster)
    with Steadily(lambda number: shop.annotate("dbaas.test/asked", str(number))) as asking:
        asking.wait_more()
        replace_certificate(cluster, lost)
        if lost == CA:
            eventually(lambda: bundles(cluster).isdisjoint(bundle), "the API server was told")
        asking.wait_more()
        scene.apply("late").wait_ready()

    assert asking.refusals == []
    assert restarts(cluster) == before
    eventually(lambda: len(bundles(cluster)) == 1, "all webhooks are told the same")
