"""libpq, as psycopg's wheel brings it: what a Job needs of it, called with ctypes.

psycopg's own Python is not imported: that costs 110 ms of CPU, more than everything else of a Job's start-up (its
errors alone import asyncio); to load the library behind it costs 3 ms. Nothing here waits, and nothing here decides;
every function is described in the PostgreSQL manual, "libpq — C Library".
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_uint, c_void_p
from importlib.machinery import PathFinder

CONNECTION_OK, CONNECTION_BAD, CONNECTION_STARTED = 0, 1, 2
"""ConnStatusType."""
POLLING_FAILED, POLLING_READING, POLLING_OK = 0, 1, 3
"""PostgresPollingStatusType."""
FATAL_ERROR = 7
"""ExecStatusType."""
SQLSTATE, MESSAGE_PRIMARY, CONTEXT = ord("C"), ord("M"), ord("W")
"""PG_DIAG_*: the fields of an error."""

_VERBOSE = 2
"""PQERRORS_VERBOSE: the text of a refused login then carries its SQLSTATE, which is the same in every language."""
_LIBPQ_17 = 170000
_TEXTS = POINTER(c_char_p)
_NOTICE_RECEIVER = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
_FUNCTIONS = (
    ("PQconnectStartParams", c_void_p, (_TEXTS, _TEXTS, c_int)),
    ("PQsetErrorVerbosity", c_int, (c_void_p, c_int)),
    ("PQsetNoticeReceiver", c_void_p, (c_void_p, _NOTICE_RECEIVER, c_void_p)),
    ("PQconnectPoll", c_int, (c_void_p,)),
    ("PQstatus", c_int, (c_void_p,)),
    ("PQsocket", c_int, (c_void_p,)),
    ("PQerrorMessage", c_char_p, (c_void_p,)),
    ("PQparameterStatus", c_char_p, (c_void_p, c_char_p)),
    ("PQserverVersion", c_int, (c_void_p,)),
    ("PQsslInUse", c_int, (c_void_p,)),
    ("PQsetnonblocking", c_int, (c_void_p, c_int)),
    ("PQsendQueryParams", c_int, (c_void_p, c_char_p, c_int, POINTER(c_uint), _TEXTS, c_void_p, c_void_p, c_int)),
    ("PQsetSingleRowMode", c_int, (c_void_p,)),
    ("PQflush", c_int, (c_void_p,)),
    ("PQconsumeInput", c_int, (c_void_p,)),
    ("PQisBusy", c_int, (c_void_p,)),
    ("PQgetResult", c_void_p, (c_void_p,)),
    ("PQfinish", None, (c_void_p,)),
    ("PQresultStatus", c_int, (c_void_p,)),
    ("PQresultErrorField", c_char_p, (c_void_p, c_int)),
    ("PQnfields", c_int, (c_void_p,)),
    ("PQfname", c_char_p, (c_void_p, c_int)),
    ("PQftype", c_uint, (c_void_p, c_int)),
    ("PQntuples", c_int, (c_void_p,)),
    ("PQgetisnull", c_int, (c_void_p, c_int, c_int)),
    ("PQgetvalue", c_char_p, (c_void_p, c_int, c_int)),
    ("PQclear", None, (c_void_p,)),
    ("PQcancelCreate", c_void_p, (c_void_p,)),
    ("PQcancelStart", c_int, (c_void_p,)),
    ("PQcancelPoll", c_int, (c_void_p,)),
    ("PQcancelSocket", c_int, (c_void_p,)),
    ("PQcancelReset", None, (c_void_p,)),
    ("PQcancelFinish", None, (c_void_p,)),
)


def _extension() -> str:
    """The file of psycopg's extension module: a symbol of libpq is found through what depends on it."""
    for package in ("psycopg_binary", "psycopg_c"):
        found = PathFinder.find_spec(package)
        module = PathFinder.find_spec("pq", found.submodule_search_locations) if found is not None else None
        if module is not None and module.origin is not None:
            return module.origin
    raise ImportError("needs libpq as psycopg's wheels bring it", name="psycopg[binary]")


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_extension())
        if library.PQlibVersion() < _LIBPQ_17:
            raise ImportError("needs libpq 17 for cancellations over verified TLS", name="psycopg[binary]>=3.3")
        declare(library, _FUNCTIONS)
    except (OSError, AttributeError) as error:
        raise ImportError("needs libpq as psycopg's wheels bring it", name="psycopg[binary]") from error
    return library


def declare(library: ctypes.CDLL, functions: Sequence[tuple[str, object, tuple[object, ...]]]) -> None:
    """Give C functions their types: name, result, arguments. Raises AttributeError for one that there is not."""
    for name, result, arguments in functions:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


LIBRARY = _load()
# What a body says by RAISE NOTICE would else go to the Job's standard error, passwords included.
_SILENCE = _NOTICE_RECEIVER(lambda argument, result: None)


class LibpqError(Exception):
    """A call failed; `str()` is libpq's text."""


