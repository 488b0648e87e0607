"""No password is where it does not belong: every object but Secrets, every event and every log is searched for it."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from api.labels import LABEL_DATABASE, LABEL_DATABASE_NAMESPACE
from api.resources import SECRETS
from tests.e2e.cluster import OPERATOR, Cluster
from tests.e2e.dbms import Dbms
from tests.e2e.scene import IDENTITY, Applied, Scene

FAULTS = Path(__file__).with_name("faults.sql")
GENERATED = "{{ .Generated.password }}"
CUT = (478, 960)
"""Lengths of what stands before a password in a message, so that a cut near 500 or 1000 characters goes through it."""
SPACED = "two  spaces, a\ttab and 'quotes'"
"""A password that changes when its spaces are put in order."""
LEAST = 10
"""Characters of a password that, alone, give it away."""


@pytest.fixture(scope="module", autouse=True)
def faults(dbms: Dbms) -> None:
    """The procedures that quote what they know, the password of whoever calls them included."""
    dbms.server.execute("DROP SCHEMA IF EXISTS faults CASCADE")
    dbms.server.psql(FAULTS)
    known = [dbms.username, dbms.password, "e2e_spaced", SPACED]
    dbms.server.execute("INSERT INTO faults.known VALUES (%s, %s), (%s, %s)", known)
    quoted = SPACED.replace("'", "''")
    dbms.server.execute("DROP ROLE IF EXISTS e2e_spaced")
    dbms.server.execute(f"CREATE ROLE e2e_spaced LOGIN PASSWORD '{quoted}' IN ROLE e2e_operator")


def forms(secret: str) -> Iterator[str]:
    """The texts in which a password would turn up."""
    data = secret.encode()
    yield from (secret, secret.replace("'", "''"), secret.replace("\\", "\\\\"), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3])
    yield from (quote(secret, safe=""), quote(secret), quote_plus(secret), data.hex())
    for encode in (b64encode, urlsafe_b64encode):
        for offset in range(3):
            # What every encoding of a longer text has in it, wherever the password begins.
            text = encode(bytes(offset) + data).decode()
            yield text[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6]


def everything(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Every object of the cluster but Secrets; the logs of the operator, and of the Jobs for one namespace."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "-o", "name").out.split()
    kinds = [kind for kind in kinds if kind != "secrets"]
    jobs = f"{LABEL_DATABASE_NAMESPACE}={namespace}"
    all_lines = ("--prefix", "--tail=-1", "--max-log-requests=100", "--ignore-errors")
    return {
        "objects": cluster.kubectl("get", ",".join(kinds), "-A", "-o", "json").out,
        "controller's log": cluster.component_log("controller"),
        "webhook's log": cluster.component_log("webhook"),
        "Jobs' logs": cluster.kubectl("logs", "-n", OPERATOR, "-l", jobs, *all_lines, check=False).text,
    }


def leaks(cluster: Cluster, namespace: str, secrets: dict[str, str]) -> list[str]:
    """Where which secret is, in words that do not repeat it."""
    texts = everything(cluster, namespace)
    assert all(f'"event": "{event}"' in texts["Jobs' logs"] for event in ("called", "failed"))
    assert all('"message": ' in texts[f"{component}'s log"] for component in ("controller", "webhook"))
    return [
        f"{whose} in {place}: …{text[max(0, at - 80) : at]}"
        for place, text in texts.items()
        for whose, secret in secrets.items()
        for form in {*forms(secret)}
        if (at := text.find(form)) >= 0
    ]


def generated(cluster: Cluster, database: Applied) -> str:
    """The password that was generated for a Database whose create goes on failing."""
    labels = f"{LABEL_DATABASE}={database.name},{LABEL_DATABASE_NAMESPACE}={database.namespace}"
    [secret] = cluster.find(SECRETS, OPERATOR, labels)
    return (cluster.secret(secret["metadata"]["name"], OPERATOR) or {})["password"]


def test_no_password_is_in_any_object_event_or_log(cluster: Cluster, scene: Scene) -> None:
    """Of the endpoint, returned, generated; also where a procedure fails while quoting them in every way it can."""
    shop = scene.apply("shop")
    given = {"k8sName": IDENTITY, "note": GENERATED}
    made = quoting(scene, "made", {"name": "e2e.create_database", "inputs": given})
    failing = quoting(
        scene, "failing", {"name": "faults.quotes_secrets", "inputs": {"k8sname": IDENTITY, "password": GENERATED}}
    )
    account = scene.add_account("spaced", "e2e_spaced", SPACED)
    spaced = quoting(
        scene,
        "spaced",
        {"name": "faults.quotes_secrets", "inputs": {"k8sname": IDENTITY, "password": GENERATED}},
        credentialsSecretRef={"name": account},
    )
    cut = {
        f"cut{before}": quoting(
            scene,
            f"cut{before}",
            {
                "name": "faults.quotes_at_the_end",
                "inputs": {"k8sname": IDENTITY, "password": GENERATED, "before": str(before)},
            },
        )
        for before in CUT
    }
    for database in (failing, spaced, *cut.values()):
        condition = database.wait_reason("ProcedureFailed")
        assert "cannot log in" in condition["message"] or "xxxx" in condition["message"]
    secrets = {
        "the endpoint's password": scene.dbms.password,
        "a returned password": shop.wait_ready()["password"],
        "another returned password": made.wait_ready()["password"],
        "a generated password that was stored": str(made.effects[0].arguments["note"]),
        "a generated password that was quoted": generated(cluster, failing),
        "another generated password that was quoted": generated(cluster, spaced),
        "a password with spaces": SPACED,
        "the same with its spaces put in order": " ".join(SPACED.split()),
        **{f"the beginning of one that was cut ({n})": generated(cluster, d)[:LEAST] for n, d in cut.items()},
    }
    assert len({*secrets.values()}) == len(secrets)
    assert all(len(secret) >= LEAST for secret in secrets.values())

    assert leaks(cluster, scene.namespace, secrets) == []
    assert "***" in failing.condition()["message"] or "***" in failing.operations()[0]["status"]["message"]


def quoting(scene: Scene, suffix: str, create: dict[str, object], **endpoint: Any) -> Applied:
    """Apply a Database of a class whose create operation is given a generated password."""
    operations = {**scene.class_manifest()["spec"]["operations"], "create": {**create, "timeout": "30s"}}
    retry = {"limit": 1, "backoff": "1m"}
    name = scene.add_class(suffix, operations=operations, identity=IDENTITY, retry=retry)
    return scene.apply(f"db-{suffix}", endpoint=scene.add_endpoint(suffix, className=name, **endpoint))
