"""Every wait has an end, on every engine: locks, calls, cancellations, and servers that fall silent.

What an engine has of its own is in test_ENGINE_limits.py.
"""

from __future__ import annotations

import signal
import threading
from datetime import timedelta

import pytest

from api.reasons import Reason
from provisioner_job.errors import Failure
from tests.integration.mariadb_site import MariaDBSite
from tests.integration.napping import Bed, meanwhile, otherwise, wait_until
from tests.integration.postgresql_site import Site

pytestmark = pytest.mark.integration

SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=60)


def test_the_lock_of_an_identity_is_held_by_one_session(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("shop_orders", SHORT)
    with otherwise(first.close), pytest.raises(Failure) as caught:
        second.lock("shop_orders", SHORT)

    assert caught.value.reason is Reason.LOCK_TIMEOUT
    assert "earlier call" in caught.value.message
    second.lock("shop_order", SHORT)


def test_the_lock_passes_on_when_its_holder_closes(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("a", SHORT)
    thread = meanwhile(bed.waiting, first.close)
    second.lock("a", LONG)
    thread.join()


def test_a_call_that_takes_too_long_is_ended_on_the_server(bed: Bed) -> None:
    session = bed.open()
    failure = bed.refusal(session, "60", timeout=0.3)

    assert failure.reason is Reason.TIMEOUT
    assert failure.code == bed.timed_out
    assert "0.3 s" in failure.message
    wait_until(bed.awake)
    assert "slept" in str(bed.nap(session, "0"))


def test_cancelling_from_another_thread_ends_the_call_on_the_server(bed: Bed) -> None:
    session = bed.open()
    thread = meanwhile(bed.asleep, session.cancel)
    failure = bed.refusal(session, "60")
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    assert "was cancelled" in failure.message
    wait_until(bed.awake)
    assert bed.refusal(session, "0").reason is Reason.INTERRUPTED


def test_cancelling_from_a_signal_handler_ends_the_call(bed: Bed) -> None:
    session = bed.open()
    previous = signal.signal(signal.SIGUSR1, lambda *_: session.cancel())
    main = threading.get_ident()
    thread = meanwhile(bed.asleep, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    failure = bed.refusal(session, "60")
    thread.join()
    signal.signal(signal.SIGUSR1, previous)

    assert failure.reason is Reason.INTERRUPTED


def test_cancelling_a_wait_for_the_lock_ends_it(bed: Bed) -> None:
    first, second = bed.open(), bed.open()
    first.lock("contended", SHORT)
    thread = meanwhile(bed.waiting, second.cancel)
    with otherwise(first.close), pytest.raises(Failure) as caught:
        second.lock("contended", LONG)
    thread.join()

    assert caught.value.reason is Reason.INTERRUPTED


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
    try:
        with otherwise(site.server.resume):
            failure = bed.refusal(session, "60", timeout=1)
        thread.join()
        with otherwise(site.server.resume):
            refused = site.refusal(connect_timeout=SHORT)
    finally:
        thread.join()
        site.server.resume()

    assert failure.reason is Reason.TIMEOUT
    assert not failure.code, "the server has said it"
    assert refused.reason is Reason.SERVER_NOT_READY
