"""Procedures with odd names on each engine, and every statement that it was made to run."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from provisioner_job.drivers.contract import Session
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.postgresql_site import Schema, Site
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Event, Rows


@dataclass(frozen=True)
class Ground(ABC):
    """A schema whose procedures say what they were given: one text `given`, which comes back as `said`."""

    site: Any
    schema: Any
    driver: ClassVar[str]
    """Of a class."""
    argument: ClassVar[str] = "given"
    """How the procedures' argument is given."""
    quotes: ClassVar[str]
    """Around a name."""

    def spelled(self, procedure: str) -> str:
        """How a class says this procedure of the schema."""
        opening, closing = self.quotes[0], self.quotes[-1]
        return f"{self.schema.name}.{opening}{procedure.replace(closing, 2 * closing)}{closing}"

    def connect(self) -> Session:
        """As the account that may call them."""
        session: Session = self.site.connect()
        return session

    @abstractmethod
    def define(self, procedure: str) -> None:
        """Make one."""

    @abstractmethod
    def recording(self) -> AbstractContextManager[Callable[[], set[str]]]:
        """Gives what the server says it was asked to run since, in any session of the account; values taken out."""


class PostgreSQLGround(Ground):
    """log_statement = all: statements as they were sent, their values apart."""

    driver = "postgres"
    quotes = '"'
    site: Site
    schema: Schema

    def define(self, procedure: str) -> None:
        name = self.spelled(procedure).partition(".")[2]
        self.schema.function(f"{name}(given text) RETURNS TABLE (said text)", "SELECT given", "sql")

    @contextmanager
    def recording(self) -> Iterator[Callable[[], set[str]]]:
        server = self.site.server
        server.configure({"log_statement": "all", "log_line_prefix": "%u> "})
        start = server.log.stat().st_size
        try:
            yield lambda: self._statements(start)
        finally:
            server.configure({"log_statement": "none", "log_line_prefix": "%m [%p] "})

    def _statements(self, start: int) -> set[str]:
        with self.site.server.log.open("rb") as log:
            log.seek(start)
            said = log.read().decode(errors="replace")
        # A line that goes on begins with a tab: no value can look like the beginning of another entry.
        begun = re.compile(rf"{self.site.username}> LOG:  (?:statement|execute [^:]*): ")
        return {entry[match.end() :] for entry in re.split(r"\n(?!\t)", said) if (match := begun.match(entry))}


class MariaDBGround(Ground):
    """The general log as a table; a value is hexadecimal digits in it."""

    driver = "mariadb"
    argument = "0"
    quotes = "`"
    site: MariaDBSite
    schema: MariaDBSchema

    def define(self, procedure: str) -> None:
        name = self.spelled(procedure).partition(".")[2]
        self.schema.define(f"CREATE PROCEDURE {name}(given longtext) SELECT given AS said")

    @contextmanager
    def recording(self) -> Iterator[Callable[[], set[str]]]:
        server = self.site.server
        server.configure({"log_output": "'FILE,TABLE'"})
        server.execute("TRUNCATE mysql.general_log")
        try:
            yield self._statements
        finally:
            server.configure({"log_output": "'FILE'"})

    def _statements(self) -> set[str]:
        rows = self.site.server.execute(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
            " WHERE user_host LIKE %s AND command_type NOT IN ('Connect', 'Quit')",
            [f"%{self.site.username}%"],
        )
        return {re.sub(r"X'[0-9a-f]*'", "X'…'", statement) for (statement,) in rows}


class SqlServerGround(Ground):
    """What reached the double, values apart."""

    driver = "sqlserver"
    quotes = "[]"
    site: SqlServerSite
    schema: SqlServerSchema

    def define(self, procedure: str) -> None:
        def said(values: Mapping[str, Any]) -> Iterator[Event]:
            yield Rows({"said": "nvarchar(max)"}, [[values["given"]]])

        self.schema.define(procedure, "@given nvarchar(max)", "SELECT @given AS said", said)

    @contextmanager
    def recording(self) -> Iterator[Callable[[], set[str]]]:
        requests = self.site.world.requests
        requests.clear()
        yield lambda: {f"{request.kind}: {_another_database(request.text)}" for request in requests}


_QUOTED = r"\[(?:[^\]]|\]\])*\]"


def _another_database(statement: str) -> str:
    """A database's name, which cannot be a parameter: what is between its quotes taken out."""
    statement = re.sub(rf"{_QUOTED}\.sys\.", "[…].sys.", statement)
    statement = re.sub(rf"EXEC {_QUOTED}(?=\.{_QUOTED}\.{_QUOTED})", "EXEC […]", statement)
    return re.sub(r"N'(?:[^']|'')*'", "N'…'", statement)
