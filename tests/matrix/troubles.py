"""What can go wrong with a whole database server and be over again: each is a context, and lasts as long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import psycopg
import pymysql

from tests.integration.tds.server import Server as Double
from tests.servers.examples import ACCOUNT, DATABASE, Exemplary
from tests.servers.mariadb import MariaDB
from tests.servers.pki import KeyPair
from tests.servers.postgresql import PostgreSQL

FEWEST = 10
"""The least max_connections that MariaDB takes."""
_NO_PLACE = (
    17809,
    "Could not connect because the maximum number of '100' user connections has already been reached. The system"
    " administrator can use sp_configure to increase the maximum value. The connection has been closed.",
    20,
)
Trouble = Callable[[Exemplary | Double, KeyPair], AbstractContextManager[None]]
"""On which server; its certificate."""


@contextlib.contextmanager
def stopped(server: Exemplary | Double, certificate: KeyPair) -> Iterator[None]:
    """Its process ends, with all that runs there, and is started again."""
    server.stop()
    try:
        yield
    finally:
        server.start(certificate)


@contextlib.contextmanager
def paused(server: Exemplary | Double, certificate: KeyPair) -> Iterator[None]:
    """SIGSTOP: it keeps its connections, and answers nothing."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextlib.contextmanager
def slow(server: Exemplary | Double, certificate: KeyPair) -> Iterator[None]:
    """Somebody locks what the procedures need."""
    match server:
        case PostgreSQL():
            with _session(server) as ask:
                ask("BEGIN")
                # Logins read it, and go on.
                ask("LOCK TABLE pg_catalog.pg_authid IN EXCLUSIVE MODE")
                yield
        case MariaDB():
            with _session(server) as ask:
                ask(f"LOCK TABLES {DATABASE}.made WRITE")
                yield
        case Double(world=world):
            world.locked = True
            try:
                yield
            finally:
                world.locked = False


@contextlib.contextmanager
def full(server: Exemplary | Double, certificate: KeyPair) -> Iterator[None]:
    """Others have all its connections."""
    match server:
        case PostgreSQL():
            server.execute(f"ALTER ROLE {ACCOUNT} CONNECTION LIMIT 0")
            try:
                yield
            finally:
                server.execute(f"ALTER ROLE {ACCOUNT} CONNECTION LIMIT -1")
        case MariaDB():
            with contextlib.ExitStack() as stack:
                [first, *_] = [stack.enter_context(_session(server)) for _ in range(FEWEST)]
                first(f"SET GLOBAL max_connections = {FEWEST}")
                try:
                    yield
                finally:
                    first("SET GLOBAL max_connections = 100")
        case Double(behaviour=behaviour):
            behaviour.login_error = _NO_PLACE
            try:
                yield
            finally:
                behaviour.login_error = None


TROUBLES: Mapping[str, Trouble] = {"stopped": stopped, "paused": paused, "slow": slow, "full": full}


@contextlib.contextmanager
def _session(server: Exemplary) -> Iterator[Callable[[str], object]]:
    """A session of the DBA's own: a way to have statements run in it."""
    if isinstance(server, PostgreSQL):
        with psycopg.connect(
            host=str(server.folder), port=server.port, user="postgres", dbname=DATABASE, autocommit=True
        ) as connection:
            yield lambda statement: connection.execute(statement.encode())
        return
    with (
        pymysql.connect(unix_socket=str(server.folder / "socket"), user="root", ssl_disabled=True) as session,
        session.cursor() as cursor,
    ):
        yield cursor.execute
