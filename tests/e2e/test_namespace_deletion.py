"""A namespace deleted with Databases in it goes away, and so do the databases."""

from __future__ import annotations

import pytest

from api.labels import ABANDON
from api.resources import INSTANCES, NAMESPACES
from tests.e2e.cluster import eventually
from tests.e2e.scene import Scene


def test_a_namespace_takes_its_databases_along_even_while_one_is_being_created(scene: Scene) -> None:
    """Protection is for a Database, not for a namespace that somebody wants gone as a whole."""
    busy = scene.add_namespace("busy")
    calm = [scene.apply("one"), scene.apply("two"), scene.apply("kept", deletionProtection=True)]
    running = scene.applied("slow", busy)
    with scene.dbms.held(running.identity):
        scene.apply("slow", namespace=busy)
        running.wait_called()
        for database in calm:
            database.wait_ready()
        for namespace in (scene.namespace, busy):
            scene.cluster.delete(NAMESPACES, namespace)
        eventually(
            lambda: "deletionTimestamp" in (running.get() or {"metadata": {}})["metadata"], "it is being deleted"
        )
    for namespace in (scene.namespace, busy):
        scene.cluster.wait_gone(NAMESPACES, namespace)

    for database in (*calm, running):
        assert [effect.procedure for effect in database.effects] == ["create", "delete"]
        assert not scene.dbms.exists(database.identity)
        eventually(lambda left=database: left.instance() is None, "its instance is gone")  # type: ignore[misc]


def test_a_retained_database_outlives_its_namespace_and_is_nobodys_until_it_is_handed_over(scene: Scene) -> None:
    """A namespace of the same name may be another tenant's by then."""
    cluster, name = scene.cluster, scene.add_namespace("going")
    kept = scene.apply("kept", namespace=name, deletionPolicy="Retain")
    kept.wait_ready()
    cluster.delete(NAMESPACES, name)
    cluster.wait_gone(NAMESPACES, name)
    instance = kept.instance()

    assert instance is not None
    assert instance["status"]["phase"] == "Released"
    assert [effect.procedure for effect in kept.effects] == ["create"]

    cluster.namespace(name)
    scene.apply("kept", namespace=name, deletionPolicy="Delete")
    condition = kept.wait_reason("NameTaken")
    assert "hands it over by removing spec.claimRef" in condition["message"]
    assert kept.secret() is None

    cluster.patch(INSTANCES, instance["metadata"]["name"], {"spec": {"claimRef": None}})
    kept.wait_ready()
    kept.delete_and_wait()
    assert not scene.dbms.exists(kept.identity)


@pytest.mark.parametrize("how", ["retain", "abandon"])
def test_a_namespace_waits_for_a_delete_that_fails_and_ends_once_its_database_is_let_go(scene: Scene, how: str) -> None:
    cluster, name = scene.cluster, scene.add_namespace("stuck")
    shop = scene.apply("shop", namespace=name)
    shop.wait_ready()
    scene.change_class(operations={"delete": {"name": "e2e.no_such_procedure"}})
    cluster.delete(NAMESPACES, name)
    condition = shop.wait_reason("ProcedureMissing")

    assert condition["message"].startswith("deletion: ")
    assert ABANDON in condition["message"]
    assert cluster.get(NAMESPACES, name) is not None

    if how == "retain":
        shop.patch({"spec": {"deletionPolicy": "Retain"}})
    else:
        shop.annotate(ABANDON, "true")
    cluster.wait_gone(NAMESPACES, name)
    assert scene.dbms.exists(shop.identity)
    left = shop.instance()
    assert (None if left is None else left["status"]["phase"]) == ("Released" if how == "retain" else None)
    if left is not None:
        cluster.delete(INSTANCES, left["metadata"]["name"])
