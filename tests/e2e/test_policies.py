"""DatabasePolicies on the real node, as the controller keeps them: what admission could not know, what came since."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api.labels import ROTATE
from api.resources import DATABASES, POLICIES
from kube.errors import Invalid
from tests.e2e.absence import unjudged
from tests.e2e.cluster import MARK, Cluster, eventually
from tests.e2e.examples import Examples
from tests.e2e.scene import Applied, Scene

NAME = "kubernetes.io/metadata.name"


@contextmanager
def policy(scene: Scene, suffix: str = "", **spec: Any) -> Iterator[str]:
    """A DatabasePolicy for the scene's namespace; gives its name."""
    name = f"{scene.name}-{suffix}" if suffix else scene.name
    match = {"namespaceSelector": {"matchLabels": {NAME: scene.namespace}}}
    scene.cluster.create(POLICIES, {"metadata": {"name": name, "labels": dict(MARK)}, "spec": {"match": match, **spec}})
    try:
        yield name
    finally:
        scene.cluster.delete(POLICIES, name)


def change(scene: Scene, **spec: Any) -> None:
    scene.cluster.patch(POLICIES, scene.name, {"spec": spec})


def create_at_once(scene: Scene, names: list[str]) -> list[Applied]:
    """Create Databases from as many threads; gives those that were accepted."""
    start, accepted = threading.Barrier(len(names)), list[str]()

    def create(name: str) -> None:
        start.wait()
        try:
            scene.cluster.create(DATABASES, scene.database_manifest(name))
        except Invalid as error:
            assert "allows 2 Databases" in error.message  # noqa: PT017 - whatever else fails is seen as missing
            return
        accepted.append(name)

    threads = [threading.Thread(target=create, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [scene.applied(name) for name in sorted(accepted)]


def made(databases: list[Applied]) -> int:
    """How many of them are on the server."""
    return sum(database.dbms.exists(database.identity) for database in databases)


def reasons(databases: list[Applied]) -> list[str]:
    return sorted(database.condition().get("reason", "") for database in databases)


@pytest.mark.parametrize("judged", [True, False], ids=["with the webhook", "past the webhook"])
def test_of_databases_created_at_once_exactly_the_quota_is_provisioned_and_a_deletion_makes_room(
    scene: Scene, *, judged: bool
) -> None:
    names = [f"shop-{number}" for number in range(8)]
    with policy(scene, quota={"perNamespace": 2}):
        if judged:
            databases = create_at_once(scene, names)
        else:
            with unjudged(scene.cluster, scene.namespace):
                databases = create_at_once(scene, names)
        others = len(databases) - 2
        expected = ["Provisioned"] * 2 + ["QuotaExceeded"] * others
        eventually(lambda: reasons(databases) == expected, f"two of {len(databases)} are made")
        count = made(databases)

        first = next(database for database in databases if database.condition()["status"] == "True")
        waiting = [database for database in databases if database.condition()["status"] != "True"]
        first.delete_and_wait()
        rest = [database for database in databases if database is not first]
        if waiting:
            expected = ["Provisioned"] * 2 + ["QuotaExceeded"] * (others - 1)
            eventually(lambda: reasons(rest) == expected, "the next has the room")
        afterwards = made(rest)
        told = [condition["message"] for each in rest if (condition := each.condition())["status"] != "True"]

    assert len(databases) == 8 if not judged else len(databases) >= 2
    assert count == 2
    assert afterwards == len(rest[:2])
    assert all("metadata.namespace: DatabasePolicy" in message and "allows 2 Databases" in message for message in told)
    eventually(lambda: reasons(rest) == ["Provisioned"] * len(rest), "without the policy there is room for all")


def test_a_tightened_policy_is_told_and_blocks_neither_rotation_nor_deletion(
    cluster: Cluster, scene: Scene, examples: Examples
) -> None:
    shop = examples.apply("shop")
    first = shop.wait_ready()
    with policy(scene, allowedEndpoints=["elsewhere"], deletionProtection="Required"):
        eventually(lambda: shop.condition("PolicyCompliant").get("status") == "False", "the condition tells it")
        told = shop.condition("PolicyCompliant")
        event = eventually(lambda: [e for e in shop.events() if e["reason"] == "PolicyViolated"], "an Event tells it")
        shop.annotate(ROTATE, "now")
        eventually(lambda: shop.status.get("rotateHandled") == "now", "it has rotated")
        second = shop.wait_ready()
        cluster.kubectl("label", "database", "shop", "-n", shop.namespace, "team=a")
        described = cluster.kubectl("describe", "database", "shop", "-n", shop.namespace).out
        shop.annotate("dbaas.bedag.ch/confirm-delete", "shop")
        shop.delete_and_wait()

    assert told["reason"] == "PolicyViolated"
    for said in (
        f'spec.endpoint: DatabasePolicy "{scene.name}" allows only elsewhere',
        f'spec.deletionProtection: DatabasePolicy "{scene.name}" requires it; set it to true',
        "It stays, and is rotated and deleted as before",
    ):
        assert said in told["message"]
    assert [each["type"] for each in event] == ["Warning"]
    assert first["password"] != second["password"]
    assert "PolicyViolated" in described
    assert f"{shop.namespace}_shop" not in scene.dbms.databases()


def test_what_was_created_while_nobody_judged_is_judged_before_anything_is_made(scene: Scene) -> None:
    with policy(scene, allowedEndpoints=["elsewhere"]):
        with unjudged(scene.cluster, scene.namespace):
            late = scene.apply("late")
        condition = late.wait_reason("PolicyViolated")
        events = eventually(lambda: [e for e in late.events() if e["reason"] == "PolicyViolated"], "an Event tells it")

        assert f'spec.endpoint: DatabasePolicy "{scene.name}" allows only elsewhere' in condition["message"]
        assert len(events) == 1
        assert late.instance() is None
        assert late.effects == []

        change(scene, allowedEndpoints=[scene.name])
        late.wait_ready()

    eventually(lambda: late.condition("PolicyCompliant") == {}, "without policies nothing is said")
