"""What can be wrong with a login, a procedure or a server: each has a reason of its own, and a sentence that helps."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.labels import LABEL_ENDPOINT_CREDENTIALS
from api.resources import ENDPOINTS, SECRETS
from api.stamp import Stamp
from tests.e2e.cluster import OPERATOR, Cluster, eventually
from tests.e2e.dbms import Dbms
from tests.e2e.quotas import QUOTAS, quota
from tests.e2e.scene import ACCOUNT, IDENTITY, Applied, Scene

FAULTS = Path(__file__).with_name("faults.sql")
RIGHT = {"name": "e2e.create_database", "timeout": "2m"}


@dataclass(frozen=True)
class Case:
    """A create operation that cannot succeed."""

    reason: str
    words: tuple[str, ...]
    """Of the condition's message."""
    create: Mapping[str, Any]
    """`spec.operations.create` of the class, as far as it is wrong."""
    stalled: bool = True
    """Whether somebody must change something; else it is tried again by itself."""


RESULT = "let the procedure return rows of two columns `key` and `value`, or exactly one row of any columns"
CASES = {
    "missing": Case(
        "ProcedureMissing",
        ("e2e.create_databose does not exist in this database", "there is e2e.create_database"),
        {"name": "e2e.create_databose"},
    ),
    "argument": Case(
        "ArgumentsInvalid",
        ("has no argument dbname; it takes k8sname",),
        {"name": "e2e.create_database", "inputs": {"dbname": IDENTITY}},
    ),
    "forbidden": Case(
        "PermissionDenied",
        ("the endpoint's account may not call faults.forbidden", "GRANT EXECUTE"),
        {"name": "faults.forbidden"},
    ),
    "raising": Case("ProcedureFailed", ("no tablespace is left for",), {"name": "faults.raises"}, stalled=False),
    "slow": Case(
        "Timeout",
        ("not finished within 3 s, and cancelled",),
        {"name": "faults.too_slow", "timeout": "3s"},
        stalled=False,
    ),
    "columns": Case(
        "ResultInvalid", ("2 rows of columns key, value, comment", RESULT), {"name": "faults.three_columns"}
    ),
    "empty": Case("ResultInvalid", ("0 rows of columns key, value", RESULT), {"name": "faults.no_rows"}),
    "twice": Case(
        "ResultInvalid",
        ("3 rows of columns key, value", "row 3 has the same key as row 1", RESULT),
        {"name": "faults.duplicate_keys"},
    ),
    "template": Case(
        "TemplateInvalid",
        ("key url of the Secret", ".Result.password", "username"),
        {"name": "faults.without_password"},
    ),
}


@pytest.fixture(scope="module", autouse=True)
def faults(dbms: Dbms) -> None:
    """The procedures that go wrong."""
    dbms.server.psql(FAULTS)


def told(database: Applied, reason: str) -> bool:
    """Whether an Event says so."""
    return reason in [event["reason"] for event in database.events()]


def begin(scene: Scene, name: str, case: Case) -> Applied:
    """Apply a Database of a class of the case's own."""
    create = {"inputs": {"k8sname": IDENTITY}, "timeout": "2m", **case.create}
    operations = {**scene.class_manifest()["spec"]["operations"], "create": create}
    changes: dict[str, Any] = {"operations": operations, "identity": IDENTITY}
    if case.reason == "TemplateInvalid":
        changes["secretFormat"] = {"url": "postgres://{{ .Result.username }}:{{ .Result.password }}@host"}
    class_name = scene.add_class(name, **changes, retry={"limit": 1, "backoff": "10m"})
    return scene.apply(f"db-{name}", endpoint=scene.add_endpoint(name, className=class_name))


def test_each_fault_of_a_procedure_has_its_reason_and_heals_when_it_is_mended(scene: Scene) -> None:
    """Nine wrong classes at once; each Database goes on by itself when its class is right."""
    databases = {name: begin(scene, name, case) for name, case in CASES.items()}
    for name, case in CASES.items():
        condition = databases[name].wait_reason(case.reason)
        kinds = {each["type"] for each in databases[name].status["conditions"]}

        assert all(words in condition["message"] for words in case.words), condition
        assert "hidden-value" not in condition["message"]
        assert kinds == {"Ready", "Stalled" if case.stalled else "Reconciling"}, name
        assert databases[name].effects == [], name
        assert databases[name].secret() is None, name
        eventually(lambda n=name, r=case.reason: told(databases[n], r), f"an Event says {case.reason}")  # type: ignore[misc]

    inputs: Mapping[str, str | None] = {"dbname": None, "k8sname": None, "k8sName": IDENTITY}
    for name in CASES:
        scene.change_class(name, operations={"create": {**RIGHT, "inputs": inputs}})
    for name, database in databases.items():
        database.wait_ready()

        assert [effect.procedure for effect in database.effects] == ["create"], name


