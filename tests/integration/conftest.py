"""Real servers for the tests of drivers: one of each for the whole run, a schema of its own for each test."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from api.operation import Server
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Argument, Login, Procedure, Session
from provisioner_job.errors import Failure
from tests.integration.installation import Installation, installation
from tests.integration.mariadb_site import MariaDBCaller, MariaDBSchema, MariaDBSite
from tests.integration.sqlserver_site import (
    SqlServerCaller,
    SqlServerSchema,
    SqlServerSite,
    Target,
    double_site,
    targets,
)
from tests.integration.sqlserver_site import (
    site as sqlserver_site,
)
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql import PostgreSQL

connect = load("postgres")
_numbers = itertools.count()


@dataclass(frozen=True)
class Pki:
    """Certificates for the server on 127.0.0.1, one of them right."""

    authority: Authority
    stranger: Authority
    """A CA that nobody trusts."""
    good: KeyPair


@dataclass(frozen=True)
class Site:
    """A server, and an account on it that may do nothing by itself."""

    server: PostgreSQL
    pki: Pki
    username: str = "operator"
    password: str = field(default="correct horse 'battery' \\ staple", repr=False)

    def login(self, **changes: Any) -> Login:
        """A login that works; `changes` are fields of Login, or of its Server."""
        server = Server("pg", "127.0.0.1", self.server.port, "postgres")
        fields = {name: changes.pop(name) for name in [*changes] if name in Server._fields}
        login = Login(server._replace(**fields), self.username, self.password, str(self.pki.authority.file))
        return login._replace(**changes)

    def refusal(self, **changes: Any) -> Failure:
        """Why a login that must not work does not."""
        with pytest.raises(Failure) as caught:
            connect(self.login(**changes)).close()
        return caught.value


@dataclass(frozen=True)
class Schema:
    """A schema that the account may use; what is made in it is dropped with it."""

    name: str
    server: PostgreSQL

    def define(self, *statements: str) -> None:
        """Run statements as superuser, with this schema alone on the search path."""
        for statement in statements:
            self.server.execute(f"SET search_path = {self.name}; {statement}")

    def function(self, signature: str, body: str, language: str = "plpgsql") -> None:
        """Make `signature`, such as `f(a text) RETURNS text`, with this body."""
        self.define(f"CREATE FUNCTION {signature} LANGUAGE {language} AS $body$ {body} $body$")

    def procedure(self, signature: str, body: str) -> None:
        """Make a procedure with this body."""
        self.define(f"CREATE PROCEDURE {signature} LANGUAGE plpgsql AS $body$ {body} $body$")


@dataclass(frozen=True)
class Caller:
    """Calls what is in one schema."""

    session: Session
    schema: Schema

    def __call__(self, name: str, /, *positional: str, timeout: Any = 10, returns: Any = True, **named: str) -> Any:
        """Call `name` of the schema with text arguments; `timeout` is in seconds, `returns` as of Procedure."""
        arguments = [Argument(str(number), value) for number, value in enumerate(positional)]
        arguments += [Argument(key, value) for key, value in named.items()]
        qualified = name if "." in name else f"{self.schema.name}.{name}"
        return self.session.call(Procedure(qualified, tuple(arguments), timedelta(seconds=timeout), returns))

    def refusal(self, name: str, /, *positional: str, **options: Any) -> Failure:
        """Why a call that must not work does not."""
        with pytest.raises(Failure) as caught:
            self(name, *positional, **options)
        return caught.value


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder: Path = tmp_path_factory.mktemp("pki")
    authority = Authority(folder / "ca")
    return Pki(
        authority,
        Authority(folder / "stranger", "Nobody's CA"),
        authority.issue("good", ["127.0.0.1", "::1", "localhost", "db.example.test"]),
    )


@pytest.fixture(scope="session")
def site(pki: Pki) -> Iterator[Site]:
    with PostgreSQL.temporary(listen="127.0.0.1,::1") as server:
        server.start(pki.good, client_ca=pki.authority.file)
        site = Site(server, pki)
        quoted = site.password.replace("'", "''")
        server.execute(f"CREATE ROLE {site.username} LOGIN PASSWORD '{quoted}'")
        yield site


@pytest.fixture
def schema(site: Site) -> Iterator[Schema]:
    name = f"test_{next(_numbers)}"
    site.server.execute(f"CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO {site.username}")
    yield Schema(name, site.server)
    site.server.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def open_session(site: Site) -> Iterator[Callable[[], Session]]:
    """Opens sessions that are closed after the test."""
    sessions: list[Session] = []

    def opened() -> Session:
        sessions.append(connect(site.login()))
        return sessions[-1]

    yield opened
    for session in sessions:
        session.close()


@pytest.fixture
def session(open_session: Callable[[], Session]) -> Session:
    return open_session()


@pytest.fixture
def call(session: Session, schema: Schema) -> Caller:
    return Caller(session, schema)


# MariaDB


@pytest.fixture(scope="session")
def mariadb(pki: Pki) -> Iterator[MariaDBSite]:
    with MariaDB.temporary(listen="127.0.0.1,::1", log_statements=True) as server:
        server.start(pki.good, client_ca=pki.authority.file)
        site = MariaDBSite(server, pki.authority, pki.stranger, pki.good)
        site.make_account()
        yield site


@pytest.fixture
def mariadb_schema(mariadb: MariaDBSite) -> Iterator[MariaDBSchema]:
    name = f"test_{next(_numbers)}"
    mariadb.server.execute(f"CREATE DATABASE {name}")
    mariadb.server.execute(f"GRANT EXECUTE ON {name}.* TO {mariadb.username}")
    yield MariaDBSchema(name, mariadb.server)
    mariadb.server.execute(f"REVOKE EXECUTE ON {name}.* FROM {mariadb.username}")
    mariadb.server.execute(f"DROP DATABASE {name}")


@pytest.fixture
def open_mariadb_session(mariadb: MariaDBSite) -> Iterator[Callable[[], Session]]:
    """Opens sessions that are closed after the test."""
    with contextlib.ExitStack() as sessions:

        def opened() -> Session:
            session = mariadb.connect()
            sessions.callback(session.close)
            return session

        yield opened


@pytest.fixture
def mariadb_call(open_mariadb_session: Callable[[], Session], mariadb_schema: MariaDBSchema) -> MariaDBCaller:
    return MariaDBCaller(open_mariadb_session(), mariadb_schema)


# The examples


@pytest.fixture(scope="session")
def postgresql_installation(pki: Pki) -> Iterator[Installation]:
    with (
        PostgreSQL.temporary(log_statements=True) as server,
        installation(server, pki.authority, pki.good) as installed,
    ):
        yield installed


@pytest.fixture(scope="session")
def mariadb_installation(pki: Pki) -> Iterator[Installation]:
    with MariaDB.temporary(log_statements=True) as server, installation(server, pki.authority, pki.good) as installed:
        yield installed


# SQL Server


@pytest.fixture(scope="session", params=targets(), ids=str)
def sqlserver(pki: Pki, request: pytest.FixtureRequest) -> Iterator[SqlServerSite]:
    """Each installed ODBC driver, on the double and on a real server where one is named."""
    target: Target = request.param
    with sqlserver_site(target, pki.authority, pki.stranger, pki.good) as opened:
        yield opened


@pytest.fixture(params=targets(real=False), ids=str)
def misbehaving(pki: Pki, request: pytest.FixtureRequest) -> Iterator[SqlServerSite]:
    """A double of one's own, for what no real server can be told to do."""
    with double_site(request.param, pki.authority, pki.stranger, pki.good) as opened:
        yield opened


@pytest.fixture
def sqlserver_schema(sqlserver: SqlServerSite) -> Iterator[SqlServerSchema]:
    schema = SqlServerSchema(f"test_{next(_numbers)}", sqlserver)
    schema.create()
    yield schema
    schema.drop()


@pytest.fixture
def open_sqlserver_session(sqlserver: SqlServerSite) -> Iterator[Callable[[], Session]]:
    """Opens sessions that are closed after the test."""
    with contextlib.ExitStack() as sessions:

        def opened() -> Session:
            session = sqlserver.connect()
            sessions.callback(session.close)
            return session

        yield opened


@pytest.fixture
def sqlserver_call(open_sqlserver_session: Callable[[], Session], sqlserver_schema: SqlServerSchema) -> SqlServerCaller:
    return SqlServerCaller(open_sqlserver_session(), sqlserver_schema)
