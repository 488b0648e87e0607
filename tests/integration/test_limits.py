"""Every wait has an end, on every engine: locks, calls, cancellations, and servers that fall silent.

What an engine has of its own is in test_ENGINE_limits.py.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from api.reasons import Reason
from provisioner_job.errors import Failure
from tests.integration.mariadb_site import MariaDBSite
from tests.integration.napping import Bed, wait_until
from tests.integration.postgresql_site import Site

pytestmark = pytest.mark.integration

SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=20)


def meanwhile(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Act in another thread as soon as the condition is true."""

    def run() -> None:
        wait_until(condition)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_lock_of_an_identity_is_held_by_one_session(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("shop_orders", SHORT)
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        second.lock("shop_orders", SHORT)
    waited = time.monotonic() - started

    assert caught.value.reason is Reason.LOCK_TIMEOUT
    assert "earlier call" in caught.value.message
    assert 0.25 < waited < 3
    second.lock("shop_order", SHORT)


def test_the_lock_passes_on_when_its_holder_closes(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("a", SHORT)
    threading.Timer(0.2, first.close).start()
    second.lock("a", LONG)


def test_a_call_that_takes_too_long_is_ended_on_the_server(bed: Bed) -> None:
    session = bed.open()
    started = time.monotonic()
    failure = bed.refusal(session, "30", timeout=0.3)

    assert failure.reason is Reason.TIMEOUT
    assert failure.code == bed.timed_out
    assert "0.3 s" in failure.message
    assert time.monotonic() - started < 2
    wait_until(bed.awake)
    assert "slept" in str(bed.nap(session, "0"))


def test_cancelling_from_another_thread_ends_the_call_on_the_server(bed: Bed) -> None:
    session = bed.open()
    thread = meanwhile(bed.asleep, session.cancel)
    started = time.monotonic()
    failure = bed.refusal(session, "30")
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    assert "was cancelled" in failure.message
    assert time.monotonic() - started < 5
    wait_until(bed.awake)
    assert bed.refusal(session, "0").reason is Reason.INTERRUPTED


def test_cancelling_from_a_signal_handler_ends_the_call(bed: Bed) -> None:
    session = bed.open()
    previous = signal.signal(signal.SIGUSR1, lambda *_: session.cancel())
    main = threading.get_ident()
    thread = meanwhile(bed.asleep, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    failure = bed.refusal(session, "30")
    thread.join()
    signal.signal(signal.SIGUSR1, previous)

    assert failure.reason is Reason.INTERRUPTED


def test_cancelling_a_wait_for_the_lock_ends_it(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("contended", SHORT)
    started = time.monotonic()
    thread = meanwhile(bed.waiting, second.cancel)
    with pytest.raises(Failure) as caught:
        second.lock("contended", LONG)
    thread.join()

    assert caught.value.reason is Reason.INTERRUPTED
    assert time.monotonic() - started < 5


def test_nothing_is_called_after_a_cancellation(bed: Bed) -> None:
    session = bed.open()
    session.cancel()

    assert bed.refusal(session, "0").reason is Reason.INTERRUPTED


def test_a_closed_session_may_be_closed_and_cancelled_again(bed: Bed) -> None:
    session = bed.open()
    session.close()
    session.close()
    session.cancel()
    with pytest.raises(Failure):
        bed.nap(session, "0")
    with pytest.raises(Failure):
        session.lock("x", SHORT)


@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
def test_a_server_that_falls_silent_is_given_up(engine: str, request: pytest.FixtureRequest) -> None:
    """A frozen server still acknowledges packets: only a clock on this side notices."""
    bed: Bed = request.getfixturevalue(f"{engine}_bed")
    site: Site | MariaDBSite = request.getfixturevalue({"postgresql": "site"}.get(engine, engine))
    session = bed.open()
    thread = meanwhile(bed.asleep, site.server.pause)
    started = time.monotonic()
    try:
        failure = bed.refusal(session, "30", timeout=1)
        thread.join()
        waited = time.monotonic() - started
        refused = site.refusal(connect_timeout=SHORT)
    finally:
        thread.join()
        site.server.resume()

    assert failure.reason is Reason.TIMEOUT
    assert waited < 12
    assert refused.reason is Reason.SERVER_NOT_READY
