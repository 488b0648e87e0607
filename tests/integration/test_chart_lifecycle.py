"""Install, upgrade, uninstall and install again, by helm, on a real API server; and a webhook that nobody answers for.

No Pod runs here: what needs one is in tests/e2e.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from api.labels import FINALIZER
from api.resources import CLASSES, DATABASES, ENDPOINTS, MUTATING_WEBHOOKS, NAMESPACES, SECRETS, VALIDATING_WEBHOOKS
from tests.chart.apiserver import CHART, Answer, ApiServer, render, running_api_server

pytestmark = pytest.mark.integration

CONFIGURATIONS = (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
HOME = "dbaas-system"
SHOP = "shop"
RELEASE = ("dbaas", str(CHART), "--namespace", HOME)
BUNDLE = base64.b64encode(b"a bundle that the controller wrote").decode()
Json = dict[str, Any]


@pytest.fixture(scope="module")
def installed() -> Iterator[ApiServer]:
    """The chart with its webhooks, which fail closed: nobody answers for them."""
    with running_api_server() as server:
        for namespace in (HOME, SHOP):
            server.ask("POST", NAMESPACES.path(), {"metadata": {"name": namespace}})
        server.helm("install", *RELEASE)
        yield server


def webhooks(cluster: ApiServer, resource: Any) -> list[Json]:
    found: list[Json] = cluster.ask("GET", resource.path("dbaas")).body["webhooks"]
    return found


def database(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": DATABASES.api_version,
        "kind": DATABASES.kind,
        "metadata": {"name": name, "finalizers": [FINALIZER]},
        "spec": {"endpoint": "main", **spec},
    }


def existing(cluster: ApiServer, name: str, **spec: Any) -> str:
    """The path of a Database from before its webhook died: made while the configurations are away."""
    aside = [(resource, cluster.ask("GET", resource.path("dbaas")).body) for resource in CONFIGURATIONS]
    for resource, _ in aside:
        cluster.ask("DELETE", resource.path("dbaas"))
    path = DATABASES.path(name, namespace=SHOP)
    until(lambda: cluster.ask("POST", DATABASES.path(namespace=SHOP), database(name, **spec)).accepted)
    for resource, body in aside:
        metadata = {key: body["metadata"][key] for key in ("name", "labels", "annotations")}
        cluster.ask("POST", resource.path(), {**body, "metadata": metadata})
    until(lambda: no_webhook(cluster.ask("POST", DATABASES.path(namespace=SHOP), database("new"))))
    return path


def until(happens: Callable[[], bool]) -> None:
    """The API server hears of its webhooks' configurations within a moment."""
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def no_webhook(answer: Answer) -> bool:
    return answer.status == 500 and "failed calling webhook" in answer.message


def test_an_upgrade_leaves_the_bundle_that_the_controller_wrote(installed: ApiServer) -> None:
    """Else every upgrade would close the door until the controller has noticed."""
    for resource in CONFIGURATIONS:
        written = webhooks(installed, resource)
        for webhook in written:
            webhook["clientConfig"]["caBundle"] = BUNDLE
        installed.merge(resource.path("dbaas"), {"webhooks": written})

    installed.helm("upgrade", *RELEASE, values={"watchNamespaces": [SHOP]})

    for resource in CONFIGURATIONS:
        for webhook in webhooks(installed, resource):
            assert webhook["clientConfig"]["caBundle"] == BUNDLE
            assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == [SHOP]


def test_an_upgrade_hands_new_declarations_over(installed: ApiServer) -> None:
    classes = {"postgres": {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}}
    installed.helm("upgrade", *RELEASE, values={"classes": classes})
    secret = installed.ask("GET", SECRETS.path("dbaas-declared", namespace=HOME)).body

    assert json.loads(base64.b64decode(secret["data"]["declared.json"]))["classes"] == classes


def test_databases_outlive_an_uninstallation(installed: ApiServer) -> None:
    """The kinds stay, and so does everything of them; a new installation takes them over."""
    path = existing(installed, "kept")
    installed.helm("uninstall", "dbaas", "--namespace", HOME, "--no-hooks")
    installed.helm("install", *RELEASE)

    assert installed.ask("GET", path).accepted
    installed.ask("DELETE", path)
    installed.merge(path, {"metadata": {"finalizers": None}})


