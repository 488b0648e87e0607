"""Real servers for the tests of drivers: one of each for the whole run, a schema of its own for each test."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner_job.drivers.contract import Session
from tests.integration import napping
from tests.integration.caller import Caller
from tests.integration.fronts import Front, MariaDBFront, PostgreSQLFront, SqlServerFront
from tests.integration.installation import Installation, installation
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.napping import Bed
from tests.integration.postgresql_site import Schema, Site
from tests.integration.site import sessions
from tests.integration.sqlserver_site import (
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

_numbers = itertools.count()


@dataclass(frozen=True)
class Pki:
    """Certificates for the server on 127.0.0.1, one of them right."""

    authority: Authority
    stranger: Authority
    """A CA that nobody trusts."""
    good: KeyPair


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
        site = Site(server, pki.authority, pki.stranger, pki.good)
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
    with sessions(site) as opened:
        yield opened


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
    with sessions(mariadb) as opened:
        yield opened


@pytest.fixture
def mariadb_call(open_mariadb_session: Callable[[], Session], mariadb_schema: MariaDBSchema) -> Caller:
    return Caller(open_mariadb_session(), mariadb_schema)


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


# All of them


@pytest.fixture
def postgresql_bed(site: Site, schema: Schema, open_session: Callable[[], Session]) -> Bed:
    return napping.of_postgresql(site, schema, open_session)


@pytest.fixture
def mariadb_bed(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema, open_mariadb_session: Callable[[], Session]
) -> Bed:
    return napping.of_mariadb(mariadb, mariadb_schema, open_mariadb_session)


@pytest.fixture(params=["postgresql", "mariadb", *targets()], ids=str)
def bed(pki: Pki, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """Each engine, as one waits for it."""
    if not isinstance(request.param, Target):
        yield request.getfixturevalue(f"{request.param}_bed")
        return
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(sqlserver_site(request.param, pki.authority, pki.stranger, pki.good))
        schema = SqlServerSchema(f"test_{next(_numbers)}", opened)
        schema.create()
        stack.callback(schema.drop)
        yield napping.of_sqlserver(opened, schema, stack.enter_context(sessions(opened)))


@pytest.fixture(params=["postgresql", "mariadb", *targets(real=False)], ids=str)
def front(pki: Pki, request: pytest.FixtureRequest) -> Iterator[Front]:
    """Each engine, as a login meets it."""
    if isinstance(request.param, Target):
        with double_site(request.param, pki.authority, pki.stranger, pki.good) as opened:
            yield SqlServerFront(opened)
    elif request.param == "postgresql":
        yield PostgreSQLFront(request.getfixturevalue("site"))
    else:
        yield MariaDBFront(request.getfixturevalue("mariadb"))


@pytest.fixture
def sqlserver_schema(sqlserver: SqlServerSite) -> Iterator[SqlServerSchema]:
    schema = SqlServerSchema(f"test_{next(_numbers)}", sqlserver)
    schema.create()
    yield schema
    schema.drop()


@pytest.fixture
def open_sqlserver_session(sqlserver: SqlServerSite) -> Iterator[Callable[[], Session]]:
    """Opens sessions that are closed after the test."""
    with sessions(sqlserver) as opened:
        yield opened


@pytest.fixture
def sqlserver_call(open_sqlserver_session: Callable[[], Session], sqlserver_schema: SqlServerSchema) -> Caller:
    return Caller(open_sqlserver_session(), sqlserver_schema)
