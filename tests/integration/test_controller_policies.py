"""The controller and DatabasePolicies over a real API server: how many claims there are, whatever happens.

The controller is a real process with the rights that the chart gives it. Nothing runs its Jobs, and no webhook judges.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.labels import ABANDON, LABEL_ENDPOINT_CREDENTIALS
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    EVENTS,
    INSTANCES,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    POLICIES,
    SECRETS,
    SERVICE_ACCOUNTS,
    VALIDATING_WEBHOOKS,
)
from kube.client import Client, Object
from tests.chart.apiserver import CHART, ApiServer, running_api_server
from tests.e2e.cluster import DEPLOYMENTS, OPERATOR, eventually
from tests.e2e.controllers import POD, Controller, environment_of
from tests.servers.programs import free_port

pytestmark = pytest.mark.integration

Json = dict[str, Any]
NAME = "{{ .Metadata.namespace }}-{{ .Metadata.name }}"
CLASS = {
    "driver": "postgres",
    "identity": NAME,
    "operations": {kind: {"name": f"{kind}_db", "inputs": {"name": NAME}} for kind in ("create", "delete")},
}


class Site:
    """An API server with the chart in it, and a controller that a test may kill and start."""

    def __init__(self, api: ApiServer, folder: Path, **environment: str) -> None:
        configuration = Configuration()
        config.load_kube_config(config_file=str(api.kubeconfig), client_configuration=configuration)
        self.client = Client(configuration)
        self.controller = Controller({**self._environment(api, folder), **environment}, folder / "controller.log")

    def _environment(self, api: ApiServer, folder: Path) -> dict[str, str]:
        path = SERVICE_ACCOUNTS.path("dbaas-controller", namespace=OPERATOR, subresource="token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        kubeconfig = yaml.safe_load(api.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": api.ask("POST", path, request).body["status"]["token"]}
        (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        deployed = self.client.get(DEPLOYMENTS, "dbaas-controller", namespace=OPERATOR)
        return {
            **environment_of(deployed),
            "DBAAS_NAMESPACE": OPERATOR,
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DBAAS_POD_NAME": POD,
            "DBAAS_METRICS_PORT": str(free_port()),
        }

    def namespace(self, name: str, **labels: str) -> str:
        self.client.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
        return name

    def policy(self, name: str, **spec: Any) -> None:
        match = {"namespaceSelector": {"matchLabels": {"policy": name}}}
        self.client.create(POLICIES, {"metadata": {"name": name}, "spec": {"match": match, **spec}})

    def create(self, namespace: str, name: str, **spec: Any) -> None:
        manifest = {"metadata": {"name": name, "namespace": namespace}, "spec": {"endpoint": "main", **spec}}
        self.client.create(DATABASES, manifest)

    def create_at_once(self, namespace: str, count: int) -> None:
        threads = [threading.Thread(target=self.create, args=(namespace, f"db-{number}")) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    def databases(self, namespace: str) -> list[Object]:
        return self.client.list(DATABASES, namespace=namespace)[0]

    def condition(self, namespace: str, name: str, kind: str = "Ready") -> Json:
        database = self.client.get(DATABASES, name, namespace=namespace)
        conditions = database["status"].get("conditions") or ()
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def claims(self, namespace: str) -> list[str]:
        """Names of the Databases that have one."""
        instances = self.client.list(INSTANCES)[0]
        refs = [instance["spec"].get("claimRef") or {} for instance in instances]
        return sorted(ref["name"] for ref in refs if ref.get("namespace") == namespace)

    def waiting(self, namespace: str) -> list[str]:
        conditions = {
            each["metadata"]["name"]: {c["reason"] for c in each["status"].get("conditions") or ()}
            for each in self.databases(namespace)
        }
        return sorted(name for name, reasons in conditions.items() if "QuotaExceeded" in reasons)

    def wait_claims(self, namespace: str, claims: int, waiting: int) -> None:
        def settled() -> bool:
            assert (len(self.claims(namespace)), len(self.waiting(namespace))) == (claims, waiting)
            return True

        eventually(settled, f"{claims} of the Databases have a claim, {waiting} wait", 40)

    def stop_evaluator(self) -> None:
        """Have the controller's next question to its policies unanswered."""
        tasks = Path(f"/proc/{self.controller.pid}/task").glob("*/children")
        children = [pid for task in tasks for pid in task.read_text().split()]
        [evaluator] = [pid for pid in children if b"policy.evaluator" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(evaluator), signal.SIGSTOP)

    def give_up(self, namespace: str, name: str) -> None:
        """Delete a Database whose Job nobody runs."""
        patch = {"metadata": {"annotations": {ABANDON: "true"}}}
        self.client.patch(DATABASES, name, patch, namespace=namespace)
        self.client.delete(DATABASES, name, namespace=namespace)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_api_server() as api:
        api.ask("POST", NAMESPACES.path(), {"metadata": {"name": OPERATOR}})
        api.helm("install", "dbaas", str(CHART), "--namespace", OPERATOR)
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            api.ask("DELETE", resource.path("dbaas"))
        site = Site(api, tmp_path_factory.mktemp("controller"))
        metadata = {"name": "account", "namespace": OPERATOR, "labels": {LABEL_ENDPOINT_CREDENTIALS: "true"}}
        site.client.create(SECRETS, {"metadata": metadata, "stringData": {"username": "a", "password": "b"}})
        site.client.create(CLASSES, {"metadata": {"name": "postgres"}, "spec": CLASS})
        spec: Json = {"className": "postgres", "host": "pg.example.test", "credentialsSecretRef": {"name": "account"}}
        spec |= {"maxConcurrentJobs": 100, "probe": {"every": "0s"}}
        site.client.create(ENDPOINTS, {"metadata": {"name": "main"}, "spec": spec})
        site.controller.start()
        site.controller.wait_leading()
        try:
            yield site
        finally:
            site.controller.stop()