def test_without_its_webhook_nothing_is_created_or_changed(installed: ApiServer) -> None:
    """It fails closed: nobody would judge."""
    path = existing(installed, "orders")
    created = installed.ask("POST", DATABASES.path(namespace=SHOP), database("new"))
    changed = installed.merge(path, {"spec": {"deletionPolicy": "Retain"}})
    spec = {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}
    manifest = {"apiVersion": CLASSES.api_version, "kind": CLASSES.kind, "metadata": {"name": "a"}, "spec": spec}
    made = installed.ask("POST", CLASSES.path(), manifest)

    assert no_webhook(created)
    assert no_webhook(changed)
    assert no_webhook(made)
    assert installed.merge(f"{path}/status", {"status": {"observedGeneration": 1}}).accepted
    installed.ask("DELETE", path)
    installed.merge(path, {"metadata": {"finalizers": None}})


def test_without_its_webhook_a_database_can_be_deleted_to_the_end(installed: ApiServer) -> None:
    """The deletion is taken, and the finalizer comes off."""
    path = existing(installed, "orders")
    deleted = installed.ask("DELETE", path)
    removed = installed.merge(path, {"metadata": {"finalizers": None}})

    assert deleted.accepted, deleted.message
    assert removed.accepted, removed.message
    assert installed.ask("GET", path).status == 404


def test_without_its_webhook_what_is_protected_stays(installed: ApiServer) -> None:
    path = existing(installed, "orders", deletionProtection=True)
    deleted = installed.ask("DELETE", path)

    assert no_webhook(deleted)
    for resource in CONFIGURATIONS:
        installed.ask("DELETE", resource.path("dbaas"))
    until(lambda: installed.merge(path, {"metadata": {"finalizers": None}}).accepted)
    installed.ask("DELETE", path)


@pytest.mark.parametrize(
    "values",
    [
        {"watchNamespaces": [SHOP], "networkPolicy": {"enabled": False}, "fullnameOverride": "databases"},
        {
            "images": {"registry": "registry.example.test/mirror", "job": {"digest": "sha256:" + "0" * 64}},
            "imagePullSecrets": ["mirror"],
            "webhook": {"replicas": 3, "podLabels": {"team": "dba"}, "podAnnotations": {"a": "b"}},
            "controller": {
                "tolerations": [{"key": "system", "operator": "Exists"}],
                "nodeSelector": {"zone": "a"},
                "affinity": {"podAntiAffinity": {}},
                "priorityClassName": "system-cluster-critical",
            },
        },
    ],
)
def test_the_api_server_knows_every_field_that_values_can_bring_about(installed: ApiServer, values: Json) -> None:
    installed.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", text=render("--no-hooks", values=values)
    )


def test_every_pod_is_let_into_a_restricted_namespace(installed: ApiServer) -> None:
    """The chart cannot label its namespace; whoever does must not lock the operator out."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    installed.merge(NAMESPACES.path(HOME), {"metadata": {"labels": label}})
    started = [
        document["spec"] if document["kind"] == "Pod" else document["spec"]["template"]["spec"]
        for document in yaml.safe_load_all(render())
        if document["kind"] in ("Deployment", "Job", "Pod")
    ]
    privileged = {"containers": [{"name": "a", "image": "a"}]}

    def admit(spec: Json) -> Answer:
        pod = {"metadata": {"name": "a"}, "spec": {**spec, "priorityClassName": ""}}
        return installed.ask("POST", f"/api/v1/namespaces/{HOME}/pods?dryRun=All", pod)

    assert len(started) == 4
    assert [answer.message for spec in started if not (answer := admit(spec)).accepted] == []
    assert "violates PodSecurity" in admit(privileged).message


def test_people_get_databases_and_nobody_gets_their_status(installed: ApiServer) -> None:
    """The roles that Kubernetes collects view, edit and admin from."""
    roles = installed.ask("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles").body["items"]
    ours = {role["metadata"]["name"]: role for role in roles if role["metadata"]["name"].startswith("dbaas")}
    aggregated = {
        label.rpartition("-")[2]: role["rules"]
        for role in ours.values()
        for label in role["metadata"]["labels"]
        if label.startswith("rbac.authorization.k8s.io/aggregate-to-")
    }

    assert set(aggregated) == {"view", "edit", "admin"}
    assert all("/status" not in str(rules) for rules in aggregated.values())
    assert ours["dbaas-service-binding"]["metadata"]["labels"]["servicebinding.io/controller"] == "true"


def test_an_auditor_reads_everything_and_writes_nothing(installed: ApiServer) -> None:
    binding = {
        "metadata": {"name": "auditor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dbaas-auditor"},
        "subjects": [{"kind": "User", "name": "auditor", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    installed.ask("POST", path, binding)

    assert all(
        installed.ask("GET", resource.path(), user="auditor").accepted for resource in (DATABASES, CLASSES, ENDPOINTS)
    )
    assert installed.ask("GET", SECRETS.path(namespace=HOME), user="auditor").status == 403
    assert installed.ask("DELETE", ENDPOINTS.path("main"), user="auditor").status == 403
    installed.ask("DELETE", f"{path}/auditor")
