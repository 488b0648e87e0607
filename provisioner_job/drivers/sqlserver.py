"""SQL Server 2016 and later: verified connection, the lock of an identity, one stored procedure called.

TLS is in `sqlserver_tls`, the relay between the ODBC driver and the server in `sqlserver_relay`, the conversation in
`sqlserver_odbc`, the login in `sqlserver_login`, which procedure is meant in `sqlserver_catalogue` and
`sqlserver_resolution`, what error numbers mean in `sqlserver_errors`, what values look like in `sqlserver_values`.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from api.operation import Connection
from api.reasons import Reason
from provisioner_job.drivers import sqlserver_catalogue as catalogue
from provisioner_job.drivers import sqlserver_errors
from provisioner_job.drivers import sqlserver_resolution as resolution
from provisioner_job.drivers.contract import Login, Procedure, Result
from provisioner_job.drivers.result import read_result
from provisioner_job.drivers.sqlserver_login import open_wire
from provisioner_job.drivers.sqlserver_odbc import Broken, Cancelled, Library, Refused, Rows, Silent, Wire
from provisioner_job.drivers.sqlserver_tls import TlsFacts
from provisioner_job.errors import Failure

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
        version, edition, updateability = said[-1].values[0]
        if updateability != "READ_WRITE":
            raise Failure(Reason.SERVER_NOT_READY, f"{where} is a replica, which cannot write; name the primary")
        self.connection = Connection(
            server_version=f"SQL Server {version} {edition}",
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
        taken = int(said[-1].values[0][0] or -999)
        if taken == _LOCK_TIMEOUT:
            raise Failure(
                Reason.LOCK_TIMEOUT,
                f"an earlier call for this database still runs on the server; waited {timeout.total_seconds():g} s",
            )
        if taken < 0:
            reason = Reason.DEADLOCK if taken == _LOCK_DEADLOCK else Reason.LOCK_TIMEOUT
            raise Failure(reason, f"the lock of this database was not given: sp_getapplock returned {taken}")

    def call(self, procedure: Procedure) -> Result:
        """Two or three round trips: what is meant, whether the values can be read as their types, and the call."""
        statement = self._resolve(procedure)
        # A wait for a lock that uses up the whole time is reported as what it was.
        limits = f"SET LOCK_TIMEOUT {_milliseconds(procedure.timeout * 0.9)}; "
        with _translated(procedure.name, self._wire, procedure.timeout, catalogue.Name.parse(procedure.name).procedure):
            sets = self._query(limits + statement.text, statement.values, procedure.timeout)
        if not procedure.returns:
            return {}
        # Where a procedure has rows and OUTPUT parameters, the rows are its result.
        rows = sets[-2] if statement.outputs and len(sets) > 1 else sets[-1] if sets else Rows()
        try:
            return read_result(rows.columns, rows.values, rows.count)
        except Failure as failure:
            raise Failure(failure.reason, f"{procedure.name} ran, but {failure.message}") from None

    def inspect(self, name: str) -> Inspection:
        """See `contract.Session`."""
        from provisioner_job.drivers import sqlserver_inspection as inspection  # probes alone need it

        parsed = catalogue.Name.parse(name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            found = self._candidates(name)
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
        statement = resolution.resolve(procedure, found)
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
        found = catalogue.candidates(self._query(*name.look_up(), _LOOK_UP_TIME)[-1].values)
        if not found:
            known = self._query(name.list_all(), (), _LOOK_UP_TIME)[-1].values
            raise resolution.missing(procedure, [(one[0] or "", one[1] or "") for one in known])
        return found


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
