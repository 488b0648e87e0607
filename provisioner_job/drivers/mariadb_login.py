"""Logging in to a MariaDB or MySQL server: what is demanded of the connection, and why one came to nothing.

The demands do not depend on the environment, on option files, or on what a server would rather have: PyMySQL's own
default is TLS where it is offered, and to answer any server that asks for the password in clear.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT

from api.reasons import Reason
from provisioner_job.drivers import mariadb_errors, mariadb_tls
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.mariadb_wire import NONSENSE, Hand, Verified, Wire, server_error
from provisioner_job.drivers.network import KEEPALIVE, first_that_serves
from provisioner_job.drivers.tls import Expectation, context
from provisioner_job.errors import Failure, shortened

SETTINGS = """
SET NAMES utf8mb4, sql_mode = 'TRADITIONAL', autocommit = 1,
    lock_wait_timeout = 10, innodb_lock_wait_timeout = 10,
    wait_timeout = 300, net_read_timeout = 30, net_write_timeout = 30
    /*M! , max_statement_time = 10 */
"""
"""Of every session, in one round trip; what the server's init_connect set is overridden.

TRADITIONAL refuses what would be cut or bent (on MySQL and MariaDB alike; it is their name for every strict mode). It
holds for the arguments; a body runs under the sql_mode with which it was created. The comment is for MariaDB alone:
MySQL knows no time limit for procedures.
"""

if TYPE_CHECKING:
    _Connection = Connection[Any]
else:  # generic in its stubs alone
    _Connection = Connection

T = TypeVar("T")

_TLS_ONLY = {
    "caching_sha2_password": "it shows the server the password",
    "sha256_password": "it shows the server the password",
}
_VERIFIED_NAME_ONLY = {
    "mysql_clear_password": "it sends the password in clear",
    "dialog": "it sends the password in clear",
}
_NEVER = {
    "mysql_old_password": "its hash is broken",
    "client_ed25519": "the Job's image has no library for it",
}
"""Methods of login, and why they are refused."""


class MethodRefused(Exception):
    """The server demands a method of login that would give the password away."""


class _Configured(_Connection):
    """PyMySQL's connection, without the round trip that SETTINGS makes needless."""

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """SETTINGS does it."""


def open_session(login: Login, made: Callable[[Wire, str], T]) -> T:
    """Log in to the first address of the host whose server `made` accepts; raises Failure.

    made: is given the wire and `host:port`; raises Failure(SERVER_NOT_READY) for a server that takes no writes.
    """
    until = time.monotonic() + login.connect_timeout.total_seconds()
    expected = Expectation.of(login)
    _check(login)
    # Before anything is sent: unusable files are the endpoint's fault.
    demands = None if expected.mode == "Disabled" else context(expected)

    def attempt(address: str) -> T:
        wire = _Attempt(login, expected, demands, address).wire(until)
        try:
            return made(wire, expected.where)
        except Failure:
            wire.close()
            raise

    return first_that_serves(login.server.host, login.server.port, until, attempt)


def _check(login: Login) -> None:
    """Refuse what the protocol would read as something else."""
    server = login.server
    for field, name in (("host", server.host), ("tls.serverName", server.server_name or server.host)):
        if not name or name[0] in "/@" or any(char in ",\0" or char.isspace() for char in name):
            raise Failure(Reason.ENDPOINT_INVALID, f"{field} {name!r} is not the name or address of one host")
    # PyMySQL takes the user of this process for an empty name; NUL ends a name on the wire.
    for field, text in (("username", login.username or "\0"), ("database", server.database)):
        if "\0" in text or not _encodable(text):
            raise Failure(
                Reason.ENDPOINT_INVALID, f"the endpoint's {field} is empty or holds a NUL or half a character"
            )
    if not _encodable(login.password):
        raise Failure(Reason.ENDPOINT_INVALID, "the endpoint's password holds half a character")


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


