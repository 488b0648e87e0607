"""PostgreSQL 11 and later: verified connection, the lock of an identity, one stored procedure called.

The conversation is in `postgresql_wire`, which procedure is meant in `postgresql_catalogue` and
`postgresql_resolution`, what error codes mean in `postgresql_errors`, the login in `postgresql_login`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from api.operation import Connection
from api.reasons import Reason
from provisioner_job.drivers import postgresql_catalogue as catalogue
from provisioner_job.drivers import postgresql_errors, postgresql_facts
from provisioner_job.drivers import postgresql_resolution as resolution
from provisioner_job.drivers.contract import Login, Procedure, Result
from provisioner_job.drivers.postgresql_login import open_wire
from provisioner_job.drivers.postgresql_wire import Bound, Lost, Rows, ServerError, Silent, Wire
from provisioner_job.drivers.result import ResultSet, read_result
from provisioner_job.errors import Failure, before_the_call

if TYPE_CHECKING:
    from api.probe import Inspection

GRACE = timedelta(seconds=2)
"""How much longer than the server this side waits, before it cancels by itself."""
_LOOK_UP_TIME = timedelta(seconds=10)
_CANCELLED = "57014"
_BOOLEAN, _PADDED, _VOID = 16, 1042, 2278
"""Type OIDs, from pg_type: bool, character(n), void."""

# Linux alone among a server's platforms is certain to notice a vanished client; PostgreSQL 14 and later can ask it to.
_TAKE_LOCK = """
SELECT pg_try_advisory_lock($1::bigint),
       set_config('statement_timeout', $2, false), set_config('lock_timeout', $3, false),
       CASE WHEN current_setting('client_connection_check_interval', true) IS NOT NULL AND version() ~ 'linux'
            THEN set_config('client_connection_check_interval', '5s', false) END
