"""SQL Servers for the tests of its driver: the double always, and a real one where DBAAS_TEST_SQLSERVER_DSN names it.

The DSN is `sqlserver://USER:PASSWORD@HOST:PORT/DATABASE?ca=FILE&serverName=NAME`, of an administrator. What a test
needs of a server it writes twice, side by side: T-SQL for a real one, and the same as a script for the double.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from api.operation import Server
from provisioner_job.drivers.contract import Login, Session
from tests.integration.site import LoginSite
from tests.integration.tds.procedures import Procedure as Scripted
from tests.integration.tds.procedures import Script
from tests.integration.tds.server import Behaviour
from tests.integration.tds.server import Server as Double
from tests.servers.pki import Authority, KeyPair

if TYPE_CHECKING:
    from provisioner_job.drivers.sqlserver_odbc import Library

DSN = "DBAAS_TEST_SQLSERVER_DSN"
USERNAME = "dbaas_test_operator"
PASSWORD = "c0rrect {horse}; 'battery' ]staple= 🐎"


@dataclass(frozen=True)
class Target:
    """An ODBC driver, and the server that it is tried on."""

    library: Library | None
    dsn: str = ""

    def __str__(self) -> str:
        if self.library is None:
            return "no-odbc-driver"
        return f"{self.library.name}-{'real' if self.dsn else 'double'}"


def targets(*, real: bool = True) -> list[Target]:
    """Every installed driver on every server. Without any driver the tests fail, and say what to install."""
    try:
        from provisioner_job.drivers.sqlserver_odbc import installed
    except ImportError:
        return [Target(None)]
    dsns = [""] + ([os.environ[DSN]] if real and os.environ.get(DSN) else [])
    return [Target(library, dsn) for library in installed() for dsn in dsns] or [Target(None)]


@dataclass(frozen=True)
class SqlServerSite(LoginSite):
    """A server, and an account on it that may do nothing by itself."""

    target: Target
    server: Server
    ca_file: str | None
    authority: Authority
    stranger: Authority
    good: KeyPair
    execute: Callable[[str], None]
    """Runs T-SQL as administrator; on the double nothing happens."""
    double: Double | None = None
    username: str = USERNAME
    password: str = field(default=PASSWORD, repr=False)

    @property
    def world(self) -> Any:
        """What is on the double."""
        assert self.double is not None
        return self.double.world

    @property
    def behaviour(self) -> Behaviour:
        """How the double behaves."""
        assert self.double is not None
        return self.double.behaviour

    @property
    def usual(self) -> Login:
        """See `LoginSite`."""
        return Login(self.server, self.username, self.password, self.ca_file)

    def open(self, login: Login) -> Session:
        """Log in through the ODBC driver of the target."""
        from provisioner_job.drivers.sqlserver import connect

        return connect(login, self.target.library)


@contextmanager
def double_site(target: Target, folder: Authority, stranger: Authority, good: KeyPair) -> Iterator[SqlServerSite]:
    """A double of one's own."""
    if target.library is None:
        pytest.fail("no ODBC driver for SQL Server: apt-get install tdsodbc unixodbc")
    with Double(Behaviour(good)) as double:
        double.world.accounts[USERNAME] = PASSWORD
        server = Server("ms", "127.0.0.1", double.port, "master")
        yield SqlServerSite(target, server, str(folder.file), folder, stranger, good, lambda _: None, double)


@contextmanager
def real_site(target: Target, folder: Authority, stranger: Authority, good: KeyPair) -> Iterator[SqlServerSite]:
    """The server of the DSN, with an account of the tests' own."""
    from provisioner_job.drivers.sqlserver_login import open_wire

    parts = urlsplit(target.dsn)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    server = Server("ms", parts.hostname or "", parts.port or 1433, unquote(parts.path[1:]) or "master")
    server = server._replace(server_name=options.get("serverName", ""))
    administrator = Login(server, unquote(parts.username or ""), unquote(parts.password or ""), options.get("ca"))
    wire, _ = open_wire(administrator, target.library)

    def execute(statement: str) -> None:
        wire.query(statement, (), time.monotonic() + 30)

    quoted = PASSWORD.replace("'", "''")
    execute(
        f"IF SUSER_ID(N'{USERNAME}') IS NULL CREATE LOGIN [{USERNAME}] WITH PASSWORD = N'{quoted}', CHECK_POLICY = OFF;"
        f" IF USER_ID(N'{USERNAME}') IS NULL CREATE USER [{USERNAME}] FOR LOGIN [{USERNAME}]"
    )
    try:
        yield SqlServerSite(target, server, options.get("ca"), folder, stranger, good, execute)
    finally:
        execute(f"DROP USER [{USERNAME}]; DROP LOGIN [{USERNAME}]")
        wire.close()


def site(target: Target, folder: Authority, stranger: Authority, good: KeyPair) -> Any:
    """The target's site, a context manager."""
    return (real_site if target.dsn else double_site)(target, folder, stranger, good)


@dataclass
class SqlServerSchema:
    """A schema that the account may use; what is made in it is dropped with it."""

    name: str
    site: SqlServerSite
    made: list[str] = field(default_factory=list)

    def create(self) -> None:
        """CREATE SCHEMA."""
        self.site.execute(f"CREATE SCHEMA {self.name}")
        self.site.execute(f"GRANT EXECUTE ON SCHEMA::{self.name} TO [{USERNAME}]")

    def drop(self) -> None:
        """DROP SCHEMA, with what is in it."""
        for name in self.made:
            self.site.execute(f"DROP PROCEDURE IF EXISTS {self.name}.{name}")
        self.site.execute(f"DROP SCHEMA {self.name}")
        if self.site.double is not None:
            self.site.world.drop_schema(self.name)

    def define(self, name: str, signature: str, body: str, script: Script) -> Scripted | None:
        """A procedure: its T-SQL body, and the same as a script. Gives the double's."""
        quoted = "[" + name.replace("]", "]]") + "]"
        self.made.append(quoted)
        self.site.execute(f"CREATE OR ALTER PROCEDURE {self.name}.{quoted} {signature} AS {body}")
        if self.site.double is None:
            return None
        made: Scripted = self.site.world.define(self.name, name, signature, script)
        return made
