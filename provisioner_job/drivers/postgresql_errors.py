"""What PostgreSQL's error codes mean for an Operation: SQLSTATE → reason.

Pure. Source of the codes: PostgreSQL manual, Appendix A. Only the primary message of an error is ever passed on: its
detail, context, hint and statement quote what they were given, passwords that nobody knows to redact included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from api.reasons import Reason
from provisioner_job.errors import Failure

_LOGIN: Mapping[str, Reason] = {
    "28P01": Reason.CREDENTIALS_REFUSED,  # invalid_password
    "28": Reason.CREDENTIALS_REFUSED,  # invalid_authorization_specification: pg_hba.conf, or no such role
    "3D000": Reason.DATABASE_MISSING,  # invalid_catalog_name
    "42501": Reason.PERMISSION_DENIED,  # insufficient_privilege: CONNECT on the database
    "53300": Reason.TOO_MANY_CONNECTIONS,
    "53": Reason.RESOURCES_EXHAUSTED,
    "55000": Reason.SERVER_NOT_READY,  # the database does not accept connections
    "57P": Reason.SERVER_NOT_READY,  # starting up, shutting down, crash recovery
    "08P01": Reason.ENDPOINT_INVALID,  # protocol_violation: something in between refuses start-up options
    "22023": Reason.ENDPOINT_INVALID,  # a start-up option that this server does not know so
    "42704": Reason.ENDPOINT_INVALID,
    "0A000": Reason.ENDPOINT_INVALID,
}

_CALL: Mapping[str, Reason] = {
    "42P04": Reason.ALREADY_EXISTS,  # duplicate_database
    "25006": Reason.SERVER_NOT_READY,  # read_only_sql_transaction: a standby, or a server that is kept read-only
    "08P01": Reason.CONNECTION_LOST,
    "40": Reason.DEADLOCK,  # transaction_rollback: deadlock and serialization failure
    "53300": Reason.TOO_MANY_CONNECTIONS,
    "53": Reason.RESOURCES_EXHAUSTED,
    "55P03": Reason.LOCK_TIMEOUT,
    "57P": Reason.CONNECTION_LOST,  # the administrator, or a crash, ended the session
    "25P03": Reason.CONNECTION_LOST,  # idle_in_transaction_session_timeout
}

_OWN_CALL: Mapping[str, Reason] = {
    # Between looking the procedure up and calling it somebody changed it.
    "42501": Reason.PERMISSION_DENIED,
    "42883": Reason.PROCEDURE_MISSING,
    "42P01": Reason.PROCEDURE_MISSING,
    "3F000": Reason.PROCEDURE_MISSING,
    "42725": Reason.PROCEDURE_AMBIGUOUS,
}
"""Codes that mean this only when they do not come from inside the procedure's body."""

_DUPLICATE_OBJECT = "42710"
"""A role, among others: which of them, the server says in its own language alone."""

_CURES: Mapping[str, str] = {
    "25001": "; PostgreSQL creates and drops databases outside of functions and procedures alone: "
    "let it do so through a connection of its own, as by dblink",
    "2D000": "; a procedure may COMMIT neither as SECURITY DEFINER nor with SET in its definition",
}
"""What helps where the server's own words leave it open."""

_VERBOSE = re.compile(r":  ([0-9A-Z]{5}): ([^\n]*)")
_LOCATION = re.compile(r"\nLOCATION:  (\w+),")


def _lookup(table: Mapping[str, Reason], sqlstate: str) -> Reason | None:
    """The reason of the code, of its first three characters, or of its class."""
    return table.get(sqlstate) or table.get(sqlstate[:3]) or table.get(sqlstate[:2])


def login_failure(text: str, where: str, *, certificate_given: bool) -> Failure | None:
    """The failure of a login that the server refused; None when the text holds no SQLSTATE.

    text: libpq's, in its verbose form. where: `host:port` for the message.
    """
    match = _VERBOSE.search(text)
    if match is None:
        return None
    sqlstate, message = match.groups()
    reason = _lookup(_LOGIN, sqlstate) or Reason.ENDPOINT_UNREACHABLE
    location = _LOCATION.search(text)
    if sqlstate == "28000" and (
        "certificate" in message or (certificate_given and location is not None and location[1] == "auth_failed")
    ):
        reason = Reason.CLIENT_CERTIFICATE_REFUSED
    return Failure(reason, f"{where} refuses the login: {message}", code=sqlstate)


def call_failure(sqlstate: str, message: str, *, in_body: bool, given: Iterable[str] = ()) -> Failure:
    """The failure of a statement that calls a procedure, or takes the lock; cancellations are the session's.

    in_body: whether something that the statement called raised it. given: the values of its arguments; an object that
    bears such a name is the database's own.
    """
    reason = _lookup(_CALL, sqlstate)
    if reason is None and not in_body:
        reason = _OWN_CALL.get(sqlstate)
    if sqlstate == _DUPLICATE_OBJECT and any(_quotes(message, value) for value in given):
        reason = Reason.ALREADY_EXISTS
    cure = _CURES.get(sqlstate, "") if in_body else ""
    return Failure(reason or Reason.PROCEDURE_FAILED, message + cure, code=sqlstate)


def _quotes(message: str, name: str) -> bool:
    """Whether a message speaks of an object of this name, in the quotes of whichever language."""
    return bool(name) and re.search(rf"[^\w\s]{re.escape(name)}[^\w\s]", message, re.IGNORECASE) is not None
