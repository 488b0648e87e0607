"""A Secret that cannot be written is noticed before the procedure runs, and one of somebody else stays as it is."""

from __future__ import annotations

from typing import Any

from api.labels import DATABASE_UID, LABEL_CREDENTIALS, RETRY
from api.resources import SECRETS
from tests.e2e.cluster import Cluster
from tests.e2e.quotas import QUOTAS, quota
from tests.e2e.scene import Applied, Scene


def theirs(database: Applied, **changes: Any) -> dict[str, Any]:
    """A Secret that has the name of a Database's, and another owner."""
    metadata = {"name": database.secret_name, "namespace": database.namespace, **changes.pop("metadata", {})}
    return {"metadata": metadata, "type": "Opaque", "stringData": {"password": "theirs"}, **changes}


def test_a_secret_that_was_there_before_is_not_touched(cluster: Cluster, scene: Scene) -> None:
    """Whatever it looks like: plain, of the type and label of ours, or made for another Database of that name."""
    lookalike = {
        "type": "servicebinding.io/postgresql",
        "metadata": {"labels": {LABEL_CREDENTIALS: "true"}, "annotations": {DATABASE_UID: "another"}},
    }
    looks: dict[str, dict[str, Any]] = {"plain": {}, "alike": lookalike, "typed": {"type": lookalike["type"]}}
    databases = {name: scene.applied(name) for name in looks}
    before = {name: cluster.create(SECRETS, theirs(databases[name], **looks[name])) for name in looks}
    for name in looks:
        cluster.kubectl_apply(scene.database_manifest(name))
    for name, database in databases.items():
        condition = database.wait_reason("SecretConflict")

        assert f"{scene.namespace}/{database.secret_name}" in condition["message"]
        assert "was not touched; remove or rename that Secret" in condition["message"]
        assert database.condition("Stalled")["status"] == "True"
        assert cluster.get(SECRETS, database.secret_name, scene.namespace) == before[name]
        assert database.effects == []

    cluster.delete(SECRETS, databases["plain"].secret_name, scene.namespace)
    databases["plain"].annotate(RETRY, "1")
    assert databases["plain"].wait_ready()["password"] != "theirs"

    databases["alike"].delete_and_wait()
    assert cluster.get(SECRETS, databases["alike"].secret_name, scene.namespace) == before["alike"]
    assert databases["alike"].effects == []


def test_an_immutable_secret_is_noticed_before_the_procedure_runs(cluster: Cluster, scene: Scene) -> None:
    """It is this Database's own, of an earlier request, and somebody has made it immutable."""
    shop = scene.applied("shop")
    cluster.create(SECRETS, theirs(shop))
    cluster.kubectl_apply(scene.database_manifest("shop"))
    shop.wait_reason("SecretConflict")
    database = shop.get()
    assert database is not None
    own = {"labels": {LABEL_CREDENTIALS: "true"}, "annotations": {DATABASE_UID: database["metadata"]["uid"]}}
    cluster.delete(SECRETS, shop.secret_name, scene.namespace)
    cluster.create(SECRETS, theirs(shop, type="servicebinding.io/postgresql", metadata=own, immutable=True))
    shop.annotate(RETRY, "1")

    condition = shop.wait_reason("SecretRefused")

    assert "is immutable" in condition["message"]
    assert "remove it, and it is written anew" in condition["message"]
    assert shop.effects == []

    cluster.delete(SECRETS, shop.secret_name, scene.namespace)
    shop.annotate(RETRY, "2")
    shop.wait_ready()

    assert len(shop.effects) == 1


def test_a_quota_is_noticed_before_the_procedure_runs(cluster: Cluster, scene: Scene) -> None:
    quota(scene, {"count/secrets": "0"})
    shop = scene.apply()

    condition = shop.wait_reason("SecretRefused")

    assert "exceeded quota: none" in condition["message"]
    assert shop.effects == []

    cluster.delete(QUOTAS, "none", scene.namespace)
    shop.annotate(RETRY, "1")
    shop.wait_ready()

    assert len(shop.effects) == 1


def test_rights_that_cannot_be_granted_are_waited_for(cluster: Cluster, scene: Scene) -> None:
    """A quota on Roles: the condition says so, and it goes on by itself once there is room."""
    quota(scene, {"count/roles.rbac.authorization.k8s.io": "0"})
    shop = scene.apply()

    condition = shop.wait_reason("KubernetesRefused")

    assert "exceeded quota: none" in condition["message"]
    assert shop.effects == []

    cluster.delete(QUOTAS, "none", scene.namespace)
    shop.wait_ready()

    assert len(shop.effects) == 1
    shop.wait_no_rights()
