"""Deletion and retention on the real node: what is asked for goes, what is to be kept stays, and nobody is stuck."""

from __future__ import annotations

import psycopg
import pytest

from api.labels import ABANDON
from api.resources import CLASSES, DATABASES, ENDPOINTS, INSTANCES
from kube.client import Object
from kube.errors import Invalid
from tests.e2e.absence import unjudged_deletion
from tests.e2e.cluster import PATIENCE, Cluster, eventually
from tests.e2e.examples import Examples
from tests.e2e.scene import Applied, Scene

WORKING = "dbaas.delete_database"


def phase(database: Applied) -> str:
    instance = database.instance()
    return "" if instance is None else str(instance["status"]["phase"])


def stuck(examples: Examples) -> Applied:
    """A Database that is being deleted, and whose delete procedure fails."""
    shop = examples.apply("shop")
    shop.wait_ready()
    failing = examples.add_failing_procedure("a replica still reads from it")
    examples.change_class(operations={"delete": {"name": failing}}, retry={"limit": 0, "backoff": "1s"})
    shop.delete()
    return shop


# Retain


def test_a_retained_database_and_its_secret_outlive_their_database(cluster: Cluster, examples: Examples) -> None:
    """Foreground deletion included; the same namespace and name take them over, with the password that they had."""
    shop = examples.apply("shop", deletionPolicy="Retain")
    secret = shop.wait_ready()
    with psycopg.connect(secret["uri"], hostaddr=examples.site.address) as connection:
        connection.execute("CREATE TABLE kept (a integer)")
    place = ("-n", shop.namespace)
    cluster.kubectl("delete", "database", "shop", *place, "--cascade=foreground", f"--timeout={PATIENCE}s")
    instance = shop.instance()

    assert instance is not None
    assert phase(shop) == "Released"
    assert instance["spec"]["claimRef"]["name"] == "shop"
    assert shop.requested() == ["create"]
    row = cluster.kubectl("get", "databaseinstance", instance["metadata"]["name"], "--no-headers").out
    assert "Released" in row.split()
    assert shop.secret() == secret
    assert examples.site.login(secret)[1] == secret["database"]

    examples.apply("shop")
    again = shop.wait_ready()
    assert again == secret
    adopted = shop.instance()
    assert adopted is not None
    assert adopted["metadata"]["uid"] == instance["metadata"]["uid"]
    # Whoever waits is told first.
    eventually(lambda: phase(shop) == "Bound", "its instance is Bound")
    tables = "SELECT 1 FROM pg_tables WHERE tablename = 'kept'"
    assert examples.scene.dbms.server.execute(tables, database=secret["database"]) == [(1,)]

    # What was to be kept is kept until somebody says otherwise: this Database has said nothing.
    assert adopted["spec"]["deletionPolicy"] == "Retain"
    shop.patch({"spec": {"deletionPolicy": "Delete"}})
    shop.delete_and_wait()
    assert secret["database"] not in examples.scene.dbms.databases()
    assert shop.requested() == ["create", "create", "delete"]
    shop.wait_nothing_remains()


def test_what_is_retained_is_nobody_elses_until_an_administrator_clears_its_claim(
    cluster: Cluster, scene: Scene
) -> None:
    """Though both would be called the same on the server."""
    named = {"inputs": {"k8sName": "{{ .Params.name }}"}}
    operations = {kind: {**call, **named} for kind, call in scene.class_manifest()["spec"]["operations"].items()}
    endpoint = scene.add_endpoint("named", className=scene.add_class("named", operations=operations, identity=None))
    params = {"name": f"{scene.name}-ledger"}
    first = scene.apply("first", endpoint=endpoint, params=params, deletionPolicy="Retain")
    kept = first.wait_ready()
    first.delete_and_wait()
    with pytest.raises(Invalid, match="is taken by"):
        scene.apply("second", endpoint=endpoint, params=params)

    instance = first.instance()
    assert instance is not None
    cluster.patch(INSTANCES, instance["metadata"]["name"], {"spec": {"claimRef": None}})
    second = eventually(lambda: applied(scene, endpoint, params), "the claim is free")
    assert second.wait_ready()["database"] == kept["database"]
    second.delete_and_wait()
    assert not scene.dbms.exists(params["name"])


def applied(scene: Scene, endpoint: str, params: dict[str, str]) -> Applied:
    """The second Database; an AssertionError as long as the webhook refuses it."""
    try:
        return scene.apply("second", endpoint=endpoint, params=params, deletionPolicy="Delete")
    except Invalid as refused:
        raise AssertionError(refused.message) from None


def test_a_retained_instance_that_nobody_wants_is_given_up_without_a_call(cluster: Cluster, examples: Examples) -> None:
    shop = examples.apply("shop", deletionPolicy="Retain")
    secret = shop.wait_ready()
    shop.delete_and_wait()
    instance = shop.instance()
    assert instance is not None
    cluster.delete(INSTANCES, instance["metadata"]["name"])
    cluster.wait_gone(INSTANCES, instance["metadata"]["name"])

    assert shop.requested() == ["create"]
    assert secret["database"] in examples.scene.dbms.databases()


