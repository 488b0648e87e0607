"""What the chart's values declare, over a real API server: applied, kept, and taken away where nothing needs it.

The controller is a real process with the rights that the chart gives it; no webhook judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from api.resources import CLASSES, ENDPOINTS, MUTATING_WEBHOOKS, NAMESPACES, SECRETS, VALIDATING_WEBHOOKS, Resource
from kube.client import Object
from kube.errors import AlreadyExists, Forbidden, Invalid, NotFound
from tests.chart.apiserver import CHART, running_api_server
from tests.e2e.cluster import OPERATOR, eventually
from tests.integration.test_controller_policies import CLASS, Site

pytestmark = pytest.mark.integration

SECONDS = 40
"""That anything here may take."""
DSN = "postgres://operator:secret@pg.example.test/dbaas"
GUARD = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    namespaced=False,
)
GUARD_BINDING = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_api_server() as api:
        api.ask("POST", NAMESPACES.path(), {"metadata": {"name": OPERATOR}})
        api.helm("install", "dbaas", str(CHART), "--namespace", OPERATOR)
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            api.ask("DELETE", resource.path("dbaas"))
        site = Site(api, tmp_path_factory.mktemp("controller"))
        site.controller.start()
        site.controller.wait_leading()
        try:
            yield site
        finally:
            site.controller.stop()


def declare(site: Site, *names: str, **more: Any) -> None:
    """Let the values have one class, and these endpoints in the earlier operator's form."""
    endpoints = [{"name": name, "dsn": DSN} for name in names]
    dbms = [{"databaseClassName": "postgres", "endpoints": endpoints}] if endpoints else []
    document = json.dumps({"classes": {"postgres": CLASS}, "dbms": dbms, **more})
    site.client.patch(SECRETS, "dbaas-declared", {"stringData": {"declared.json": document}}, namespace=OPERATOR)


def found(site: Site, resource: Resource, name: str) -> Object | None:
    namespace = OPERATOR if resource.namespaced else None
    try:
        return site.client.get(resource, name, namespace=namespace)
    except NotFound:
        return None


def account_of(site: Site, endpoint: str) -> str:
    """The name of the Secret that an endpoint logs in with, once both are there."""

    def named() -> str:
        there = found(site, ENDPOINTS, endpoint)
        name: str = there["spec"]["credentialsSecretRef"]["name"] if there else ""
        return name if name and found(site, SECRETS, name) else ""

    return eventually(named, f"{endpoint} and its account are there", SECONDS)


def stays(site: Site, name: str) -> bool:
    """Whether a class of this name, which nobody has declared, cannot be deleted."""
    with suppress(AlreadyExists):
        site.client.create(CLASSES, {"metadata": {"name": name}, "spec": CLASS})
    try:
        site.client.delete(CLASSES, name)
    except (Forbidden, Invalid):
        return True
    return False


def failing(number: float) -> str:
    """What the metrics say of the declarations."""
    return f'dbaas_chore_failing{{chore="declarations"}} {number:.1f}'


def host_of(site: Site, endpoint: str) -> str:
    return str(site.client.get(ENDPOINTS, endpoint)["spec"]["host"])


def test_what_is_declared_comes_back_when_somebody_deletes_or_changes_it(site: Site) -> None:
    declare(site, "main")
    account = account_of(site, "main")
    site.client.delete(ENDPOINTS, "main")
    eventually(lambda: found(site, ENDPOINTS, "main"), "the endpoint is there again", SECONDS)
    site.client.patch(ENDPOINTS, "main", {"spec": {"host": "elsewhere.example.test"}})
    eventually(lambda: host_of(site, "main") == "pg.example.test", "its host is the declared one again", SECONDS)
    site.client.delete(SECRETS, account, namespace=OPERATOR)
    eventually(lambda: found(site, SECRETS, account), "its account is there again", SECONDS)
    site.client.delete(CLASSES, "postgres")

    assert eventually(lambda: found(site, CLASSES, "postgres"), "the class is there again", SECONDS)


def test_an_endpoint_that_cannot_go_keeps_its_account(site: Site) -> None:
    """As the webhook refuses it for what is in use; its databases are to be deleted with that account yet."""
    declare(site, "main", "busy")
    account = account_of(site, "busy")
    rule = {"apiGroups": ["dbaas.bedag.ch"], "apiVersions": ["*"], "resources": ["*"], "operations": ["DELETE"]}
    guard = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "request.name != 'busy'", "message": "is in use"}],
    }
    site.client.create(GUARD, {"metadata": {"name": "busy"}, "spec": guard})
    binding = {"policyName": "busy", "validationActions": ["Deny"]}
    site.client.create(GUARD_BINDING, {"metadata": {"name": "busy"}, "spec": binding})
    eventually(lambda: stays(site, "busy"), "the guard is in force", SECONDS)
    declare(site, "main", "spare")
    account_of(site, "spare")
    eventually(lambda: "'busy' is declared no more" in site.controller.log, "the refusal is told", SECONDS)
    kept = found(site, SECRETS, account)
    site.client.delete(GUARD_BINDING, "busy")
    site.client.delete(GUARD, "busy")
    eventually(lambda: not stays(site, "busy"), "the guard is gone", SECONDS)

    assert kept
    eventually(lambda: not found(site, ENDPOINTS, "busy"), "it goes once it can", SECONDS)
    eventually(lambda: not found(site, SECRETS, account), "and its account with it", SECONDS)


def test_an_endpoint_that_is_declared_twice_is_told_and_changes_nothing(site: Site) -> None:
    declare(site, "main")
    account_of(site, "main")
    spec = {"className": "postgres", "host": "other.example.test", "credentialsSecretRef": {"name": "other"}}
    declare(site, "main", endpoints={"main": spec})
    eventually(lambda: "DatabaseEndpoint 'main' is declared twice" in site.controller.log, "it is told", SECONDS)
    metrics = site.controller.metrics
    declare(site, "main")
    eventually(lambda: failing(0) in site.controller.metrics, "what was wrong is mended", SECONDS)

    assert failing(1) in metrics
    assert host_of(site, "main") == "pg.example.test"
