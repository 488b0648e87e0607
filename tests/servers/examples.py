"""The procedures of examples/ on a private server, as its DBA installs and sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

FOLDER = Path(__file__).parents[2] / "examples"
DATABASE = "dbaas"
"""Where the procedures are."""
ACCOUNT = "dbaas_operator"
OPERATOR_PASSWORD = "the example's 'operator' \\ password"

Exemplary: TypeAlias = PostgreSQL | MariaDB
"""A server on which they can be."""

_PRESENT = {
    "postgresql": (
        "SELECT 'database' FROM pg_database WHERE datname = %s"
        " UNION ALL SELECT 'login' FROM pg_roles WHERE rolname = %s"
    ),
    "mariadb": (
        "SELECT 'database' FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s"
        " UNION ALL SELECT 'login' FROM mysql.user WHERE User = %s"
    ),
}


def install(server: Exemplary, **variables: str) -> None:
    """Make what the procedures need, and run them in; variables: further ones than the operator's password."""
    if isinstance(server, PostgreSQL) and not server.execute(
        "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
    ):
        server.execute(f"CREATE DATABASE {DATABASE}")
    run(server, operator_password=OPERATOR_PASSWORD, **variables)


def run(server: Exemplary, **variables: str) -> None:
    """Run procedures.sql with these variables."""
    file = FOLDER / server.examples / "procedures.sql"
    if isinstance(server, MariaDB):
        server.client(file, variables=variables)
    else:
        server.psql(file, database=DATABASE, variables=variables)


def present(server: Exemplary, name: str) -> list[str]:
    """Which of `database` and `login` there is under this name, in this order; each as often as there is one."""
    return sorted(what for (what,) in server.execute(_PRESENT[server.engine], [name, name]))