"""
_WAIT_FOR_LOCK = "SELECT pg_advisory_lock($1::bigint)"
_PREPARE = (
    f"SELECT set_config('statement_timeout', $5, false), set_config('lock_timeout', $6, false), ({catalogue.LOOK_UP})"
)


def connect(login: Login) -> PostgresSession:
    """Log in to the first address of the host that has a PostgreSQL which takes writes; raises Failure."""
    with contextlib.ExitStack() as files:
        wire = open_wire(login, files)
        return PostgresSession(wire, files.pop_all())


class PostgresSession:
    """A `contract.Session`."""

    def __init__(self, wire: Wire, files: contextlib.ExitStack) -> None:
        self._wire = wire
        # A cancellation reads the CA file again.
        self._files = files
        facts = postgresql_facts.tls_facts(wire.connection)
        expiry = postgresql_facts.not_after(facts.certificate)
        self.connection = Connection(
            server_version=f"PostgreSQL {wire.server_version}",
            tls_version=facts.version,
            cipher=facts.cipher,
            peer_certificate_sha256=postgresql_facts.fingerprint(facts.certificate),
            peer_certificate_not_after=expiry.strftime("%Y-%m-%dT%H:%M:%SZ") if expiry else "",
        )

    def lock(self, identity: str, timeout: timedelta) -> None:
        """An advisory lock: of the database that the endpoint names, where every Job of the endpoint connects."""
        key = Bound(str(lock_key(identity)))
        limits = (Bound(_milliseconds(timeout + GRACE)), Bound(_milliseconds(timeout)))
        with _translated("taking the lock of this database", self._wire, timeout):
            taken = self._query(_TAKE_LOCK, (key, *limits), _LOOK_UP_TIME)
        if taken.values[0][0] == b"t":
            return
        try:
            with _translated("waiting for the lock of this database", self._wire, timeout):
                self._query(_WAIT_FOR_LOCK, (key,), timeout + GRACE)
        except Failure as failure:
            if failure.reason is not Reason.LOCK_TIMEOUT:
                raise
            raise Failure(
                failure.reason,
                f"an earlier call for this database still runs on the server; waited {timeout.total_seconds():g} s",
                code=failure.code,
            ) from None

    def call(self, procedure: Procedure) -> Result:
        """Two round trips: the catalogue is asked which procedure is meant, and that one is called."""
        with before_the_call():
            statement = self._resolve(procedure)
        try:
            with _translated(procedure.name, self._wire, procedure.timeout, statement.values):
                rows = self._query(statement.text, statement.values, procedure.timeout + GRACE)
        except _Unreadable as unreadable:
            label, bound = statement.labels[unreadable.number - 1], statement.values[unreadable.number - 1]
            with before_the_call():
                raise self._unreadable(procedure, label, bound.type, unreadable.sqlstate) from None
        if not procedure.returns:
            return {}
        try:
            return _result(rows, silent=procedure.silent)
        except Failure as failure:
            raise Failure(failure.reason, f"{procedure.name} ran, but {failure.message}") from None

    def inspect(self, name: str) -> Inspection:
        """See `contract.Session`."""
        from provisioner_job.drivers.postgresql_inspection import inspected  # probes alone need it

        parsed = catalogue.Name.parse(name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            rows = self._query(f"SELECT ({catalogue.LOOK_UP})", parsed.bindings, _LOOK_UP_TIME)
            return inspected(name, self._candidates(name, rows.values[0][0]))

    def cancel(self) -> None:
        """See `contract.Session`."""
        self._wire.cancel()

    def close(self) -> None:
        """See `contract.Session`."""
        self._wire.close()
        self._files.close()

    def _query(self, statement: str, values: tuple[Bound, ...], limit: timedelta) -> Rows:
        if self._wire.cancelled:
            raise _interrupted()
        return self._wire.query(statement, values, time.monotonic() + limit.total_seconds())

    def _resolve(self, procedure: Procedure) -> resolution.Statement:
        limit = procedure.timeout
        # A wait for a lock that uses up the whole time is reported as what it was.
        limits = (Bound(_milliseconds(limit)), Bound(_milliseconds(limit * 0.9)))
        name = catalogue.Name.parse(procedure.name)
        with _translated("looking up the procedure", self._wire, _LOOK_UP_TIME):
            rows = self._query(_PREPARE, (*name.bindings, *limits), _LOOK_UP_TIME)
            found = self._candidates(procedure.name, rows.values[0][2])
        return resolution.resolve(procedure, found)

    def _candidates(self, name: str, answer: bytes | None) -> list[catalogue.Candidate]:
        found: list[dict[str, Any]] = json.loads(answer or b"null") or []
        if not found:
            known = self._query(catalogue.LIST_ALL, (), _LOOK_UP_TIME)
            raise resolution.missing(name, [(_text(one[0]), _text(one[1])) for one in known.values])
        return [catalogue.Candidate.read(one) for one in found]

    def _unreadable(self, procedure: Procedure, label: str, type_oid: int, sqlstate: str) -> Failure:
        with _translated("looking up a type", self._wire, _LOOK_UP_TIME):
            rows = self._query("SELECT format_type($1::oid, -1)", (Bound(str(type_oid)),), _LOOK_UP_TIME)
        return Failure(
            Reason.ARGUMENTS_INVALID,
            f"argument {label} of {procedure.name} holds no valid {_text(rows.values[0][0])}",
            code=sqlstate,
        )


def lock_key(identity: str) -> int:
    """The 64-bit key of an advisory lock; unlike hashtext(), the same on every server and release."""
    digest = hashlib.sha256(b"kubernetes-dbaas/" + identity.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _milliseconds(duration: timedelta) -> str:
    """For a timeout setting, where 0 would mean none."""
    return f"{max(1, duration // timedelta(milliseconds=1))}ms"


# Calling


class _Unreadable(Exception):
    """The server could not read a bound value as its type; nothing ran."""

    def __init__(self, number: int, sqlstate: str) -> None:
        super().__init__("unreadable parameter")
        self.number = number
        self.sqlstate = sqlstate


def _interrupted() -> Failure:
    return Failure(Reason.INTERRUPTED, "the Job was told to stop; what ran on the server was cancelled")


@contextlib.contextmanager
def _translated(what: str, wire: Wire, limit: timedelta, given: tuple[Bound, ...] = ()) -> Iterator[None]:
    """Turn what the wire raises into a Failure that says what was being done. given: the arguments of a call."""
    started = time.monotonic()
    try:
        yield
    except ServerError as error:
        late = time.monotonic() - started >= limit.total_seconds() * 0.95
        if error.sqlstate == _CANCELLED and wire.cancelled:
            raise _interrupted() from None
        raise _statement_failure(error, what, limit, given, late=late) from None
    except Lost as lost:
        if wire.cancelled:
            raise _interrupted() from None
        said = lost.text.partition("\n")[0]
        raise Failure(Reason.CONNECTION_LOST, f"{what}: the connection was lost: {said}") from None
    except Silent:
        if wire.cancelled:
            raise _interrupted() from None
        raise Failure(
            Reason.TIMEOUT, f"{what}: no answer within {limit.total_seconds():g} s, nor to its cancellation"
        ) from None


def _statement_failure(
    error: ServerError, what: str, limit: timedelta, given: tuple[Bound, ...], *, late: bool
) -> Exception:
    if error.sqlstate == _CANCELLED and late:
        message = f"{what}: not finished within {limit.total_seconds():g} s, and cancelled"
        return Failure(Reason.TIMEOUT, message, code=error.sqlstate)
    if error.parameter is not None:
        return _Unreadable(error.parameter, error.sqlstate)
    names = [bound.value for bound in given if bound.value]
    failure = postgresql_errors.call_failure(error.sqlstate, error.message, in_body=error.in_body, given=names)
    return Failure(failure.reason, f"{what}: {failure.message}", code=failure.code)


def _result(rows: Rows, *, silent: bool) -> Result:
    if _VOID in rows.types:
        return read_result(ResultSet(), silent=silent)
    try:
        texts = [
            [_printed(value, type_oid) for value, type_oid in zip(row, rows.types, strict=True)] for row in rows.values
        ]
    except UnicodeDecodeError:
        raise Failure(
            Reason.RESULT_INVALID, "its result is not UTF-8; the server's database has encoding SQL_ASCII"
        ) from None
    return read_result(ResultSet(rows.columns, texts, rows.count), silent=silent)


def _printed(value: bytes | None, type_oid: int) -> str | None:
    """A value as a cast to text gives it on the server; for these types its plain output is another."""
    if value is None:
        return None
    if type_oid == _BOOLEAN:
        return "true" if value == b"t" else "false"
    text = value.decode()
    return text.rstrip(" ") if type_oid == _PADDED else text


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