# A delete procedure that fails


def test_a_delete_that_fails_is_told_and_tried_again(examples: Examples) -> None:
    shop = stuck(examples)
    condition = shop.wait_reason("ProcedureFailed")

    assert condition["message"].startswith("deletion: ")
    assert "a replica still reads from it" in condition["message"]
    assert shop.status["lastOperation"]["type"] == "delete"
    event = eventually(lambda: [e for e in shop.events() if e["reason"] == "ProcedureFailed"], "an Event tells it")[-1]
    assert event["type"] == "Warning"
    assert f"{shop.namespace}_shop" in examples.scene.dbms.databases()

    examples.change_class(operations={"delete": {"name": WORKING}})
    shop.wait_gone()
    assert f"{shop.namespace}_shop" not in examples.scene.dbms.databases()
    shop.wait_nothing_remains()


def test_retain_releases_a_database_whose_delete_fails(examples: Examples) -> None:
    shop = stuck(examples)
    secret = shop.secret()
    shop.wait_reason("ProcedureFailed")
    shop.patch({"spec": {"deletionPolicy": "Retain"}})
    shop.wait_gone()

    assert phase(shop) == "Released"
    assert secret is not None
    assert examples.site.login(secret)[1] == secret["database"]


def test_abandon_releases_a_database_whose_delete_fails(cluster: Cluster, examples: Examples) -> None:
    """Nothing is called any more, and nothing is left in the cluster; the server is left to its DBAs."""
    shop = stuck(examples)
    shop.wait_reason("ProcedureFailed")
    called = shop.operations()
    cluster.kubectl("annotate", "database", "shop", "-n", shop.namespace, f"{ABANDON}=true")
    shop.wait_gone()

    assert shop.operations() == called
    assert f"{shop.namespace}_shop" in examples.scene.dbms.databases()
    shop.wait_nothing_remains()


# What it needs is not there


def test_open_connections_do_not_hold_a_database(examples: Examples) -> None:
    shop = examples.apply("shop")
    secret = shop.wait_ready()
    with psycopg.connect(secret["uri"], hostaddr=examples.site.address) as connection:
        connection.execute("SELECT 1")
        shop.delete_and_wait()

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert secret["database"] not in examples.scene.dbms.databases() | examples.scene.dbms.roles()


def test_a_database_goes_although_its_class_and_its_secret_have_gone_before(
    cluster: Cluster, examples: Examples
) -> None:
    """What its delete needs was frozen when it was made."""
    shop = examples.apply("shop")
    shop.wait_ready()
    with unjudged_deletion(cluster, CLASSES, examples.name):
        cluster.delete(CLASSES, examples.name)
        cluster.wait_gone(CLASSES, examples.name)
    cluster.kubectl("delete", "secret", shop.secret_name, "-n", shop.namespace)
    shop.delete_and_wait()

    assert f"{shop.namespace}_shop" not in examples.scene.dbms.databases() | examples.scene.dbms.roles()
    shop.wait_nothing_remains()


def test_a_database_whose_endpoint_has_gone_waits_for_it_and_says_so(cluster: Cluster, examples: Examples) -> None:
    shop = examples.apply("shop")
    shop.wait_ready()
    endpoint = gone(cluster, examples)
    shop.delete()
    condition = shop.wait_reason("EndpointMissing")

    assert condition["message"].startswith("deletion: ")
    assert examples.name in condition["message"]
    cluster.create(ENDPOINTS, endpoint)
    shop.wait_gone()
    assert f"{shop.namespace}_shop" not in examples.scene.dbms.databases()


def test_a_database_whose_endpoint_has_gone_for_good_can_be_abandoned(cluster: Cluster, examples: Examples) -> None:
    shop = examples.apply("shop")
    shop.wait_ready()
    gone(cluster, examples)
    shop.delete()
    shop.wait_reason("EndpointMissing")
    shop.annotate(ABANDON, "true")
    shop.wait_gone()

    assert shop.requested() == ["create"]
    shop.wait_nothing_remains()


def gone(cluster: Cluster, examples: Examples) -> Object:
    """Take the examples' endpoint away; gives a manifest that brings it back."""
    endpoint = cluster.client.get(ENDPOINTS, examples.name)
    with unjudged_deletion(cluster, ENDPOINTS, examples.name):
        cluster.delete(ENDPOINTS, examples.name)
        cluster.wait_gone(ENDPOINTS, examples.name)
    return {"metadata": {"name": examples.name, "labels": endpoint["metadata"]["labels"]}, "spec": endpoint["spec"]}


def test_a_plain_delete_of_several_at_once_takes_them_all(cluster: Cluster, scene: Scene) -> None:
    """`kubectl delete database --all` returns when the last one has gone."""
    shops = [scene.apply(f"shop-{number}") for number in range(3)]
    for shop in shops:
        shop.wait_ready()
    cluster.kubectl("delete", "databases", "--all", "-n", scene.namespace, f"--timeout={PATIENCE}s")

    assert cluster.find(DATABASES, scene.namespace) == []
    assert [[effect.procedure for effect in shop.effects] for shop in shops] == [["create", "delete"]] * 3
