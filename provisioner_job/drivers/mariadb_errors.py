"""What the error numbers of MariaDB and MySQL mean for an Operation.

Pure. Source of the numbers: MariaDB manual, "MariaDB Error Code Reference"; MySQL manual, "Server Error Message
Reference". The servers quote values, statements and names in almost every message; what is passed on is a number with
its symbolic name, and the text only where whoever wrote the procedure chose it (SIGNAL), or where it is about a login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from api.reasons import Reason
from provisioner_job.errors import Failure

_LOGIN: Mapping[int, Reason] = {
    1040: Reason.TOO_MANY_CONNECTIONS,  # ER_CON_COUNT_ERROR
    1041: Reason.RESOURCES_EXHAUSTED,  # ER_OUT_OF_RESOURCES
    1043: Reason.SERVER_NOT_READY,  # ER_HANDSHAKE_ERROR
    1044: Reason.PERMISSION_DENIED,  # ER_DBACCESS_DENIED_ERROR: no right on the database
    1045: Reason.CREDENTIALS_REFUSED,  # ER_ACCESS_DENIED_ERROR
    1049: Reason.DATABASE_MISSING,  # ER_BAD_DB_ERROR
    1053: Reason.SERVER_NOT_READY,  # ER_SERVER_SHUTDOWN
    1129: Reason.SERVER_NOT_READY,  # ER_HOST_IS_BLOCKED: too many broken handshakes, until FLUSH HOSTS
    1130: Reason.CREDENTIALS_REFUSED,  # ER_HOST_NOT_PRIVILEGED: no account may come from this host
    1203: Reason.TOO_MANY_CONNECTIONS,  # ER_TOO_MANY_USER_CONNECTIONS
    1226: Reason.TOO_MANY_CONNECTIONS,  # ER_USER_LIMIT_REACHED
    1251: Reason.CREDENTIALS_REFUSED,  # ER_NOT_SUPPORTED_AUTH_MODE
    1275: Reason.CREDENTIALS_REFUSED,  # ER_SERVER_IS_IN_SECURE_AUTH_MODE: the password is hashed as before MySQL 4.1
    1524: Reason.CREDENTIALS_REFUSED,  # ER_PLUGIN_IS_NOT_LOADED
    1698: Reason.CREDENTIALS_REFUSED,  # ER_ACCESS_DENIED_NO_PASSWORD_ERROR
    1820: Reason.CREDENTIALS_REFUSED,  # ER_MUST_CHANGE_PASSWORD
    1862: Reason.CREDENTIALS_REFUSED,  # ER_MUST_CHANGE_PASSWORD_LOGIN
    3118: Reason.CREDENTIALS_REFUSED,  # MySQL ER_ACCOUNT_HAS_BEEN_LOCKED
    3159: Reason.ENDPOINT_INVALID,  # ER_SECURE_TRANSPORT_REQUIRED: MySQL, MariaDB since 11.4 (1045 before)
    3955: Reason.CREDENTIALS_REFUSED,  # MySQL ER_USER_ACCESS_DENIED_FOR_USER_ACCOUNT_BLOCKED_BY_PASSWORD_LOCK
    4150: Reason.CREDENTIALS_REFUSED,  # MariaDB ER_USER_IS_BLOCKED: too many wrong passwords
    4151: Reason.CREDENTIALS_REFUSED,  # MariaDB ER_ACCOUNT_HAS_BEEN_LOCKED
}

_CALL: Mapping[int, Reason] = {
    1007: Reason.ALREADY_EXISTS,  # ER_DB_CREATE_EXISTS
    1021: Reason.RESOURCES_EXHAUSTED,  # ER_DISK_FULL
    1037: Reason.RESOURCES_EXHAUSTED,  # ER_OUTOFMEMORY
    1038: Reason.RESOURCES_EXHAUSTED,  # ER_OUT_OF_SORTMEMORY
    1040: Reason.TOO_MANY_CONNECTIONS,
    1041: Reason.RESOURCES_EXHAUSTED,
    1053: Reason.CONNECTION_LOST,
    1114: Reason.RESOURCES_EXHAUSTED,  # ER_RECORD_FILE_FULL
    1203: Reason.TOO_MANY_CONNECTIONS,
    1205: Reason.LOCK_TIMEOUT,  # ER_LOCK_WAIT_TIMEOUT: of metadata, tables or rows
    1213: Reason.DEADLOCK,  # ER_LOCK_DEADLOCK
    1226: Reason.TOO_MANY_CONNECTIONS,
    1290: Reason.SERVER_NOT_READY,  # ER_OPTION_PREVENTS_STATEMENT: read_only, since the login
    1614: Reason.DEADLOCK,  # ER_XA_RBDEADLOCK
    1820: Reason.CREDENTIALS_REFUSED,  # ER_MUST_CHANGE_PASSWORD: the login succeeds, and nothing after it
    1836: Reason.SERVER_NOT_READY,  # ER_READ_ONLY_MODE
    1927: Reason.CONNECTION_LOST,  # MariaDB ER_CONNECTION_KILLED
    3058: Reason.DEADLOCK,  # MySQL ER_USER_LOCK_DEADLOCK
}

_OWN_CALL: Mapping[int, Reason] = {
    # Between looking the procedure up and calling it somebody changed it.
    1305: Reason.PROCEDURE_MISSING,  # ER_SP_DOES_NOT_EXIST
    1318: Reason.ARGUMENTS_INVALID,  # ER_SP_WRONG_NO_OF_ARGS
    1370: Reason.PERMISSION_DENIED,  # ER_PROCACCESS_DENIED_ERROR
}
"""Numbers that mean this only when they are about the procedure that was called, not about one that it calls."""

CONVERSIONS = frozenset(
    {
        1264,  # ER_WARN_DATA_OUT_OF_RANGE
        1265,  # WARN_DATA_TRUNCATED
        1292,  # ER_TRUNCATED_WRONG_VALUE
        1300,  # ER_INVALID_CHARACTER_STRING
        1366,  # ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
        1367,  # ER_ILLEGAL_VALUE_FOR_TYPE
        1406,  # ER_DATA_TOO_LONG
        1411,  # ER_WRONG_VALUE_FOR_TYPE
        1416,  # ER_CANT_CREATE_GEOMETRY_OBJECT
        4025,  # MariaDB ER_CONSTRAINT_FAILED
    }
)
"""A text that its type does not take."""

_ACCOUNT = 1396
"""ER_CANNOT_USER, of every statement about accounts; which one it was, the message says in every language."""

_RIGHT = (
    "whoever it runs as (its DEFINER, or the endpoint's account under SQL SECURITY INVOKER) lacks a right that it needs"
)
_MISSING = "something that it uses does not exist"
_RENEWAL = "set another (ALTER USER), and write it into the endpoint's Secret"
_VALUE = "an argument, or a value in its body, does not fit or is not of its type"
"""Of arguments on MySQL alone: MariaDB is asked about them before the call."""
_MEANINGS: Mapping[int, str] = {
    **dict.fromkeys((1044, 1142, 1143, 1211, 1227, 1370, 1410), _RIGHT),
    1449: "its DEFINER is no account of this server",
    **dict.fromkeys((1049, 1054, 1146, 1305), _MISSING),
    **dict.fromkeys((1264, 1265, 1292, 1366, 1406), _VALUE),
    1007: "the database that it creates is there already",
    1008: "the database that it drops is not there",
    1062: "a row with this key is there already",
    1064: "a statement in its body is not valid SQL",
    1396: "an account that it creates is there already, or one that it alters or drops is not",
    1819: "a password that it sets does not satisfy the server's password policy",
    1820: f"the account's password has expired; {_RENEWAL}",
}
"""What is said of errors whose texts quote names, values or statements."""

_LOGIN_CURES: Mapping[int, str] = {
    1862: _RENEWAL,
    3159: "set the endpoint's tls.mode to VerifyFull",
}

TIMED_OUT = frozenset({1969, 3024})
"""MariaDB ER_STATEMENT_TIMEOUT, MySQL ER_QUERY_TIMEOUT."""
KILLED = 1317
"""ER_QUERY_INTERRUPTED."""
TLS_MISSING = 2026
"""CR_SSL_CONNECTION_ERROR, which PyMySQL raises for a server that offers no TLS."""
METHOD_UNKNOWN = 2059
"""CR_AUTH_PLUGIN_CANNOT_LOAD: the server demands a way to log in that PyMySQL does not know."""

_ACCESS_DENIED = 1045
_SIGNALS = (1643, 1644)
"""ER_SIGNAL_NOT_FOUND, ER_SIGNAL_EXCEPTION: SIGNAL without a number of its own."""
_OWN_NUMBERS = 10_000
"""From here on no error that a client is sent is a server's: a procedure chose the number, and its text."""
_SIGNAL_STATE = "45000"
"""The manuals' SQLSTATE for errors that a procedure makes up."""
_FROM_CLIENT = range(2000, 3000)


