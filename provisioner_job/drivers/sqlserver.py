"""SQL Server 2016 and later: verified connection, the lock of an identity, one stored procedure called.

TLS is in `sqlserver_tls`, the relay between the ODBC driver and the server in `sqlserver_relay`, the conversation in
`sqlserver_odbc`, the login in `sqlserver_login`, which procedure is meant in `sqlserver_catalogue` and
`sqlserver_resolution`, what error numbers mean in `sqlserver_errors`, what values look like in `sqlserver_values`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from api.operation import Connection
from api.reasons import Reason
from provisioner_job.drivers import sqlserver_catalogue as catalogue
from provisioner_job.drivers import sqlserver_errors
from provisioner_job.drivers import sqlserver_resolution as resolution
from provisioner_job.drivers.contract import Login, Procedure, Result
from provisioner_job.drivers.result import ResultSet, read_result
from provisioner_job.drivers.sqlserver_login import open_wire
from provisioner_job.drivers.sqlserver_odbc import Broken, Cancelled, Library, Refused, Rows, Silent, Wire
from provisioner_job.drivers.sqlserver_tls import TlsFacts
from provisioner_job.errors import Failure, before_the_call

if TYPE_CHECKING:
    from api.probe import Inspection

GRACE = timedelta(seconds=2)
"""How much longer than the server this side waits for a lock."""
_LOOK_UP_TIME = timedelta(seconds=10)

SETTINGS = (
    # What indexed views, XML methods and computed columns demand, whatever the server's or the account's defaults are.
    "SET ANSI_NULLS, ANSI_PADDING, ANSI_WARNINGS, ARITHABORT, CONCAT_NULL_YIELDS_NULL, QUOTED_IDENTIFIER ON",
    # An error ends the batch and undoes its transaction; without it a procedure goes on after most errors.
    "SET XACT_ABORT ON",
    "SET NUMERIC_ROUNDABORT, IMPLICIT_TRANSACTIONS, CURSOR_CLOSE_ON_COMMIT, NOCOUNT OFF",
    # Names are read from messages, and dates from texts.
    "SET LANGUAGE us_english",
    "SET DATEFORMAT ymd",
    "SET TEXTSIZE -1",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
_FACTS = (
    "SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')),"
    " CONVERT(nvarchar(128), SERVERPROPERTY('Edition')),"
    " CONVERT(nvarchar(128), DATABASEPROPERTYEX(DB_NAME(), 'Updateability'))"
)
_TAKE_LOCK = (
    "DECLARE @taken int; EXEC @taken = sys.sp_getapplock @Resource = ?, @LockMode = 'Exclusive',"
    " @LockOwner = 'Session', @LockTimeout = {milliseconds}, @DbPrincipal = 'public'; SELECT @taken AS taken"
)
_LOCK_TIMEOUT, _LOCK_DEADLOCK = -1, -3


def connect(login: Login, library: Library | None = None) -> SqlServerSession:
    """Log in to the first address of the host that has a SQL Server which takes writes; raises Failure.

    library: the ODBC driver to use; None: the best that is installed.
    """
    wire, facts = open_wire(login, library)
    try:
        return SqlServerSession(wire, facts, f"{login.server.host}:{login.server.port}")
    except BaseException:
        wire.close()
        raise


class SqlServerSession:
    """A `contract.Session`."""

    def __init__(self, wire: Wire, facts: TlsFacts, where: str) -> None:
        self._wire = wire
        with _translated("preparing the session", wire, _LOOK_UP_TIME):
            said = self._query("; ".join((*SETTINGS, _FACTS)), (), _LOOK_UP_TIME)
        # NULL where it may not be known, and nothing at all from what speaks TDS and is no SQL Server.
        version, edition, updateability = (text or "" for text in _row(said, 3))
        if updateability not in ("READ_WRITE", ""):
            raise Failure(Reason.SERVER_NOT_READY, f"{where} is a replica, which cannot write; name the primary")
        self.connection = Connection(
            server_version=f"SQL Server {version} {edition}".rstrip(),
            tls_version=facts.version,
            cipher=facts.cipher,
            peer_certificate_sha256=facts.certificate_sha256,
            peer_certificate_not_after=facts.certificate_not_after,
        )

    def lock(self, identity: str, timeout: timedelta) -> None:
        """An application lock: of the database that the endpoint names, where every Job of the endpoint connects."""
        statement = _TAKE_LOCK.format(milliseconds=_milliseconds(timeout))
        with _translated("waiting for the lock of this database", self._wire, timeout):
            said = self._query(statement, (lock_name(identity),), timeout + GRACE)
        # An error would have been raised: what says nothing has done it.
        taken = int(_row(said, 1)[0] or 0)
        if taken == _LOCK_TIMEOUT:
            raise Failure(
                Reason.LOCK_TIMEOUT,
                f"an earlier call for this database still runs on the server; waited {timeout.total_seconds():g} s",
            )
        if taken < 0:
            reason = Reason.DEADLOCK if taken == _LOCK_DEADLOCK else Reason.LOCK_TIMEOUT
            raise Failure(reason, f"the lock of this database was not given: sp_getapplock returned {taken}")

    def call(self, procedure: Procedure) -> Result:
        """Two or three round trips: what is meant, whether the values can be read as their types, and the call.

        OUTPUT parameters join the rows. A return status other than 0 says that the procedure failed, by the engine's
        convention; where it returns something all the same, that is the result.
        """
        with before_the_call():
            statement = self._resolve(procedure)
        # A wait for a lock that uses up the whole time is reported as what it was.
        limits = f"SET LOCK_TIMEOUT {_milliseconds(procedure.timeout * 0.9)}; "
        with _translated(procedure.name, self._wire, procedure.timeout, catalogue.Name.parse(procedure.name).procedure):
            try:
                sets = self._query(limits + statement.text, statement.values, procedure.timeout)
            except Refused as refused:
                if statement.unseen and refused.number == sqlserver_errors.NOT_FOUND:
                    raise resolution.missing(procedure.name, ()) from None
                raise
        status, outputs = resolution.told(sets.pop()) if sets and resolution.tells(sets[-1].columns) else (0, None)
        rows = sets[-1] if sets else Rows()
        failed = Failure(
            Reason.PROCEDURE_FAILED,
            f"{procedure.name}: it returned status {status}, which means that it failed; let it THROW an error that "
            "says why, and RETURN 0 when it has succeeded",
            code=str(status),
        )
        if not procedure.returns:
            if status:
                raise failed
            return {}
        try:
            returned = ResultSet(rows.columns, rows.values, rows.count)
            result = read_result(returned, outputs, silent=procedure.silent)
        except Failure as failure:
            if status:
                raise failed from None
            raise Failure(failure.reason, f"{procedure.name} ran, but {failure.message}") from None
        if status and not any(result.values()):
            raise failed
        return result

    def inspect(self, name: str) -> Inspection:
        """See `contract.Session`."""
        from provisioner_job.drivers import sqlserver_inspection as inspection  # probes alone need it

        parsed = catalogue.Name.parse(name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            found = self._candidates(name)
            if not found:
                raise resolution.missing(name, self._known(name))
            one = inspection.chosen(found)
            query = None if one is None else inspection.granted_to_public(parsed, one)
            granted = [] if query is None else self._query(*query, _LOOK_UP_TIME)[-1].values
        return inspection.inspected(found, [row[0] or "" for row in granted])

    def cancel(self) -> None:
        """See `contract.Session`."""
        self._wire.cancel()

    def close(self) -> None:
        """See `contract.Session`."""
        self._wire.close()

    def _query(self, statement: str, values: tuple[str, ...], limit: timedelta) -> list[Rows]:
        if self._wire.cancelled:
            raise _interrupted()
        if self._wire.closed:
            raise Failure(Reason.CONNECTION_LOST, "the connection was lost")
        return self._wire.query(statement, values, time.monotonic() + limit.total_seconds())

    def _resolve(self, procedure: Procedure) -> resolution.Statement:
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            found = self._candidates(procedure.name)
            known = [] if found else self._known(procedure.name)
        if known:
            raise resolution.missing(procedure.name, known)
        # DENY VIEW DEFINITION hides from an account all that it may call all the same.
        statement = resolution.resolve(procedure, found) if found else resolution.unseen(procedure)
        if statement.check:
            with _translated("reading the arguments", self._wire, _LOOK_UP_TIME):
                values = tuple(value for _, _, value in statement.checked)
                readable = self._query(statement.check, values, _LOOK_UP_TIME)[-1].values[0]
            for (argument, declared, _), fine in zip(statement.checked, readable, strict=True):
                if fine != "1":
                    raise resolution.unreadable(procedure.name, argument, declared)
        return statement

    def _candidates(self, procedure: str) -> list[catalogue.Candidate]:
        name = catalogue.Name.parse(procedure)
        return catalogue.candidates(self._told(*name.look_up()))

    def _known(self, procedure: str) -> list[tuple[str, str]]:
        """(schema, name) of all that the account could call in the place where this name would be."""
        known = self._told(catalogue.Name.parse(procedure).list_all(), ())
        return [(one[0] or "", one[1] or "") for one in known]

    def _told(self, query: str, values: tuple[str, ...]) -> list[tuple[str | None, ...]]:
        """What the catalogue says; nothing where it refuses to be asked."""
        try:
            said = self._query(query, values, _LOOK_UP_TIME)
        except Refused as refused:
            if not sqlserver_errors.is_lasting(refused.number):
                raise
            return []
        return said[-1].values if said else []


def _row(said: list[Rows], columns: int) -> Sequence[str | None]:
    """The one row that a query of the driver's own gives; NULLs where nothing came."""
    row = said[-1].values[0] if said and said[-1].values else ()
    return [*row, *[None] * columns][:columns]


