"""How a story ends: what is said on the Operation and in the log, and the exit code."""

from __future__ import annotations

from typing import NamedTuple

from api.operation import Connection, Report
from api.reasons import Reason
from provisioner_job.audit import Audit, now, rfc3339
from provisioner_job.errors import shortened
from provisioner_job.kubernetes import ApiError
from provisioner_job.ledger import Delivery, Entry, Ledger
from provisioner_job.redaction import Redactor

DONE = 0
"""Exit code: the Operation carries the outcome, whichever it is, or nobody waits for one."""
UNREPORTED = 1
"""Exit code: the outcome could not be reported."""
ENDING_CHARACTERS = 1000
"""Of the sentence that a condition and an Event show; an Event's note takes 1024."""


KEY_CHARACTERS = 253
"""Of a result key, as of one in a Secret: no Operation holds more than a megabyte or two."""


class Ending(NamedTuple):
    """What came of the Operation; `message` is not redacted yet."""

    reason: Reason
    message: str
    code: str = ""
    """SQLSTATE, error number or HTTP status."""


class Progress:
    """How far the story is; read by the watch's thread when it gives the story up."""

    def __init__(self) -> None:
        self.started_at = rfc3339(now())
        self.called = False
        self.connection = Connection()
        self.result_keys: tuple[str, ...] = ()


class Reporter(NamedTuple):
    """Says the ending, once per ledger that it is given."""

    audit: Audit
    redactor: Redactor
    progress: Progress

    def report(self, ledger: Ledger, entry: Entry, ending: Ending) -> int:
        """Log the ending, write it on the Operation, log that; gives the exit code. Raises nothing."""
        message = shown(ending.message, self.redactor)
        if ending.reason is not Reason.SUCCEEDED:
            self.audit.write("failed", reason=ending.reason, code=ending.code, message=message)
        report = Report(
            reason=ending.reason,
            message=message,
            started_at=self.progress.started_at,
            finished_at=rfc3339(now()),
            called=self.progress.called,
            reported_by="Job",
            connection=self.progress.connection,
            result_keys=tuple(shortened(self.redactor.clean(key), KEY_CHARACTERS) for key in self.progress.result_keys),
        )
        try:
            delivery = ledger.report(report, entry)
        except ApiError as error:
            self.audit.write("unreported", status=error.status, message=str(error))
            return UNREPORTED
        if delivery is Delivery.WRITTEN:
            self.audit.write("reported", outcome=report.reason.outcome, reason=ending.reason, called=report.called)
        else:
            self.audit.write("skipped", why=f"the report: the Operation is {delivery.value}")
        return DONE


def shown(message: str, redactor: Redactor) -> str:
    """An ending's sentence as it may be read: without secrets, on one line, not too long.

    In this order: a cut, or spaces put in order, would hide what is left of a secret from the redactor.
    """
    return shortened(redactor.clean(message), ENDING_CHARACTERS)
