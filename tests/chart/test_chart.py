"""What the chart renders, from no values to many; what the API server makes of it is in tests/integration."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.labels import LABEL_OPERATION_TYPE
from api.operation import operation_name
from controller.settings import Settings as ControllerSettings
from tests.chart.apiserver import CHART, ToolError, render
from tests.cluster.settings import KUBERNETES_VERSION, Settings
from webhook.settings import Settings as WebhookSettings

Json = dict[str, Any]

DSN = "postgres://dbaas:p%40ss@db.example.test:5433/postgres?sslmode=verify-full"
VALUES: dict[str, Json] = {
    "defaults": {},
    "air gap": {
        "images": {
            "registry": "registry.example.test/mirror",
            "webhook": {"repository": "dbaas/webhook", "digest": "sha256:" + "0" * 64},
            "job": {"repository": "dbaas/job", "tag": "1.2"},
        },
        "imagePullSecrets": ["mirror", "other"],
    },
    "two namespaces": {"watchNamespaces": ["shop", "bank"]},
    "cert-manager": {"certificates": {"mode": "cert-manager"}},
    "cert-manager with an issuer": {
        "certificates": {"mode": "cert-manager", "issuerRef": {"kind": "ClusterIssuer", "name": "house"}}
    },
    "earlier operator": {
        "dbms": [{"databaseClassName": "postgres", "endpoints": [{"name": "main", "dsn": DSN}]}],
        "classes": {"postgres": {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}},
        "policies": {"small": {"quota": {"perNamespace": 5}}},
    },
    "everything else": {
        "endpoints": {
            "main": {"className": "postgres", "host": "db", "port": 5432, "credentialsSecretRef": {"name": "main"}}
        },
        "allowInsecureEndpoints": True,
        "networkPolicy": {"enabled": False},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "uninstall": {"force": True},
        "crds": {"install": False},
        "logLevel": "debug",
        "controller": {"replicas": 2, "tolerations": [{"operator": "Exists"}]},
        "jobs": {"podLabels": {"team": "dba"}, "nodeSelector": {"zone": "a"}, "priorityClassName": "high"},
    },
}


@cache
def rendered(name: str) -> tuple[Json, ...]:
    """Every object that these values bring about."""
    return tuple(document for document in yaml.safe_load_all(render(values=VALUES[name])) if document)


@pytest.fixture(params=VALUES)
def objects(request: pytest.FixtureRequest) -> tuple[Json, ...]:
    return rendered(request.param)


def of_kind(objects: tuple[Json, ...], *kinds: str) -> Iterator[Json]:
    return (found for found in objects if found["kind"] in kinds)


def one(objects: tuple[Json, ...], kind: str, name: str) -> Json:
    (found,) = (found for found in of_kind(objects, kind) if found["metadata"]["name"] == name)
    return found


def environment(objects: tuple[Json, ...], program: str) -> dict[str, str]:
    """What a program's process is given; the API server fills in what names a field."""
    (container,) = one(objects, "Deployment", f"dbaas-{program}")["spec"]["template"]["spec"]["containers"]
    fields = {"metadata.namespace": "dbaas-system", "metadata.name": "pod"}
    return {
        entry["name"]: entry["value"] if "value" in entry else fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        for entry in container["env"]
    }


def pods(objects: tuple[Json, ...]) -> Iterator[Json]:
    """The spec of every Pod that the chart itself starts."""
    for found in of_kind(objects, "Deployment", "Job"):
        yield found["spec"]["template"]["spec"]
    for found in of_kind(objects, "Pod"):
        yield found["spec"]


