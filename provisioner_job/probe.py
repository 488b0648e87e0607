"""A probe: log in to an endpoint, look up its procedures, say what was seen, exit. Calls nothing and writes nothing.

It has no rights in the cluster: what it is to look at is a mounted file, what it saw are its container's last words.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

from api.labels import JOB_FILES, PROBE_FILE
from api.probe import LAST_WORDS, Inspection, InvalidProbe, ProbeReport, ProbeSpec
from api.reasons import Reason
from provisioner_job import drivers
from provisioner_job.audit import Audit, now, rfc3339
from provisioner_job.crash import frames
from provisioner_job.drivers.contract import Session
from provisioner_job.errors import Failure
from provisioner_job.mounts import Mounts
from provisioner_job.redaction import Redactor
from provisioner_job.reporting import shown

DONE = 0
"""Exit code: the report is written, whatever it says."""
UNUSABLE = 2
"""Exit code: there is nothing to look at, or nowhere to write the report."""


def run(folder: str = JOB_FILES, words: str = LAST_WORDS) -> int:
    """Probe what the file in `folder` names, and leave the report in the file `words`; gives the exit code."""
    redactor = Redactor()
    audit = Audit(redactor)
    try:
        with open(os.path.join(folder, PROBE_FILE), encoding="utf-8") as file:
            spec = ProbeSpec.parse(file.read())
    except (OSError, InvalidProbe) as error:
        audit.write("failed", reason=Reason.OPERATION_INVALID, message=str(error))
        return UNUSABLE
    audit.know(endpoint=spec.server.endpoint, operation="probe")
    report = _look(spec, Mounts(folder), audit, redactor)
    try:
        with open(words, "wb") as file_of_words:
            file_of_words.write(report.words())
    except OSError as error:
        audit.write("unreported", message=f"{words} cannot be written: {error.strerror}")
        return UNUSABLE
    return DONE


def _look(spec: ProbeSpec, mounts: Mounts, audit: Audit, redactor: Redactor) -> ProbeReport:
    """Log in and look up; every failure, foreseen or not, becomes a report."""
    try:
        login = mounts.login(spec.server)
        redactor.add(login.password)
        connect = drivers.load(spec.driver)
        begun = time.monotonic()
        session = connect(login)
        took = int((time.monotonic() - begun) * 1000)
        try:
            connection = session.connection.manifest()
            audit.write("connected", milliseconds=took, **connection)
            procedures = dict(_inspected(spec, session, audit, redactor))
        finally:
            session.close()
        return ProbeReport(Reason.SUCCEEDED, "", rfc3339(now()), took, connection, procedures)
    except Failure as failure:
        message = shown(failure.message, redactor)
        audit.write("failed", reason=failure.reason, code=failure.code, message=message)
        return ProbeReport(failure.reason, message, rfc3339(now()))
    except Exception as error:  # the one broad catch: a defect is reported too
        sys.stderr.write(frames(error))
        message = f"a defect in the Job ({type(error).__name__}); its log shows where it happened"
        audit.write("failed", reason=Reason.CRASHED, message=message)
        return ProbeReport(Reason.CRASHED, message, rfc3339(now()))


def _inspected(spec: ProbeSpec, session: Session, audit: Audit, redactor: Redactor) -> Iterator[tuple[str, Inspection]]:
    for kind, name in sorted(spec.procedures.items()):
        try:
            seen = session.inspect(name)
        except Failure as failure:
            if failure.reason is Reason.CONNECTION_LOST:
                # It has logged in, and is gone again: that is no server to send an Operation to.
                raise
            # A name that is none, or a catalogue that does not answer: nothing is known of the procedure.
            missing = failure.reason is Reason.PROCEDURE_MISSING
            seen = Inspection(found=False if missing else None, callable=None, public=None, message=failure.message)
        seen = seen._replace(message=shown(seen.message, redactor))
        audit.write("inspected", type=kind, procedure=name, **seen.manifest())
        yield kind, seen
