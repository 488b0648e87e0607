"""One conversation with a PostgreSQL server through libpq, in which every wait has an end.

Speaks the extended protocol in text both ways, so that values are what the server reads and prints. Knows neither
procedures nor reasons.
"""

from __future__ import annotations

import contextlib
import re
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from provisioner_job.drivers import postgresql_libpq as libpq

ROWS_KEPT = 1000
"""Rows beyond are counted and dropped: no Secret holds so many keys, and a wrong query may give millions."""
CANCEL_SECONDS = 3.0
"""How long the server may take to accept a cancellation."""
_SLICE_SECONDS = 0.5
"""How soon a wait looks again whether it was cancelled meanwhile."""

_PARAMETER = re.compile(r'[^"$:]*\$(\d+)(?: = .*)?')

_READ = select.POLLIN | select.POLLPRI
_WRITE = select.POLLOUT


class Refused(Exception):
    """A connection attempt ended without a connection; `text` is libpq's, in its verbose form."""

    def __init__(self, text: str) -> None:
        super().__init__("connection refused")
        self.text = text


class Silent(Exception):
    """The server did not answer in time. `connected`: whether TCP stood when that happened."""

    def __init__(self, *, connected: bool) -> None:
        super().__init__("no answer in time")
        self.connected = connected


class Lost(Exception):
    """The connection ended while it was needed; `text` is libpq's."""

    def __init__(self, text: str) -> None:
        super().__init__("connection lost")
        self.text = text


class ServerError(Exception):
    """The server refused a statement. Of what it said only the code and the primary message are kept."""

    def __init__(self, result: libpq.Result) -> None:
        super().__init__("statement refused")
        self.sqlstate = result.error_field(libpq.SQLSTATE)
        self.message = result.error_field(libpq.MESSAGE_PRIMARY)
        context = result.error_field(libpq.CONTEXT)
        self.in_body = bool(context)
        """Whether something that the statement called raised it."""
        self.parameter = _unreadable_parameter(context)
        """n when the value of `$n` could not be read as its type, and nothing ran."""


def _unreadable_parameter(context: str) -> int | None:
    """From the context's last line, `unnamed portal parameter $n`: since PostgreSQL 13, in the server's language.

    Errors out of a body have contexts too, which quote a function or a statement.
    """
    match = _PARAMETER.fullmatch(context.rpartition("\n")[2])
    return None if match is None else int(match[1])


class Bound(NamedTuple):
    """A value for `$n`, as text; `type` is its type's OID, 0 leaves it to the server."""

    value: str | None
    type: int = 0

    def __repr__(self) -> str:
        # The value may be a password.
        return f"Bound(type={self.type})"


class Rows:
    """What a statement gave: at most ROWS_KEPT rows of `count`, as the server prints them."""

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self.types: tuple[int, ...] = ()
        """Type OIDs of the columns; a domain shows as its base type."""
        self.values: list[tuple[bytes | None, ...]] = []
        self.count = 0

    def add(self, result: libpq.Result) -> None:
        """Take over columns and rows of one piece of the result."""
        self.columns, self.types = result.columns, result.types
        for row in range(result.count):
            self.count += 1
            if self.count <= ROWS_KEPT:
                self.values.append(result.row(row))


def _wait(descriptor: int, events: int, until: float) -> int:
    """Wait for one of the events; gives those that came, 0 when `until` (monotonic seconds) passed."""
    poller = select.poll()
    poller.register(descriptor, events)
    ready = poller.poll(max(0.0, until - time.monotonic()) * 1000)
    return ready[0][1] if ready else 0


def _drive(poll: Callable[[], int], descriptor: Callable[[], int], until: float) -> bool:
    """Let libpq go on whenever its socket is ready; gives whether it got to its end. Raises TimeoutError."""
    while True:
        state = poll()
        if state in (libpq.POLLING_OK, libpq.POLLING_FAILED):
            return state == libpq.POLLING_OK
        if not _wait(descriptor(), _READ if state == libpq.POLLING_READING else _WRITE, until):
            raise TimeoutError


