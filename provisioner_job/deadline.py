"""How long a story may take: its time limit and the end of its Pod, watched by one thread of its own.

Says when to cancel and when to give up; knows neither drivers nor reports.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from provisioner_job.settings import STOP_SECONDS

GRACE_SECONDS = 3.0
"""From cancelling until the story is given up, so that the report still gets out."""
SLACK_SECONDS = 1.0
"""By which the thread comes later than the limits that the server keeps: their words are better."""


class Expiry(Enum):
    """Why a story was cut short."""

    TIMEOUT = "timeout"
    TERMINATED = "terminated"


class Step(Enum):
    """What the watch does next."""

    WAIT = "wait"
    CANCEL = "cancel"
    ABANDON = "abandon"


class Limits(NamedTuple):
    """The two ends of a story, in seconds of the monotonic clock."""

    deadline: float
    stop_after: float = STOP_SECONDS
    terminated_at: float | None = None
    grace: float = GRACE_SECONDS

    @property
    def end(self) -> tuple[float, Expiry]:
        """When to cancel, and why then."""
        stop = float("inf") if self.terminated_at is None else self.terminated_at + self.stop_after
        if stop < self.deadline + SLACK_SECONDS:
            return stop, Expiry.TERMINATED
        return self.deadline + SLACK_SECONDS, Expiry.TIMEOUT

    def step(self, now: float, cancelled_at: float | None) -> tuple[Step, float]:
        """What to do at `now`, and for how long to wait before asking again."""
        if cancelled_at is not None:
            left = cancelled_at + self.grace - now
            return (Step.WAIT, left) if left > 0 else (Step.ABANDON, 0.0)
        left = self.end[0] - now
        return (Step.WAIT, left) if left > 0 else (Step.CANCEL, 0.0)


class Hands(NamedTuple):
    """What the watch may do to the story. Both run in its thread; `abandon` does not return."""

    cancel: Callable[[], None]
    abandon: Callable[[Expiry], None]


class Watch:
    """Cancels a story whose time is over, then gives it up. SIGTERM must be blocked in every thread: it waits for it.

    (A blocked signal reaches even the first process of a container, and no system call of a driver is interrupted.)
    """

    def __init__(self, limits: Limits, hands: Hands, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._hands = hands
        self._clock = clock
        self._lock = threading.Lock()
        self._armed = True
        self._expiry: Expiry | None = None
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    @property
    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._limits.deadline - self._clock())

    @property
    def expiry(self) -> Expiry | None:
        """Why the story was cancelled, if it was."""
        return self._expiry

    def disarm(self) -> Expiry | None:
        """From here on nothing is cut short. Gives why it was before; does not return once the story is given up."""
        with self._lock:
            self._armed = False
            return self._expiry

    def _run(self) -> None:
        cancelled_at: float | None = None
        while True:
            step, seconds = self._limits.step(self._clock(), cancelled_at)
            if step is Step.WAIT:
                self._wait(seconds)
                continue
            with self._lock:
                if not self._armed:
                    return
                if step is Step.ABANDON:
                    self._hands.abandon(self._limits.end[1] if self._expiry is None else self._expiry)
                    return
                self._expiry = self._limits.end[1]
            cancelled_at = self._clock()
            self._hands.cancel()

    def _wait(self, seconds: float) -> None:
        if self._limits.terminated_at is not None:
            threading.Event().wait(seconds)
        elif signal.sigtimedwait({signal.SIGTERM}, seconds) is not None:
            self._limits = self._limits._replace(terminated_at=self._clock())
