"""What a wait for PostgreSQL has of its own: lock keys, killed Jobs, deaf bodies, administrators."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from provisioner_job.drivers.postgresql import lock_key
from tests.integration.caller import Caller
from tests.integration.holder import Holder, holding
from tests.integration.napping import Bed, meanwhile, wait_until
from tests.integration.postgresql_site import Schema, Site

pytestmark = pytest.mark.integration


def test_the_lock_keys_are_the_same_everywhere_and_apart() -> None:
    keys = {lock_key(f"identity {number}") for number in range(1000)}

    assert len(keys) == 1000
    assert all(-(2**63) <= key < 2**63 for key in keys)
    assert lock_key("shop_orders") == lock_key("shop_orders")
    assert lock_key("x" * 10_000) != lock_key("x" * 9_999)
    assert lock_key("größe 🐘") != lock_key("grosse")


@pytest.fixture
def holder(site: Site, postgresql_bed: Bed) -> Iterator[Holder]:
    """Another process that holds the lock of `killed`, and begins a call when it is told how long it shall take."""
    with holding("postgres", site.login(), f"{postgresql_bed.schema.name}.nap", "seconds") as holder:
        yield holder


def test_a_call_that_outlives_its_killed_job_keeps_the_lock_until_the_server_notices(
    site: Site, holder: Holder, open_session: Callable[[], Session], postgresql_bed: Bed
) -> None:
    """The kernel closes a killed process's socket; the server looks every few seconds and then ends the call."""
    holder.call(seconds=60)
    wait_until(postgresql_bed.asleep)
    holder.kill()

    holder.outlasts(open_session())
    assert not site.running("nap")


def test_a_call_that_swallows_the_servers_timeout_is_cancelled_from_here(
    call: Caller, schema: Schema, site: Site
) -> None:
    """Of all that the body does the sequence alone is not undone."""
    schema.define("CREATE SEQUENCE swallowed")
    schema.function(
        "stubborn() RETURNS text SECURITY DEFINER",
        "BEGIN BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN"
        f" IF SQLERRM LIKE '%statement timeout' THEN PERFORM nextval('{schema.name}.swallowed'); END IF; END;"
        " PERFORM pg_sleep(60); RETURN 'slept'; END",
    )
    failure = call.refusal("stubborn", timeout=0.2)

    assert failure.reason is Reason.TIMEOUT
    assert site.server.execute(f"SELECT is_called FROM {schema.name}.swallowed") == [(True,)]
    assert not site.running("stubborn")


def test_a_call_that_swallows_every_cancellation_is_left_behind(call: Caller, schema: Schema, site: Site) -> None:
    schema.function(
        "mule() RETURNS text",
        "DECLARE until timestamptz := now() + '60 s'; BEGIN WHILE clock_timestamp() < until LOOP"
        " BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP; RETURN 'slept'; END",
    )
    thread = meanwhile(lambda: site.running("mule"), call.session.cancel)
    failure = call.refusal("mule", timeout=120)
    thread.join()
    left = site.running("mule")
    site.server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [site.username])

    assert failure.reason is Reason.INTERRUPTED
    assert left


def test_a_call_that_waits_for_a_lock_all_the_time_says_so(
    call: Caller, schema: Schema, open_session: Callable[[], Session]
) -> None:
    schema.function("busy() RETURNS text", "BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN 'x'; END")
    schema.function("hold() RETURNS text", "BEGIN PERFORM pg_advisory_lock(4711); RETURN 'x'; END")
    Caller(open_session(), schema)("hold")

    assert call.refusal("busy", timeout=0.5).reason is Reason.LOCK_TIMEOUT
    assert call.refusal("busy", timeout=0.5).code == "55P03"


def test_an_administrator_who_cancels_is_no_timeout(call: Caller, postgresql_bed: Bed, site: Site) -> None:
    def cancel() -> None:
        site.server.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = %s AND state = 'active'",
            [site.username],
        )

    thread = meanwhile(postgresql_bed.asleep, cancel)
    failure = call.refusal("nap", seconds="60", timeout=120)
    thread.join()

    assert failure.reason is Reason.PROCEDURE_FAILED


def test_an_administrator_who_ends_the_session_loses_the_connection(
    call: Caller, postgresql_bed: Bed, site: Site
) -> None:
    def terminate() -> None:
        site.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND state = 'active'",
            [site.username],
        )

    thread = meanwhile(postgresql_bed.asleep, terminate)
    failure = call.refusal("nap", seconds="60", timeout=120)
    thread.join()

    assert failure.reason is Reason.CONNECTION_LOST
    assert call.refusal("nap", seconds="0").reason is Reason.CONNECTION_LOST
