"""The PostgreSQL of the end-to-end tests: private, with TLS, where pods reach it; and what its procedures have done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from api.kinds import Manifest
from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql import PostgreSQL

PROCEDURES = Path(__file__).with_name("procedures.sql")
NAME = "postgres.dbaas.test"


@dataclass(frozen=True)
class Effect:
    """One committed call of a procedure."""

    procedure: str
    """`create` or `delete`."""
    name: str
    operation: str
    """`{{ .Operation.id }}` of the caller."""
    arguments: Manifest
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Dbms:
    """A server, the account that the operator has on it, and its authority."""

    server: PostgreSQL
    authority: Authority
    certificate: KeyPair
    host: str
    """What pods connect to; the certificate is for it."""
    username: str = "e2e_operator"
    password: str = field(default="e2e-admin 'S3cret' \\ 100%41 {{", repr=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def effects(self, name: str) -> list[Effect]:
        """What the procedures have done under the identity `name`, oldest first."""
        query = "SELECT procedure, name, operation, arguments, began, ended FROM e2e.effects WHERE name = %s"
        return [Effect(*row) for row in self.server.execute(f"{query} ORDER BY number", [name])]

    def exists(self, name: str) -> bool:
        """Whether the procedures hold a database of that identity."""
        return bool(self.server.execute("SELECT 1 FROM e2e.databases WHERE name = %s", [name]))

    def running(self, name: str) -> int:
        """How many calls for that identity run now."""
        [(count,)] = self.server.execute("SELECT e2e.running(%s)", [name])
        return int(count)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold every call for that identity while the block runs."""
        self.hold(name)
        try:
            yield
        finally:
            self.let_go(name)

    def hold(self, name: str) -> None:
        """Close the gate: calls for that identity begin, and wait."""
        self.server.execute("INSERT INTO e2e.gates VALUES (%s) ON CONFLICT DO NOTHING", [name])

    def let_go(self, name: str) -> None:
        """Open the gate."""
        self.server.execute("DELETE FROM e2e.gates WHERE name = %s", [name])

    def databases(self) -> set[str]:
        """The databases that really exist on the server."""
        return {name for (name,) in self.server.execute("SELECT datname FROM pg_database")}

    def roles(self) -> set[str]:
        """The roles that really exist on the server."""
        return {name for (name,) in self.server.execute("SELECT rolname FROM pg_roles")}


def start(folder: Path, listen: str, host: str) -> Dbms:
    """Start a server that listens on `listen`, with the tests' procedures in it; `host` is what pods connect to."""
    authority = Authority(folder / "ca")
    certificate = authority.issue("good", [host, NAME, listen])
    server = PostgreSQL.temporary(listen=listen)
    server.start(certificate)
    dbms = Dbms(server, authority, certificate, host)
    server.psql(PROCEDURES, variables={"password": dbms.password})
    return dbms


def arguments_of(effects: list[Effect]) -> list[Any]:
    """What the procedures were called with."""
    return [effect.arguments for effect in effects]
