"""A story ends in time: by its own limit, or before its Pod is killed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner_job.deadline import SLACK_SECONDS, Expiry, Hands, Limits, Step, Watch

moments = st.floats(0, 1e6)


@pytest.fixture(autouse=True)
def _blocked() -> Iterator[None]:
    """As the Job's entry point does."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


class TestDecision:
    def test_until_the_deadline_it_waits(self) -> None:
        assert Limits(100.0).step(60.0, None) == (Step.WAIT, 40.0 + SLACK_SECONDS)

    def test_then_it_cancels(self) -> None:
        assert Limits(100.0).step(100.0 + SLACK_SECONDS, None)[0] is Step.CANCEL
        assert Limits(100.0).end[1] is Expiry.TIMEOUT

    def test_a_terminated_pod_has_less_time(self) -> None:
        limits = Limits(100.0, terminated_at=10.0, stop_after=22.0)

        assert limits.end == (32.0, Expiry.TERMINATED)

    def test_a_deadline_that_comes_first_counts_although_the_pod_is_terminated(self) -> None:
        limits = Limits(20.0, terminated_at=10.0, stop_after=22.0)

        assert limits.end == (20.0 + SLACK_SECONDS, Expiry.TIMEOUT)

    def test_a_cancelled_story_is_given_up_after_a_grace(self) -> None:
        limits = Limits(100.0, grace=3.0)

        assert limits.step(105.0, 104.0) == (Step.WAIT, 2.0)
        assert limits.step(107.0, 104.0)[0] is Step.ABANDON

    @given(moments, st.none() | moments, moments, st.none() | moments)
    def test_it_waits_for_something_to_come(
        self, deadline: float, terminated: float | None, now: float, cancelled: float | None
    ) -> None:
        step, seconds = Limits(deadline, terminated_at=terminated).step(now, cancelled)

        assert (step is Step.WAIT) == (seconds > 0)


class Told:
    """What a watch did."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.noticed = threading.Event()
        """Until then the cancellation takes."""
        self.noticed.set()
        self.abandoned: list[Expiry] = []
        self.gave_up = threading.Event()

    @property
    def hands(self) -> Hands:
        """To give to a watch."""
        return Hands(self._cancel, self._abandon)

    def _cancel(self) -> None:
        self.cancelled.set()
        self.noticed.wait(30)

    def _abandon(self, expiry: Expiry) -> None:
        self.abandoned.append(expiry)
        self.gave_up.set()


def watching(told: Told, seconds: float, **limits: float) -> Watch:
    """A watch over a story of so many seconds."""
    return Watch(Limits(time.monotonic() - SLACK_SECONDS + seconds, **limits), told.hands, time.monotonic)


def test_a_story_without_end_is_cancelled_and_then_given_up() -> None:
    told = Told()
    watch = watching(told, 0.05, grace=0.05)

    assert told.cancelled.wait(30)
    assert told.gave_up.wait(30)
    assert told.abandoned == [Expiry.TIMEOUT]
    assert watch.left == 0


def test_a_disarmed_watch_touches_nothing() -> None:
    told = Told()
    watch = watching(told, 0.5, grace=0.05)

    assert watch.disarm() is None
    assert not told.cancelled.wait(1)


def test_a_story_that_ends_when_cancelled_is_not_given_up() -> None:
    told = Told()
    told.noticed.clear()
    watch = watching(told, 0.02, grace=0.05)
    told.cancelled.wait(30)

    assert watch.disarm() is Expiry.TIMEOUT
    told.noticed.set()
    assert not told.gave_up.wait(0.4)


def terminate() -> None:
    """SIGTERM for the watch that was started last; other tests have left threads that do not block it."""
    watch = [thread for thread in threading.enumerate() if thread.name == "watch"][-1]
    assert watch.ident is not None
    signal.pthread_kill(watch.ident, signal.SIGTERM)


def test_a_terminated_pod_goes_on_working_for_a_while() -> None:
    told = Told()
    watch = watching(told, 60, stop_after=60)
    terminate()

    assert not told.cancelled.wait(0.2)
    assert watch.disarm() is None


def test_it_is_cancelled_after_that_while_however_much_time_is_left() -> None:
    told = Told()
    watch = watching(told, 60, stop_after=0.05, grace=60)
    terminate()

    assert told.cancelled.wait(30)
    assert watch.disarm() is Expiry.TERMINATED
