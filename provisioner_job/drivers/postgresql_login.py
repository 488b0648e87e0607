"""Logging in to a PostgreSQL server: what is demanded of the connection, and why one came to nothing.

The demands do not depend on the environment, on files in a home directory, or on what a server would rather have.
"""

from __future__ import annotations

import contextlib
import os
import time

from api.engines import ENGINES, Driver
from api.reasons import Reason
from provisioner_job.drivers import postgresql_errors, postgresql_tls
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.network import first_that_serves
from provisioner_job.drivers.postgresql_wire import Refused, Silent, Wire
from provisioner_job.drivers.tls import Expectation
from provisioner_job.errors import Failure

SETTINGS = {
    # PostgreSQL's own default, so that bodies see what their authors saw; what a role or a database sets is overridden.
    "search_path": '"$user",public,pg_temp',
    "client_min_messages": "error",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO",
    "bytea_output": "hex",
    "statement_timeout": "10s",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "60s",
}
"""Sent with the login, so that no statement ever runs without them and none is spent on them."""

_SSL_MODES = {"VerifyFull": "verify-full", "VerifyCA": "verify-ca", "Disabled": "disable"}

OLDEST = 110000
"""PostgreSQL 11: the first with procedures."""


def open_wire(login: Login, files: contextlib.ExitStack) -> Wire:
    """Log in to the first address of the host that has a PostgreSQL which takes writes; raises Failure.

    files: keeps open what a cancellation must be able to read again.
    """
    until = time.monotonic() + login.connect_timeout.total_seconds()
    _forget_environment()
    expected = _readable(Expectation.of(login), files)
    _check(login)
    return first_that_serves(
        login.server.host, login.server.port, until, lambda address: _open(login, expected, address, until)
    )


def _forget_environment() -> None:
    """libpq takes what it is not told from PG* variables: a service file, another sslmode, a certificate."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _check(login: Login) -> None:
    """Refuse what libpq would read as something else."""
    server = login.server
    for field, name in (("host", server.host), ("tls.serverName", server.server_name or server.host)):
        # libpq takes `/…` and `@…` for a socket, where nothing is encrypted whatever sslmode says, and `,` for a list.
        if not name or name[0] in "/@" or any(char in ",\0" or char.isspace() for char in name):
            raise Failure(Reason.ENDPOINT_INVALID, f"{field} {name!r} is not the name or address of one host")
    if any("\0" in text for text in (server.database, login.username, login.password)):
        raise Failure(Reason.ENDPOINT_INVALID, "the database's name, the user name or the password holds a NUL")


def _readable(expected: Expectation, files: contextlib.ExitStack) -> Expectation:
    """With the bundle in a file: libpq reads nothing else, and a Job has no file system to write to."""
    if not expected.ca_bundle:
        return expected
    descriptor = os.memfd_create("ca-bundle")
    files.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(expected.ca_bundle.encode())
    return expected._replace(ca_bundle="", ca_file=f"/proc/self/fd/{descriptor}")


def _open(login: Login, expected: Expectation, address: str, until: float) -> Wire:
    try:
        wire = Wire.open(_settings(login, expected, address), until)
    except Silent as silent:
        raise _no_answer(expected, login, connected=silent.connected) from None
    except Refused as refused:
        raise _refusal(refused.text, login, expected, address, until) from None
    fault = _unusable(wire, login, expected)
    if fault is not None:
        wire.close()
        raise fault
    return wire


def _settings(login: Login, expected: Expectation, address: str) -> dict[str, str]:
    server = login.server
    certificate, key = login.client_certificate or ("", "")
    tls = {"sslmode": _SSL_MODES[server.tls_mode]}
    if server.tls_mode != "Disabled":
        tls |= {
            "sslrootcert": expected.ca_file,
            "sslcrl": os.devnull,
            "ssl_min_protocol_version": f"TLSv{server.minimum_tls_version}",
            "sslcertmode": "require" if certificate else "disable",
            "sslcert": certificate,
            "sslkey": key,
            # Used whenever the server offers it; that somebody in between took the offer away, SCRAM notices by itself
            # (RFC 5802, flag "y"). "require" would shut out md5, LDAP and certificate logins, and poolers.
            "channel_binding": "prefer",
        }
    if server.tls_mode != "VerifyFull":
        # A password in clear (LDAP, PAM) goes to none but a server whose name was verified.
        tls["require_auth"] = "!password"
    return tls | {
        "host": expected.name,
        "hostaddr": address,
        "port": str(server.port),
        "dbname": server.database or ENGINES[Driver.POSTGRES].default_database,
        "user": login.username,
        "password": login.password,
        "passfile": os.devnull,
        "gssencmode": "disable",
        "client_encoding": "UTF8",
        "application_name": f"dbaas:{server.endpoint}"[:63],
        "options": " ".join(f"-c {name}={value}" for name, value in SETTINGS.items()),
        # A server that vanishes during a long call is noticed after 20 seconds.
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "2",
        "tcp_user_timeout": "20000",
    }


def _unusable(wire: Wire, login: Login, expected: Expectation) -> Failure | None:
    if login.server.tls_mode != "Disabled" and not wire.connection.encrypted:
        return Failure(Reason.TLS_FAILED, f"the connection to {expected.where} is not encrypted")
    if wire.connection.server_version < OLDEST:
        return Failure(
            Reason.ENDPOINT_INVALID,
            f"{expected.where} is PostgreSQL {wire.server_version}; procedures need 11 or later",
        )
    if wire.connection.parameter("in_hot_standby") == "on":
        return Failure(Reason.SERVER_NOT_READY, f"{expected.where} is a standby, which cannot write; name the primary")
    if wire.connection.parameter("default_transaction_read_only") == "on":
        return Failure(
            Reason.SERVER_NOT_READY,
            f"{expected.where} is kept read-only: default_transaction_read_only is on there, for this database or for "
            "the endpoint's account",
        )
    return None


def _no_answer(expected: Expectation, login: Login, *, connected: bool) -> Failure:
    seconds = f"{login.connect_timeout.total_seconds():g} s"
    if connected:
        return Failure(
            Reason.SERVER_NOT_READY, f"{expected.where} takes connections, but no login was through after {seconds}"
        )
    return Failure(Reason.ENDPOINT_UNREACHABLE, f"{expected.where} did not answer within {seconds}")


def _refusal(text: str, login: Login, expected: Expectation, address: str, until: float) -> Failure:
    """What libpq's words for a connection that came to nothing mean."""
    certificate_given = login.client_certificate is not None
    known = postgresql_errors.login_failure(text, expected.where, certificate_given=certificate_given)
    if known is not None:
        return known
    if login.server.tls_mode == "Disabled":
        known = postgresql_tls.reach(expected, address, until)
    else:
        known = postgresql_tls.explain(expected, address, until)
    if known is not None:
        return known
    # TLS stands; what is left are alerts about the client's certificate, and methods of authentication.
    last = text.strip().rpartition(" failed: ")[2]
    if certificate_given and "alert" in last:
        return Failure(
            Reason.CLIENT_CERTIFICATE_REFUSED, f"{expected.where} refuses the endpoint's client certificate: {last}"
        )
    if any(word in last for word in ("authentication", "SCRAM", "password")):
        return Failure(Reason.CREDENTIALS_REFUSED, f"no login at {expected.where}: {last}")
    return Failure(Reason.SERVER_NOT_READY, f"{expected.where} ended the login: {last}")
