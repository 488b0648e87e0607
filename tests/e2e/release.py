"""The operator's release as the tests install it, and what earlier tests have left in the cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from api.labels import LABEL_DATABASE_NAMESPACE
from api.resources import CLASSES, DATABASES, ENDPOINTS, INSTANCES, NAMESPACES, OPERATIONS, POLICIES, SECRETS, Resource
from tests.e2e.cluster import LABEL, OPERATOR, PATIENCE, RELEASE, Cluster, eventually
from tests.e2e.scene import ask_for_deletion

CHART = Path(__file__).parents[2] / "chart"
PARTS = {"webhook": "webhook", "controller": "controller", "job": "provisioner-job"}
"""Key of the chart's `images` → target of the Dockerfile."""
INSPECTION = 5
"""Seconds in which every Secret is looked at once."""
SELECTOR = f"{LABEL}=true"
_PROBE = {
    "apiVersion": "dbaas.bedag.ch/v1",
    "kind": "DatabaseClass",
    "metadata": {"name": "e2e-probe"},
    "spec": {"driver": "postgres", "identity": "{{ .Metadata.name }}", "operations": {"create": {"name": "p"}}},
}


def values(images: Mapping[str, str]) -> dict[str, Any]:
    """The values that name the images under test, and have a missing Secret noticed while a test waits."""
    named = {part: images[target].rpartition(":") for part, target in PARTS.items()}
    images_of_parts = {part: {"repository": name, "tag": tag} for part, (name, _, tag) in named.items()}
    return {"images": images_of_parts, "operations": {"inspectSecretsSeconds": INSPECTION}}


def upgrade(cluster: Cluster, folder: Path, more: Mapping[str, Any] | None = None) -> None:
    """`helm upgrade --install` from this work tree, with `more` values; does not wait for anything."""
    file = folder / "values.yaml"
    file.write_text(json.dumps({**values(cluster.images), **(more or {})}))
    status = cluster.helm("status", RELEASE, "-o", "json", check=False)
    if status.code == 0 and json.loads(status.out)["info"]["status"] == "uninstalling":
        # An earlier run ended between a refused uninstallation and the next: Helm upgrades no such release.
        cluster.helm("uninstall", RELEASE, "--no-hooks", "--wait", "--timeout", f"{PATIENCE}s")
    cluster.helm("upgrade", "--install", RELEASE, str(CHART), "--create-namespace", "-f", str(file))


def install(cluster: Cluster, folder: Path) -> None:
    """Install or upgrade, and wait until webhook and controller do their work."""
    upgrade(cluster, folder)
    for component in ("webhook", "controller"):
        cluster.wait_rollout(component)
    eventually(lambda: webhook_answers(cluster), "the webhook answers")


def installed_images(cluster: Cluster) -> dict[str, str]:
    """Target of the Dockerfile → image, as the installed release's values say."""
    release = json.loads(cluster.helm("get", "values", RELEASE, "-o", "json").out)
    return {target: "{repository}:{tag}".format(**release["images"][part]) for part, target in PARTS.items()}


def webhook_answers(cluster: Cluster) -> bool:
    """Whether the API server gets a verdict from the webhook; AssertionError that says why not."""
    dry_run = ("create", "--dry-run=server", "-f", "-")
    return cluster.kubectl(*dry_run, stdin=json.dumps(_PROBE)).code == 0


def delete_all_databases(cluster: Cluster, seconds: float = PATIENCE) -> list[str]:
    """Delete the Databases of all tests; gives the namespaces in which one still is after `seconds`."""
    namespaces = _namespaces(cluster)
    for namespace in namespaces:
        ask_for_deletion(cluster, namespace)

    def held() -> list[str]:
        return [namespace for namespace in namespaces if cluster.find(DATABASES, namespace)]

    with suppress(AssertionError):
        eventually(lambda: not held(), "the tests' Databases are gone", seconds)
    return held()


def sweep(cluster: Cluster, seconds: float = PATIENCE) -> list[str]:
    """Take away all that tests have made; gives the namespaces that had to be forced after `seconds`.

    A Database that cannot be deleted properly is a failure of the operator, or of a test that left it so: it is told,
    and then forced. The namespaces go away by themselves afterwards.
    """
    forced = delete_all_databases(cluster, seconds)
    _force(cluster, forced)
    namespaces = _namespaces(cluster)
    for instance in cluster.find(INSTANCES):
        # Also what is retained, for nobody.
        if instance["metadata"]["labels"].get(LABEL_DATABASE_NAMESPACE, "") in namespaces:
            cluster.delete(INSTANCES, instance["metadata"]["name"])
    for namespace in namespaces:
        cluster.delete(NAMESPACES, namespace)
    for resource, place in ((POLICIES, None), (ENDPOINTS, None), (CLASSES, None), (SECRETS, OPERATOR)):
        _delete_all(cluster, resource, place)
    for operation in cluster.find(OPERATIONS, OPERATOR, LABEL_DATABASE_NAMESPACE):
        if operation["spec"]["databaseRef"]["namespace"].startswith("e2e-"):
            cluster.delete(OPERATIONS, operation["metadata"]["name"], OPERATOR)
    return forced


def _namespaces(cluster: Cluster) -> list[str]:
    return [namespace["metadata"]["name"] for namespace in cluster.find(NAMESPACES, labels=SELECTOR)]


def _delete_all(cluster: Cluster, resource: Resource, namespace: str | None) -> None:
    def emptied() -> bool:
        # The webhook may still see an instance of an endpoint that has gone a moment ago, and refuse.
        for each in cluster.find(resource, namespace, SELECTOR):
            cluster.delete(resource, each["metadata"]["name"], namespace)
        return True

    eventually(emptied, f"every {resource.kind} of the tests is deleted")


def _force(cluster: Cluster, namespaces: list[str]) -> None:
    """Take the finalizers from the Databases of these namespaces, and delete them."""
    for namespace in namespaces:
        for database in cluster.find(DATABASES, namespace):
            patch = {"metadata": {"finalizers": None}, "spec": {"deletionProtection": False}}
            cluster.patch(DATABASES, database["metadata"]["name"], patch, namespace)
            cluster.delete(DATABASES, database["metadata"]["name"], namespace)
