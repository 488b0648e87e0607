"""Getting around admission: a tenant who may do no more than edit Databases tries, and a table says what came of it.

API server, webhook and controller are real and have the rights that the chart gives them. `pytest -s` prints the table.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from api.binding import secret_name
from api.labels import ABANDON, ADOPT, CONFIRM_DELETE, FINALIZER, LABEL_ENDPOINT_CREDENTIALS, REQUESTED_BY, ROTATE
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    INSTANCES,
    NAMESPACES,
    OPERATIONS,
    POLICIES,
    ROLE_BINDINGS,
    SECRETS,
)
from api.stamp import Stamp
from tests.chart.apiserver import TOKEN, Answer, ApiServer, running_api_server
from tests.e2e.cluster import OPERATOR
from tests.integration.test_controller_policies import Site
from tests.integration.test_webhook_admission import wait_until_called
from tests.webhook.builders import database_class, endpoint, policy
from tests.webhook.running import eventually, install, running_webhook

pytestmark = pytest.mark.integration

Json = dict[str, Any]
MALLORY = "mallory"
OWN, THEIRS = "shop", "bank"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
DYING = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
HELD = "mallory.example.test/held"
RULES: Json = {
    "match": {"namespaceSelector": {"matchLabels": {"env": "prod"}}},
    "allowedEndpoints": ["pg", "shared"],
    "params": {"size": {"enum": ["small", "large"]}, "owner": {"pattern": "^[a-z]+$"}},
    "deletionProtection": "Required",
    "adoption": "Forbidden",
    "validations": [
        {"expression": "object.metadata.name.endsWith('-db')", "message": "call it …-db"},
        {"expression": "!('exempt' in object.metadata.?labels.orValue({}))", "message": "nobody is exempt"},
    ],
}


@dataclass
class Tenant:
    """Mallory, who may edit Databases in one namespace, and what is there to attack."""

    server: ApiServer
    site: Site
    rows: list[tuple[str, str]] = field(default_factory=list)

    # What Mallory can send.

    def create(self, name: str = "new-db", *, dry: bool = True, query: str = "", **changes: Any) -> Answer:
        """POST a Database, as a dry run unless said otherwise."""
        path = DATABASES.path(namespace=OWN) + ("?dryRun=All" if dry else "?") + query
        return self.server.ask("POST", path, manifest(name, **changes), MALLORY)

    def patch(self, body: Any, kind: str = MERGE, name: str = "own-db", subresource: str = "") -> Answer:
        path = DATABASES.path(name, namespace=OWN, subresource=subresource)
        return self.server.ask("PATCH", path, body, MALLORY, kind)

    def put(self, change: Callable[[Json], Any], subresource: str = "") -> Answer:
        """GET, change, PUT."""
        body = self.get()
        change(body)
        return self.server.ask("PUT", DATABASES.path("own-db", namespace=OWN, subresource=subresource), body, MALLORY)

    def raw(self, text: str, query: str = "") -> Answer:
        """POST a Database that no JSON library would write."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Impersonate-User": MALLORY}
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self.server.trust, timeout=30)
        try:
            connection.request("POST", DATABASES.path(namespace=OWN) + f"?dryRun=All{query}", text.encode(), headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Json | None = None) -> Answer:
        return self.server.ask(method, path, body, MALLORY)

    # What there is.

    def get(self, name: str = "own-db") -> Json:
        return self.server.ask("GET", DATABASES.path(name, namespace=OWN)).body

    def annotation(self, key: str) -> str | None:
        found: Json = self.get()["metadata"].get("annotations") or {}
        return found.get(key)

    def requester(self) -> str:
        return Stamp.read(self.annotation(REQUESTED_BY) or "").user


def manifest(name: str, **changes: Any) -> Json:
    metadata = {"name": name, **changes.pop("metadata", {})}
    spec = {"endpoint": "pg", "deletionProtection": True, "params": {"size": "small"}, **changes}
    return {"apiVersion": DATABASES.api_version, "kind": DATABASES.kind, "metadata": metadata, "spec": spec}


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    with running_api_server() as server:
        install(server, OWN, THEIRS)
        server.merge(NAMESPACES.path(OWN), {"metadata": {"labels": {"env": "prod"}}})
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            # The webhook has a certificate already, for this machine's own address.
            site = Site(server, tmp_path_factory.mktemp("controller"), DBAAS_CERTIFICATES="cert-manager")
            tenant = Tenant(server, site)
            furnish(tenant)
            site.controller.start()
            try:
                site.controller.wait_leading()
                eventually(lambda: site.claims(OWN) == ["own-db"] and site.claims(THEIRS) == ["acme-db"])
                yield tenant
            finally:
                site.controller.stop()
    print()
    for what, happened in tenant.rows:
        print(f"{what:68} {happened}")


