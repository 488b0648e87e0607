"""Endpoints that are looked at without being asked: what is found, and what it means to those who wait for them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api.labels import LABEL_ENDPOINT
from api.resources import ENDPOINTS, JOBS, SECRETS
from kube.client import Object
from tests.e2e.cluster import OPERATOR, PODS, Cluster, eventually
from tests.e2e.dbms import Dbms
from tests.e2e.scene import IDENTITY, Scene

SELDOM, OFTEN = "1h", "1s"


@dataclass(frozen=True)
class Endpoint:
    """A DatabaseEndpoint that is probed."""

    cluster: Cluster
    name: str

    @property
    def status(self) -> dict[str, Any]:
        return (self.cluster.get(ENDPOINTS, self.name) or {}).get("status") or {}

    def condition(self, kind: str = "Reachable") -> dict[str, Any]:
        return next((c for c in self.status.get("conditions") or () if c["type"] == kind), {})

    def wait(self, status: str, kind: str = "Reachable", reason: str = "") -> dict[str, Any]:
        """Wait for a condition; gives it."""

        def shown() -> dict[str, Any] | None:
            condition = self.condition(kind)
            assert condition.get("status") == status, condition
            return condition if reason in ("", condition["reason"]) else None

        return eventually(shown, f"{kind} of endpoint {self.name} is {status} {reason}")

    def jobs(self) -> list[Object]:
        """Its probes."""
        return self.cluster.find(JOBS, OPERATOR, f"{LABEL_ENDPOINT}={self.name}")


Probed = Callable[..., Endpoint]


@pytest.fixture
def probed(cluster: Cluster, scene: Scene) -> Iterator[Probed]:
    """Creates endpoints that are probed, as long as the test lasts."""
    made: list[str] = []

    def create(suffix: str, every: str = SELDOM, **spec: Any) -> Endpoint:
        made.append(scene.add_endpoint(suffix, probe={"every": every}, **spec))
        return Endpoint(cluster, made[-1])

    yield create
    for name in made:
        cluster.patch(ENDPOINTS, name, {"spec": {"probe": {"every": "0"}}})


def test_a_probe_finds_out_what_the_server_is_and_says_so_in_the_status(
    cluster: Cluster, scene: Scene, probed: Probed
) -> None:
    """Before any Database asks; with no account of the cluster, nor a token."""
    endpoint = probed("facts")
    endpoint.wait("True")
    connection = endpoint.status["connection"]
    job = max(endpoint.jobs(), key=lambda each: each["metadata"]["creationTimestamp"])
    [pod] = cluster.find(PODS, OPERATOR, f"job-name={job['metadata']['name']}")
    wide = cluster.kubectl("get", "dbe", endpoint.name, "-o", "wide").out.split()
    log = [json.loads(line) for line in cluster.job_log(job["metadata"]["name"]).splitlines()]

    assert connection["serverVersion"].startswith("PostgreSQL 1")
    assert connection["tlsVersion"] == "TLSv1.3"
    assert connection["peerCertificateNotAfter"].endswith("Z")
    assert {"Ready", "Reachable", "ProceduresFound", "ProceduresPrivate"} == {
        condition["type"] for condition in endpoint.status["conditions"] if condition["status"] == "True"
    }
    assert "TLSv1.3" in wide
    assert [line["event"] for line in log] == ["connected", "inspected", "inspected"]
    assert {line["endpoint"] for line in log} == {endpoint.name}
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["dbaas"]
    assert scene.dbms.password not in json.dumps([job, pod])


def test_a_procedure_that_is_missing_or_open_to_everybody_is_told_with_the_cure(
    cluster: Cluster, scene: Scene, probed: Probed
) -> None:
    """Long before a Database asks for it; mended, the next probe says so."""
    schema = scene.name.replace("-", "_")
    scene.dbms.server.execute(
        f"CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO PUBLIC;"
        f"CREATE FUNCTION {schema}.make(name text) RETURNS text LANGUAGE sql AS 'SELECT name'"
    )
    operations = {"create": {"name": f"{schema}.make"}, "delete": {"name": f"{schema}.unmake"}}
    endpoint = probed("open", OFTEN, className=scene.add_class("open", operations=operations, identity=IDENTITY))
    open_ = endpoint.wait("False", "ProceduresPrivate")
    missing = endpoint.wait("False", "ProceduresFound")

    assert open_["reason"] == "GrantedToPublic"
    assert missing["message"].startswith(f"delete: {schema}.unmake does not exist")
    eventually(lambda: "GrantedToPublic" in cluster.kubectl("describe", "dbe", endpoint.name).out, "an Event says so")

    scene.dbms.server.execute(open_["message"].partition("; ")[2])
    endpoint.wait("True", "ProceduresPrivate")
    missing = endpoint.wait("False", "ProceduresFound")

    assert f"the endpoint's account may not call {schema}.make" in missing["message"]

    scene.change_class("open", operations={"delete": None, "create": {"name": "e2e.create_database"}})
    endpoint.wait("True", "ProceduresFound")
    scene.dbms.server.execute(f"DROP SCHEMA {schema} CASCADE")


# The server goes away


def test_requests_wait_for_a_server_that_is_away_and_delay_nobody_else(
    scene: Scene, second: Dbms, probed: Probed
) -> None:
    """Nobody starts a Job in vain; when it is back all go on by themselves, and at once."""
    there = {"port": second.port, "tls": {"caBundle": second.authority.pem}}
    endpoint = probed("away", OFTEN, **there)
    endpoint.wait("True")
    old = scene.apply("old", endpoint=endpoint.name)
    old.wait_ready()
    second.server.stop()
    away = endpoint.wait("False")
    waiting = [scene.apply(f"new-{number}", endpoint=endpoint.name) for number in range(4)]
    old.delete()
    elsewhere = scene.apply("elsewhere")
    elsewhere.wait_ready()
    conditions = [database.wait_reason("EndpointUnreachable") for database in waiting]
    deleting = old.wait_reason("EndpointUnreachable")

    assert away["reason"] == "EndpointUnreachable"
    assert f"{second.port} cannot be reached: connection refused" in away["message"]
    assert all("it goes on by itself" in condition["message"] for condition in conditions)
    assert all(database.condition("Reconciling")["status"] == "True" for database in waiting)
    assert deleting["message"].startswith("deletion: ")
    assert [database.operations() for database in waiting] == [[]] * 4

    second.server.start(second.certificate)
    endpoint.wait("True")
    for database in waiting:
        database.wait_ready()

        assert database.requested() == ["create"]
    old.wait_gone()


# The account is refused


def refused(dbms: Dbms, username: str) -> int:
    """How often the server has refused an account's password."""
    said = f'password authentication failed for user "{username}"'
    return dbms.server.log.read_text().count(f"FATAL:  {said}")