class Connection:
    """A PGconn. After `finish` every call fails, and none does harm: libpq knows what to do without one."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Begin to connect; the settings are taken literally, an empty one counts as not set.

        Raises ValueError for a NUL in one: C would take it for its end.
        """
        if any("\0" in value for value in settings.values()):
            raise ValueError("a setting of the connection holds a NUL")
        self._pointer: int | None = LIBRARY.PQconnectStartParams(
            _texts([*(name.encode() for name in settings), None]),
            _texts([*(value.encode() for value in settings.values()), None]),
            0,
        )
        LIBRARY.PQsetErrorVerbosity(self._pointer, _VERBOSE)
        LIBRARY.PQsetNoticeReceiver(self._pointer, _SILENCE, None)

    @property
    def pointer(self) -> int | None:
        """For other functions of the library; None after `finish`."""
        return self._pointer

    def poll(self) -> int:
        """Go on connecting; gives a POLLING_*."""
        return int(LIBRARY.PQconnectPoll(self._pointer))

    @property
    def status(self) -> int:
        """A CONNECTION_*, or another while it connects."""
        return int(LIBRARY.PQstatus(self._pointer))

    @property
    def socket(self) -> int:
        """Its descriptor; may change while it connects."""
        return int(LIBRARY.PQsocket(self._pointer))

    @property
    def error(self) -> str:
        """What went wrong last."""
        return text(LIBRARY.PQerrorMessage(self._pointer)).strip()

    def parameter(self, name: str) -> str:
        """A parameter that the server reports by itself; "" when it does not."""
        return text(LIBRARY.PQparameterStatus(self._pointer, name.encode()))

    @property
    def server_version(self) -> int:
        """As a number: 150004 is 15.4."""
        return int(LIBRARY.PQserverVersion(self._pointer))

    @property
    def encrypted(self) -> bool:
        """Whether TLS is in use."""
        return bool(LIBRARY.PQsslInUse(self._pointer))

    def never_block(self) -> None:
        """From here on no call waits for the network."""
        self._succeed(LIBRARY.PQsetnonblocking(self._pointer, 1) == 0)

    def send(self, statement: bytes, values: Sequence[bytes | None], types: Sequence[int]) -> None:
        """Send one statement with its values as text, none of them with a NUL; its rows will come one by one.

        types: OIDs, 0 leaves a type to the server. Raises LibpqError.
        """
        count = len(values)
        oids = (c_uint * count)(*types)
        sent = LIBRARY.PQsendQueryParams(self._pointer, statement, count, oids, _texts(values), None, None, 0)
        self._succeed(bool(sent) and bool(LIBRARY.PQsetSingleRowMode(self._pointer)))

    def flush(self) -> bool:
        """Write what is waiting; gives whether something still is. Raises LibpqError."""
        left = LIBRARY.PQflush(self._pointer)
        self._succeed(left >= 0)
        return bool(left)

    def consume_input(self) -> None:
        """Read what has come. Raises LibpqError."""
        self._succeed(bool(LIBRARY.PQconsumeInput(self._pointer)))

    @property
    def busy(self) -> bool:
        """Whether `result` would wait."""
        return bool(LIBRARY.PQisBusy(self._pointer))

    def result(self) -> Result | None:
        """The next piece of what the statement gives; None at its end."""
        pointer = LIBRARY.PQgetResult(self._pointer)
        return None if pointer is None else Result(pointer)

    def finish(self) -> None:
        """Close it; may be called twice."""
        pointer, self._pointer = self._pointer, None
        LIBRARY.PQfinish(pointer)

    def _succeed(self, succeeded: bool) -> None:  # noqa: FBT001 - what C functions return
        if not succeeded:
            raise LibpqError(self.error)


class Result:
    """A PGresult; as a context manager it frees what it holds."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        LIBRARY.PQclear(self._pointer)

    @property
    def failed(self) -> bool:
        """Whether it is an error of the server, or of the connection."""
        return bool(LIBRARY.PQresultStatus(self._pointer) == FATAL_ERROR)

    def error_field(self, field: int) -> str:
        """SQLSTATE, MESSAGE_PRIMARY or CONTEXT of an error; "" when it has none."""
        return text(LIBRARY.PQresultErrorField(self._pointer, field))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(text(LIBRARY.PQfname(self._pointer, column)) for column in range(self._width))

    @property
    def types(self) -> tuple[int, ...]:
        """The columns' type OIDs."""
        return tuple(LIBRARY.PQftype(self._pointer, column) for column in range(self._width))

    @property
    def count(self) -> int:
        """How many rows it has."""
        return int(LIBRARY.PQntuples(self._pointer))

    def row(self, number: int) -> tuple[bytes | None, ...]:
        """One row's values as the server prints them; None is NULL."""
        return tuple(
            None
            if LIBRARY.PQgetisnull(self._pointer, number, column)
            else LIBRARY.PQgetvalue(self._pointer, number, column)
            for column in range(self._width)
        )

    @property
    def _width(self) -> int:
        return int(LIBRARY.PQnfields(self._pointer))


class Cancellation:
    """A PGcancelConn: asks the server to cancel, through a connection of its own that is verified like the first."""

    def __init__(self, connection: Connection) -> None:
        self._pointer = LIBRARY.PQcancelCreate(connection.pointer)
        self._free = LIBRARY.PQcancelFinish

    def __del__(self) -> None:
        self._free(self._pointer)

    def start(self) -> bool:
        """Begin, again if need be; gives whether that went well so far."""
        LIBRARY.PQcancelReset(self._pointer)
        return bool(LIBRARY.PQcancelStart(self._pointer))

    def poll(self) -> int:
        """Go on; gives a POLLING_*."""
        return int(LIBRARY.PQcancelPoll(self._pointer))

    @property
    def socket(self) -> int:
        """Its descriptor; may change."""
        return int(LIBRARY.PQcancelSocket(self._pointer))


def text(value: bytes | None) -> str:
    """What the server or libpq says; broken characters are replaced."""
    return (value or b"").decode(errors="replace")


def _texts(values: Sequence[bytes | None]) -> ctypes.Array[c_char_p]:
    return (c_char_p * len(values))(*values)
