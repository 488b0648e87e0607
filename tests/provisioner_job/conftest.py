"""One API server with the chart's CRDs, rights and policies, and one PostgreSQL for all tests of the Job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from api.resources import Resource
from tests.chart.apiserver import ApiServer, render, running_api_server
from tests.provisioner_job.proxy import Proxy
from tests.provisioner_job.world import (
    ADMINISTRATOR,
    ADMINISTRATOR_PASSWORD,
    OPERATOR,
    World,
    eventually,
    make_namespace,
)
from tests.servers.pki import Authority
from tests.servers.postgresql import PostgreSQL

_NEEDED = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "Role": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{OPERATOR}/roles",
    "RoleBinding": f"/apis/rbac.authorization.k8s.io/v1/namespaces/{OPERATOR}/rolebindings",
}


@pytest.fixture(scope="session")
def api() -> Iterator[ApiServer]:
    """An API server with what the chart installs, programs and webhooks excepted."""
    with running_api_server() as server:
        make_namespace(server, OPERATOR)
        for manifest in yaml.safe_load_all(render()):
            if manifest and manifest["kind"] in _NEEDED:
                answer = server.apply(f"{_NEEDED[manifest['kind']]}/{manifest['metadata']['name']}", manifest)
                assert answer.accepted, answer.message
        operations = Resource("dbaas.bedag.ch", "v1", "Operation", "operations", namespaced=True)
        eventually(lambda: server.ask("GET", operations.path()).accepted, "the CRDs are served")
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="session")
def database(authority: Authority) -> Iterator[PostgreSQL]:
    """A PostgreSQL on which the operator's account may call what is there, and nothing else."""
    with PostgreSQL.temporary() as server:
        server.start(authority.issue("server", ["127.0.0.1"]))
        quoted = ADMINISTRATOR_PASSWORD.replace("'", "''")
        server.execute(f"CREATE ROLE {ADMINISTRATOR} LOGIN PASSWORD '{quoted}'")
        server.execute("CREATE TABLE calls (number serial, what text)")
        yield server


@pytest.fixture
def world(api: ApiServer, database: PostgreSQL, authority: Authority, tmp_path: Path) -> Iterator[World]:
    """An empty namespace and an empty log of calls."""
    database.execute("TRUNCATE calls")
    with Proxy(api.port) as proxy:
        world = World(api, proxy, database, authority, tmp_path)
        make_namespace(api, world.namespace)
        yield world
        for job in world.jobs:
            job.kill()
        _forget_operations(api)


def _forget_operations(api: ApiServer) -> None:
    """Every test's Operations have the same names."""
    api.ask("DELETE", f"/apis/dbaas.bedag.ch/v1/namespaces/{OPERATOR}/operations")
