"""The servers of the matrices: each with the example procedures on it, as a DBA would install them.

SQL Server's is a double that speaks TDS, on which the procedures' effects are scripted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from api.operation import Server as Address
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.sqlserver import connect
from provisioner_job.errors import Failure
from tests.integration.tds.examples import Examples as Installed
from tests.integration.tds.server import Behaviour
from tests.integration.tds.server import Server as Double
from tests.servers import examples
from tests.servers.logins import LoginRefused, log_in
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority
from tests.servers.postgresql import PostgreSQL


class Engine(Protocol):
    """A server with the example procedures, and who knows how to look at it."""

    @property
    def name(self) -> str:
        """Of its folder below examples/."""

    @property
    def server(self) -> examples.Exemplary | Double:
        """Its process."""

    def present(self, name: str) -> list[str]:
        """Which of `database` and `login` there is under this name."""

    def refuses(self, secret: Mapping[str, str]) -> str:
        """Why a user with this Secret cannot log in; "" when they can."""


@dataclass(frozen=True, eq=False)
class RealEngine:
    """A server of this machine's packages."""

    server: examples.Exemplary
    authority: Authority

    @property
    def name(self) -> str:
        return self.server.engine

    def present(self, name: str) -> list[str]:
        return examples.present(self.server, name)

    def refuses(self, secret: Mapping[str, str]) -> str:
        try:
            log_in(self.name, secret, self.authority)
        except LoginRefused as refused:
            return str(refused)
        return ""


@dataclass(frozen=True, eq=False)
class SqlServerDouble:
    """SQL Server's double: what its procedures do happens at once, whoever is still there to hear of it."""

    server: Double
    authority: Authority
    name: str = "sqlserver"

    def present(self, name: str) -> list[str]:
        world = self.server.world
        there = {"database": name in world.databases, "login": name in world.accounts}
        return [what for what, is_there in there.items() if is_there]

    def refuses(self, secret: Mapping[str, str]) -> str:
        # As a Job logs in: the double knows no other client.
        server = Address("matrix", secret["host"], int(secret["port"]), secret["database"])
        try:
            connect(Login(server, secret["username"], secret["password"], str(self.authority.file))).close()
        except Failure as refused:
            return refused.message
        return ""


def class_spec(engine: Engine) -> dict[str, Any]:
    """The example's class, tried again quickly."""
    spec: dict[str, Any] = yaml.safe_load((examples.FOLDER / engine.name / "class.yaml").read_text())["spec"]
    operations = {kind: {**call, "timeout": "20s"} for kind, call in spec["operations"].items()}
    return {**spec, "operations": operations, "retry": {"limit": 20, "backoff": "1s"}}


@contextlib.contextmanager
def running_engines(authority: Authority) -> Iterator[list[Engine]]:
    """All of them."""
    certificate = authority.issue("server", ["127.0.0.1"])
    with (
        PostgreSQL.temporary() as postgresql,
        MariaDB.temporary() as mariadb,
        Double(Behaviour(certificate)) as double,
    ):
        real = [RealEngine(postgresql, authority), RealEngine(mariadb, authority)]
        for engine in real:
            engine.server.start(certificate)
            examples.install(engine.server)
        Installed.install(double.world, examples.OPERATOR_PASSWORD)
        yield [*real, SqlServerDouble(double, authority)]