def test_a_wrong_login_is_told_and_heals_when_the_secret_is_right(cluster: Cluster, scene: Scene) -> None:
    """A wrong password, a role and a database that do not exist."""
    password, username = scene.dbms.password, scene.dbms.username
    accounts = {"password": (username, "wrong"), "role": ("nobody", password), "database": (username, password)}
    words = {
        "password": ("CredentialsRefused", f'password authentication failed for user "{username}"'),
        "role": ("CredentialsRefused", 'authentication failed for user "nobody"'),
        "database": ("DatabaseMissing", 'database "nowhere" does not exist'),
    }
    databases = {}
    for name, account in accounts.items():
        reference = {"name": scene.add_account(name, *account)}
        changes = {"database": "nowhere"} if name == "database" else {}
        endpoint = scene.add_endpoint(name, credentialsSecretRef=reference, **changes)
        databases[name] = scene.apply(f"db-{name}", endpoint=endpoint)
    for name, (reason, said) in words.items():
        condition = databases[name].wait_reason(reason)

        assert said in condition["message"]
        assert databases[name].condition("Stalled")["status"] == "True"

    right = {"username": username, "password": password}
    data = {key: b64encode(value.encode()).decode() for key, value in right.items()}
    for name in ("password", "role"):
        cluster.patch(SECRETS, f"{scene.name}-{name}", {"data": data}, OPERATOR)
    scene.change_endpoint("database", database="postgres")
    for database in databases.values():
        database.wait_ready()

        assert len(database.effects) == 1


def test_an_endpoint_sends_no_secret_that_is_not_marked_for_it(cluster: Cluster, scene: Scene) -> None:
    """Neither one without the label nor one without the keys nor one that is not there; then no Job is started."""
    name = scene.add_account("unmarked", scene.dbms.username, scene.dbms.password)
    label = {LABEL_ENDPOINT_CREDENTIALS: None}
    cluster.patch(SECRETS, name, {"metadata": {"labels": label}}, OPERATOR)
    webhook_ca = "dbaas-webhook-ca"
    wrong = {
        "unmarked": (name, "lacks the label"),
        "keys": (webhook_ca, "has no key"),
        "absent": ("e2e-none", "does not exist"),
    }
    databases = {}
    for suffix, (secret, _) in wrong.items():
        endpoint = scene.add_endpoint(suffix, credentialsSecretRef={"name": secret})
        databases[suffix] = scene.apply(f"db-{suffix}", endpoint=endpoint)
    for suffix, (_, words) in wrong.items():
        condition = databases[suffix].wait_reason("EndpointInvalid")

        assert words in condition["message"]
        assert databases[suffix].operations() == []

    cluster.patch(SECRETS, name, {"metadata": {"labels": {LABEL_ENDPOINT_CREDENTIALS: "true"}}}, OPERATOR)
    databases["unmarked"].wait_ready()


def usable(cluster: Cluster, endpoint: str) -> bool:
    """Whether the controller has no objection to an endpoint."""
    status = cluster.client.get(ENDPOINTS, endpoint).get("status") or {}
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())


def test_an_endpoint_that_changes_under_a_waiting_operation_sends_nothing_of_another_secret(
    cluster: Cluster, scene: Scene
) -> None:
    """An Operation says which server, its Job's files say which account: both are of one moment, and judged then.

    Room for one Role is room for the one that looks after the Secret, and not for the Job's.
    """
    name = scene.add_account("unmarked", "not-for-this-server", "not-for-this-server")
    cluster.patch(SECRETS, name, {"metadata": {"labels": {LABEL_ENDPOINT_CREDENTIALS: None}}}, OPERATOR)
    hard = {"count/roles.rbac.authorization.k8s.io": "1"}
    quota(scene, hard)
    eventually(lambda: usable(cluster, scene.name), "the controller has judged the endpoint")
    shop = scene.apply()
    shop.wait_reason("KubernetesRefused")
    scene.change_endpoint(credentialsSecretRef={"name": name})
    eventually(lambda: not usable(cluster, scene.name), "the controller has seen the change")
    cluster.delete(QUOTAS, "none", scene.namespace)

    condition = shop.wait_reason("EndpointInvalid")

    assert "lacks the label" in condition["message"]
    assert shop.active_jobs() == []
    assert [operation["status"]["reason"] for operation in shop.operations()] == ["EndpointInvalid"]

    scene.change_endpoint(credentialsSecretRef={"name": ACCOUNT})
    shop.wait_ready()

    assert len(shop.effects) == 1


# The server goes away