class ServerError(Exception):
    """An error packet; `str()` is its number, never its text."""

    def __init__(self, number: int, sqlstate: str, message: str) -> None:
        super().__init__(f"error {number}")
        self.number = number
        self.sqlstate = sqlstate
        self.message = message

    @property
    def code(self) -> str:
        """What a Failure and its log carry."""
        return str(self.number)


class Called(NamedTuple):
    """The procedure that an error may be about, as the servers write it: `schema.name`."""

    schema: str
    name: str

    def in_question(self, message: str) -> bool:
        """Whether a message is about this procedure."""
        own = re.escape(f"{self.schema}.{self.name}")
        # 1305 leaves the schema out in some releases.
        return bool(re.search(rf"(?<![^\s'`]){own}(?![^\s'`;])|PROCEDURE {re.escape(self.name)} ", message, re.I))


def from_server(number: int) -> bool:
    """Whether an error number is a server's, not the client library's."""
    return number >= 1000 and number not in _FROM_CLIENT


def login_failure(error: ServerError, where: str, otherwise: str) -> Failure:
    """The failure of a login that the server refused.

    where: `host:port` for the message. otherwise: what a refusal may mean instead of a wrong name or password.
    """
    reason = _LOGIN.get(error.number) or Reason.ENDPOINT_UNREACHABLE
    said = error.message
    if error.number == _ACCESS_DENIED:
        said += f" ({otherwise})"
    elif error.number in _LOGIN_CURES:
        said = f"{said.rstrip('.')}; {_LOGIN_CURES[error.number]}"
    return Failure(reason, f"{where} refuses the login: {said}", code=error.code)