def test_a_wrong_password_is_tried_once_for_all_and_not_until_somebody_changes_it(
    cluster: Cluster, scene: Scene, probed: Probed
) -> None:
    """So that no server locks the account; right, it is used at once."""
    username = f"op_{scene.name.replace('-', '_')}"
    scene.dbms.server.execute(f"CREATE ROLE {username} LOGIN PASSWORD 'right' IN ROLE {scene.dbms.username}")
    account = scene.add_account("locked", username, "wrong")
    endpoint = probed("locked", OFTEN, credentialsSecretRef={"name": account})
    told = endpoint.wait("False", reason="CredentialsRefused")
    databases = [scene.apply(f"db-{number}", endpoint=endpoint.name) for number in range(4)]
    for database in databases:
        database.wait_reason("CredentialsRefused")

        assert database.condition("Stalled")["status"] == "True"
        assert database.operations() == []
    assert username in told["message"]
    assert refused(scene.dbms, username) == 1

    data = {"password": b64encode(b"right").decode()}
    cluster.patch(SECRETS, account, {"data": data}, OPERATOR)
    for database in databases:
        database.wait_ready()
    endpoint.wait("True")

    assert refused(scene.dbms, username) == 1


def test_without_probes_requests_find_out_and_one_tries_again_for_all(cluster: Cluster, scene: Scene) -> None:
    """Those that come later wait for it; the status tells it too."""
    username = f"op_{scene.name.replace('-', '_')}"
    scene.dbms.server.execute(f"CREATE ROLE {username} LOGIN PASSWORD 'right' IN ROLE {scene.dbms.username}")
    account = scene.add_account("unprobed", username, "wrong")
    endpoint = Endpoint(cluster, scene.add_endpoint("unprobed", credentialsSecretRef={"name": account}))
    first = scene.apply("first", endpoint=endpoint.name)
    first.wait_reason("CredentialsRefused")
    endpoint.wait("False", reason="CredentialsRefused")
    later = [scene.apply(f"db-{number}", endpoint=endpoint.name) for number in range(4)]
    for database in later:
        database.wait_reason("CredentialsRefused")

        assert database.operations() == []
    assert endpoint.jobs() == []
    assert refused(scene.dbms, username) == 1

    data = {"password": b64encode(b"right").decode()}
    cluster.patch(SECRETS, account, {"data": data}, OPERATOR)
    for database in (first, *later):
        database.wait_ready()
    endpoint.wait("True")

    assert refused(scene.dbms, username) == 1