def lock_name(identity: str) -> str:
    """The resource of an application lock, of which 255 characters count: the same on every server and release."""
    return "kubernetes-dbaas/" + hashlib.sha256(identity.encode()).hexdigest()


def _milliseconds(duration: timedelta) -> int:
    """For a timeout setting, where 0 would mean not to wait, and -1 for ever."""
    return min(2**31 - 1, max(1, duration // timedelta(milliseconds=1)))


def _interrupted() -> Failure:
    return Failure(Reason.INTERRUPTED, "the Job was told to stop; what ran on the server was cancelled")


@contextlib.contextmanager
def _translated(what: str, wire: Wire, limit: timedelta, procedure: str = "") -> Iterator[None]:
    """Turn what the wire raises into a Failure that says what was being done."""
    seconds = f"{limit.total_seconds():g} s"
    try:
        yield
    except (Cancelled, Silent) as ended:
        if wire.cancelled:
            raise _interrupted() from None
        if isinstance(ended, Silent):
            message = f"{what}: no answer within {seconds}, nor to its cancellation"
        else:
            message = f"{what}: not finished within {seconds}, and cancelled"
        raise Failure(Reason.TIMEOUT, message) from None
    except Broken:
        wire.close()
        raise Failure(Reason.CONNECTION_LOST, f"{what}: the connection was lost") from None
    except Refused as refused:
        failure = sqlserver_errors.call_failure(refused.sqlstate, refused.number, refused.message, procedure)
        # It stays in the context of what is raised, and may quote what is secret.
        refused.message = ""
        if failure.reason is Reason.CONNECTION_LOST:
            wire.close()
            if wire.cancelled:
                raise _interrupted() from None
        raise Failure(failure.reason, f"{what}: {failure.message}", code=failure.code) from None