def test_of_databases_created_at_once_exactly_as_many_as_the_quota_allows_get_a_claim(site: Site) -> None:
    site.policy("few", quota={"perNamespace": 3})
    site.namespace("crowd", policy="few")
    site.create_at_once("crowd", 12)
    site.wait_claims("crowd", 3, 9)

    message = site.condition("crowd", site.waiting("crowd")[0])["message"]
    assert message.startswith('metadata.namespace: DatabasePolicy "few" allows 3 Databases in namespace "crowd"')


def test_room_goes_to_who_waits_as_soon_as_there_is_some(site: Site) -> None:
    site.policy("pair", quota={"perNamespace": 2})
    site.namespace("queue", policy="pair")
    for name in ("a", "b", "c", "d"):
        site.create("queue", name)
    site.wait_claims("queue", 2, 2)
    first = site.claims("queue")
    site.give_up("queue", first[0])
    site.wait_claims("queue", 2, 1)
    site.client.patch(POLICIES, "pair", {"spec": {"quota": {"perNamespace": 3}}})
    site.wait_claims("queue", 3, 0)

    assert first[1] in site.claims("queue")


def test_a_controller_that_is_killed_while_it_claims_exceeds_no_quota(site: Site) -> None:
    site.policy("hard", quota={"perEndpoint": 4})
    for name in ("rough-a", "rough-b"):
        site.namespace(name, policy="hard")
    crowds = [threading.Thread(target=site.create_at_once, args=(name, 8)) for name in ("rough-a", "rough-b")]
    for crowd in crowds:
        crowd.start()
    for _ in range(3):
        before = sum(len(site.claims(name)) for name in ("rough-a", "rough-b"))
        site.controller.kill()
        site.controller.start()
        site.controller.wait_leading()
        assert before <= 4
    for crowd in crowds:
        crowd.join(30)

    def settled() -> bool:
        claims = [name for namespace in ("rough-a", "rough-b") for name in site.claims(namespace)]
        waiting = [name for namespace in ("rough-a", "rough-b") for name in site.waiting(namespace)]
        assert (len(claims), len(waiting)) == (4, 12)
        return True

    eventually(settled, "4 of the 16 have a claim, the others wait", 60)


