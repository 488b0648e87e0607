"""Every wait for SQL Server has an end: locks, calls, cancellations, and servers that fall silent."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from provisioner_job.drivers.sqlserver import lock_name
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Event, Printed, Rows, Waits

pytestmark = pytest.mark.integration

SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=20)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)


def nap(values: Mapping[str, Any]) -> Iterator[Event]:
    yield Printed("going to sleep")
    yield Waits(float(values["seconds"]))
    yield Rows({"nap": "varchar(5)"}, [["slept"]])


@pytest.fixture
def sleeper(sqlserver_schema: SqlServerSchema) -> SqlServerSchema:
    sql = (
        "BEGIN DECLARE @until varchar(8) = CONVERT(varchar(8), DATEADD(second, @seconds, '0:00'), 108);"
        " WAITFOR DELAY @until; SELECT 'slept' AS nap; END"
    )
    sqlserver_schema.define("nap", "@seconds int", sql, nap)
    return sqlserver_schema


def begun(call: Caller) -> bool:
    """Whether the nap goes on; of a real server it is taken for granted after a moment."""
    if call.schema.site.double is None:
        time.sleep(0.5)
        return True
    return "nap" in call.schema.site.world.running


def ended(call: Caller) -> bool:
    return call.schema.site.double is None or "nap" not in call.schema.site.world.running


def test_the_lock_of_an_identity_is_held_by_one_session(open_sqlserver_session: Callable[[], Session]) -> None:
    first, second = open_sqlserver_session(), open_sqlserver_session()
    first.lock("shop_orders", SHORT)
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        second.lock("shop_orders", SHORT)
    waited = time.monotonic() - started

    assert caught.value.reason is Reason.LOCK_TIMEOUT
    assert "earlier call" in caught.value.message
    assert 0.25 < waited < 3
    second.lock("shop_order", SHORT)


def test_the_lock_passes_on_when_its_holder_closes(open_sqlserver_session: Callable[[], Session]) -> None:
    first, second = open_sqlserver_session(), open_sqlserver_session()
    first.lock("a", SHORT)
    threading.Timer(0.2, first.close).start()
    second.lock("a", LONG)


def test_lock_names_are_apart_and_short_enough() -> None:
    names = {lock_name(f"identity {number}") for number in range(1000)} | {lock_name("x" * 10_000)}

    assert len(names) == 1001
    assert all(len(name) <= 255 for name in names)


def test_a_call_that_takes_too_long_is_cancelled_on_the_server(
    sqlserver_call: Caller, sleeper: SqlServerSchema
) -> None:
    started = time.monotonic()
    failure = sqlserver_call.refusal("nap", seconds="30", timeout=0.3)

    assert failure.reason is Reason.TIMEOUT
    assert "0.3 s" in failure.message
    assert time.monotonic() - started < 2
    wait_until(lambda: ended(sqlserver_call))
    assert sqlserver_call("nap", seconds="0") == {"nap": "slept"}


def test_cancelling_from_another_thread_ends_the_call(sqlserver_call: Caller, sleeper: SqlServerSchema) -> None:
    def cancel() -> None:
        wait_until(lambda: begun(sqlserver_call))
        sqlserver_call.session.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    started = time.monotonic()
    failure = sqlserver_call.refusal("nap", seconds="30")
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    assert time.monotonic() - started < 5
    wait_until(lambda: ended(sqlserver_call))
    assert sqlserver_call.refusal("nap", seconds="0").reason is Reason.INTERRUPTED


def test_cancelling_from_a_signal_handler_ends_the_call(sqlserver_call: Caller, sleeper: SqlServerSchema) -> None:
    previous = signal.signal(signal.SIGUSR1, lambda *_: sqlserver_call.session.cancel())
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: begun(sqlserver_call))
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    failure = sqlserver_call.refusal("nap", seconds="30")
    thread.join()
    signal.signal(signal.SIGUSR1, previous)

    assert failure.reason is Reason.INTERRUPTED


def test_cancelling_a_wait_for_the_lock_ends_it(
    open_sqlserver_session: Callable[[], Session], sqlserver: SqlServerSite
) -> None:
    first, second = open_sqlserver_session(), open_sqlserver_session()
    first.lock("contended", SHORT)

    def cancel() -> None:
        if sqlserver.double is not None:
            wait_until(lambda: sqlserver.world.waiting)
        second.cancel()

    threading.Timer(0.3, cancel).start()
    with pytest.raises(Failure) as caught:
        second.lock("contended", LONG)

    assert caught.value.reason is Reason.INTERRUPTED


def test_many_cancellations_at_odd_moments_leave_the_process_alive(
    open_sqlserver_session: Callable[[], Session], sleeper: SqlServerSchema
) -> None:
    """A handle that is freed under a cancellation would take the process along."""
    for number in range(20):
        call = Caller(open_sqlserver_session(), sleeper)
        threading.Timer(number / 2000, call.session.cancel).start()

        assert call.refusal("nap", seconds="5", timeout=4).reason is Reason.INTERRUPTED


def test_a_server_that_does_not_listen_to_cancellations_is_left_behind(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("mule", "", "", lambda _: iter([Waits(20, deaf=True)]))
    session = misbehaving.connect()
    started = time.monotonic()
    failure = Caller(session, schema).refusal("mule", timeout=0.5)
    waited = time.monotonic() - started

    assert failure.reason is Reason.TIMEOUT
    assert "nor to its cancellation" in failure.message
    assert waited < 8
    assert Caller(session, schema).refusal("mule").reason is Reason.CONNECTION_LOST


def test_a_server_that_crashes_during_a_call_loses_the_connection(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("nap", "@seconds int", "", nap)
    call = Caller(misbehaving.connect(), schema)

    def crash() -> None:
        wait_until(lambda: begun(call))
        assert misbehaving.double is not None
        misbehaving.double.kill()

    threading.Thread(target=crash).start()
    failure = call.refusal("nap", seconds="30")
    call.session.close()

    assert failure.reason is Reason.CONNECTION_LOST


def test_a_client_that_closes_ends_its_call_and_gives_its_lock_back(misbehaving: SqlServerSite) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("nap", "@seconds int", "", nap)
    call = Caller(misbehaving.connect(), schema)
    call.session.lock("mine", SHORT)

    def close() -> None:
        wait_until(lambda: begun(call))
        call.session.close()

    threading.Thread(target=close).start()
    failure = call.refusal("nap", seconds="30")
    other = misbehaving.connect()
    other.lock("mine", LONG)
    other.close()

    assert failure.reason in (Reason.CONNECTION_LOST, Reason.TIMEOUT)


def test_a_closed_session_may_be_closed_and_cancelled_again(sqlserver: SqlServerSite) -> None:
    session = sqlserver.connect()
    session.close()
    session.close()
    session.cancel()
    with pytest.raises(Failure):
        session.lock("x", SHORT)


def test_sessions_leave_no_thread_behind(misbehaving: SqlServerSite) -> None:
    def own() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name in ("relay", "odbc")]

    wait_until(lambda: not own())
    for _ in range(5):
        misbehaving.connect().close()

    wait_until(lambda: not own())
