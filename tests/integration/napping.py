"""A procedure that sleeps, on each engine, and whether it does: what the tests of waits share.

No test of a wait reads a clock. What must be ended sleeps for a minute, and then succeeds: a refusal says that it was
ended before. What would wait for ever gets what it waits for by `otherwise`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from provisioner_job.drivers.contract import Session
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.postgresql_site import Schema, Site
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Event, Printed, Rows, Waits

SLEEPS = (
    "BEGIN DECLARE ignored int; SELECT COUNT(*) INTO ignored FROM (SELECT 1 AS one) AS once WHERE SLEEP(seconds);"
    " SELECT 'slept' AS state; END"
)
"""MariaDB's body of `nap(seconds double)`. Only as a part of a query is SLEEP() ended with an error on MySQL, too."""


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait for it, and fail without it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def meanwhile(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Act in another thread as soon as the condition is true."""

    def run() -> None:
        wait_until(condition)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@contextmanager
def otherwise(act: Callable[[], object]) -> Iterator[None]:
    """Act if the block has not ended by itself after half a minute, long after any limit in it."""
    timer = threading.Timer(30, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Bed:
    """Where one can sleep."""

    schema: Any
    open: Callable[[], Session]
    """A session that is closed after the test."""
    asleep: Callable[[], bool]
    """Whether somebody naps."""
    awake: Callable[[], bool]
    """Whether nobody does."""
    waiting: Callable[[], bool]
    """Whether a session waits for the lock of an identity."""
    timed_out: str
    """The server's code for a call that took too long."""

    def nap(self, session: Session, seconds: str, timeout: float = 120) -> Any:
        """Call it; gives its result, or raises."""
        return Caller(session, self.schema)("nap", seconds, timeout=timeout)

    def refusal(self, session: Session, seconds: str, timeout: float = 120) -> Failure:
        """Why a nap that must not end well does not."""
        return Caller(session, self.schema).refusal("nap", seconds, timeout=timeout)


def of_postgresql(site: Site, schema: Schema, open_session: Callable[[], Session]) -> Bed:
    """pg_sleep()."""
    schema.function("nap(seconds float) RETURNS text", "SELECT pg_sleep(seconds)::text || 'slept'", "sql")
    return _watched(site, schema, open_session, ("nap", "pg_advisory_lock"), timed_out="57014")


def of_mariadb(site: MariaDBSite, schema: MariaDBSchema, open_session: Callable[[], Session]) -> Bed:
    """SLEEP(), as its invoker."""
    schema.define(f"CREATE PROCEDURE nap(seconds double) SQL SECURITY INVOKER {SLEEPS}")
    return _watched(site, schema, open_session, ("SLEEP", "GET_LOCK"), timed_out="1969")


def _watched(
    site: Site | MariaDBSite, schema: Any, open_session: Callable[[], Session], texts: tuple[str, str], timed_out: str
) -> Bed:
    """By a part of the statements that nap, and of those that wait for a lock."""
    nap, lock = texts
    return Bed(
        schema,
        open_session,
        asleep=lambda: site.running(nap),
        awake=lambda: not site.running(nap),
        waiting=lambda: site.running(lock),
        timed_out=timed_out,
    )


def _nap(values: Mapping[str, Any]) -> Iterator[Event]:
    yield Printed("going to sleep")
    yield Waits(float(values["seconds"]))
    yield Rows({"nap": "varchar(5)"}, [["slept"]])


def define_nap(schema: SqlServerSchema) -> None:
    """WAITFOR DELAY, and the same as a script."""
    sql = (
        "BEGIN DECLARE @until varchar(8) = CONVERT(varchar(8), DATEADD(second, @seconds, '0:00'), 108);"
        " WAITFOR DELAY @until; SELECT 'slept' AS nap; END"
    )
    schema.define("nap", "@seconds int", sql, _nap)


def of_sqlserver(site: SqlServerSite, schema: SqlServerSchema, open_session: Callable[[], Session]) -> Bed:
    """Of a real server it is taken for granted, after a moment, that it does what it was told."""
    define_nap(schema)

    def asleep() -> bool:
        if site.double is None:
            time.sleep(0.5)
            return True
        return "nap" in site.world.running

    def awake() -> bool:
        return site.double is None or "nap" not in site.world.running

    def waiting() -> bool:
        return site.double is None or bool(site.world.waiting)

    return Bed(schema, open_session, asleep, awake, waiting, timed_out="")
