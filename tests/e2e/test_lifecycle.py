"""From `kubectl apply` to a working Secret, and back to nothing."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from api.labels import FINALIZER, REQUESTED_BY, RETRY, RETRY_REQUESTED_BY
from api.resources import CLASSES, DATABASES, ENDPOINTS, OPERATIONS, ROLES, SECRETS
from kube.errors import Invalid
from tests.e2e.absence import unjudged
from tests.e2e.cluster import OPERATOR, PATIENCE, PODS, eventually
from tests.e2e.examples import Examples
from tests.e2e.scene import CLASS, Scene


def test_the_examples_give_a_pod_its_database_and_deletion_leaves_nothing(scene: Scene, examples: Examples) -> None:
    """Also to a Pod that was applied before its Database: it starts once the Secret is there, complete."""
    cluster, dbms, namespace = scene.cluster, scene.dbms, scene.namespace
    cluster.kubectl_apply(examples.pod("early"), examples.database())
    shop = scene.applied("shop")
    secret = shop.wait_ready()
    cluster.pod(examples.pod("late"))
    # The kubelet looks again every ten seconds, or when something happens to the Pod.
    cluster.patch(PODS, "early", {"metadata": {"annotations": {"dbaas.test/secret": "is there"}}}, namespace)
    name = f"{namespace}_shop"

    assert secret == {
        "type": "postgresql",
        "provider": "kubernetes-dbaas",
        "host": dbms.host,
        "port": str(dbms.port),
        "database": name,
        "username": name,
        "password": secret["password"],
        "uri": f"postgresql://{name}:{secret['password']}@{dbms.host}:{dbms.port}/{name}?sslmode=require",
    }
    assert len(secret["password"]) >= 32
    assert name in dbms.databases() & dbms.roles()
    manifest = cluster.get(SECRETS, shop.secret_name, namespace)
    assert manifest is not None
    assert manifest["type"] == "servicebinding.io/postgresql"
    for pod in ("late", "early"):
        assert cluster.wait_pod(pod, namespace) == ("Succeeded", f"select 1 from {name} as {name}\n")
        found = cluster.get(PODS, pod, namespace)
        assert found is not None
        assert [c["restartCount"] for c in found["status"]["containerStatuses"]] == [0]

    shop.delete_and_wait()

    assert name not in dbms.databases() | dbms.roles()
    shop.wait_nothing_remains()
    assert shop.requested() == ["create", "delete"]


def test_a_database_deleted_while_its_job_runs_is_created_and_then_deleted(scene: Scene) -> None:
    shop = scene.applied("shop")
    with scene.dbms.held(shop.identity):
        scene.apply("shop")
        shop.wait_called()
        shop.delete()
        condition = shop.wait_reason("Deleting")

    assert "under way" in condition["message"]
    shop.wait_gone()
    assert [effect.procedure for effect in shop.effects] == ["create", "delete"]
    shop.wait_nothing_remains()


def test_a_database_deleted_before_anything_ran_calls_nothing(scene: Scene) -> None:
    endpoint = scene.add_endpoint("unpaid", credentialsSecretRef={"name": "there-is-none"})
    shop = scene.apply("shop", endpoint=endpoint)
    condition = shop.wait_reason("EndpointInvalid")

    assert "there-is-none" in condition["message"]
    shop.delete_and_wait()
    assert shop.operations() == []
    assert shop.effects == []
    assert shop.remains() == []


def test_the_secret_of_an_earlier_database_is_waited_for_and_not_taken_over(scene: Scene) -> None:
    shop = scene.apply("shop")
    first = shop.wait_ready()
    hold = {"metadata": {"finalizers": ["dbaas.test/hold"]}}
    scene.cluster.patch(SECRETS, shop.secret_name, hold, scene.namespace)
    try:
        shop.delete_and_wait()
        scene.apply("shop")
        condition = shop.wait_reason("KubernetesUnavailable")

        assert "earlier Database" in condition["message"]
        assert shop.secret() == first
        assert len(shop.effects) == 2
    finally:
        scene.cluster.patch(SECRETS, shop.secret_name, {"metadata": {"finalizers": None}}, scene.namespace)
    assert shop.wait_ready()["password"] != first["password"]


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_database_applied_again_right_after_its_deletion_is_a_new_one(scene: Scene, cascade: str) -> None:
    """Though the collector may not have come for the Secret of the first one yet."""
    shop = scene.apply("shop")
    first = shop.wait_ready()
    how = (f"--cascade={cascade}", f"--timeout={PATIENCE}s")
    scene.cluster.kubectl("delete", "database", "shop", "-n", scene.namespace, *how)
    scene.apply("shop")
    second = shop.wait_ready()

    assert second["password"] != first["password"]
    assert [effect.procedure for effect in shop.effects] == ["create", "delete", "create"]
    secret = scene.cluster.get(SECRETS, shop.secret_name, scene.namespace)
    assert secret is not None
    (owner,) = secret["metadata"]["ownerReferences"]
    role = scene.cluster.get(ROLES, owner["name"], scene.namespace)
    assert role is not None
    assert owner["uid"] == role["metadata"]["uid"]


def test_a_database_whose_endpoint_does_not_exist_says_so_and_can_be_deleted(scene: Scene) -> None:
    with unjudged(scene.cluster, scene.namespace):
        shop = scene.apply("shop", endpoint=f"{scene.name}-later")
    condition = shop.wait_reason("EndpointMissing")

    assert f"{scene.name}-later" in condition["message"]
    assert shop.condition("Stalled")["status"] == "True"
    database = shop.get()
    assert database is not None
    assert FINALIZER in database["metadata"]["finalizers"]

    scene.add_endpoint("later")
    shop.wait_ready()
    shop.delete_and_wait()


def test_a_database_without_an_endpoint_can_be_deleted(scene: Scene) -> None:
    with unjudged(scene.cluster, scene.namespace):
        shop = scene.apply("shop", endpoint=f"{scene.name}-never")
    shop.wait_reason("EndpointMissing")
    shop.delete_and_wait()

    assert shop.operations() == []


def test_names_may_be_generated_and_63_characters_long_but_no_longer(scene: Scene) -> None:
    cluster = scene.cluster
    named = {"inputs": {"k8sName": "{{ .Metadata.name }}"}}
    operations = {kind: {**call, **named} for kind, call in CLASS["operations"].items()}
    endpoint = scene.add_endpoint("named", className=scene.add_class("named", operations=operations))
    longest = f"{scene.name}-{'x' * 63}"[:63]
    applied = [scene.apply(longest, endpoint=endpoint)]
    manifest = scene.database_manifest("", endpoint=endpoint)
    manifest["metadata"] = {"generateName": f"{scene.name}-", "namespace": scene.namespace}
    applied.append(scene.applied(cluster.create(DATABASES, manifest)["metadata"]["name"]))

    assert [database.wait_ready()["database"] for database in applied] == [database.name for database in applied]
    with pytest.raises(Invalid, match="63 characters"):
        scene.apply(longest + "y", endpoint=endpoint)
    for database in applied:
        database.delete()
    for database in applied:
        database.wait_gone()


def test_a_dry_run_tells_the_plan_and_does_nothing(scene: Scene) -> None:
    said = scene.cluster.kubectl_apply(scene.database_manifest("shop"), arguments=("--dry-run=server",))

    assert "created (server dry run)" in said.out
    plan = f"Warning: would call e2e.create_database on endpoint {scene.name} ({scene.dbms.host}) for "
    assert plan in said.err
    assert scene.applied("shop").get() is None


def test_applying_again_changes_nothing(scene: Scene) -> None:
    """Whether on the client's side, on the server's side, or by replacing: stamps and finalizer stay."""
    cluster, manifest = scene.cluster, scene.database_manifest("shop")
    cluster.kubectl_apply(manifest)
    shop = scene.applied("shop")
    shop.wait_ready()
    before = shop.get()
    said = cluster.kubectl_apply(manifest)

    assert said.out.strip().endswith("unchanged")
    assert shop.get() == before

    for _ in range(2):
        cluster.kubectl_apply(manifest, arguments=("--server-side", "--force-conflicts"))
    cluster.kubectl("replace", "-f", "-", stdin=json.dumps(manifest))
    after = shop.get()
    assert before is not None
    assert after is not None
    for part in ("uid", "generation", "finalizers", "deletionTimestamp"):
        assert after["metadata"].get(part) == before["metadata"].get(part)
    assert after["metadata"]["annotations"][REQUESTED_BY] == before["metadata"]["annotations"][REQUESTED_BY]
    assert after["spec"] == before["spec"]
    assert shop.requested() == ["create"]


def test_what_was_decided_at_creation_cannot_be_changed(scene: Scene) -> None:
    other = scene.add_endpoint("other")
    shop = scene.apply("shop", params={"note": "first"})
    with pytest.raises(Invalid) as moved:
        shop.patch({"spec": {"endpoint": other}})
    with pytest.raises(Invalid) as altered:
        shop.patch({"spec": {"params": {"note": "second"}}})

    assert "spec.endpoint" in moved.value.message
    assert "stays on the server that it was made on" in moved.value.message
    assert "spec.params" in altered.value.message
    assert "apply a Database of another name" in altered.value.message


def test_a_protected_database_is_deleted_only_after_the_protection_is_taken_away(scene: Scene) -> None:
    shop = scene.apply("shop", deletionProtection=True)
    said = scene.cluster.kubectl("delete", "database", shop.name, "-n", shop.namespace, check=False)

    assert said.code == 1
    assert "protects it from deletion" in said.text
    command = f"kubectl patch database {shop.name} -n {shop.namespace} --type=merge -p "
    assert command in said.text

    shop.wait_ready()
    shop.patch({"spec": {"deletionProtection": False}})
    shop.delete_and_wait()


def test_the_status_tells_people_and_programs_how_it_stands(scene: Scene) -> None:
    cluster, shop = scene.cluster, scene.applied("shop")
    place = ("-n", scene.namespace)
    with scene.dbms.held(shop.identity):
        cluster.kubectl_apply(scene.database_manifest("shop"))
        shop.wait_called()
        shop.wait_reason("Provisioning")
        status = shop.status

        assert {c["type"]: c["status"] for c in status["conditions"]} == {"Ready": "False", "Reconciling": "True"}
        assert status["observedGeneration"] == 1
        assert "binding" not in status
    said = cluster.kubectl("wait", "--for=condition=Ready", "database/shop", *place, f"--timeout={PATIENCE}s")

    assert "condition met" in said.out
    status = shop.status
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [("Ready", "True", "Provisioned")]
    assert status["conditions"][0]["observedGeneration"] == status["observedGeneration"] == 1
    assert status["binding"] == {"name": "shop-credentials"}
    last = status["lastOperation"]
    assert (last["type"], last["outcome"], last["reason"]) == ("create", "Succeeded", "Succeeded")
    assert last["startedAt"] <= last["finishedAt"]
    header, row = cluster.kubectl("get", "databases", "-o", "wide", *place).out.splitlines()
    assert header.split() == [
        *("NAME", "READY", "REASON", "ENDPOINT", "CLASS"),
        *("SECRET", "INSTANCE", "LAST-ROTATED", "MESSAGE", "AGE"),
    ]
    assert row.split()[:7] == [
        *("shop", "True", "Provisioned", scene.name, scene.name, "shop-credentials", status["instance"])
    ]
    assert cluster.kubectl("get", "dbs", *place).out.split()[:6] == [
        "NAME",
        "READY",
        "REASON",
        "ENDPOINT",
        "CLASS",
        "AGE",
    ]
    reasons = ["Provisioning", "Provisioned"]
    eventually(lambda: [event["reason"] for event in shop.events()] == reasons, "two Events tell it")
    described = cluster.kubectl("describe", "database", "shop", *place).out
    assert all(word in described for word in ("Normal", *reasons))


def test_who_asked_is_recorded_and_cannot_be_forged(scene: Scene) -> None:
    forged = scene.database_manifest("shop", annotations={REQUESTED_BY: "somebody-else"})
    scene.cluster.kubectl_apply(forged, arguments=("--as=jane@example.test", "--as-group=system:masters"))
    shop = scene.applied("shop")
    shop.wait_ready()
    [operation] = shop.requests()

    assert operation["spec"]["requestedBy"] == "jane@example.test"
    assert {line["requester"] for line in shop.log()} == {"jane@example.test"}
    assert shop.status["lastOperation"]["requestedBy"] == "jane@example.test"


def test_an_edited_class_is_taken_over_at_once_by_a_database_that_was_stuck(scene: Scene) -> None:
    wrong = {**CLASS["operations"], "create": {**CLASS["operations"]["create"], "name": "e2e.create_databse"}}
    scene.change_class(operations=wrong)
    shop = scene.apply("shop")
    condition = shop.wait_reason("ProcedureMissing")

    assert "e2e.create_databse" in condition["message"]
    assert shop.condition("Stalled")["status"] == "True"

    scene.change_class(operations=CLASS["operations"])
    shop.wait_ready()
    assert shop.condition("Stalled") == {}
    assert shop.outcomes() == ["Stalled", "Succeeded"]


def test_the_retry_annotation_tries_again_at_once(scene: Scene) -> None:
    """After a DBA mended what the cluster cannot see: otherwise it would take minutes."""
    late = f"e2e.late_{scene.name.replace('-', '_')}"
    scene.change_class(operations={"create": {"name": late}})
    shop = scene.apply("shop")
    shop.wait_reason("ProcedureMissing")
    body = "SELECT * FROM e2e.create_database(k8sName, operation)"
    scene.dbms.server.execute(
        f"CREATE FUNCTION {late}(k8sName text, operation text) RETURNS TABLE (key text, value text)"
        f" LANGUAGE sql SECURITY DEFINER AS '{body}'"
    )
    said = scene.cluster.kubectl("annotate", "database", "shop", "-n", scene.namespace, f"{RETRY}=now")

    assert "annotated" in said.out
    shop.wait_ready()
    database = shop.get()
    assert database is not None
    assert database["metadata"]["annotations"][RETRY_REQUESTED_BY]
    assert shop.outcomes() == ["Stalled", "Succeeded"]


def test_classes_and_endpoints_in_use_are_not_deleted(scene: Scene) -> None:
    shop = scene.apply("shop")
    shop.wait_ready()
    with pytest.raises(Invalid, match="use"):
        scene.cluster.delete(ENDPOINTS, scene.name)
    with pytest.raises(Invalid, match="use"):
        scene.cluster.delete(CLASSES, scene.name)

    shop.delete_and_wait()

    def deleted() -> bool:
        scene.cluster.delete(ENDPOINTS, scene.name)
        return True

    eventually(deleted, "the endpoint can be deleted")


def test_a_new_account_of_the_endpoint_is_used_without_a_restart(scene: Scene) -> None:
    account = scene.add_account("account", scene.dbms.username, "not the password")
    endpoint = scene.add_endpoint("strict", credentialsSecretRef={"name": account})
    shop = scene.apply("shop", endpoint=endpoint)
    shop.wait_reason("CredentialsRefused")
    password = b64encode(scene.dbms.password.encode()).decode()
    scene.cluster.patch(SECRETS, account, {"data": {"password": password}}, OPERATOR)

    assert shop.wait_ready()["database"] == shop.identity


def test_an_operations_job_goes_with_it(scene: Scene) -> None:
    shop = scene.apply("shop")
    shop.wait_ready()
    for operation in shop.operations():
        scene.cluster.delete(OPERATIONS, operation["metadata"]["name"], OPERATOR)

    eventually(lambda: shop.operations() == [], "the Operation is gone")
    eventually(lambda: shop.active_jobs() == [], "its Job is gone")
    assert shop.condition()["status"] == "True"
