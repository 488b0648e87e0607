"""What a wait for SQL Server has of its own: lock names, deaf servers, crashes, and the threads of its driver."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from provisioner_job.drivers.sqlserver import lock_name
from tests.integration.caller import Caller
from tests.integration.napping import define_nap, meanwhile, wait_until
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Waits

pytestmark = pytest.mark.integration

SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=60)


def test_lock_names_are_apart_and_short_enough() -> None:
    names = {lock_name(f"identity {number}") for number in range(1000)} | {lock_name("x" * 10_000)}

    assert len(names) == 1001
    assert all(len(name) <= 255 for name in names)


def test_many_cancellations_at_odd_moments_leave_the_process_alive(
    open_sqlserver_session: Callable[[], Session], sqlserver_schema: SqlServerSchema
) -> None:
    """A handle that is freed under a cancellation would take the process along."""
    define_nap(sqlserver_schema)
    for number in range(20):
        call = Caller(open_sqlserver_session(), sqlserver_schema)
        threading.Timer(number / 2000, call.session.cancel).start()

        assert call.refusal("nap", seconds="5", timeout=4).reason is Reason.INTERRUPTED


def test_a_server_that_does_not_listen_to_cancellations_is_left_behind(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("mule", "", "", lambda _: iter([Waits(60, deaf=True)]))
    session = misbehaving.connect()
    failure = Caller(session, schema).refusal("mule", timeout=0.5)

    assert failure.reason is Reason.TIMEOUT
    assert "nor to its cancellation" in failure.message
    assert "mule" in misbehaving.world.running
    assert Caller(session, schema).refusal("mule").reason is Reason.CONNECTION_LOST


def test_a_server_that_crashes_during_a_call_loses_the_connection(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    define_nap(schema)
    call = Caller(misbehaving.connect(), schema)

    assert misbehaving.double is not None
    thread = meanwhile(lambda: "nap" in misbehaving.world.running, misbehaving.double.kill)
    failure = call.refusal("nap", seconds="60", timeout=120)
    thread.join()
    call.session.close()

    assert failure.reason is Reason.CONNECTION_LOST


def test_a_client_that_closes_ends_its_call_and_gives_its_lock_back(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    define_nap(schema)
    call = Caller(misbehaving.connect(), schema)
    call.session.lock("mine", SHORT)

    thread = meanwhile(lambda: "nap" in misbehaving.world.running, call.session.close)
    failure = call.refusal("nap", seconds="60", timeout=120)
    thread.join()
    other = misbehaving.connect()
    other.lock("mine", LONG)
    other.close()

    assert failure.reason in (Reason.CONNECTION_LOST, Reason.TIMEOUT)


def test_sessions_leave_no_thread_behind(misbehaving: SqlServerSite) -> None:
    def own() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name in ("relay", "odbc")]

    wait_until(lambda: not own())
    for _ in range(5):
        misbehaving.connect().close()

    wait_until(lambda: not own())
