"""What is on the server: accounts, databases, procedures, locks; and what reached it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from tests.integration.tds.procedures import Procedure, Script, declared


@dataclass(frozen=True, slots=True)
class Request:
    """What a session asked for, as it arrived."""

    session: int
    kind: str
    """`batch` or the name of the remote procedure."""
    text: str
    values: tuple[tuple[str, str, object], ...] = ()
    """(name, type, value) of each parameter of a remote procedure call."""


@dataclass
class World:
    """Shared by all sessions."""

    accounts: dict[str, str] = field(default_factory=dict)
    databases: set[str] = field(default_factory=lambda: {"master", "tempdb"})
    procedures: list[Procedure] = field(default_factory=list)
    code_page: int = 1252
    updateability: str = "READ_WRITE"
    catalogue: str = "shown"
    """`hidden` from the account (DENY VIEW DEFINITION), or `refused` to it."""
    requests: list[Request] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    """Passwords of the logins that arrived."""
    in_clear: bytearray = field(default_factory=bytearray)
    """All that arrived outside of TLS."""
    running: set[str] = field(default_factory=set)
    """Names of procedures that are being executed."""
    locks: dict[str, int] = field(default_factory=dict)
    """Resource → session."""
    locked: bool = False
    """Whether somebody's transaction holds the tables that procedures need."""
    waiting: set[int] = field(default_factory=set)
    """Sessions that wait for a lock."""
    latch: threading.Lock = field(default_factory=threading.Lock)

    def define(
        self, schema: str, name: str, signature: str, script: Script, *, executable: bool = True, kind: str = "P"
    ) -> Procedure:
        """CREATE OR ALTER PROCEDURE."""
        return self._put(Procedure(schema, name, declared(signature), script, kind, executable))

    def grant_to_public(self, schema: str, name: str, *classes: str) -> None:
        """GRANT EXECUTE TO public: on the object ("1"), its schema ("3"), the database ("0")."""
        procedure = self.find((schema, name))
        assert procedure is not None
        self._put(replace(procedure, public=classes))

    def _put(self, made: Procedure) -> Procedure:
        schema, name = made.schema, made.name
        kept = [one for one in self.procedures if (one.schema, one.name.lower()) != (schema, name.lower())]
        self.procedures = [*kept, made]
        return made

    def drop_schema(self, schema: str) -> None:
        """DROP SCHEMA, with what is in it."""
        self.procedures = [one for one in self.procedures if one.schema != schema]

    def find(self, name: Sequence[str]) -> Procedure | None:
        """What a name in a statement means; names are compared as this server's collation does."""
        *schema, procedure = (part.lower() for part in name)
        wanted = schema[-1] if schema and schema[-1] else "dbo"
        for one in self.procedures:
            if (one.schema.lower(), one.name.lower()) == (wanted, procedure):
                return one
        return None

    def matching(self, schema: str | None, name: str) -> Iterator[Procedure]:
        """What the catalogue has under a name."""
        for one in sorted(self.procedures, key=lambda one: (one.schema, one.name)):
            if one.name.lower() == name.lower() and schema in (None, one.schema):
                yield one

    def lock(self, resource: str, session: int) -> bool:
        """Take an application lock if it is free."""
        with self.latch:
            return self.locks.setdefault(resource, session) == session

    def release(self, session: int) -> None:
        """What a session held."""
        with self.latch:
            self.locks = {resource: holder for resource, holder in self.locks.items() if holder != session}
