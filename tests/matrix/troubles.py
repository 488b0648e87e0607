"""What can go wrong with a whole database server and be over again: each is a context, and lasts as long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import psycopg
import pymysql

from tests.matrix.engines import RealEngine
from tests.servers.examples import ACCOUNT, DATABASE, Exemplary
from tests.servers.pki import KeyPair
from tests.servers.postgresql import PostgreSQL

FEWEST = 10
"""The least max_connections that MariaDB takes."""
Trouble = Callable[[RealEngine, KeyPair], AbstractContextManager[None]]
"""On which server; its certificate."""


@contextlib.contextmanager
def stopped(engine: RealEngine, certificate: KeyPair) -> Iterator[None]:
    """Its process ends, with all that runs there, and is started again."""
    engine.server.stop()
    try:
        yield
    finally:
        engine.server.start(certificate)


@contextlib.contextmanager
def paused(engine: RealEngine, certificate: KeyPair) -> Iterator[None]:
    """SIGSTOP: it keeps its connections, and answers nothing."""
    engine.server.pause()
    try:
        yield
    finally:
        engine.server.resume()


@contextlib.contextmanager
def slow(engine: RealEngine, certificate: KeyPair) -> Iterator[None]:
    """Somebody locks what the procedures need."""
    with _session(engine.server) as ask:
        if isinstance(engine.server, PostgreSQL):
            ask("BEGIN")
            # Logins read it, and go on.
            ask("LOCK TABLE pg_catalog.pg_authid IN EXCLUSIVE MODE")
        else:
            ask(f"LOCK TABLES {DATABASE}.made WRITE")
        yield


@contextlib.contextmanager
def full(engine: RealEngine, certificate: KeyPair) -> Iterator[None]:
    """Others have all its connections."""
    if isinstance(engine.server, PostgreSQL):
        engine.server.execute(f"ALTER ROLE {ACCOUNT} CONNECTION LIMIT 0")
        try:
            yield
        finally:
            engine.server.execute(f"ALTER ROLE {ACCOUNT} CONNECTION LIMIT -1")
        return
    with contextlib.ExitStack() as stack:
        [first, *_] = [stack.enter_context(_session(engine.server)) for _ in range(FEWEST)]
        first(f"SET GLOBAL max_connections = {FEWEST}")
        try:
            yield
        finally:
            first("SET GLOBAL max_connections = 100")


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
