"""pyodbc, and the ODBC driver under it, as one conversation in which every wait has an end.

Knows neither procedures nor reasons. ODBC calls run in a thread of their own: some block in C beyond any limit, and
whoever waits for one here can still cancel it and, if the driver does not listen, take its connection away.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import platform
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

try:
    import pyodbc
except ImportError as error:
    if error.name == "pyodbc":
        raise
    raise ImportError(str(error), name="unixODBC (libodbc.so.2)") from error

from provisioner_job.drivers import sqlserver_values
from provisioner_job.drivers.sqlserver_relay import Relay

ROWS_KEPT = 1000
"""Rows beyond are counted and dropped: no Secret holds so many keys, and a wrong query may give millions."""
CANCEL_SECONDS = 3.0
"""How long a cancellation may take; then the connection is taken away."""
_SLICE_SECONDS = 0.25
_CHUNK = 100

_MICROSOFT = (
    "/opt/microsoft/msodbcsql18/lib64/libmsodbcsql-18*.so*",
    "/usr/lib/libmsodbcsql-18*.so*",
)
_FREETDS = (
    "/usr/lib/*/odbc/libtdsodbc.so",
    "/usr/lib64/libtdsodbc.so*",
    "/usr/lib/libtdsodbc.so*",
)
T = TypeVar("T")


class Library(NamedTuple):
    """An ODBC driver that this image holds."""

    name: str
    path: str
    text_type: int
    """The ODBC type as which a text of any length is bound, to arrive as nvarchar(max).

    FreeTDS cuts what is bound as SQL_WVARCHAR after 4000 characters and says nothing; Microsoft's driver takes size 0
    of that type for max.
    """
    keywords: str
    """What its connection string needs besides."""


def installed() -> list[Library]:
    """The drivers of this image, the better one first: Microsoft's where its licence was accepted, then FreeTDS."""
    found = []
    for path in _existing((*_wheel(), *_MICROSOFT)):
        found.append(Library("Microsoft", path, pyodbc.SQL_WVARCHAR, "Encrypt=no;ConnectRetryCount=0"))
    for path in _existing(_FREETDS):
        keywords = "TDS_Version=7.4;ClientCharset=UTF-8"
        found.append(Library("FreeTDS", path, pyodbc.SQL_WLONGVARCHAR, keywords))
    return found


def _wheel() -> tuple[str, ...]:
    """Where the wheel `mssql-python-odbc` keeps the driver for this distribution."""
    spec = importlib.util.find_spec("mssql_python_odbc")
    if spec is None or spec.origin is None:
        return ()
    family = "debian_ubuntu"
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()
        kind = f"{system.get('ID', '')} {system.get('ID_LIKE', '')}"
        family = "rhel" if "rhel" in kind or "fedora" in kind else "suse" if "suse" in kind else family
    machine = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (os.path.join(os.path.dirname(spec.origin), "libs/linux", family, machine, "lib/libmsodbcsql-18*.so*"),)


def _existing(patterns: Sequence[str]) -> list[str]:
    return [path for pattern in patterns for path in sorted(glob.glob(pattern))[:1]][:1]


class Silent(Exception):
    """No answer in time, nor to its cancellation; the connection is gone."""


class Cancelled(Exception):
    """The server has cut short what ran, because it was cancelled."""


class Broken(Exception):
    """The connection ended before the answer did."""


class Refused(Exception):
    """An ODBC call failed. Only SQLSTATE, the server's number and the primary message are kept."""

    def __init__(self, error: pyodbc.Error) -> None:
        super().__init__("refused")
        self.sqlstate, self.number, self.message = diagnostic(error.args)


_DIAGNOSTIC = re.compile(r"\[\w{5}\] ((?:\[[^\]]*\])*)(.*?) \((-?\d+)\)(?: \(SQL\w+\)|; \[|\Z)", re.DOTALL)
"""pyodbc's form: `[SQLSTATE] [vendor][driver][SQL Server]message (number) (function); [SQLSTATE] …`."""
_DBLIB = range(20000, 20100)


def diagnostic(arguments: Sequence[object]) -> tuple[str, int, str]:
    """SQLSTATE, native error number (0: the driver's own) and message of the first diagnostic record."""
    sqlstate, text = (str(one) for one in (*arguments, "", "")[:2])
    match = _DIAGNOSTIC.match(text)
    if match is None:
        return sqlstate, 0, text
    # "[SQL Server]" marks what the server said; FreeTDS puts it before its own words too, whose numbers are dblib's.
    number = int(match[3]) if "[SQL Server]" in match[1] else 0
    return sqlstate, 0 if number in _DBLIB else number, match[2]


class Rows:
    """A result set: at most ROWS_KEPT rows of `count`, as text."""

    def __init__(self, columns: tuple[str, ...] = ()) -> None:
        self.columns = columns
        self.values: list[tuple[str | None, ...]] = []
        self.count = 0


