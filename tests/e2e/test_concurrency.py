"""Many Databases at once: an endpoint's limits hold, and nobody waits behind everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from api.labels import LABEL_DATABASE, LABEL_DATABASE_NAMESPACE
from api.resources import JOBS
from kube.client import Object
from tests.e2e.cluster import OPERATOR, Cluster, eventually
from tests.e2e.scene import Applied, Scene
from tests.e2e.watching import followed

AT_ONCE = 4


@dataclass
class Watched:
    """Jobs of some namespaces, as a watch brought them."""

    order: dict[tuple[str, str], None] = field(default_factory=dict)
    """Namespace and name of the Databases, in the order in which the first Job of each began."""
    active: set[str] = field(default_factory=set)
    most: int = 0

    def see(self, kind: str, job: Object) -> None:
        """Take in one event of the watch."""
        name, labels = job["metadata"]["name"], job["metadata"]["labels"]
        self.order.setdefault((labels[LABEL_DATABASE_NAMESPACE], labels[LABEL_DATABASE]))
        conditions = (job.get("status") or {}).get("conditions") or ()
        ended = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
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
    watched = Watched()
    with followed(cluster.client, JOBS, version, watched.see, namespace=OPERATOR, labels=labels):
        yield watched


def without_slot(databases: list[Applied]) -> list[str]:
    """What the conditions of those say that wait for a slot."""
    conditions = [database.condition() for database in databases]
    return [each["message"] for each in conditions if each.get("reason") == "WaitingForSlot"]


def test_thirty_databases_at_once_never_have_more_jobs_than_the_endpoint_allows(scene: Scene) -> None:
    """And the namespace that asked last, for few, does not wait for the one that asked first, for many."""
    # Without a delete operation: thirty more Jobs would only tell the same again.
    scene.change_class(operations={"delete": None, "create": {"timeout": "5m"}})
    scene.change_endpoint(maxConcurrentJobs=AT_ONCE)
    few = scene.add_namespace("few")
    with watched_jobs(scene.cluster, scene.namespaces) as watched, ExitStack() as held:
        for name in (f"many-{number}" for number in range(22)):
            held.enter_context(scene.dbms.held(f"{scene.namespace}-{name}"))
            scene.apply(name)
        for number in range(8):
            scene.apply(f"few-{number}", namespace=few)
        # Whoever has a slot keeps it until all have asked.
        eventually(lambda: len(without_slot(scene.databases)) == 30 - AT_ONCE, "all others wait")
        told = without_slot(scene.databases)
        held.close()
        for database in scene.databases:
            database.wait_ready()

    assert watched.most == AT_ONCE
    assert len(watched.order) == len(scene.databases) == 30
    # Served in turn: both wait together for 16 Jobs at most, after those that had begun before.
    served_last = max(place for place, (namespace, _) in enumerate(watched.order) if namespace == few)
    assert served_last < AT_ONCE + 16
    assert all(len(database.effects) == 1 for database in scene.databases)
    assert all("maxConcurrentJobs" in message for message in told)


def test_an_endpoint_gets_no_more_operations_a_minute_than_it_allows(scene: Scene) -> None:
    scene.change_endpoint(operationsPerMinute=1)
    databases = [scene.apply(f"shop-{number}") for number in range(5)]

    def standing() -> bool:
        reasons = [database.condition().get("reason", "") for database in databases]
        return sorted(reasons) == ["Provisioned", *["WaitingForSlot"] * 4]

    eventually(standing, "one is Ready and four wait")

    assert sum(len(database.effects) for database in databases) == 1

    given_up, *patient = (each for each in databases if each.condition()["reason"] == "WaitingForSlot")
    given_up.delete_and_wait()
    assert given_up.operations() == []

    scene.change_endpoint(operationsPerMinute=0)
    # At one a minute three of them would take longer.
    eventually(lambda: all(each.condition()["status"] == "True" for each in patient), "all are Ready at once")
