"""MariaDB and MySQL: verified connection, the lock of an identity, one stored procedure called.

The conversation is in `mariadb_wire`, which procedure is meant in `mariadb_catalogue`, what error numbers mean in
`mariadb_errors`, the login in `mariadb_login` and `mariadb_tls`.

What the engine does not give: MariaDB notices within five seconds that a client is gone while a call waits in SLEEP(),
GET_LOCK() or for a lock, otherwise when it sends rows or at max_statement_time; MySQL has no time limit for procedures.
A procedure that runs as its definer can be ended from outside only by an account with CONNECTION ADMIN
(CONNECTION_ADMIN). Until then the call keeps the lock, and its successor waits for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from api.operation import Connection
from api.reasons import Reason
from provisioner_job.drivers import mariadb_catalogue as catalogue
from provisioner_job.drivers import mariadb_errors, mariadb_tls
from provisioner_job.drivers.contract import Login, Procedure, Result
from provisioner_job.drivers.mariadb_errors import Called, ServerError
from provisioner_job.drivers.mariadb_login import open_session
from provisioner_job.drivers.mariadb_wire import Lost, Rows, Wire
from provisioner_job.drivers.result import ResultSet, read_result
from provisioner_job.errors import Failure, before_the_call, shortened

if TYPE_CHECKING:
    from api.probe import Inspection

GRACE = timedelta(seconds=2)
"""How much longer than the server this side waits, before it ends a call by itself."""
_LOOK_UP_TIME = timedelta(seconds=10)
_FACTS = "SELECT CONNECTION_ID(), @@version, @@global.read_only, DATABASE()"
_VARIABLE = re.compile(r"dbaas_argument_(\d+)")


def connect(login: Login) -> MariaDBSession:
    """Log in to the first address of the host that has a server which takes writes; raises Failure."""
    return open_session(login, MariaDBSession)


class MariaDBSession:
    """A `contract.Session`."""

    def __init__(self, wire: Wire, where: str) -> None:
        """Raises Failure(SERVER_NOT_READY) for a server that is read-only. where: `host:port` for messages."""
        self._wire = wire
        with _translated("asking the server what it is", wire, _LOOK_UP_TIME):
            number, version, read_only, database = self._texts(self._query(_FACTS, _LOOK_UP_TIME))[0]
        if read_only not in ("0", "OFF"):
            raise Failure(Reason.SERVER_NOT_READY, f"{where} is read-only (a replica?); name the primary")
        wire.number = int(number)
        self._database = database
        self._mariadb = "mariadb" in version.lower()
        self.connection = _facts(wire, f"{'MariaDB' if self._mariadb else 'MySQL'} {version.partition('-')[0]}")

    def lock(self, identity: str, timeout: timedelta) -> None:
        """A user-level lock: of the server (a Galera node, a group's member), whatever database a session is in."""
        limit = timeout + GRACE
        # A GET_LOCK() that is interrupted by any limit gives NULL and no error.
        unlimited = f"/*M! SET STATEMENT max_statement_time = {limit.total_seconds()} FOR */ "
        statement = f"{unlimited}SELECT GET_LOCK('{lock_name(identity)}', {timeout.total_seconds()})"
        with _translated("waiting for the lock of this database", self._wire, timeout):
            [[taken]] = self._texts(self._query(statement, limit))
        if taken == "1":
            return
        if self._wire.cancelled:
            raise _interrupted(self._wire)
        raise Failure(
            Reason.LOCK_TIMEOUT,
            f"an earlier call for this database still runs on the server; waited {timeout.total_seconds():g} s",
        )

    def call(self, procedure: Procedure) -> Result:
        """Three round trips: which procedure is meant, the limits, the call; more for odd types and for OUT parameters.

        OUT and INOUT parameters join the last result set.
        """
        with before_the_call():
            statement = self._resolve(procedure)
            self._prepare(procedure, statement)
        with _translated(procedure.name, self._wire, procedure.timeout, statement.called):
            rows = self._query(statement.text, procedure.timeout + GRACE)
            if self._wire.in_transaction:
                # START TRANSACTION without COMMIT: what is about to be written into a Secret would be undone.
                self._query("COMMIT", procedure.timeout + GRACE)
            if not procedure.returns:
                return {}
            outputs = self._query(statement.outputs, _LOOK_UP_TIME) if statement.outputs else None
        try:
            return read_result(_texts(rows), None if outputs is None else _texts(outputs), silent=procedure.silent)
        except Failure as failure:
            raise Failure(failure.reason, f"{procedure.name} ran, but {failure.message}") from None

    def inspect(self, name: str) -> Inspection:
        """See `contract.Session`."""
        from provisioner_job.drivers import mariadb_inspection  # probes alone need it

        parsed = catalogue.Name.parse(name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            routines = catalogue.named(parsed, self._texts(self._query(parsed.look_up, _LOOK_UP_TIME)))
            if not routines:
                raise self._missing(name)
            try:
                granted = self._texts(self._query(mariadb_inspection.GRANTS, _LOOK_UP_TIME))
            except ServerError:
                # Its PUBLIC is no more than an account that nobody has made.
                return mariadb_inspection.inspected(routines, None)
        return mariadb_inspection.inspected(routines, [line for [line] in granted])

    def cancel(self) -> None:
        """See `contract.Session`; the server is told by another thread."""
        self._wire.cancel()

    def close(self) -> None:
        """See `contract.Session`."""
        self._wire.close()

    def _query(self, statement: str, limit: timedelta) -> Rows:
        return self._wire.query(statement, time.monotonic() + limit.total_seconds())

    def _texts(self, rows: Rows) -> list[list[str]]:
        return [[(value or b"").decode(errors="replace") for value in row] for row in rows.values]

    def _resolve(self, procedure: Procedure) -> catalogue.Statement:
        name = catalogue.Name.parse(procedure.name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            found = self._texts(self._query(name.look_up, _LOOK_UP_TIME))
            statement = catalogue.resolve(procedure, found)
            if statement is not None:
                return statement
            raise self._missing(procedure.name)

    def _missing(self, name: str) -> Failure:
        known = self._texts(self._query(catalogue.LIST_ALL, _LOOK_UP_TIME))
        return catalogue.missing(name, self._database, [(schema, one) for schema, one in known])

    def _prepare(self, procedure: Procedure, statement: catalogue.Statement) -> None:
        seconds = procedure.timeout.total_seconds()
        # A wait for a lock that uses up the whole time is reported as what it was; these settings take whole seconds.
        waiting = max(1, int(seconds * 0.9))
        settings = [f"lock_wait_timeout = {waiting}", f"innodb_lock_wait_timeout = {waiting}", *statement.assignments]
        limit = f" /*M! , max_statement_time = {max(0.001, seconds):.3f} */"
        with _translated("setting the limits of the call", self._wire, _LOOK_UP_TIME):
            self._query(f"SET {', '.join(settings)}{limit}", _LOOK_UP_TIME)
        # MySQL knows no compound statement outside of a procedure; there the call itself is refused.
        if statement.check and self._mariadb:
            self._check(procedure, statement)

    def _check(self, procedure: Procedure, statement: catalogue.Statement) -> None:
        failure: Failure | None = None
        with _translated("checking the arguments", self._wire, _LOOK_UP_TIME):
            try:
                self._query(statement.check, _LOOK_UP_TIME)
            except ServerError as error:
                if error.number in mariadb_errors.CONVERSIONS:
                    failure = _unreadable(procedure, statement, error)
                elif error.number in mariadb_errors.TIMED_OUT or error.number == mariadb_errors.KILLED:
                    raise
                # Any other: a type that only procedures know. The call will tell.
        if failure is not None:
            raise failure


def _unreadable(procedure: Procedure, statement: catalogue.Statement, error: ServerError) -> Failure:
    match = _VARIABLE.search(error.message)
    if match is None or match[0] not in statement.checked:
        which, of_type = "an argument", "value of its type"
    else:
        which, of_type = f"argument {match[1]}", str(statement.checked[match[0]].declared)
    return Failure(Reason.ARGUMENTS_INVALID, f"{which} of {procedure.name} holds no valid {of_type}", code=error.code)


def lock_name(identity: str) -> str:
    """The name of a user-level lock; names are compared without regard to case, and hold 64 characters at most."""
    return "kubernetes-dbaas/" + hashlib.sha256(identity.encode()).hexdigest()[:40]


def _facts(wire: Wire, server_version: str) -> Connection:
    tls = wire.tls
    if tls is None:
        return Connection(server_version=server_version)
    certificate = tls.getpeercert(binary_form=True) or b""
    cipher = tls.cipher()
    return Connection(
        server_version=server_version,
        tls_version=tls.version() or "",
        cipher=cipher[0] if cipher else "",
        peer_certificate_sha256=mariadb_tls.fingerprint(certificate),
        peer_certificate_not_after=mariadb_tls.expiry(certificate),
    )


# Failures


def _interrupted(wire: Wire) -> Failure:
    if wire.forbidden:
        return Failure(Reason.INTERRUPTED, f"the Job was told to stop; {_STILL_RUNS}")
    return Failure(Reason.INTERRUPTED, "the Job was told to stop; what ran on the server was cancelled")


_STILL_RUNS = (
    "what runs on the server goes on to its end or its time limit: it runs as its definer, whom the endpoint's account "
    "may not stop (CONNECTION ADMIN)"
)


@contextlib.contextmanager
def _translated(what: str, wire: Wire, limit: timedelta, called: Called | None = None) -> Iterator[None]:
    """Turn what the wire raises into a Failure that says what was being done."""
    started = time.monotonic()
    try:
        yield
    except ServerError as error:
        late = wire.overdue or time.monotonic() - started >= limit.total_seconds() * 0.95
        failure = _statement_failure(error, what, wire, limit, late=late, called=called)
        # It stays chained to the failure, with all that the server quoted.
        error.message = ""
        raise failure from None
    except Lost as lost:
        if wire.cancelled:
            raise _interrupted(wire) from None
        if wire.overdue:
            told = f"; {_STILL_RUNS}" if wire.forbidden else ", nor to its cancellation"
            raise Failure(Reason.TIMEOUT, f"{what}: no answer within {limit.total_seconds():g} s{told}") from None
        raise Failure(Reason.CONNECTION_LOST, f"{what}: the connection was lost: {shortened(str(lost))}") from None


def _statement_failure(
    error: ServerError, what: str, wire: Wire, limit: timedelta, *, late: bool, called: Called | None
) -> Failure:
    ended = error.number in mariadb_errors.TIMED_OUT or error.number == mariadb_errors.KILLED
    if ended and wire.cancelled:
        return _interrupted(wire)
    if ended and late:
        message = f"{what}: not finished within {limit.total_seconds():g} s, and cancelled"
        return Failure(Reason.TIMEOUT, message, code=error.code)
    failure = mariadb_errors.call_failure(error, called)
    return Failure(failure.reason, f"{what}: {failure.message}", code=failure.code)


# Results


def _texts(rows: Rows) -> ResultSet:
    try:
        texts = [[column.text(value) for column, value in zip(rows.columns, row, strict=True)] for row in rows.values]
    except UnicodeDecodeError:
        raise Failure(Reason.RESULT_INVALID, "its result holds text that is not UTF-8") from None
    return ResultSet([column.name for column in rows.columns], texts, rows.count)
