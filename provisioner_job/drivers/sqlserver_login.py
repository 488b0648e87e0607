"""Logging in to a SQL Server: what is demanded of the connection, and why one came to nothing.

First the server is verified, then the ODBC driver is let at it, through the relay. Nothing depends on the environment.
"""

from __future__ import annotations

import time

from api.engines import ENGINES, Driver
from api.reasons import Reason
from provisioner_job.drivers import sqlserver_errors, sqlserver_odbc
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.network import first_that_serves
from provisioner_job.drivers.sqlserver_odbc import Library, Refused, Silent, Wire
from provisioner_job.drivers.sqlserver_relay import Relay
from provisioner_job.drivers.sqlserver_tds import Account
from provisioner_job.drivers.sqlserver_tls import TlsFacts, open_upstream
from provisioner_job.drivers.tls import Expectation
from provisioner_job.errors import Failure

_LONGEST = 128
"""Characters of a user name, a password and a database's name: [MS-TDS] 2.2.6.4."""


def open_wire(login: Login, library: Library | None = None) -> tuple[Wire, TlsFacts]:
    """Log in to the first address of the host that has a SQL Server which is ready; raises Failure.

    library: the ODBC driver to use; None: the best that is installed.
    """
    until = time.monotonic() + login.connect_timeout.total_seconds()
    expected = Expectation.of(login)
    _check(login)
    library = library or _library()

    def attempt(address: str) -> tuple[Wire, TlsFacts]:
        return _open(login, library, expected, address, until)

    return first_that_serves(login.server.host, login.server.port, until, attempt)


def _library() -> Library:
    found = sqlserver_odbc.installed()
    if not found:
        raise Failure(
            Reason.DRIVER_MISSING,
            "the Job's image has no ODBC driver for SQL Server; build it with FreeTDS (the package tdsodbc, as the "
            "Dockerfile does), or with Microsoft's driver by --build-arg ACCEPT_MICROSOFT_ODBC_EULA=yes",
        )
    return found[0]


def _check(login: Login) -> None:
    server = login.server
    for field, name in (("host", server.host), ("tls.serverName", server.server_name or server.host)):
        if not name or any(char in ",;\\\0" or char.isspace() for char in name):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                f"{field} {name!r} is not the name or address of one host; an instance is named by its port",
            )
    for what, text in (("user name", login.username), ("password", login.password), ("database", server.database)):
        if len(text.encode("utf-16-le", "surrogatepass")) > 2 * _LONGEST or "\0" in text:
            raise Failure(Reason.ENDPOINT_INVALID, f"the {what} is longer than {_LONGEST} characters, or holds a NUL")
    if not login.username or not login.password:
        raise Failure(Reason.CREDENTIALS_REFUSED, "a login without user name or password is not tried")


def _open(login: Login, library: Library, expected: Expectation, address: str, until: float) -> tuple[Wire, TlsFacts]:
    upstream = open_upstream(expected, address, until)
    database = login.server.database or ENGINES[Driver.SQLSERVER].default_database
    account = Account(login.username, login.password, database)
    relay = Relay(upstream, account, expected)
    wire = Wire(library, relay)
    try:
        wire.open(_keywords(login, account.placeholder, relay.port), until)
    except Refused as refused:
        wire.close()
        raise _refusal(refused, library, expected, relay) from None
    except Silent:
        wire.close()
        raise relay.fault or Failure(
            Reason.SERVER_NOT_READY,
            f"{expected.where} takes connections, but no login was through after "
            f"{login.connect_timeout.total_seconds():g} s",
        ) from None
    return wire, upstream.facts


def _keywords(login: Login, placeholder: Account, port: int) -> str:
    # FreeTDS reads Port, Microsoft's driver the number behind the comma.
    application = "".join(char for char in f"dbaas:{login.server.endpoint}"[:128] if char not in "{};=\0")
    return (
        f"Server=127.0.0.1,{port};Port={port};UID={placeholder.username};PWD={placeholder.password};"
        f"Database={placeholder.database};APP={application}"
    )


def _refusal(refused: Refused, library: Library, expected: Expectation, relay: Relay) -> Failure:
    if relay.fault is not None:
        return relay.fault
    if refused.number:
        return sqlserver_errors.login_failure(refused.number, refused.message, expected.where)
    if refused.sqlstate in ("01000", "IM002", "IM003", "IM004"):
        # unixODBC could not load it: a library that it needs is not there.
        return Failure(
            Reason.DRIVER_MISSING, f"the Job's image lacks a library of the {library.name} ODBC driver; rebuild it"
        )
    return Failure(Reason.SERVER_NOT_READY, f"{expected.where} ended the login")
