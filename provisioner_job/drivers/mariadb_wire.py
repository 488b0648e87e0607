"""One connection to a MariaDB or MySQL server: a statement sent, all its results read, ended in time whatever happens.

PyMySQL speaks the protocol and knows no clock but the socket's; beside every statement a thread watches the time, and
ends the statement on the server, through a connection of its own, or the connection.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pymysql
from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE, SERVER_STATUS
from pymysql.cursors import SSCursor

from provisioner_job.drivers.mariadb_errors import ServerError, from_server
from provisioner_job.errors import Failure

ROWS_KEPT = 1000
"""More rows than any result has; the rest is read and counted."""
CANCEL_SECONDS = 3.0
"""For a cancelled statement to come to its end; then the connection is given up."""
_AGAIN_SECONDS = 0.3
_KILL_SECONDS = 2.0

NONSENSE = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError, struct.error)
"""What PyMySQL runs into when the other side does not keep to the protocol, a request for a local file included."""

_BINARY = 63
"""The character set's number for bytes that are no text."""
_STRINGS = frozenset(
    {
        FIELD_TYPE.VARCHAR,
        FIELD_TYPE.VAR_STRING,
        FIELD_TYPE.STRING,
        FIELD_TYPE.TINY_BLOB,
        FIELD_TYPE.BLOB,
        FIELD_TYPE.MEDIUM_BLOB,
        FIELD_TYPE.LONG_BLOB,
    }
)
_DONE, _CANCEL = "done", "cancel"


class Lost(Exception):
    """The connection broke; `str()` says how, in words that hold no statement."""


class Column(NamedTuple):
    """A column of a result set."""

    name: str
    type: int
    charset: int

    def text(self, value: bytes | None) -> str | None:
        """A value as text: what the server sent, save for bytes (`0x6162`, as the servers write them) and BIT (digits).

        Raises UnicodeDecodeError.
        """
        if value is None:
            return None
        if self.type == FIELD_TYPE.BIT:
            return str(int.from_bytes(value, "big"))
        if self.type == FIELD_TYPE.GEOMETRY or (self.type in _STRINGS and self.charset == _BINARY):
            return f"0x{value.hex()}"
        return value.decode()


class Rows:
    """The last result set that had columns: at most ROWS_KEPT rows of `count`."""

    def __init__(self, columns: tuple[Column, ...] = ()) -> None:
        self.columns = columns
        self.values: list[tuple[bytes | None, ...]] = []
        self.count = 0

    def add(self, row: tuple[bytes | None, ...]) -> None:
        """Take over a row."""
        self.count += 1
        if self.count <= ROWS_KEPT:
            self.values.append(row)