def test_helm_finds_no_fault() -> None:
    helm = Settings.from_env(os.environ).bin / "helm"
    argv = [str(helm), "lint", str(CHART), "--strict", "--kube-version", KUBERNETES_VERSION]
    done = subprocess.run(argv, text=True, capture_output=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_chart_has_the_version_of_the_programs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((CHART.parent / "pyproject.toml").read_text("utf-8"))["project"]

    assert chart["name"] == project["name"]
    assert chart["version"] == chart["appVersion"] == project["version"]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"webhok": {}}, "webhok"),
        ({"images": {"registry": "https://registry.example.test"}}, "registry"),
        ({"images": {"job": {"repository": "a", "digest": "latest"}}}, "digest"),
        ({"logLevel": "chatty"}, "logLevel"),
        ({"watchNamespaces": "shop"}, "watchNamespaces"),
        ({"webhook": {"replicas": 0}}, "replicas"),
        ({"jobs": {"ttl": 5}}, "ttl"),
        ({"certificates": {"mode": "none"}}, "mode"),
        ({"endpoints": {"main": {"host": "db"}}}, "endpoints/main"),
        ({"endpoints": [{"name": "main"}]}, "endpoints"),
        ({"classes": {"Postgres": {"driver": "postgres", "operations": {}}}}, "propertyName 'Postgres'"),
        ({"dbms": [{"databaseClassName": "a", "endpoints": [{"name": "b", "dsn": "oracle://db"}]}]}, "dsn"),
        ({"operations": {"keepDays": -1}}, "keepDays"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: Json, fault: str) -> None:
    """A typing error must not be taken for the default."""
    with pytest.raises(ToolError, match=fault):
        render(values=values)


def test_every_value_is_in_the_schema() -> None:
    """Down to the objects that are free in form."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    def missing(node: Json, value: object, path: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["definitions"][node["$ref"].rpartition("/")[2]]
        if node.get("additionalProperties") is not False or not isinstance(value, dict):
            return
        yield from (f"{path}.{name}" for name in set(node["properties"]) ^ set(value))
        for name in set(node["properties"]) & set(value):
            yield from missing(node["properties"][name], value[name], f"{path}.{name}")

    # `global` is Helm's; an issuer is named or not.
    expected = {
        ".global",
        ".certificates.issuerRef.name",
        ".certificates.issuerRef.kind",
        ".certificates.issuerRef.group",
    }

    assert set(missing(schema, values, "")) == expected


def test_every_object_is_ours_and_says_so(objects: tuple[Json, ...]) -> None:
    for found in objects:
        labels = found["metadata"]["labels"]

        assert labels["app.kubernetes.io/part-of"] == "kubernetes-dbaas", found["metadata"]["name"]
        assert found["metadata"].get("namespace", "dbaas-system") in ("dbaas-system", "shop", "bank")


def test_no_object_is_there_twice(objects: tuple[Json, ...]) -> None:
    names = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]

    assert len(names) == len(set(names))


def test_pods_comply_with_the_restricted_standard(objects: tuple[Json, ...]) -> None:
    """Pod Security Standards, "Restricted", and a root file system that cannot be written."""
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(set(volume) - {"name"} <= {"emptyDir", "secret"} for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_programs_are_given_all_that_they_read(objects: tuple[Json, ...]) -> None:
    """What the chart says, each program's own settings understand."""
    WebhookSettings.from_env(environment(objects, "webhook"))
    ControllerSettings.from_env(environment(objects, "controller"))


def test_values_reach_the_programs() -> None:
    objects = rendered("everything else")
    controller = ControllerSettings.from_env(environment(objects, "controller"))

    assert controller.log_level == "debug"
    assert controller.allow_insecure_endpoints
    assert controller.job.labels == {"team": "dba"}
    assert controller.job.node_selector == {"zone": "a"}
    assert controller.job.priority_class_name == "high"
    assert controller.declared_secret == one(objects, "Secret", "dbaas-declared")["metadata"]["name"]
    assert one(objects, "Deployment", "dbaas-controller")["spec"]["replicas"] == 2


def test_images_come_from_a_mirror_by_digest_tag_or_release() -> None:
    objects = rendered("air gap")
    images = {container["image"] for pod in pods(objects) for container in pod["containers"]}
    controller = ControllerSettings.from_env(environment(objects, "controller"))

    assert images == {
        "registry.example.test/mirror/dbaas/webhook@sha256:" + "0" * 64,
        "registry.example.test/mirror/kubernetes-dbaas/controller:0.1.0",
    }
    assert controller.job.image == "registry.example.test/mirror/dbaas/job:1.2"
    assert controller.job.image_pull_secrets == ("mirror", "other")
    assert all(pod["imagePullSecrets"] == [{"name": "mirror"}, {"name": "other"}] for pod in pods(objects))


