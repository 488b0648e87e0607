"""Who may have what: one database has one owner, and an endpoint serves the namespaces that it names."""

from __future__ import annotations

import pytest

from api.labels import RETRY
from kube.errors import Invalid
from tests.e2e.absence import unjudged
from tests.e2e.cluster import eventually
from tests.e2e.scene import CLASS, Applied, Scene


@pytest.fixture
def second(scene: Scene) -> str:
    """Another tenant's namespace; the class names databases by the Database's name alone."""
    named = {"inputs": {"k8sName": f"{scene.name}-{{{{ .Metadata.name }}}}"}}
    operations = {kind: {**call, **named} for kind, call in CLASS["operations"].items()}
    scene.add_endpoint("named", className=scene.add_class("named", operations=operations))
    return scene.add_namespace("second")


def named(scene: Scene, namespace: str) -> Applied:
    return scene.apply("shop", namespace=namespace, endpoint=f"{scene.name}-named")


def password_of(scene: Scene) -> str:
    query = "SELECT password FROM e2e.databases WHERE name = %s"
    [(password,)] = scene.dbms.server.execute(query, [f"{scene.name}-shop"])
    return str(password)


def test_the_second_of_two_equal_names_is_refused_and_learns_nothing(scene: Scene, second: str) -> None:
    first = named(scene, scene.namespace)
    first.wait_ready()
    with pytest.raises(Invalid) as refused:
        named(scene, second)

    assert "is taken by a Database of another namespace" in refused.value.message
    assert f'"{scene.namespace}"' not in refused.value.message
    assert [cause["field"] for cause in refused.value.details["causes"]] == ["metadata.name"]
    loser = scene.applied("shop", second)
    assert loser.secret() is None
    assert len(scene.dbms.effects(f"{scene.name}-shop")) == 1


def test_without_a_webhook_the_second_gets_nothing_until_the_first_is_gone(scene: Scene, second: str) -> None:
    first = named(scene, scene.namespace)
    first.wait_ready()
    before = password_of(scene)
    with unjudged(scene.cluster, second):
        loser = named(scene, second)
    condition = loser.wait_reason("NameTaken")

    assert scene.namespace not in condition["message"].replace(f"{scene.name}-named", "")
    assert loser.condition("Stalled")["status"] == "True"
    assert loser.secret() is None
    assert loser.operations() == []

    loser.delete_and_wait()
    assert password_of(scene) == before
    assert first.condition()["status"] == "True"

    with unjudged(scene.cluster, second):
        heir = named(scene, second)
    heir.wait_reason("NameTaken")
    first.delete_and_wait()
    heir.annotate(RETRY, "the first is gone")
    assert heir.wait_ready()["password"] == password_of(scene) != before


def test_of_two_at_the_same_moment_exactly_one_gets_it(scene: Scene, second: str) -> None:
    namespaces = (scene.namespace, second)
    with unjudged(scene.cluster, *namespaces):
        both = [named(scene, namespace) for namespace in namespaces]

    def reasons() -> list[str] | None:
        found = [database.condition().get("reason", "") for database in both]
        return sorted(found) if sorted(found) == ["NameTaken", "Provisioned"] else None

    eventually(reasons, "one is Ready and the other is told")
    secrets = [database.secret() for database in both]
    assert sorted(secret is not None for secret in secrets) == [False, True]
    assert len(scene.dbms.effects(f"{scene.name}-shop")) == 1


def test_an_endpoint_serves_the_namespaces_that_it_selects(scene: Scene) -> None:
    allowed = {"from": "Selector", "selector": {"matchLabels": {"team": scene.name}}}
    endpoint = scene.add_endpoint("closed", allowedNamespaces=allowed)
    inside = scene.add_namespace("inside", {"team": scene.name})
    database = scene.apply("shop", namespace=inside, endpoint=endpoint)
    with pytest.raises(Invalid) as refused:
        scene.apply("shop", endpoint=endpoint)

    assert f'is not open to namespace "{scene.namespace}"' in refused.value.message
    assert "open to this namespace: " in refused.value.message
    database.wait_ready()


def test_without_a_webhook_the_controller_keeps_a_closed_endpoint_closed(scene: Scene) -> None:
    allowed = {"from": "Selector", "selector": {"matchLabels": {"team": scene.name}}}
    endpoint = scene.add_endpoint("closed", allowedNamespaces=allowed)
    with unjudged(scene.cluster, scene.namespace):
        shop = scene.apply("shop", endpoint=endpoint)
    shop.wait_reason("NamespaceNotAllowed")

    assert shop.operations() == []

    scene.cluster.kubectl("label", "namespace", scene.namespace, f"team={scene.name}")
    shop.wait_ready()


def test_a_user_with_the_edit_role_orders_databases_but_writes_no_status(scene: Scene) -> None:
    cluster, place = scene.cluster, ("-n", scene.namespace)
    cluster.kubectl("create", "rolebinding", "editor", "--clusterrole=edit", "--user=jane", *place)

    def can(verb: str, resource: str, *arguments: str) -> str:
        asked = ("auth", "can-i", verb, f"{resource}.dbaas.bedag.ch", *arguments, "--as=jane", *place)
        return cluster.kubectl(*asked, check=False).out.strip()

    assert [can(verb, "databases") for verb in ("create", "get", "patch", "delete")] == ["yes"] * 4
    assert can("patch", "databases", "--subresource=status") == "no"
    assert can("create", "databaseendpoints") == "no"
    assert can("get", "operations") == "no"
