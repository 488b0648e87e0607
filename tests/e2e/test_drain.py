"""A Job's Pod is taken away while its procedure runs, as a drained node does it and as nobody should."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kube.client import Object
from tests.e2e.cluster import OPERATOR, PODS, Cluster, eventually
from tests.e2e.scene import Applied, Scene

ALIVE = ("Pending", "Running")


def job_pods(database: Applied) -> list[Object]:
    """The Pods of its Jobs that have neither ended nor are going away."""
    names = [f"batch.kubernetes.io/job-name={each['metadata']['name']}" for each in database.operations()]
    pods = [pod for name in names for pod in database.cluster.find(PODS, OPERATOR, name)]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] in ALIVE]


def evict(cluster: Cluster, pod: Object) -> None:
    """Ask for a Pod's eviction, as `kubectl drain` does."""
    name = pod["metadata"]["name"]
    path = PODS.path(name, namespace=OPERATOR, subresource="eviction")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": OPERATOR}}
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


@contextmanager
def in_its_call(database: Applied) -> Iterator[Object]:
    """The Pod of a Job whose procedure runs, and goes on running while the block does."""
    with database.dbms.held(database.identity):
        database.wait_called()
        [pod] = job_pods(database)
        yield pod


def never_at_once(database: Applied) -> bool:
    """Whether no call began before the one before it had ended."""
    effects = [effect for effect in database.effects if effect.procedure == "create"]
    return all(earlier.ended <= later.began for earlier, later in itertools.pairwise(effects))


def test_a_job_that_is_drained_ends_its_call_and_the_database_becomes_ready(cluster: Cluster, scene: Scene) -> None:
    """A call that ends while its Pod may still live is not lost: nothing is called again."""
    shop = scene.apply()
    with in_its_call(shop) as pod:
        evict(cluster, pod)
        eventually(lambda: job_pods(shop) == [], "the Pod was told to go")
        [*_, called] = shop.operations()
    shop.wait_ready()
    [*_, last] = shop.operations()

    assert [effect.procedure for effect in shop.effects] == ["create"]
    assert last["metadata"]["name"] == called["metadata"]["name"]
    assert last["status"]["reason"] == "Succeeded"


def test_a_pod_that_is_torn_away_is_followed_by_a_second_call_after_the_first(cluster: Cluster, scene: Scene) -> None:
    """Its server does not notice at once that the client is gone; the second call waits for it there."""
    shop = scene.apply()
    with in_its_call(shop) as pod:
        calls = len(shop.operations())
        kill = ("delete", "pod", pod["metadata"]["name"], "-n", OPERATOR, "--force", "--grace-period=0")
        cluster.kubectl(*kill, "--wait=false", check=False)
        eventually(lambda: len(shop.operations()) > calls, "a second Operation")
        second = shop.operations()[calls]["metadata"]["name"]
        eventually(lambda: '"event": "connected"' in cluster.job_log(second), "the second Job is there")
        running = shop.dbms.running(shop.identity)
    secret = shop.wait_ready()
    first, again, *_ = shop.operations()[calls - 1 :]

    assert running <= 1
    assert never_at_once(shop)
    assert first["status"]["reason"] == "JobLost"
    assert first["status"]["reportedBy"] == "Controller"
    assert again["spec"]["sequence"] == first["spec"]["sequence"]
    assert secret["password"].startswith("pw-")


def test_a_call_that_outlasts_its_pods_grace_is_cancelled_and_made_again(cluster: Cluster, scene: Scene) -> None:
    shop = scene.apply()
    with in_its_call(shop) as pod:
        called = len(shop.operations()) - 1
        evict(cluster, pod)
        eventually(lambda: shop.operations()[called].get("status"), "the first Job has reported")
    shop.wait_ready()
    first, *others = shop.operations()[called:]

    assert first["status"]["reason"] == "Interrupted"
    assert "drained" in first["status"]["message"]
    assert others[-1]["status"]["reason"] == "Succeeded"
    assert [effect.procedure for effect in shop.effects] == ["create"]


def test_a_job_that_somebody_deletes_is_made_again(cluster: Cluster, scene: Scene) -> None:
    shop = scene.apply()
    with in_its_call(shop) as pod:
        [name] = shop.active_jobs()
        cluster.kubectl("delete", "job", name, "-n", OPERATOR, "--wait=false")
        gone = pod["metadata"]["uid"]
        eventually(lambda: gone not in [each["metadata"]["uid"] for each in job_pods(shop)], "its Pod goes")
    shop.wait_ready()

    assert never_at_once(shop)
    assert {operation["metadata"]["name"] for operation in shop.operations()} >= {name}


@pytest.mark.parametrize("force", [False, True])
def test_a_database_deleted_in_the_midst_of_its_create_leaves_nothing(scene: Scene, *, force: bool) -> None:
    """The call is waited for; then what it made is deleted. With the finalizer torn off, all the same."""
    shop = scene.apply()
    with in_its_call(shop):
        shop.delete()
        if force:
            shop.patch({"metadata": {"finalizers": None}})
            shop.wait_gone()
        else:
            assert shop.wait_reason("Deleting")["message"]
    shop.wait_gone()
    shop.wait_nothing_remains()

    assert [effect.procedure for effect in shop.effects] == ["create", "delete"]
    assert not shop.dbms.exists(shop.identity)
