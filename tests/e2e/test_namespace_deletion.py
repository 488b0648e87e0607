"""A namespace deleted with Databases in it goes away, and so do the databases."""

from __future__ import annotations

from api.resources import NAMESPACES
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
