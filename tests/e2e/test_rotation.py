"""Rotation on the real node: asked for by annotation, done once, never at the price of credentials that work."""

from __future__ import annotations

from api.labels import ROTATE, ROTATED_AT, SEQUENCE
from api.resources import SECRETS
from kube.client import Object
from tests.e2e.cluster import Cluster, eventually
from tests.e2e.examples import Examples
from tests.e2e.scene import Applied
from tests.e2e.watching import watched

WORKING = "dbaas.rotate_database"


def annotations_of(database: Applied) -> dict[str, str]:
    manifest = database.get()
    assert manifest is not None
    found: dict[str, str] = manifest["metadata"].get("annotations") or {}
    return found


def rotations(database: Applied) -> list[str]:
    """What asked for each rotation that was done."""
    done = [each for each in database.operations() if each["spec"]["type"] == "rotate"]
    return [each["spec"]["request"] for each in done if each.get("status", {}).get("outcome") == "Succeeded"]


def told(database: Applied, *, times: int) -> list[Object]:
    """The Events of its rotations, once there are so many."""
    events = [event for event in database.events() if event["reason"] == "Rotated"]
    assert len(events) >= times, events
    return events


def settle(database: Applied, *, protected: bool) -> None:
    """Have the controller look at it once more, and wait until it has."""
    generation = database.patch({"spec": {"deletionProtection": protected}})["metadata"]["generation"]
    eventually(lambda: database.status.get("observedGeneration") == generation, "it was looked at again")


def test_an_empty_annotation_rotates_once_and_is_removed(cluster: Cluster, examples: Examples) -> None:
    """As often as somebody annotates; Ready stays True all the while."""
    shop = examples.apply("shop")
    secrets = [shop.wait_ready()]
    with watched(shop) as seen:
        for turn in (1, 2):
            arguments = ("database", "shop", "-n", shop.namespace, f"{ROTATE}=", "--as=jane@example.test")
            cluster.kubectl("annotate", *arguments, "--as-group=system:masters")
            eventually(lambda n=turn: len(rotations(shop)) == n, f"rotation {turn} is done")  # type: ignore[misc]
            eventually(lambda: ROTATE not in annotations_of(shop), "the annotation is removed")
            secrets.append(shop.wait_ready())

    assert seen.ready == ["True/Provisioned"]
    first, second, third = secrets
    assert examples.site.login(third) == (first["username"], first["database"])
    assert examples.site.refuses(first)
    assert examples.site.refuses(second)
    assert third["password"] in third["uri"]
    assert {key for key in first if first[key] != third[key]} == {"password", "uri"}
    operation = shop.operations()[-1]
    assert operation["spec"]["requestedBy"] == "jane@example.test"
    assert shop.status["lastRotated"][:19] == operation["status"]["finishedAt"][:19]
    assert shop.status["lastOperation"]["type"] == "rotate"
    events = eventually(lambda: told(shop, times=2), "two Events tell it")
    assert [event["type"] for event in events] == ["Normal", "Normal"]
    assert "restart what does not read its Secret anew" in events[-1]["note"]
    manifest = cluster.get(SECRETS, shop.secret_name, shop.namespace)
    assert manifest is not None
    assert manifest["metadata"]["annotations"][SEQUENCE] == "3"
    status = operation["status"]
    assert status["startedAt"] <= manifest["metadata"]["annotations"][ROTATED_AT] <= status["finishedAt"]
    row = cluster.kubectl("get", "database", "shop", "-n", shop.namespace, "-o", "wide", "--no-headers").out
    assert row.split()[1:3] == ["True", "Provisioned"]


def test_a_value_rotates_once_and_stays(cluster: Cluster, examples: Examples) -> None:
    """However often GitOps applies it; another value is another request, and an earlier one again, too."""
    manifest = examples.database()
    shop = examples.scene.applied("shop")
    cluster.kubectl_apply(manifest)
    shop.wait_ready()
    asked: list[str] = []
    for value in ("2026-11", "2026-12", "2026-11"):
        manifest["metadata"]["annotations"] = {ROTATE: value}
        asked.append(f"annotation:{value}")
        for protected in (True, False):
            cluster.kubectl_apply(manifest)
            eventually(lambda: rotations(shop) == asked, f"{asked} is done")
            settle(shop, protected=protected)
        assert annotations_of(shop)[ROTATE] == value
        assert shop.status["rotateHandled"] == value

    assert rotations(shop) == asked
    assert examples.site.login(shop.wait_ready())[0] == f"{shop.namespace}_shop"


def test_a_failed_rotation_leaves_what_works_and_says_so(examples: Examples) -> None:
    shop = examples.apply("shop")
    first = shop.wait_ready()
    failing = examples.add_failing_procedure("no new passwords before noon", "TABLE (key text, value text)")
    examples.change_class(operations={"rotate": {"name": failing}})
    with watched(shop) as seen:
        shop.annotate(ROTATE, "")
        eventually(lambda: shop.condition().get("reason") == "RotationFailed", "the failure is told")
    message = shop.condition()["message"]

    assert seen.ready == ["True/Provisioned", "True/RotationFailed"]
    assert "the Secret still carries the earlier credentials" in message
    assert "no new passwords before noon" in message
    assert shop.secret() == first
    assert examples.site.login(first)[0] == first["username"]
    assert "lastRotated" not in shop.status
    assert ROTATE in annotations_of(shop)
    event = eventually(lambda: [e for e in shop.events() if e["reason"] == "RotationFailed"], "an Event tells it")[-1]
    assert event["type"] == "Warning"

    with watched(shop) as seen:
        examples.change_class(operations={"rotate": {"name": WORKING}})
        eventually(lambda: shop.condition().get("reason") == "Provisioned", "it has rotated")
    second = shop.secret()
    assert second is not None
    assert seen.ready == ["True/RotationFailed", "True/Provisioned"]
    assert examples.site.login(second)[0] == first["username"]
    assert examples.site.refuses(first)
    eventually(lambda: ROTATE not in annotations_of(shop), "the annotation is removed")


def test_a_class_that_cannot_rotate_is_told_at_once_and_learns_it_later(cluster: Cluster, examples: Examples) -> None:
    examples.change_class(operations={"rotate": None})
    shop = examples.apply("shop")
    first = shop.wait_ready()
    said = cluster.kubectl("annotate", "database", "shop", "-n", shop.namespace, f"{ROTATE}=now")
    eventually(lambda: shop.condition().get("reason") == "RotationFailed", "the condition tells it")

    assert f"DatabaseClass {examples.name} has no rotate operation" in said.err
    assert "has no rotate operation" in shop.condition()["message"]
    assert shop.condition()["status"] == "True"
    assert shop.secret() == first
    assert shop.requested() == ["create"]

    rotate = {"name": WORKING, "inputs": {"k8s_name": "{{ .Metadata.namespace }}_{{ .Metadata.name }}"}}
    examples.change_class(operations={"rotate": rotate})
    eventually(lambda: rotations(shop) == ["annotation:now"], "it is done")
    assert examples.site.login(shop.wait_ready())[0] == first["username"]
    assert examples.site.refuses(first)