def call_failure(error: ServerError, called: Called | None = None) -> Failure:
    """The failure of a statement; timeouts and cancellations are the session's.

    called: the procedure that the statement calls, if it calls one.
    """
    reason = _CALL.get(error.number)
    if error.number == _ACCOUNT and "CREATE USER" in error.message:
        reason = Reason.ALREADY_EXISTS
    if reason is None and called is not None and called.in_question(error.message):
        reason = _OWN_CALL.get(error.number)
    return Failure(reason or Reason.PROCEDURE_FAILED, described(error), code=error.code)


def described(error: ServerError) -> str:
    """An error in words that hold nothing of the statement's."""
    if error.number in _SIGNALS or error.number >= _OWN_NUMBERS or error.sqlstate == _SIGNAL_STATE:
        # As it is: what is secret in it is found before it is shortened, not after.
        return error.message
    name = _symbol(error.number)
    state = f", SQLSTATE {error.sqlstate}" if error.sqlstate else ""
    meaning = _MEANINGS.get(error.number)
    return (f"{meaning}: " if meaning else "") + (
        f"the server reports error {error.number}{f' ({name})' if name else ''}{state}"
    )


def _symbol(number: int) -> str:
    """The number's name, such as ER_NO_SUCH_TABLE; "" when PyMySQL does not know it."""
    from pymysql.constants import ER  # imported where a call has failed: it costs start-up time

    return next((f"ER_{name}" for name, value in vars(ER).items() if value == number and name.isupper()), "")