class Hand(NamedTuple):
    """A second handle on a connection's socket: ends it under whoever reads or writes, in TLS or not."""

    handle: socket.socket

    @classmethod
    def on(cls, plain: socket.socket) -> Hand:
        """To be taken before TLS takes the socket away."""
        return cls(plain.dup())

    def cut(self) -> None:
        """End the connection; the file descriptor stays."""
        with contextlib.suppress(OSError):
            self.handle.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def cutting(self, until: float) -> Iterator[None]:
        """Cut at `until` (monotonic seconds), unless the block has ended before."""
        timer = threading.Timer(max(0.0, until - time.monotonic()), self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class Verified(NamedTuple):
    """A connection that is logged in, and the hand on it."""

    connection: Connection[Any]
    hand: Hand

    def close(self) -> None:
        """End both; says goodbye to the server, but waits for nothing."""
        with contextlib.suppress(pymysql.Error, OSError):
            self.connection.close()
        self.hand.handle.close()


class Wire:
    """An open connection. Used by one thread, except `cancel`."""

    def __init__(self, verified: Verified, again: Callable[[float], Verified]) -> None:
        """`again` opens another connection like this one to the same server, until a time of the monotonic clock."""
        self._verified = verified
        self._again = again
        self._messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.number = 0
        """CONNECTION_ID() of the connection: what to kill."""
        self.cancelled = False
        """Whether `cancel` was called; nothing is sent any more then."""
        self.forbidden = False
        """Whether the server refused to end a statement: it runs as somebody else (SQL SECURITY DEFINER)."""
        self.overdue = False
        """Whether the last statement took so long that it was ended from here."""

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS layer of the connection."""
        layer = getattr(self._verified.connection, "_sock", None)
        return layer if isinstance(layer, ssl.SSLSocket) else None

    @property
    def in_transaction(self) -> bool:
        """Whether the last statement has left a transaction open."""
        result = getattr(self._verified.connection, "_result", None)
        status: int = getattr(result, "server_status", None) or 0
        return bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def query(self, statement: str, until: float) -> Rows:
        """Run one statement and read all its results to the end; gives the last that has columns.

        until: monotonic seconds; what still runs then is ended on the server, and if that takes more than
        CANCEL_SECONDS, the connection is. Raises ServerError, or Lost; then the connection is closed.
        """
        messages = self._messages = queue.SimpleQueue()
        if self.cancelled:
            raise Lost("nothing is sent after a cancellation")
        self.overdue = False
        watch = threading.Thread(target=self._watch, args=(messages, until), name="statement", daemon=True)
        watch.start()
        outcome: Rows | Exception
        try:
            outcome = self._run(statement)
        except pymysql.Error as error:
            outcome = server_error(error) or Lost(_said(error))
        except NONSENSE:
            outcome = Lost("the server does not keep to the protocol")
        finally:
            messages.put(_DONE)
            # So that no cancellation of this statement meets the next one.
            watch.join()
        # Raised here, where no exception is being handled: PyMySQL's quotes what the server quoted.
        if isinstance(outcome, Rows):
            return outcome
        if isinstance(outcome, Lost):
            self._abandon()
        raise outcome

    def _run(self, statement: str) -> Rows:
        rows = Rows()
        with self._verified.connection.cursor(SSCursor) as cursor:
            cursor.execute(statement)
            more: bool | None = True
            while more:
                if cursor.description:
                    fields = self._verified.connection._result.fields  # type: ignore[attr-defined]
                    rows = Rows(tuple(Column(one.name, one.type_code, one.charsetnr) for one in fields))
                    while (row := cursor.fetchone()) is not None:
                        rows.add(row)
                more = cursor.nextset()
        return rows

    def _abandon(self) -> None:
        """Leave a connection that is gone: PyMySQL would go on reading its result when it is collected."""
        result = getattr(self._verified.connection, "_result", None)
        if result is not None:
            result.unbuffered_active = False
        self.close()

    # Beside the statement

    def _watch(self, messages: queue.SimpleQueue[str], until: float) -> None:
        try:
            told = messages.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            told, self.overdue = _CANCEL, True
        if told == _DONE:
            return
        end = time.monotonic() + CANCEL_SECONDS
        ended = False
        # Whatever keeps it from being ended on the server, it is ended here.
        with contextlib.suppress(Failure, pymysql.Error, OSError, *NONSENSE):
            other = self._again(time.monotonic() + _KILL_SECONDS)
            with contextlib.closing(other):
                ended = self._kill(other.connection, messages, end)
        if not ended and not _done(messages, end):
            self._verified.hand.cut()

    def _kill(self, other: Connection[Any], messages: queue.SimpleQueue[str], end: float) -> bool:
        """End the statement on the server; whether it came to its end."""
        with other.cursor() as cursor:
            if _done(messages, time.monotonic()):
                return True
            # Again and again: one that arrives before the statement does has no effect, and DO SLEEP() swallows it.
            while time.monotonic() < end - _AGAIN_SECONDS:
                try:
                    cursor.execute(f"KILL QUERY {self.number}")
                except pymysql.Error as error:
                    self.forbidden = error.args[0] == _NOT_OWNER
                    return False
                if _done(messages, min(end, time.monotonic() + _AGAIN_SECONDS)):
                    return True
            # A procedure can swallow every KILL QUERY, but not this one.
            cursor.execute(f"KILL {self.number}")
        return False

    def cancel(self) -> None:
        """Have what runs now ended on the server; from any thread or signal handler, returns at once."""
        self.cancelled = True
        # SimpleQueue.put may interrupt itself.
        self._messages.put(_CANCEL)

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._verified.close()


_NOT_OWNER = 1095
"""ER_KILL_DENIED_ERROR."""


def _done(messages: queue.SimpleQueue[str], until: float) -> bool:
    """Wait until the statement has ended, or `until`; whether it has."""
    while True:
        try:
            if messages.get(timeout=max(0.0, until - time.monotonic())) == _DONE:
                return True
        except queue.Empty:
            return False


def server_error(error: pymysql.Error) -> ServerError | None:
    """The error packet behind PyMySQL's exception, if there is one."""
    if len(error.args) < 2 or not isinstance(error.args[0], int):
        return None
    # PyMySQL reads the two bytes as signed: a procedure's own number from 32768 on is negative there.
    number = error.args[0] & 0xFFFF
    return (
        ServerError(number, getattr(error, "sqlstate", None) or "", str(error.args[1])) if from_server(number) else None
    )


def _said(error: pymysql.Error) -> str:
    """What PyMySQL says of a connection that broke; its words hold no statement."""
    return str(error.args[1]) if len(error.args) > 1 else str(error)
