"""What SQL Server's error numbers mean for an Operation.

Pure. Source of the numbers: Microsoft's "Database Engine events and errors" (sys.messages). Of an error only the
primary message is passed on, and not even that where the server quotes values or statements in it: passwords that
nobody knows to redact stand in the statements that create logins. Sessions are in us_english, so names can be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from api.reasons import Reason
from provisioner_job.errors import Failure

_LOGIN: Mapping[int, Reason] = {
    **dict.fromkeys((18452, 18456, 18470, 18486, 18487, 18488), Reason.CREDENTIALS_REFUSED),
    **dict.fromkeys((4060, 4064, 911, 40532), Reason.DATABASE_MISSING),
    **dict.fromkeys((916, 40615, 40914), Reason.PERMISSION_DENIED),
    **dict.fromkeys((10928, 10929, 17809, 17810), Reason.TOO_MANY_CONNECTIONS),
    **dict.fromkeys((701, 802, 17189, 17803), Reason.RESOURCES_EXHAUSTED),
    # Shutting down, paused, starting, upgrading, in single-user mode, a replica, a database that moves.
    **dict.fromkeys(
        (922, 976, 978, 983, 6005, 17142, 17148, 17187, 18401, 18461, 40197, 40501, 40613), Reason.SERVER_NOT_READY
    ),
}

_CALL: Mapping[int, Reason] = {
    **dict.fromkeys((1801, 15025), Reason.ALREADY_EXISTS),  # a database, a login
    **dict.fromkeys((3906, 3908), Reason.SERVER_NOT_READY),  # the database has become read-only
    **dict.fromkeys((1205, 1211, 3960, 3961, 41302, 41305, 41325), Reason.DEADLOCK),
    # 1807, 5061, 5070: two that create or alter databases are in each other's way.
    **dict.fromkeys((1222, 1807, 5061, 5070), Reason.LOCK_TIMEOUT),
    **dict.fromkeys((10928, 10929, 17809), Reason.TOO_MANY_CONNECTIONS),
    **dict.fromkeys((701, 802, 1101, 1105, 1121, 8645, 8651, 8657, 9002), Reason.RESOURCES_EXHAUSTED),
    **dict.fromkeys((233, 596, 6005, 10053, 10054, 10060, 17142, 40197), Reason.CONNECTION_LOST),
}

_OWN_CALL: Mapping[int, Reason] = {
    # Between looking the procedure up and calling it somebody changed it; 201 the catalogue cannot tell beforehand,
    # for it does not know defaults. Each names the procedure that it means.
    201: Reason.ARGUMENTS_INVALID,
    8144: Reason.ARGUMENTS_INVALID,
    8145: Reason.ARGUMENTS_INVALID,
    8162: Reason.ARGUMENTS_INVALID,
    229: Reason.PERMISSION_DENIED,
    2812: Reason.PROCEDURE_MISSING,
}
"""Numbers that mean this only when they speak of the procedure that was called."""

NOT_FOUND = 2812
"""Could not find stored procedure."""

_VALUE = "a value in its body cannot be converted or does not fit"
_KEY = "a row with this key is there already"
_STATEMENT = "a statement in its body is not valid"
_QUOTING: Mapping[int, str] = {
    **dict.fromkeys((220, 232, 235, 241, 242, 244, 245, 248, 295, 2628, 8114, 8115, 8152, 8169, 9420, 9455), _VALUE),
    **dict.fromkeys((2601, 2627), _KEY),
    **dict.fromkeys(
        (102, 103, 104, 105, 111, 128, 132, 137, 155, 156, 170, 195, 203, 207, 208, 319, 343, 2812, 4104, 4121, 4145),
        _STATEMENT,
    ),
}
"""Numbers whose messages quote what they were given, and what is said instead."""

_SUPPLIED = re.compile(r"expects parameter '@?(.+?)'")


def is_lasting(number: int) -> bool:
    """Whether an error of the server's (0: of the ODBC driver) is one that a repetition would meet again."""
    return number > 0 and number not in _CALL


def login_failure(number: int, message: str, where: str) -> Failure:
    """The failure of a login that the server refused. where: `host:port` for the message."""
    reason = _LOGIN.get(number, Reason.ENDPOINT_UNREACHABLE)
    return Failure(reason, f"{where} refuses the login: {message}", code=str(number))


def call_failure(sqlstate: str, number: int, message: str, procedure: str = "") -> Failure:
    """The failure of a statement; cancellations are the session's.

    procedure: the bare name of what was called, "" for the driver's own statements.
    """
    code = str(number or "")
    if number == 0 and (sqlstate.startswith("08") or sqlstate in ("HYT01", "01000")):
        return Failure(Reason.CONNECTION_LOST, "the connection was lost")
    if number == 0:
        # The ODBC driver's own words; SQLSTATE says which.
        return Failure(Reason.PROCEDURE_FAILED, f"ODBC error {sqlstate}", code=sqlstate)
    own = _OWN_CALL.get(number) if procedure and _names(message, procedure) else None
    if own is Reason.ARGUMENTS_INVALID and (supplied := _SUPPLIED.search(message)):
        return Failure(own, f"needs {supplied[1]}", code=code)
    if own is not None:
        return Failure(own, message, code=code)
    said = _QUOTING.get(number)
    return Failure(
        _CALL.get(number, Reason.PROCEDURE_FAILED),
        message if said is None else f"{said} (error {number})",
        code=code,
    )


def _names(message: str, procedure: str) -> bool:
    """Whether a message speaks of this procedure."""
    return re.search(rf"(?<![\w@#$]){re.escape(procedure)}(?![\w@#$])", message, re.IGNORECASE) is not None