def test_a_policy_that_changed_is_told_by_condition_and_event_and_takes_nothing(site: Site) -> None:
    site.policy("sizes", params={"size": {"maxLength": 9}})
    site.namespace("sized", policy="sizes")
    site.create("sized", "shop", params={"size": "large"})
    eventually(lambda: site.claims("sized") == ["shop"], "it has its claim")
    eventually(lambda: site.condition("sized", "shop", "PolicyCompliant").get("status") == "True", "it is compliant")
    site.client.patch(POLICIES, "sizes", {"spec": {"params": {"size": {"enum": ["small"]}}}})
    eventually(lambda: site.condition("sized", "shop", "PolicyCompliant").get("status") == "False", "it is not")
    told = site.condition("sized", "shop", "PolicyCompliant")

    def events() -> list[str]:
        found = site.client.list(EVENTS, namespace="sized")[0]
        return [event["reason"] for event in found if event["reason"] in ("PolicyViolated", "Compliant")]

    eventually(lambda: events() == ["PolicyViolated"], "an Event tells it")
    site.client.delete(POLICIES, "sizes")
    eventually(lambda: site.condition("sized", "shop", "PolicyCompliant") == {}, "nothing is said without a policy")

    assert told["reason"] == "PolicyViolated"
    assert 'spec.params.size: DatabasePolicy "sizes" allows only "small"; choose one of them' in told["message"]
    assert site.claims("sized") == ["shop"]


def test_an_answer_that_came_too_late_is_no_violation(site: Site) -> None:
    """It is asked for again: only what it says then is told."""
    rule = {
        "expression": "!has(object.metadata.labels) || object.metadata.labels.size != 'huge'",
        "message": "too large",
    }
    site.policy("prompt", validations=[rule])
    site.namespace("slow", policy="prompt")
    site.create("slow", "shop")
    eventually(lambda: site.condition("slow", "shop", "PolicyCompliant").get("status") == "True", "it is compliant")
    site.stop_evaluator()
    site.client.patch(DATABASES, "shop", {"metadata": {"labels": {"size": "huge"}}}, namespace="slow")
    eventually(lambda: site.condition("slow", "shop", "PolicyCompliant").get("status") == "False", "it is told")

    def notes() -> list[str]:
        found = site.client.list(EVENTS, namespace="slow")[0]
        return [event["note"] for event in found if event["reason"] == "PolicyViolated"]

    [note] = eventually(notes, "an Event tells it")
    assert note == site.condition("slow", "shop", "PolicyCompliant")["message"]
    assert 'DatabasePolicy "prompt" too large' in note


def test_a_namespace_that_was_relabelled_is_judged_by_its_labels_of_now(site: Site) -> None:
    site.policy("strict", allowedEndpoints=["spare"])
    site.namespace("moved")
    site.create("moved", "early")
    eventually(lambda: site.claims("moved") == ["early"], "it has its claim")
    site.client.patch(NAMESPACES, "moved", {"metadata": {"labels": {"policy": "strict"}}})
    eventually(lambda: site.condition("moved", "early", "PolicyCompliant").get("status") == "False", "it is told")
    site.create("moved", "late")
    eventually(lambda: site.condition("moved", "late").get("reason") == "PolicyViolated", "the late one is held back")

    assert site.claims("moved") == ["early"]


def test_policies_that_values_declare_are_applied_and_go_away_with_them(site: Site) -> None:
    def declare(**policies: Any) -> None:
        document = json.dumps({"policies": policies})
        site.client.patch(SECRETS, "dbaas-declared", {"stringData": {"declared.json": document}}, namespace=OPERATOR)

    def specs() -> dict[str, Any]:
        found = site.client.list(POLICIES, labels="dbaas.bedag.ch/declared-by=dbaas")[0]
        return {each["metadata"]["name"]: each["spec"].get("quota") for each in found}

    declare(small={"quota": {"perNamespace": 50}}, large={"quota": {"perEndpoint": 500}})
    eventually(lambda: specs() == {"small": {"perNamespace": 50}, "large": {"perEndpoint": 500}}, "both are there")
    declare(small={"quota": {"perNamespace": 60}})
    eventually(lambda: specs() == {"small": {"perNamespace": 60}}, "one was changed, one is gone")
    declare()
    eventually(lambda: specs() == {}, "none is left")
