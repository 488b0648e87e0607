"""A controller that dies, loses answers, or is not alone: whatever happens to it, a procedure's effect happens once.

The controllers here are processes of the test with the deployed one's rights (tests/e2e/controllers.py).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.labels import LABEL_DATABASE
from api.resources import (
    DATABASES,
    INSTANCES,
    JOBS,
    LEASES,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SERVICE_ACCOUNTS,
)
from tests.e2e.cluster import OPERATOR, Cluster, eventually
from tests.e2e.controllers import Controller, controller, nobody_leads
from tests.e2e.proxy import Proxy, Write
from tests.e2e.release import delete_all_databases
from tests.e2e.scene import Scene

OTHERS = ("leases", "webhookconfigurations", "databaseendpoints", "databaseclasses")
"""What a controller writes besides what concerns one Database."""


def moment(write: Write) -> str:
    """What was written: `POST jobs`, `PATCH databases/status`."""
    parts = write.path.strip("/").split("/")
    plurals = [
        resource.plural
        for resource in (DATABASES, INSTANCES, JOBS, OPERATIONS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS)
        if resource.plural in parts
    ]
    status = "/status" if parts[-1] == "status" else ""
    return f"{write.method} {(plurals or parts[-1:])[0]}{status}"


def concerns_a_database(write: Write) -> bool:
    """Whether it is not about the operator itself."""
    return not any(other in write.path for other in OTHERS)


@pytest.fixture
def alone(cluster: Cluster) -> Iterator[None]:
    """The deployed controller is away, and nothing of earlier tests is left to do for the one of this test."""
    assert delete_all_databases(cluster) == []
    eventually(lambda: not cluster.find(SERVICE_ACCOUNTS, OPERATOR, LABEL_DATABASE), "no Job has rights any more")
    with nobody_leads(cluster):
        yield


class Killed:
    """A controller that dies after each of its writes, and is started again until it needs none any more."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.moments: list[str] = []
        self._context = controller(cluster, folder, self._deliver)

    def __enter__(self) -> Killed:
        self._controller, _ = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    def _deliver(self, write: Write) -> bool:
        if not (write.done and concerns_a_database(write)):
            return True
        self.moments.append(moment(write))
        self._controller.kill()
        return False

    def until(self, done: Callable[[], bool]) -> None:
        """Start it again and again."""

        def look() -> bool:
            if self._controller.alive:
                return done()
            self._controller.start()
            return False

        eventually(look, "a controller that is killed after every write gets there in the end", 900)


@pytest.mark.usefixtures("alone")
def test_a_controller_killed_after_each_write_of_a_create_and_a_delete_has_either_done_once(
    cluster: Cluster, scene: Scene, tmp_path: Path
) -> None:
    """After the instance, the Operation, the account, the rights, the Job, the report, the status, and so on."""
    shop = scene.apply()
    with Killed(cluster, tmp_path) as killed:
        killed.until(lambda: shop.condition().get("status") == "True" and "DELETE serviceaccounts" in killed.moments)
        creating = list(killed.moments)
        assert shop.wait_ready()["database"] == shop.identity

        shop.delete()
        killed.until(lambda: shop.get() is None and shop.remains() == [])

    assert {"POST databaseinstances", "POST operations", "POST serviceaccounts", "POST jobs"} <= {*creating}
    assert {"PATCH databaseinstances/status", "PATCH databases/status", "DELETE serviceaccounts"} <= {*creating}
    assert [effect.procedure for effect in shop.effects] == ["create", "delete"]
    assert shop.requested() == ["create", "delete"]


@pytest.mark.usefixtures("alone")
def test_each_answer_may_get_lost_once(cluster: Cluster, scene: Scene, tmp_path: Path) -> None:
    """The API server has done what was asked, and the controller does not hear of it."""
    lost: set[tuple[str, str]] = set()
    lock = threading.Lock()

    def deliver(write: Write) -> bool:
        with lock:
            known = (write.method, write.path) in lost
            if concerns_a_database(write):
                lost.add((write.method, write.path))
            return known or not concerns_a_database(write)

    databases = [scene.apply(name) for name in ("a", "b", "c")]
    with controller(cluster, tmp_path, deliver) as (process, _):
        process.start()
        for database in databases:
            database.wait_ready()
            database.wait_no_rights()
            database.delete()
        for database in databases:
            database.wait_gone()
            database.wait_nothing_remains()

    assert len(lost) > 10
    for database in databases:
        assert [effect.procedure for effect in database.effects] == ["create", "delete"]


def test_two_controllers_that_both_believe_to_lead_do_nothing_twice(
    cluster: Cluster, scene: Scene, tmp_path: Path
) -> None:
    """The second one holds another Lease; it sees the same and decides the same at the same time."""
    release = f"{scene.name}-second"
    with controller(cluster, tmp_path, DBAAS_RELEASE=release, DBAAS_DECLARED_SECRET="") as (second, _):
        second.start()
        second.wait_leading()
        databases = [scene.apply(f"db{number}") for number in range(6)]
        for database in databases:
            database.wait_ready()
            database.wait_no_rights()
        for database in databases:
            database.delete()
        for database in databases:
            database.wait_gone()
            database.wait_nothing_remains()
    cluster.delete(LEASES, f"{release}-controller", OPERATOR)

    for database in databases:
        assert [effect.procedure for effect in database.effects] == ["create", "delete"]
        assert database.outcomes() == ["Succeeded", "Succeeded"]


@pytest.mark.usefixtures("alone")
def test_connections_that_are_cut_amid_creates_cost_nothing_but_time(
    cluster: Cluster, scene: Scene, tmp_path: Path
) -> None:
    """Watches break off again and again, and where the node is the tests' own, its API server is killed as well."""
    with controller(cluster, tmp_path) as (process, proxy):
        process.start()
        process.wait_leading()
        databases = [scene.apply(f"db{number}") for number in range(5)]
        cut_until(proxy, process, lambda: any(database.operations() for database in databases))
        if not cluster.settings.existing:
            cluster.run(sys.executable, "-m", "tests.cluster", "restart", "kube-apiserver")

        def all_ready() -> bool:
            # An API server that is slow to come back costs it the lead; the kubelet would start it again.
            process.revive()
            return all(database.condition().get("status") == "True" for database in databases)

        eventually(all_ready, "all are Ready")
        log = process.log

    assert '"watch failed"' in log
    for database in databases:
        assert [effect.procedure for effect in database.effects] == ["create"]


def cut_until(proxy: Proxy, process: Controller, done: Callable[[], bool]) -> None:
    """Break every connection a few times, each time after the last break was noticed."""
    for _ in range(3):
        before = process.log.count("watch failed")

        def noticed(before: int = before) -> bool:
            proxy.cut()
            return process.log.count("watch failed") > before

        eventually(noticed, "its watches were cut")
    eventually(done, "it has begun to work")
