"""How a Job fails: one exception, whose reason decides whether it is tried again.

Everything that goes wrong on purpose is a `Failure`; anything else that escapes is a defect (reason `Crashed`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from api.reasons import Outcome, Reason

MESSAGE_CHARACTERS = 500
"""Foreign sentences that quote nothing secret are cut here: a condition is read in a terminal."""


class Failure(Exception):
    """An Operation cannot go on; `str()` is the sentence that its condition and its log show.

    message: of any length, with foreign words as they came; known secrets are taken out and it is cut where it is
        shown (`reporting`), in that order. Never the context, detail, hint or statement of a server.
    code: SQLSTATE or error number of the server, "" where it gave none.
    """

    def __init__(self, reason: Reason, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code
        self.entered = True
        """Of a call: whether the procedure may have been entered; False is certain."""

    @property
    def retryable(self) -> bool:
        """Whether it may heal by itself."""
        return self.reason.outcome is Outcome.RETRY


@contextlib.contextmanager
def before_the_call() -> Iterator[None]:
    """What fails in here failed before any procedure was entered, and says so."""
    try:
        yield
    except Failure as failure:
        failure.entered = False
        raise


def shortened(text: str, limit: int = MESSAGE_CHARACTERS) -> str:
    """A foreign sentence on one line, at most `limit` characters; a cut is visible."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