def test_declarations_are_handed_over_in_one_secret() -> None:
    """A DSN holds a password: it is nowhere else."""
    objects = rendered("earlier operator")
    secret = one(objects, "Secret", "dbaas-declared")

    assert json.loads(base64.b64decode(secret["data"]["declared.json"])) == {
        "dbms": VALUES["earlier operator"]["dbms"],
        "classes": VALUES["earlier operator"]["classes"],
        "endpoints": {},
        "policies": VALUES["earlier operator"]["policies"],
    }
    assert not [found["metadata"]["name"] for found in objects if "p%40ss" in json.dumps(found)]


# Rights


def rules(objects: tuple[Json, ...], *kinds: str) -> Iterator[tuple[str, Json]]:
    for role in of_kind(objects, *kinds):
        for rule in role["rules"]:
            yield role["metadata"]["name"], rule


def test_no_cluster_role_reaches_a_secret(objects: tuple[Json, ...]) -> None:
    """Nor a token, a Pod's inside, another's webhooks, or a right that grants itself."""
    for name, rule in rules(objects, "ClusterRole"):
        assert not {"secrets", "serviceaccounts/token", "pods/exec", "clusterroles", "*"} & set(rule["resources"]) or (
            name == "dbaas-auditor" and set(rule["verbs"]) == {"get", "list", "watch"}
        )
        assert "*" not in rule["verbs"] + rule["apiGroups"]
        assert "impersonate" not in rule["verbs"]
        if "admissionregistration.k8s.io" in rule["apiGroups"]:
            assert rule["resourceNames"] == ["dbaas"]


def test_the_controller_writes_webhook_configurations_only_for_its_own_certificate() -> None:
    """Whoever writes one could have every object of the cluster sent to them; cert-manager makes it needless."""
    for name, expected in (("defaults", True), ("cert-manager", False)):
        resources = {
            r for role, rule in rules(rendered(name), "ClusterRole") for r in rule["resources"] if "controller" in role
        }

        assert ("mutatingwebhookconfigurations" in resources) == expected


def test_rights_on_secrets_end_at_the_operators_namespace(objects: tuple[Json, ...]) -> None:
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            if "secrets" in rule["resources"]:
                assert role["metadata"]["namespace"] == "dbaas-system"
                assert role["metadata"]["name"] == "dbaas-controller" or rule["resourceNames"] == ["dbaas-webhook-tls"]


def test_jobs_may_report_and_nothing_else(objects: tuple[Json, ...]) -> None:
    role = one(objects, "Role", "dbaas-jobs")
    binding = one(objects, "RoleBinding", "dbaas-jobs")

    assert role["rules"] == [{"apiGroups": ["dbaas.bedag.ch"], "resources": ["operations/status"], "verbs": ["patch"]}]
    assert [subject["name"] for subject in binding["subjects"]] == ["system:serviceaccounts:dbaas-system"]