class Wire:
    """An open connection."""

    def __init__(self, connection: libpq.Connection) -> None:
        self.connection = connection
        connection.never_block()
        self._cancellation = libpq.Cancellation(connection)
        self._cancelling = threading.Lock()
        self.cancelled = False
        """Whether `cancel` was called; nothing is sent any more then."""

    @classmethod
    def open(cls, settings: Mapping[str, str], until: float) -> Wire:
        """Connect and log in. Raises Refused, or Silent at `until` (monotonic seconds)."""
        connection = libpq.Connection(settings)
        try:
            if connection.status != libpq.CONNECTION_BAD and _drive(connection.poll, lambda: connection.socket, until):
                return cls(connection)
            raise Refused(connection.error)
        except TimeoutError:
            raise Silent(connected=connection.status != libpq.CONNECTION_STARTED) from None
        finally:
            if connection.status != libpq.CONNECTION_OK:
                connection.finish()

    @property
    def server_version(self) -> str:
        """As the server writes it: `15.4 (Debian 15.4-1)`."""
        return self.connection.parameter("server_version")

    def query(self, statement: str, values: Sequence[Bound], until: float) -> Rows:
        """Run one statement and read its result to the end.

        Raises ServerError, Lost, or Silent when there is still no end at `until` (monotonic seconds) and a
        cancellation did not bring it about; the connection is closed then.
        """
        try:
            self.connection.send(
                statement.encode(),
                [None if bound.value is None else bound.value.encode() for bound in values],
                [bound.type for bound in values],
            )
            self._flush(until)
            return self._read(until)
        except libpq.LibpqError as error:
            self.close()
            raise Lost(str(error)) from None
        except TimeoutError:
            self.close()
            raise Silent(connected=True) from None

    def _flush(self, until: float) -> None:
        while self.connection.flush():
            events = _wait(self.connection.socket, _READ | _WRITE, until)
            if not events:
                raise TimeoutError
            if events & _READ:
                self.connection.consume_input()

    def _read(self, until: float) -> Rows:
        rows, refusal = Rows(), None
        while True:
            self._await_result(until)
            result = self.connection.result()
            if result is None:
                break
            with result:
                if result.failed:
                    refusal = ServerError(result)
                elif refusal is None:
                    rows.add(result)
        if refusal is not None:
            raise refusal
        return rows

    def _await_result(self, until: float) -> None:
        ending = False
        while self.connection.busy:
            now = time.monotonic()
            if not ending and (self.cancelled or now >= until):
                # Whatever the reason, the server has as long as this to come to its end.
                ending, until = True, now + CANCEL_SECONDS
            if _wait(self.connection.socket, _READ, min(until, now + _SLICE_SECONDS)):
                self.connection.consume_input()
            elif ending and time.monotonic() >= until:
                raise TimeoutError
            elif ending:
                # Again and again: a cancellation that arrives before the statement does, has no effect.
                self._cancel_on_server()

    def cancel(self) -> None:
        """Cancel on the server what runs now; from any thread or signal handler, in CANCEL_SECONDS at most."""
        self.cancelled = True
        self._cancel_on_server()

    def _cancel_on_server(self) -> None:
        # Whoever comes second (a signal handler may interrupt this very line) leaves it to the first.
        if not self._cancelling.acquire(blocking=False):
            return
        try:
            # The request goes through a connection of its own, verified like the first.
            with contextlib.suppress(TimeoutError):
                if self._cancellation.start():
                    until = time.monotonic() + CANCEL_SECONDS
                    _drive(self._cancellation.poll, lambda: self._cancellation.socket, until)
        finally:
            self._cancelling.release()

    def close(self) -> None:
        """End the connection; may be called twice."""
        self.connection.finish()