class _Task:
    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class Wire:
    """An open connection. Used by one thread, except `cancel`."""

    def __init__(self, library: Library, relay: Relay) -> None:
        self.relay = relay
        self.cancelled = False
        """Whether `cancel` was called; nothing is sent any more then."""
        self.closed = False
        self._library = library
        self._connection: pyodbc.Connection | None = None
        self._cursor: pyodbc.Cursor | None = None
        self._cancelling = threading.Lock()
        self._asked = 0
        """How often the driver was asked to cancel."""
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="odbc", daemon=True).start()

    def open(self, keywords: str, until: float) -> None:
        """Log in. `until`: monotonic seconds. Raises Refused, Silent."""
        _forget_environment()

        def connect() -> None:
            text = f"Driver={{{self._library.path}}};{self._library.keywords};{keywords}"
            self._connection = pyodbc.connect(text, autocommit=True)
            self._connection.setdecoding(pyodbc.SQL_CHAR, encoding="utf-16le", ctype=pyodbc.SQL_WCHAR)
            self._connection.setdecoding(pyodbc.SQL_WCHAR, encoding="utf-16le", ctype=pyodbc.SQL_WCHAR)
            self._connection.setencoding(encoding="utf-16le")
            for number, convert in sqlserver_values.CONVERTERS.items():
                self._connection.add_output_converter(number, convert)

        self._wait_for(connect, until)

    def query(self, statement: str, values: Sequence[str], until: float) -> list[Rows]:
        """Run a batch and read everything it gives to the end: its last result sets with columns, two at most.

        values: of its `?`, each as nvarchar(max). Raises Refused, Cancelled, Broken, Silent.
        """
        before, asked = self.relay.cancelled, self._asked
        sets: list[Rows] = []
        try:
            self._wait_for(lambda: self._execute(statement, values, sets), until)
        except Refused as refused:
            if self._asked > asked and not refused.sqlstate.startswith("08"):
                raise Cancelled from None
            raise
        # What Microsoft's driver makes of a cancellation depends on its moment: an error of its own, what the server
        # says to a question that it asks afterwards, or a result that looks as if it had come to its end.
        if self._asked > asked or self.relay.cancelled > before:
            raise Cancelled
        return sets

    def _execute(self, statement: str, values: Sequence[str], sets: list[Rows]) -> None:
        assert self._connection is not None  # noqa: S101 - nothing is queued before `open`
        cursor = self._cursor = self._connection.cursor()
        try:
            if values:
                cursor.setinputsizes([(self._library.text_type, 0, 0)] * len(values))
            cursor.execute(statement, *values)
            while True:
                if cursor.description is not None:
                    sets.append(_read(cursor))
                    del sets[:-2]
                if not cursor.nextset():
                    break
            if not self.relay.complete:
                # Microsoft's driver takes a connection that breaks after a row for the end of the rows.
                raise Broken
        finally:
            # A handle that is freed while SQLCancel works on it takes the process along (Microsoft's driver).
            with self._cancelling:
                self._cursor = None
                with contextlib.suppress(pyodbc.Error):
                    cursor.close()

    def _wait_for(self, run: Callable[[], None], until: float) -> None:
        task = _Task(run)
        self._tasks.put(task)
        ending = False
        while not task.done.wait(min(_SLICE_SECONDS, max(0.01, until - time.monotonic()))):
            now = time.monotonic()
            if not ending and (self.cancelled or now >= until):
                # Whatever the reason, the server has as long as this to come to its end.
                ending, until = True, now + CANCEL_SECONDS
            if ending and now >= until:
                self.close()
                raise Silent
            if ending:
                # Again and again: a cancellation that arrives before the statement does, has no effect.
                self._cancel_on_server()
        if isinstance(task.error, pyodbc.Error):
            raise Refused(task.error) from None
        if task.error is not None:
            raise task.error

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.run()
            except BaseException as error:  # it is raised where it is waited for
                task.error = error
            task.done.set()
            del task
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(pyodbc.Error):
                connection.close()
        self.relay.close()

    def cancel(self) -> None:
        """Cancel on the server what runs now; from any thread or signal handler."""
        self.cancelled = True
        self._cancel_on_server()

    def _cancel_on_server(self) -> None:
        # Microsoft's SQLCancel waits for the server's answer: not here.
        threading.Thread(target=self._cancel_once, name="odbc-cancel", daemon=True).start()

    def _cancel_once(self) -> None:
        # Whoever comes second leaves it to the first.
        if not self._cancelling.acquire(blocking=False):
            return
        try:
            if self._cursor is not None:
                self._asked += 1
                with contextlib.suppress(pyodbc.Error):
                    self._cursor.cancel()
        finally:
            self._cancelling.release()

    def close(self) -> None:
        """End the connection, whatever goes on; may be called twice."""
        if not self.closed:
            self.closed = True
            # The server sees its client go, and ends what runs; the driver sees its server go, and lets its thread.
            self.relay.close()
            self._tasks.put(None)


def _read(cursor: pyodbc.Cursor) -> Rows:
    rows = Rows(tuple(str(column[0] or "") for column in cursor.description))
    while chunk := cursor.fetchmany(_CHUNK):
        for row in chunk:
            rows.count += 1
            if rows.count <= ROWS_KEPT:
                rows.values.append(tuple(sqlserver_values.text(value) for value in row))
    return rows


def _forget_environment() -> None:
    """No file or variable of the image changes a connection, or has it traced with all it sends."""
    for name in [name for name in os.environ if name.startswith(("TDS", "ODBC", "FREETDS"))]:
        del os.environ[name]
    # unixODBC looks for odbcinst.ini below a path that is no directory, and finds none.
    os.environ.update(ODBCSYSINI=os.devnull, ODBCINI=os.devnull, FREETDSCONF=os.devnull)
    pyodbc.pooling = False