def furnish(tenant: Tenant) -> None:
    """Endpoints, a policy, the victim's Database, Mallory's own, and Mallory's one right."""
    client, server = tenant.site.client, tenant.server
    metadata = {"name": "pg-admin", "namespace": OPERATOR, "labels": {LABEL_ENDPOINT_CREDENTIALS: "true"}}
    client.create(SECRETS, {"metadata": metadata, "stringData": {"username": "a", "password": "b"}})
    by_name = database_class("by-name", identity="{{ .Metadata.name }}")
    for resource, body in (
        (CLASSES, database_class()),
        (CLASSES, by_name),
        (ENDPOINTS, endpoint()),
        (ENDPOINTS, endpoint("shared", className="by-name", host="shared.example.test")),
        (ENDPOINTS, endpoint("gold", host="gold.example.test")),
        (POLICIES, policy(**RULES)),
    ):
        client.create(resource, body)
    binding = {
        "metadata": {"name": "mallory"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "dbaas-edit"},
        "subjects": [{"kind": "User", "name": MALLORY, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    assert server.ask("POST", ROLE_BINDINGS.path(namespace=OWN), binding).accepted
    eventually(lambda: not tenant.create("misnamed").accepted and "rules" in tenant.create("misnamed").message)
    victim = server.ask("POST", DATABASES.path(namespace=THEIRS), manifest("acme-db", endpoint="shared"))
    own = tenant.create("own-db", dry=False)
    assert (victim.status, own.status) == (201, 201), victim.message + own.message


def said(answer: Answer) -> str:
    """An answer in one line."""
    if answer.accepted:
        return f"{answer.status} accepted"
    causes = (answer.body.get("details") or {}).get("causes") or ()
    text = "; ".join(f"{cause.get('field', '')}: {cause['message']}" for cause in causes) or answer.message
    return f"{answer.status} {text}".replace("\n", " ")


Try = Callable[[Tenant], str]


def no_change(act: Callable[[Tenant], Answer], look: Callable[[Tenant], object]) -> Try:
    """Accepted, and without effect on what `look` sees."""

    def attempt(tenant: Tenant) -> str:
        before = look(tenant)
        answer = act(tenant)
        after = look(tenant)

        assert after == before
        return f"{said(answer)}, and nothing of it stays"

    return attempt


def stored(answer: Answer, *path: str) -> str:
    found: Any = answer.body
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return f"{said(answer)}, stored is {json.dumps(found)}"


def patched(spec: Json) -> Json:
    return {"spec": spec}


def annotated(key: str, value: str | None) -> Json:
    return {"metadata": {"annotations": {key: value}}}


def doubled(first: str, last: str) -> str:
    text = json.dumps(manifest("new-db"))
    return text.replace('"endpoint": "pg"', f'"endpoint": "{first}", "endpoint": "{last}"')


def relabelled(tenant: Tenant) -> str:
    """A namespace without the label, which gets it between admission and the controller's look."""
    site, name = tenant.site, "moving"
    site.controller.kill()
    site.namespace(name)
    made = tenant.server.ask("POST", DATABASES.path(namespace=name), manifest("late", endpoint="gold"))
    tenant.server.merge(NAMESPACES.path(name), {"metadata": {"labels": {"env": "prod"}}})
    site.controller.start()
    eventually(lambda: site.condition(name, "late").get("reason") == "PolicyViolated")

    assert site.claims(name) == []
    return f"{said(made)}, then held back: PolicyViolated, nothing claimed"


def templated(tenant: Tenant) -> str:
    value = "{{ .Endpoint.host }}{{ .Generated.password }}"
    tenant.create("template-db", dry=False, params={"size": "small", "note": value})
    eventually(lambda: "template-db" in tenant.site.claims(OWN))
    instances = tenant.site.client.list(INSTANCES)[0]
    [found] = [each for each in instances if (each["spec"].get("claimRef") or {}).get("name") == "template-db"]

    assert "pg.example.test" not in json.dumps(found["spec"]["operations"])
    return "201 accepted, and a value is a value: nothing of it was rendered"


def padded(tenant: Tenant) -> str:
    """Expressions see so much of an object; an update brings it twice."""
    name = "padded-db"
    made = tenant.create(name, dry=False, metadata={"annotations": {"padding": "x" * 100_000}})
    longer = tenant.patch({"metadata": {"labels": {"exempt": "a"}, "annotations": {"more": "x" * 100_000}}}, name=name)
    answer = tenant.patch({"metadata": {"labels": {"exempt": "a"}}}, name=name)

    assert made.accepted, made.message
    return f"{said(longer)}; {said(answer)}"


def dying(tenant: Tenant) -> str:
    """A Database under deletion is not judged by the webhook any more: what could be smuggled in then?"""
    name, path = "dying-db", DATABASES.path("dying-db", namespace=OWN)
    tenant.create(name, dry=False, metadata={"finalizers": [HELD]})
    confirmed = {**annotated(CONFIRM_DELETE, name), **patched({"deletionProtection": False})}
    tenant.patch(confirmed, name=name)
    deleted = tenant.ask("DELETE", path)
    moved = tenant.patch(patched({"endpoint": "gold"}), name=name)
    abandoned = tenant.patch(annotated(ABANDON, "true"), name=name)
    dropped = tenant.patch(patched({"deletionPolicy": "Delete"}), name=name)
    revived = tenant.patch({"metadata": {"deletionTimestamp": None}}, name=name)
    dead = "deletionTimestamp" in tenant.get(name)["metadata"]
    tenant.patch({"metadata": {"finalizers": None}}, name=name)

    assert deleted.accepted, deleted.message
    assert dead
    answers = {"endpoint": moved, "abandon": abandoned, "Delete, not Retain": dropped, "revival": revived}
    return ", ".join(f"{what}: {said(answer)[:3]}" for what, answer in answers.items()) + " and dead"


def crowded(tenant: Tenant) -> str:
    """`creationTimestamp` decides who comes first under a quota."""
    answer = tenant.create(metadata={"creationTimestamp": "2001-01-01T00:00:00Z"})

    assert str(datetime.now(UTC).year) in answer.body["metadata"]["creationTimestamp"]
    return f"{said(answer)}, the API server sets its own"


ATTEMPTS: dict[str, tuple[Try, str]] = {
    # Verbs and patch types.
    "create on a forbidden endpoint": (lambda t: said(t.create(endpoint="gold")), "allows only pg, shared"),
    "create by server-side apply": (
        lambda t: said(
            t.server.apply(
                DATABASES.path("applied-db", namespace=OWN), manifest("applied-db", endpoint="gold"), MALLORY
            )
        ),
        "allows only pg, shared",
    ),
    "create by PUT": (
        lambda t: said(t.ask("PUT", DATABASES.path("put-db", namespace=OWN), manifest("put-db", endpoint="gold"))),
        "404",
    ),
    "merge patch of an immutable field": (
        lambda t: said(t.patch(patched({"endpoint": "shared"}))),
        "cannot be changed",
    ),
    "JSON patch of an immutable field": (
        lambda t: said(t.patch([{"op": "replace", "path": "/spec/params/size", "value": "large"}], JSON_PATCH)),
        "cannot be changed",
    ),
    "protection off by merge patch": (
        lambda t: said(t.patch(patched({"deletionProtection": None}))),
        "requires it; set it to true",
    ),
    "protection off by JSON patch": (
        lambda t: said(t.patch([{"op": "remove", "path": "/spec/deletionProtection"}], JSON_PATCH)),
        "requires it; set it to true",
    ),
    "protection off by strategic merge patch": (
        lambda t: said(t.patch(patched({"deletionProtection": False}), STRATEGIC)),
        "415",
    ),
    "protection off by forced server-side apply": (
        lambda t: said(
            t.server.apply(
                DATABASES.path("own-db", namespace=OWN), manifest("own-db", deletionProtection=False), MALLORY
            )
        ),
        "requires it; set it to true",
    ),
    "protection off by PUT": (
        lambda t: said(t.put(lambda body: body["spec"].pop("deletionProtection"))),
        "requires it; set it to true",
    ),
    "protection off, confirming another name": (
        lambda t: said(
            t.patch({**patched({"deletionProtection": False}), **annotated(CONFIRM_DELETE, "other-db")}),
        ),
        "requires it; set it to true",
    ),
    "no protection at creation, confirming its deletion there": (
        lambda t: said(t.create(deletionProtection=False, metadata={"annotations": {CONFIRM_DELETE: "new-db"}})),
        "requires it; set it to true",
    ),
    "delete what is protected": (
        lambda t: said(t.ask("DELETE", DATABASES.path("own-db", namespace=OWN))),
        "protects it from deletion",
    ),
    "deletecollection": (
        lambda t: (
            said(t.ask("DELETE", DATABASES.path(namespace=OWN))) + f", still there: {t.get()['metadata']['name']}"
        ),
        "protects it from deletion",
    ),
    "replace --force (a DELETE, then a POST)": (
        lambda t: said(t.ask("DELETE", DATABASES.path("own-db", namespace=OWN) + "?gracePeriodSeconds=0")),
        "protects it from deletion",
    ),
    "ownerReferences, so that the garbage collector deletes it": (
        lambda t: (
            said(t.patch({"metadata": {"ownerReferences": [OWNER]}}))
            + ", then the collector: "
            + said(t.server.ask("DELETE", DATABASES.path("own-db", namespace=OWN), user=COLLECTOR))
        ),
        "then the collector: 422 spec.deletionProtection: protects it",
    ),
    # Subresources and metadata.
    "PATCH status": (lambda t: said(t.patch({"status": {"instance": "db-x"}}, subresource="status")), "403"),
    "PUT status": (lambda t: said(t.put(lambda body: body.update(status={}), "status")), "403"),
    "another subresource": (lambda t: said(t.patch({"spec": {"replicas": 0}}, subresource="scale")), "40"),
    "status by an ordinary PUT": (
        no_change(
            lambda t: t.put(lambda b: b.update(status={"instance": "x"})), lambda t: t.get()["status"].get("instance")
        ),
        "nothing of it stays",
    ),
    "the finalizer taken off by merge patch": (
        no_change(lambda t: t.patch({"metadata": {"finalizers": None}}), lambda t: t.get()["metadata"]["finalizers"]),
        "nothing of it stays",
    ),
    "the finalizer taken off by JSON patch": (
        no_change(
            lambda t: t.patch([{"op": "remove", "path": "/metadata/finalizers/0"}], JSON_PATCH),
            lambda t: FINALIZER in t.get()["metadata"]["finalizers"],
        ),
        "nothing of it stays",
    ),
    "a forged stamp by merge patch": (
        no_change(lambda t: t.patch(annotated(REQUESTED_BY, "root")), Tenant.requester),
        "nothing of it stays",
    ),
    "the stamp taken away by PUT": (
        no_change(lambda t: t.put(lambda body: body["metadata"].pop("annotations")), Tenant.requester),
        "nothing of it stays",
    ),
    "a deletionTimestamp, so that nobody judges": (
        lambda t: said(t.put(lambda b: b["metadata"].update(DYING) or b["spec"].update(deletionProtection=False))),
        "42",
    ),
    "an old creationTimestamp, to come first": (crowded, "sets its own"),
    "another namespace in the body than in the path": (
        lambda t: said(t.create(metadata={"namespace": THEIRS})),
        "400",
    ),
    "what is changed while it is being deleted": (
        dying,
        "endpoint: 422, abandon: 403, Delete, not Retain: 403, revival: 200 and dead",
    ),
    # Names and texts.
    "generateName": (
        lambda t: said(t.create("", metadata={"name": None, "generateName": "db-"})),
        "call it …-db",
    ),
    "a huge parameter": (lambda t: said(t.create(params={"size": "small", "a": "x" * 70000})), "422"),
    "an update too large for expressions": (padded, "nobody is exempt"),
    "a huge object": (lambda t: said(t.create(metadata={"annotations": {"a": "x" * 4_000_000}})), "4"),
    "duplicate keys, the allowed one last": (
        lambda t: stored(t.raw(doubled("gold", "pg")), "spec", "endpoint"),
        'stored is "pg"',
    ),
    "duplicate keys, the forbidden one last": (lambda t: said(t.raw(doubled("pg", "gold"))), "allows only pg, shared"),
    "duplicate keys, strictly": (
        lambda t: said(t.raw(doubled("gold", "pg"), "&fieldValidation=Strict")),
        "duplicate field",
    ),
    "unknown fields": (
        lambda t: stored(t.create(Endpoint="gold", endpoints="gold"), "spec"),
        'stored is {"deletionProtection": true, "endpoint": "pg"',
    ),
    "a look-alike letter in a parameter": (lambda t: said(t.create(params={"size": "ѕmall"})), 'allows only "small"'),
    "a look-alike letter in a name": (lambda t: said(t.create("оwn-db")), "422"),
    "a look-alike of an endpoint": (lambda t: said(t.create(endpoint="рg")), "422"),
    "upper case and spaces in an endpoint": (lambda t: said(t.create(endpoint="PG ")), "422"),
    "a pattern and a trailing newline": (
        lambda t: said(t.create(params={"size": "small", "owner": "sales\n"})),
        "asks for a value that matches",
    ),
    "a pattern and a NUL": (
        lambda t: said(t.create(params={"size": "small", "owner": "sales\0; drop"})),
        "asks for a value that matches",
    ),
    "no spec at all": (lambda t: said(t.put(lambda body: body.pop("spec"))), "422"),
    "an API version that is not there": (
        lambda t: said(t.ask("POST", DATABASES.path(namespace=OWN).replace("/v1/", "/v1beta1/"), manifest("x-db"))),
        "404",
    ),
    # Other people's.
    "a namespace relabelled between admission and controller": (relabelled, "held back: PolicyViolated"),
    "the victim's name on a server that knows names only": (
        lambda t: said(t.create("acme-db", endpoint="shared")),
        "taken by a Database of another namespace",
    ),
    "the same through adoption": (
        lambda t: said(t.create("acme-db", endpoint="shared", metadata={"annotations": {ADOPT: "true"}})),
        'takes the verb "adopt"',
    ),
    "adoption of something of one's own": (lambda t: said(t.patch(annotated(ADOPT, "true"))), 'takes the verb "adopt"'),
    "abandonment": (lambda t: said(t.patch(annotated(ABANDON, "true"))), 'takes the verb "abandon"'),
    "templates in a parameter": (templated, "nothing of it was rendered"),
    "a rotation in somebody's name": (
        lambda t: (
            said(t.patch({"metadata": {"annotations": {ROTATE: "1", "dbaas.bedag.ch/rotate-requested-by": "root"}}}))
            + f", stamped is {Stamp.read(t.annotation('dbaas.bedag.ch/rotate-requested-by') or '').user}"
        ),
        "stamped is mallory",
    ),
    "the victim's Secret": (
        lambda t: said(t.ask("GET", SECRETS.path(secret_name("acme-db"), namespace=THEIRS))),
        "403",
    ),
    "a Database in the victim's namespace": (
        lambda t: said(t.ask("POST", DATABASES.path(namespace=THEIRS), manifest("x-db"))),
        "403",
    ),
    "a claim handed over": (
        lambda t: said(t.ask("GET", INSTANCES.path())) + "; " + said(t.ask("POST", INSTANCES.path(), manifest("x"))),
        "403",
    ),
    "an Operation of one's own": (
        lambda t: said(t.ask("POST", OPERATIONS.path(namespace=OPERATOR), manifest("x"))),
        "403",
    ),
    "a policy taken away": (lambda t: said(t.ask("DELETE", POLICIES.path("rules"))), "403"),
    "an endpoint of one's own": (lambda t: said(t.ask("POST", ENDPOINTS.path(), endpoint("mine"))), "403"),
    "a class of one's own": (lambda t: said(t.ask("POST", CLASSES.path(), database_class("mine"))), "403"),
}


@pytest.mark.parametrize("what", ATTEMPTS)
def test_no_attempt_gets_around_what_was_decided(tenant: Tenant, what: str) -> None:
    attempt, expected = ATTEMPTS[what]
    happened = attempt(tenant)
    tenant.rows.append((what, happened[:150]))

    assert expected in happened, happened
    assert tenant.get()["spec"] == manifest("own-db")["spec"]
    assert tenant.site.claims(THEIRS) == ["acme-db"]


def test_the_table_is_about_something(tenant: Tenant) -> None:
    """What Mallory may do works: refusals above are not those of a door that is shut."""
    labelled = tenant.patch({"metadata": {"labels": {"team": "a"}}})

    assert tenant.create().accepted
    assert labelled.accepted, labelled.message
    assert "own-db" in tenant.site.claims(OWN)