def test_watching_a_few_namespaces_narrows_what_is_granted() -> None:
    objects = rendered("two namespaces")
    everywhere = {binding["roleRef"]["name"] for binding in of_kind(objects, "ClusterRoleBinding")}
    somewhere = {
        (binding["metadata"]["namespace"], binding["roleRef"]["name"])
        for binding in of_kind(objects, "RoleBinding")
        if binding["roleRef"]["kind"] == "ClusterRole"
    }

    # The last one lives as long as `helm uninstall` runs.
    assert everywhere == {"dbaas-controller", "dbaas-webhook", "dbaas-uninstall"}
    assert somewhere == {
        (namespace, f"dbaas-{program}-namespaces")
        for namespace in ("shop", "bank")
        for program in ("controller", "webhook")
    }
    for configuration in of_kind(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in configuration["webhooks"]:
            assert webhook["namespaceSelector"]["matchExpressions"] == [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", "bank"]}
            ]
    assert environment(objects, "webhook")["DBAAS_WATCH_NAMESPACES"] == "shop,bank"


def test_policies_know_the_names_that_operations_get() -> None:
    """The pattern stands in the chart, the names are made in api/."""
    objects = rendered("defaults")
    job = f"system:serviceaccount:dbaas-system:{operation_name('db-' + 'a2' * 13, 12, 3)}"
    (condition,) = one(objects, "ValidatingAdmissionPolicy", "dbaas-secrets")["spec"]["matchConditions"]
    pattern = condition["expression"].partition("matches('")[2].partition("')")[0]

    assert re.fullmatch(pattern, job)


# Admission


def test_the_bundle_is_nobodys_but_the_controllers(objects: tuple[Json, ...]) -> None:
    for configuration in of_kind(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in configuration["webhooks"]:
            assert "caBundle" not in webhook["clientConfig"]
            assert "url" not in webhook["clientConfig"]


def test_webhooks_are_called_for_what_they_judge_and_nothing_else(objects: tuple[Json, ...]) -> None:
    for configuration in of_kind(objects, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in configuration["webhooks"]:
            assert webhook["timeoutSeconds"] == 5
            assert webhook["sideEffects"] == "None"
            assert webhook["matchPolicy"] == "Equivalent"
            assert webhook["matchConditions"]
            assert (webhook["failurePolicy"] == "Ignore") == (webhook["name"] == "unprotected.delete.dbaas.bedag.ch")
            for rule in webhook["rules"]:
                assert rule["apiGroups"] == ["dbaas.bedag.ch"]
                assert not {resource for resource in rule["resources"] if "*" in resource or "/" in resource}


def test_cert_manager_takes_the_certificate_over_when_asked() -> None:
    own = rendered("cert-manager")
    house = rendered("cert-manager with an issuer")
    certificate = one(own, "Certificate", "dbaas-webhook")["spec"]

    assert certificate["secretName"] == environment(own, "webhook")["DBAAS_WEBHOOK_TLS_SECRET"]
    assert certificate["dnsNames"] == ["dbaas-webhook.dbaas-system.svc"]
    assert environment(own, "controller")["DBAAS_CERTIFICATES"] == "cert-manager"
    assert len(list(of_kind(own, "Issuer"))) == 2
    assert list(of_kind(house, "Issuer")) == []
    assert one(house, "Certificate", "dbaas-webhook")["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": "house"}
    for configuration in of_kind(own, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        assert configuration["metadata"]["annotations"] == {
            "cert-manager.io/inject-ca-from": "dbaas-system/dbaas-webhook"
        }


# The rest


def test_switches_switch() -> None:
    on, off = rendered("defaults"), rendered("everything else")

    assert {found["metadata"]["name"] for found in of_kind(on, "NetworkPolicy")} == {
        "dbaas-webhook",
        "dbaas-controller",
        "dbaas-jobs",
    }
    assert len(list(of_kind(on, "CustomResourceDefinition"))) == 6
    assert list(of_kind(on, "ServiceMonitor")) == []
    assert list(of_kind(off, "NetworkPolicy", "CustomResourceDefinition")) == []
    assert one(off, "ServiceMonitor", "dbaas")["metadata"]["labels"]["release"] == "prometheus"


def test_nobody_connects_to_a_job() -> None:
    policy = one(rendered("defaults"), "NetworkPolicy", "dbaas-jobs")["spec"]

    assert policy["podSelector"] == {"matchExpressions": [{"key": LABEL_OPERATION_TYPE, "operator": "Exists"}]}
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy


def test_a_drained_node_takes_one_replica_at_a_time() -> None:
    objects = rendered("defaults")

    assert one(objects, "Deployment", "dbaas-webhook")["spec"]["replicas"] == 2
    for program in ("webhook", "controller"):
        budget = one(objects, "PodDisruptionBudget", f"dbaas-{program}")["spec"]
        deployment = one(objects, "Deployment", f"dbaas-{program}")["spec"]

        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["selector"]
        assert deployment["template"]["spec"]["topologySpreadConstraints"]


def test_notes_say_where_to_go_on() -> None:
    """`helm template` does not render them."""
    notes = (Path(CHART) / "templates" / "NOTES.txt").read_text("utf-8")

    assert "kubectl explain databaseendpoint.spec" in notes
    assert "helm -n {{ .Release.Namespace }} test" in notes
