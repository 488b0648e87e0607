"""`python -m webhook check` beside the API server: the same manifests, spoilt in every place, and the same verdict."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from api.resources import CLASSES, DATABASES, ENDPOINTS, POLICIES
from tests.chart.apiserver import ApiServer, running_api_server
from tests.integration.test_webhook_admission import wait_until_called
from tests.webhook.builders import database_class, endpoint, policy
from tests.webhook.running import install, running_webhook
from webhook.documents import Document
from webhook.offline import Inspection, Requester

pytestmark = pytest.mark.integration

Json = dict[str, Any]
SEED, CASES = 4711, 250
"""Of each kind."""
NAME = "{{ .Metadata.namespace }}_{{ .Metadata.name }}"
META: Json = {"name": "a", "labels": {"team": "x"}, "annotations": {"n": "v"}, "finalizers": ["example.com/a"]}
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
SIZE: Json = {"description": "d", "enum": ["s", "m"], "default": "s", "pattern": "^[a-z]+$", "maxLength": 3}
SELECTOR: Json = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}
WHOLE: dict[str, Json] = {
    DATABASES.kind: {
        "metadata": {**META, "namespace": "shop", "ownerReferences": [OWNER]},
        "spec": {
            "endpoint": "pg",
            "params": {"size": "s"},
            "deletionPolicy": "Delete",
            "deletionProtection": True,
            "rotation": {"every": "720h"},
        },
    },
    CLASSES.kind: {
        "metadata": META,
        "spec": {
            "driver": "postgres",
            "identity": NAME,
            "deletionPolicy": "Delete",
            "credentials": ["password"],
            "retry": {"limit": 3, "backoff": "10s"},
            "secretFormat": {"password": "{{ .Result.password }}"},
            "params": {"size": SIZE},
            "operations": {
                "create": {"name": "a.b", "timeout": "60s", "inputs": {"n": NAME, "s": "{{ .Params.size }}"}},
                "delete": {"name": "a.c", "inputs": {"n": NAME}},
            },
        },
    },
    ENDPOINTS.kind: {
        "metadata": META,
        "spec": {
            "className": "standard",
            "host": "pg.example.test",
            "port": 5432,
            "database": "db",
            "credentialsSecretRef": {"name": "account"},
            "tls": {"mode": "VerifyFull", "caSecretRef": {"name": "ca"}, "minimumVersion": "1.3"},
            "allowedNamespaces": {"from": "Selector", "selector": SELECTOR},
            "probe": {"every": "5m"},
        },
    },
    POLICIES.kind: {
        "metadata": META,
        "spec": {
            "enforcement": "Warn",
            "match": {"namespaceSelector": SELECTOR, "endpoints": ["pg"], "operations": ["CREATE"], "users": ["u"]},
            "allowedEndpoints": ["pg"],
            "params": {"size": {"enum": ["s"], "pattern": "^s$", "default": "s"}, "tier": {"forbidden": True}},
            "quota": {"perNamespace": 1},
            "rotation": {"maxAge": "24h"},
            "validations": [{"expression": "true", "message": "m", "fieldPath": "spec.params"}],
        },
    },
}
SPOILT: list[Any] = [
    *(None, "", 0, -1, 1.5, 2**63, True, [], {}, [None], [""], {"a": None}, {"a": 1}, {"": "x"}, {"a": "b"}),
    *("x" * 70, "ä", "A b", "a\nb", "😀", "30d", "0s", "59m", "99999999h", "{{ .Params.nope }}", "{{ .Metadata.name"),
    *("(a", "h:5432", "-a", "s", ["a", "a"], {"0": "x", "a": "y"}, [{"operator": "Exists"}], "object.spec.nope == 1"),
]
RULES: Json = {"params": {"size": {"enum": ["s", "m"], "default": "m"}}, "adoption": "Forbidden"}
LIVED_IN = [database_class(params={"size": SIZE}), endpoint(), policy(**RULES)]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a manifest, and one beside each field that is none."""
    if isinstance(value, dict):
        yield (*path, "nope")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def spoilt(kind: str) -> list[Json]:
    """Manifests of a kind, each wrong (or not) in one place."""
    whole: Json = {"apiVersion": DATABASES.api_version, "kind": kind, **WHOLE[kind]}
    fixed = {("apiVersion",), ("kind",), ("metadata",), ("metadata", "namespace"), ("metadata", "name")}
    found = []
    for path in places(whole):
        for value in SPOILT if path not in fixed else ():
            manifest = copy.deepcopy(whole)
            part = manifest
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
            found.append(manifest)
    return random.Random(SEED).sample(found, CASES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api_server() as server:
        install(server, "shop")
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            for resource, manifest in zip((CLASSES, ENDPOINTS, POLICIES), LIVED_IN, strict=True):
                made = server.ask("POST", resource.path(), manifest)
                assert made.accepted, made.message
            yield server


@pytest.mark.parametrize("resource", [DATABASES, CLASSES, ENDPOINTS, POLICIES], ids=lambda resource: resource.kind)
def test_the_check_refuses_what_the_api_server_refuses_and_nothing_else(server: ApiServer, resource: Any) -> None:
    path = resource.path(namespace="shop" if resource.namespaced else None) + "?dryRun=All&fieldValidation=Strict"
    existing = [Document("world", number, 1, manifest) for number, manifest in enumerate(LIVED_IN)]
    differing = []
    for manifest in spoilt(resource.kind):
        answer = server.ask("POST", path, manifest)
        inspection = Inspection(Requester("administrator", ("system:masters",)))
        inspection.know(existing)
        (finding,) = inspection.judge([Document("one", 1, 1, manifest)])

        assert answer.status < 500, (manifest, answer.message)
        if finding.accepted != answer.accepted:
            differing.append((manifest, answer.message, finding.faults))

    assert differing == []
