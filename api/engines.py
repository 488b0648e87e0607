"""The database engines: what differs between them before anyone connects.

Knows limits, ports, binding types and calling conventions; the SQL is in `provisioner_job/drivers`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Driver(StrEnum):
    """`spec.driver` of a DatabaseClass."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    MARIADB = "mariadb"
    SQLSERVER = "sqlserver"


class Engine(NamedTuple):
    """What an engine's manual says that decisions outside its driver need."""

    family: str
    """Engines that are one server to a client share a family."""
    binding_type: str
    """`type` of the service binding, and of the Secret: `servicebinding.io/<type>`."""
    default_port: int
    default_database: str
    """Where to connect when the endpoint names no database."""
    identifier_limit: int
    """Longest identifier in `identifier_unit`s."""
    identifier_unit: str
    """`bytes` (UTF-8), `characters`, or `utf16` code units."""
    named_arguments: bool
    """Whether a procedure can be called with named arguments."""


_MYSQL = Engine("mysql", "mysql", 3306, "", 64, "characters", named_arguments=False)

ENGINES: dict[Driver, Engine] = {
    # NAMEDATALEN - 1: PostgreSQL manual, "Lexical Structure".
    Driver.POSTGRES: Engine("postgresql", "postgresql", 5432, "postgres", 63, "bytes", named_arguments=True),
    # MySQL manual, "Identifier Length Limits"; MariaDB knowledge base, "Identifier Names".
    Driver.MYSQL: _MYSQL,
    Driver.MARIADB: Engine("mysql", "mariadb", 3306, "", 64, "characters", named_arguments=False),
    # sysname is nvarchar(128): SQL Server documentation, "Database identifiers".
    Driver.SQLSERVER: Engine("sqlserver", "sqlserver", 1433, "master", 128, "utf16", named_arguments=True),
}