class _Attempt:
    """Logging in to one address; again, when a statement must be ended there."""

    def __init__(self, login: Login, expected: Expectation, demands: ssl.SSLContext | None, address: str) -> None:
        self._login = login
        self._expected = expected
        self._demands = demands
        self._address = address

    def wire(self, until: float) -> Wire:
        """A wire to this address. Raises Failure."""
        return Wire(self.verified(until), self.verified)

    def verified(self, until: float) -> Verified:
        """A connection to this address. Raises Failure."""
        plain = self._reach(until)
        hand = Hand.on(plain)
        connection = self._connection()
        try:
            with hand.cutting(until):
                connection.connect(sock=plain)
            return Verified(connection, hand)
        except MethodRefused as refused:
            failure = self._method_refused(refused)
        except pymysql.Error as error:
            failure = self._failure(error, until)
        except NONSENSE:
            failure = self._alien()
        plain.close()
        hand.handle.close()
        # Raised here, where no exception is being handled: PyMySQL's know more than anybody should read.
        raise failure

    def _reach(self, until: float) -> socket.socket:
        seconds = max(0.1, until - time.monotonic())
        try:
            plain = socket.create_connection((self._address, self._login.server.port), timeout=seconds)
        except OSError as error:
            if isinstance(error, TimeoutError):
                said = f"did not answer within {self._login.connect_timeout.total_seconds():g} s"
            else:
                said = f"cannot be reached: {(error.strerror or str(error)).lower()}"
            raise Failure(Reason.ENDPOINT_UNREACHABLE, f"{self._expected.where} {said}") from None
        # From here on the hand keeps the time, of the whole login and of every statement.
        plain.settimeout(None)
        for level, option, value in KEEPALIVE:
            plain.setsockopt(level, option, value)
        return plain

    def _connection(self) -> Connection[Any]:
        login, refused = self._login, dict(_NEVER)
        if self._demands is None:
            refused |= _TLS_ONLY
        if self._expected.mode != "VerifyFull":
            refused |= _VERIFIED_NAME_ONLY
        return _Configured(
            # Not where to connect (the socket is given), but the name that the certificate must carry.
            host=self._expected.name,
            user=login.username,
            # PyMySQL would encode it as Latin-1.
            password=login.password.encode(),
            database=login.server.database or None,
            charset="utf8mb4",
            use_unicode=False,
            conv={},
            init_command=SETTINGS,
            autocommit=None,
            local_infile=False,
            client_flag=CLIENT.MULTI_RESULTS,
            program_name=f"dbaas:{login.server.endpoint}"[:63],
            auth_plugin_map={method: _refusal(method) for method in refused},
            # Mandatory with a context, and never tried without.
            ssl=self._demands,
            ssl_disabled=self._demands is None,
            defer_connect=True,
        )

    # Why it came to nothing

    def _failure(self, error: pymysql.Error, until: float) -> Failure:
        refused = server_error(error)
        if refused is not None:
            return mariadb_errors.login_failure(refused, self._expected.where, self._also_refused_by())
        cause = getattr(error, "original_exception", None) or error.__context__
        hung_up_on = isinstance(cause, ssl.SSLEOFError | ConnectionError)
        if isinstance(cause, ssl.SSLError) and not hung_up_on:
            return mariadb_tls.failure(cause, self._expected, self._address, until)
        number = error.args[0] if error.args else None
        if number == mariadb_errors.TLS_MISSING:
            return mariadb_tls.not_offered(self._expected)
        if number == mariadb_errors.METHOD_UNKNOWN:
            return self._method_refused(MethodRefused(shortened(str(error.args[1]))))
        if time.monotonic() >= until:
            return Failure(
                Reason.SERVER_NOT_READY,
                f"{self._expected.where} takes connections, but no login was through "
                f"after {self._login.connect_timeout.total_seconds():g} s",
            )
        if hung_up_on or number in (2006, 2013):
            because = mariadb_tls.client_certificate_failure(self._expected, self._address, until)
            return because or Failure(
                Reason.SERVER_NOT_READY, f"{self._expected.where} ended the connection before the login"
            )
        return self._alien()

    def _also_refused_by(self) -> str:
        """What else the servers' one sentence for a refused login may mean."""
        if self._demands is None:
            return "or it takes no login without TLS"
        given = self._login.client_certificate is not None
        return f"or the account REQUIREs {'another' if given else 'a'} client certificate"

    def _alien(self) -> Failure:
        return Failure(Reason.TLS_FAILED, f"{self._expected.where} does not answer as a MariaDB or MySQL server does")

    def _method_refused(self, refused: MethodRefused) -> Failure:
        method = str(refused)
        where = f"no login at {self._expected.where}: it demands"
        if method in _NEVER:
            said = f"{method}, and {_NEVER[method]}; let the account be IDENTIFIED VIA mysql_native_password"
        elif method in _TLS_ONLY:
            said = f"{method}, and {_TLS_ONLY[method]}; set tls.mode VerifyFull"
        elif method in _VERIFIED_NAME_ONLY:
            said = f"{method}, and {_VERIFIED_NAME_ONLY[method]}, for which tls.mode must be VerifyFull"
        else:
            said = f"a method that is not known here ({method})"
        return Failure(Reason.CREDENTIALS_REFUSED, f"{where} {said}")


def _refusal(method: str) -> type[Any]:
    """What PyMySQL lets answer a server that demands this method."""

    class Refusal:
        def __init__(self, connection: object) -> None:
            pass

        def authenticate(self, packet: object) -> NoReturn:
            raise MethodRefused(method)

    return Refusal
