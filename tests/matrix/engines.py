"""The servers of the matrices: each with the example procedures on it, as a DBA would install them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pymysql
import yaml

from tests.cluster.images import ROOT
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority
from tests.servers.postgresql import PostgreSQL

PASSWORD = "the operator's own"


class Engine(Protocol):
    """A server."""

    name: str
    """Of its folder below examples/."""

    @property
    def port(self) -> int:
        """Where it listens."""

    def present(self, name: str) -> set[str]:
        """Which of `database` and `login` there is under this name."""

    def refuses(self, secret: Mapping[str, str]) -> str:
        """Why a user with this Secret cannot log in; "" when they can."""


def class_spec(engine: Engine) -> dict[str, Any]:
    """The example's class, tried again quickly."""
    spec: dict[str, Any] = yaml.safe_load((ROOT / "examples" / engine.name / "class.yaml").read_text())["spec"]
    operations = {kind: {**call, "timeout": "20s"} for kind, call in spec["operations"].items()}
    return {**spec, "operations": operations, "retry": {"limit": 20, "backoff": "1s"}}


def _procedures(name: str) -> Path:
    return ROOT / "examples" / name / "procedures.sql"


class PostgresEngine:
    """PostgreSQL."""

    name = "postgresql"

    def __init__(self, server: PostgreSQL, authority: Authority) -> None:
        self.server = server
        self._authority = authority

    @property
    def port(self) -> int:
        return self.server.port

    def present(self, name: str) -> set[str]:
        query = (
            "SELECT 'database' FROM pg_database WHERE datname = %s"
            " UNION SELECT 'login' FROM pg_roles WHERE rolname = %s"
        )
        return {what for (what,) in self.server.execute(query, [name, name])}

    def refuses(self, secret: Mapping[str, str]) -> str:
        try:
            psycopg.connect(
                host=secret["host"],
                port=secret["port"],
                user=secret["username"],
                password=secret["password"],
                dbname=secret["database"],
                sslmode="verify-full",
                sslrootcert=str(self._authority.file),
            ).close()
        except psycopg.OperationalError as error:
            return str(error)
        return ""


class MariaDBEngine:
    """MariaDB."""

    name = "mariadb"

    def __init__(self, server: MariaDB, authority: Authority) -> None:
        self.server = server
        self._authority = authority

    @property
    def port(self) -> int:
        return self.server.port

    def present(self, name: str) -> set[str]:
        query = (
            "SELECT 'database' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s"
            " UNION SELECT 'login' FROM mysql.global_priv WHERE User = %s"
        )
        return {what for (what,) in self.server.execute(query, [name, name])}

    def refuses(self, secret: Mapping[str, str]) -> str:
        try:
            pymysql.connect(
                host=secret["host"],
                port=int(secret["port"]),
                user=secret["username"],
                password=secret["password"],
                database=secret["database"],
                ssl_ca=str(self._authority.file),
                ssl_verify_cert=True,
                ssl_verify_identity=True,
            ).close()
        except pymysql.Error as error:
            return str(error)
        return ""


@contextlib.contextmanager
def running_engines(authority: Authority) -> Iterator[list[Engine]]:
    """All of them."""
    certificate = authority.issue("server", ["127.0.0.1"])
    with PostgreSQL.temporary() as postgresql, MariaDB.temporary() as mariadb:
        postgresql.start(certificate)
        postgresql.execute("CREATE DATABASE dbaas")
        variables = {"operator_password": PASSWORD}
        postgresql.psql(_procedures("postgresql"), database="dbaas", variables=variables)
        mariadb.start(certificate)
        mariadb.client(_procedures("mariadb"), variables=variables)
        yield [PostgresEngine(postgresql, authority), MariaDBEngine(mariadb, authority)]
