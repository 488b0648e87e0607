"""Many Databases at once: an endpoint's limits hold, and nobody waits behind everybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.labels import LABEL_DATABASE_NAMESPACE
from api.resources import JOBS
from kube.client import Object
from kube.errors import KubeError
from tests.e2e.cluster import OPERATOR, Cluster, eventually
from tests.e2e.scene import Scene

AT_ONCE = 4


@dataclass
class Watched:
    """Jobs of some namespaces, as a watch brought them."""

    order: list[str] = field(default_factory=list)
    """The namespace that each Job was for, in the order in which they began."""
    active: set[str] = field(default_factory=set)
    most: int = 0
    failure: BaseException | None = None

    def see(self, kind: str, job: Object) -> None:
        """Take in one event of the watch."""
        name = job["metadata"]["name"]
        conditions = (job.get("status") or {}).get("conditions") or ()
        ended = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        if kind == "ADDED":
            self.order.append(job["metadata"]["labels"][LABEL_DATABASE_NAMESPACE])
        if kind == "DELETED" or ended:
            self.active.discard(name)
        else:
            self.active.add(name)
        self.most = max(self.most, len(self.active))


@contextmanager
def watched_jobs(cluster: Cluster, namespaces: list[str]) -> Iterator[Watched]:
    """Watch the operator's Jobs for Databases of these namespaces for as long as the block runs."""
    labels = f"{LABEL_DATABASE_NAMESPACE} in ({','.join(namespaces)})"
    _, version = cluster.client.list(JOBS, namespace=OPERATOR, labels=labels)
    watched, over = Watched(), threading.Event()

    def follow() -> None:
        since = version
        try:
            while not over.is_set():
                for kind, job in cluster.client.watch(JOBS, since, namespace=OPERATOR, labels=labels, seconds=2):
                    since = job["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        watched.see(kind, job)
        except KubeError as error:
            watched.failure = error

    thread = threading.Thread(target=follow, name="watch")
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
    assert watched.failure is None, watched.failure


def test_thirty_databases_at_once_never_have_more_jobs_than_the_endpoint_allows(scene: Scene) -> None:
    """And the namespace that asked last, for few, does not wait for the one that asked first, for many."""
    # Without a delete operation: thirty more Jobs would only tell the same again.
    scene.change_class(operations={"delete": None})
    scene.change_endpoint(maxConcurrentJobs=AT_ONCE)
    few = scene.add_namespace("few")
    with watched_jobs(scene.cluster, scene.namespaces) as watched:
        for number in range(22):
            scene.apply(f"many-{number}")
        for number in range(8):
            scene.apply(f"few-{number}", namespace=few)
        waiting = eventually(
            lambda: [d for d in scene.databases if d.condition().get("reason") == "WaitingForSlot"], "some wait"
        )
        message = waiting[-1].condition().get("message", "")
        for database in scene.databases:
            database.wait_ready(seconds=90)

    assert watched.most == AT_ONCE
    assert len(watched.order) == len(scene.databases) == 30
    # Served in turn: both wait together for 16 Jobs at most, after those that had begun before.
    served_last = max(place for place, namespace in enumerate(watched.order) if namespace == few)
    assert served_last < 26
    assert all(len(database.effects) == 1 for database in scene.databases)
    assert message == "" or "maxConcurrentJobs" in message


def test_an_endpoint_gets_no_more_operations_a_minute_than_it_allows(scene: Scene) -> None:
    scene.change_endpoint(operationsPerMinute=3)
    began = time.monotonic()
    for number in range(5):
        scene.apply(f"shop-{number}")

    def standing() -> dict[str, int] | None:
        reasons = [database.condition().get("reason", "") for database in scene.databases]
        counted = {reason: reasons.count(reason) for reason in reasons}
        return counted if counted == {"Provisioned": 3, "WaitingForSlot": 2} else None

    eventually(standing, "three are Ready and two wait")

    assert time.monotonic() - began < 60
    assert sum(len(database.effects) for database in scene.databases) == 3

    given_up, patient = (d for d in scene.databases if d.condition()["reason"] == "WaitingForSlot")
    given_up.delete_and_wait()
    assert given_up.operations() == []

    scene.change_endpoint(operationsPerMinute=0)
    patient.wait_ready(seconds=15)