def test_a_server_that_is_stopped_and_started_again_delays_and_breaks_nothing(cluster: Cluster, second: Dbms) -> None:
    """Stopped before a create, in the midst of one, and before a delete."""
    scene = Scene.set_up(cluster, second)
    try:
        before, amid, after = (scene.applied(name) for name in ("before", "amid", "after"))
        cluster.kubectl_apply(scene.database_manifest("after"))
        after.wait_ready()
        second.hold(amid.identity)
        cluster.kubectl_apply(scene.database_manifest("amid"))
        amid.wait_called()

        second.server.stop()
        after.delete()
        cluster.kubectl_apply(scene.database_manifest("before"))
        lost = eventually(lambda: outcome(amid, "ConnectionLost"), "the call has noticed")
        unreachable = before.wait_reason("EndpointUnreachable")
        deleting = after.wait_reason("EndpointUnreachable")

        assert "the connection was lost" in lost
        assert f"{second.host}:{second.port} cannot be reached: connection refused" in unreachable["message"]
        assert deleting["message"].startswith("deletion: ")
        assert before.condition("Reconciling")["status"] == "True"

        second.server.start(second.certificate)
        second.let_go(amid.identity)
        after.wait_gone()
        for database in (before, amid):
            database.wait_ready()

            assert [effect.procedure for effect in database.effects] == ["create"]
            database.delete()
        for database in (before, amid):
            database.wait_gone()
        assert not second.exists(after.identity)
    finally:
        scene.tear_down()


def outcome(database: Applied, reason: str) -> str:
    """The message of the first Operation that ended for that reason; "" while there is none."""
    found = [operation.get("status") or {} for operation in database.operations()]
    return next((str(status["message"]) for status in found if status.get("reason") == reason), "")


# Nonsense


def test_what_is_applied_twice_is_done_once(cluster: Cluster, scene: Scene) -> None:
    """The same manifest again, before and after it is Ready, is no new request; nor is a label."""
    manifest = scene.database_manifest("shop")
    shop = scene.applied("shop")
    cluster.kubectl_apply(manifest)
    cluster.kubectl_apply(manifest)
    shop.wait_ready()
    cluster.kubectl_apply(manifest)
    shop.patch({"metadata": {"labels": {"team": "a"}}})
    eventually(lambda: shop.condition().get("status") == "True", "still Ready")

    assert shop.requested() == ["create"]
    assert len(shop.effects) == 1


def test_a_requester_cannot_be_forged(cluster: Cluster, scene: Scene) -> None:
    """Neither at creation, nor later, nor by the status."""
    key = "dbaas.bedag.ch/requested-by"
    shop = scene.apply(annotations={key: "system:admin-in-chief"})
    stamped = shop.get()
    shop.annotate(key, "somebody-else")
    shop.annotate(key, None)
    shop.wait_ready()
    [operation] = shop.requests()
    present = shop.get()

    assert stamped is not None
    assert present is not None
    user = Stamp.read(stamped["metadata"]["annotations"][key]).user
    assert user not in ("system:admin-in-chief", "somebody-else")
    assert present["metadata"]["annotations"][key] == stamped["metadata"]["annotations"][key]
    assert operation["spec"]["requestedBy"] == user


NONSENSE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "timeout-of-ages": ("DatabaseClass", {"operations": {"create": {"name": "p", "timeout": "9999999h"}}}),
    "timeout-of-nothing": ("DatabaseClass", {"operations": {"create": {"name": "p", "timeout": "0s"}}}),
    "backoff": ("DatabaseClass", {"retry": {"limit": -1, "backoff": "soon"}}),
    "driver": ("DatabaseClass", {"driver": "oracle"}),
    "socket": ("DatabaseEndpoint", {"host": "/var/run/postgresql"}),
    "two-hosts": ("DatabaseEndpoint", {"host": "a,b"}),
    "plain": ("DatabaseEndpoint", {"tls": {"mode": "Disabled"}}),
    "port": ("DatabaseEndpoint", {"port": 0}),
    "probe": ("DatabaseEndpoint", {"probe": {"every": "-1s"}}),
    "bundle": ("DatabaseEndpoint", {"tls": {"caBundle": "nonsense"}}),
    "rotation": ("Database", {"rotation": {"every": "1ns"}}),
    "params": ("Database", {"params": {"a": 1}}),
    "many": ("Database", {"params": {f"p{number}": "" for number in range(65)}}),
}


def test_nonsense_is_refused_when_it_is_applied(cluster: Cluster, scene: Scene) -> None:
    """So that no controller ever has to read it; the operator goes on."""
    makers = {
        "DatabaseClass": scene.class_manifest,
        "DatabaseEndpoint": scene.endpoint_manifest,
        "Database": scene.database_manifest,
    }
    for name, (kind, spec) in NONSENSE.items():
        make: Any = makers[kind]
        answer = cluster.kubectl_apply(make(name, **spec), check=False)

        assert answer.code != 0, name
        assert "nvalid" in answer.err or "denied" in answer.err, answer.err
    scene.apply(f"sane-{secrets.token_hex(2)}").wait_ready()
