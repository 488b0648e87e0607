"""The Job as a process: it reads its Operation, tells its story under a watch, and reports how it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from api.operation import OperationSpec
from api.reasons import Reason
from provisioner_job.audit import Audit
from provisioner_job.crash import frames
from provisioner_job.deadline import Hands, Limits, Watch
from provisioner_job.errors import Failure
from provisioner_job.kubernetes import ApiError, ApiServer
from provisioner_job.ledger import Entry, Ledger
from provisioner_job.redaction import Redactor
from provisioner_job.reporting import DONE, UNREPORTED, Ending, Progress, Reporter
from provisioner_job.settings import Settings
from provisioner_job.story import Story, Tools, Unwanted, expired, why_unwanted


def run(settings: Settings) -> int:
    """Do what the Operation asks and report on it; gives the exit code."""
    # Before any thread exists, so that all inherit it: the watch waits for it, nothing else is disturbed by it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    redactor = Redactor()
    audit = Audit(redactor)
    audit.know(operation=settings.operation)
    # Whatever escapes a thread, or this function, is printed without what it may hold.
    threading.excepthook = lambda args: _print(args.exc_value)
    sys.excepthook = lambda _, error, __: _print(error)
    progress = Progress()
    api = ApiServer(settings)
    ledger = _ledger(settings, api)
    reporter = Reporter(audit, redactor, progress)
    try:
        entry = ledger.read()
    except ApiError as error:
        audit.write("failed", reason=Reason.KUBERNETES_UNAVAILABLE, message=str(error))
        return UNREPORTED
    if entry is None or not entry.wanted:
        audit.write("skipped", why=why_unwanted(entry))
        return DONE

    def give_up(ending: Ending) -> NoReturn:
        # The main thread may be amid a request: another connection.
        os._exit(reporter.report(_ledger(settings, ApiServer(settings)), entry, ending))

    try:
        ending = _ending(Tools(settings, api, ledger, audit, redactor, progress), entry, give_up)
    except Unwanted as unwanted:
        audit.write("skipped", why=str(unwanted))
        return DONE
    return reporter.report(ledger, entry, ending)


def _ending(tools: Tools, entry: Entry, give_up: Callable[[Ending], NoReturn]) -> Ending:
    """Tell the story; every failure, foreseen or not, becomes its ending. Raises Unwanted."""
    try:
        spec = OperationSpec.parse(entry.spec)
    except (ValueError, TypeError, KeyError) as error:
        return Ending(Reason.OPERATION_INVALID, f"the Operation cannot be read: {error}")
    if (spec.secret is None) != (spec.type == "delete"):
        # Without a Secret to write, what a create returns would be lost.
        return Ending(
            Reason.OPERATION_INVALID, f"secret: a {spec.type} {'needs one' if spec.secret is None else 'has none'}"
        )
    tools.audit.know(
        database=f"{spec.database.namespace}/{spec.database.name}",
        attempt=spec.attempt,
        requester=spec.requested_by,
        endpoint=spec.server.endpoint,
    )
    facts = {"type": spec.type, "sequence": spec.sequence, "instance": spec.instance}
    tools.audit.write("started", **facts, stamp=spec.stamp.manifest())
    story = Story(tools, entry, spec)
    budget = spec.timeout.total_seconds() + tools.settings.connect_seconds
    limits = Limits(time.monotonic() + budget, tools.settings.stop_seconds)
    watch = Watch(limits, Hands(story.cancel, lambda why: give_up(expired(why, spec))), time.monotonic)
    try:
        return story.tell(watch)
    except Failure as failure:
        expiry = watch.disarm()
        if expiry is not None and failure.reason is Reason.INTERRUPTED:
            return expired(expiry, spec)
        return Ending(failure.reason, failure.message, failure.code)
    except Unwanted:
        raise
    except Exception as error:  # the one broad catch: a defect is reported too
        watch.disarm()
        _print(error)
        return Ending(Reason.CRASHED, f"a defect in the Job ({type(error).__name__}); its log shows where it happened")
    finally:
        watch.disarm()


def _ledger(settings: Settings, api: ApiServer) -> Ledger:
    return Ledger(api, settings.namespace, settings.operation)


def _print(error: BaseException | None) -> None:
    if error is not None:
        sys.stderr.write(frames(error))
