"""The story of one Operation. The order is the point; the decisions are elsewhere.

try the Secret → connect → lock → still wanted? → call → write the Secret. Killed anywhere, it can be told again:
what the Secret already carries is not called for again, and a call is repeated only under the server's lock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from api.operation import Call, OperationSpec, SecretTarget
from api.reasons import Reason
from provisioner_job import calls, provenance, secret
from provisioner_job.audit import Audit
from provisioner_job.deadline import Expiry, Watch
from provisioner_job.drivers.contract import Result, Session
from provisioner_job.errors import Failure
from provisioner_job.kubernetes import ApiError, ApiServer
from provisioner_job.ledger import Entry, Ledger
from provisioner_job.loading import Loading
from provisioner_job.mounts import Mounts
from provisioner_job.redaction import Redactor
from provisioner_job.reporting import Ending, Progress
from provisioner_job.secret_writer import SecretWriter
from provisioner_job.settings import Settings

_NOTHING_RAN = frozenset({Reason.PROCEDURE_MISSING, Reason.PROCEDURE_AMBIGUOUS, Reason.PERMISSION_DENIED})
"""With these a server says that no procedure was entered."""


class Unwanted(Exception):
    """Nobody waits for this Operation any more; `str()` says why."""


class Tools(NamedTuple):
    """What a story works with."""

    settings: Settings
    api: ApiServer
    ledger: Ledger
    audit: Audit
    redactor: Redactor
    progress: Progress


class Story:
    """One Operation's story; `tell` is called once. `cancel` may come from another thread."""

    def __init__(self, tools: Tools, entry: Entry, spec: OperationSpec) -> None:
        self._tools = tools
        self._entry = entry
        self._spec = spec
        self._generated: Mapping[str, str] = {}
        self._session: Session | None = None

    def cancel(self) -> None:
        """Cancel on the server what runs there."""
        if self._session is not None:
            self._session.cancel()

    def tell(self, watch: Watch) -> Ending:
        """Do what the Operation asks. Raises Failure, Unwanted."""
        loading = Loading(self._spec.driver)
        mounts = Mounts(self._tools.settings.files)
        login = mounts.login(self._spec.server)
        self._tools.redactor.add(login.password)
        if self._spec.generated:
            self._generated = mounts.generated()
            self._tools.redactor.add(*self._generated.values())
        writer = None
        if self._spec.secret is not None:
            writer = SecretWriter(self._tools.api, self._spec, self._spec.secret)
            if self._try(writer, self._spec.secret):
                return self._carried(writer)
        check(watch)
        self._session = session = loading.wait()(login)
        try:
            self._tools.progress.connection = session.connection
            self._tools.audit.write("connected", **session.connection.manifest())
            return self._locked(session, watch, writer)
        finally:
            session.close()

    def _try(self, writer: SecretWriter, target: SecretTarget) -> bool:
        """Prove that the Secret could be written; whether it already carries this request."""
        carried = writer.carries()
        if writer.present is not None:
            data = writer.present.data
            known = (data[key] for key in secret.sensitive_keys(target) if key in data)
            self._tools.redactor.add(*(value.decode(errors="replace") for value in known))
        if not carried:
            writer.attempt()
        self._tools.audit.write("secret-checked", secret=writer.name, exists=writer.present is not None)
        return carried

    def _carried(self, writer: SecretWriter) -> Ending:
        why = f"the Secret {writer.name} already carries this request"
        self._tools.audit.write("skipped", why=why)
        return Ending(Reason.SUCCEEDED, why)

    def _locked(self, session: Session, watch: Watch, writer: SecretWriter | None) -> Ending:
        check(watch)
        begun = time.monotonic()
        session.lock(self._spec.identity, timedelta(seconds=watch.left))
        self._tools.audit.write("locked", identity=self._spec.identity, milliseconds=since(begun))
        if writer is not None and writer.carries():
            # Another Job of this request held the lock until now.
            return self._carried(writer)
        self._check_wanted()
        result: Result = {}
        for call in self._spec.calls:
            check(watch)
            result = secret.merge(result, self._call(session, call, watch))
        # The result may be the only copy of a password: from here on nothing cuts the story short.
        watch.disarm()
        if writer is None or self._spec.secret is None:
            return Ending(Reason.SUCCEEDED, f"{self._spec.calls[-1].procedure} has run")
        return self._write(writer, self._spec.secret, result)

    def _check_wanted(self) -> None:
        try:
            current = self._tools.ledger.read()
        except ApiError as error:
            raise Failure(
                Reason.KUBERNETES_UNAVAILABLE,
                f"the API server does not say whether the Operation is still wanted: {error}",
            ) from None
        if current is None or current.uid != self._entry.uid or not current.wanted:
            raise Unwanted(why_unwanted(current))

    def _call(self, session: Session, call: Call, watch: Watch) -> Result:
        bound = calls.procedure(self._spec, call, self._generated, watch.left)
        tools = self._tools
        what = {"procedure": call.procedure, "arguments": calls.shown(call, bound)}
        # Before, too: a call that fails, or outlives its Job, may have had an effect.
        tools.audit.write("calling", **what)
        before, tools.progress.called = tools.progress.called, True
        begun = time.monotonic()
        try:
            result = session.call(bound)
        except Failure as failure:
            tools.progress.called = before or (failure.entered and failure.reason not in _NOTHING_RAN)
            raise provenance.judged(self._spec, call, failure) from None
        milliseconds = since(begun)
        if self._spec.secret is not None:
            tools.redactor.add(*(result.get(key, "") for key in self._spec.secret.credentials))
        tools.progress.result_keys = tuple(dict.fromkeys((*tools.progress.result_keys, *result)))
        tools.audit.write("called", **what, resultKeys=list(result), milliseconds=milliseconds)
        return result

    def _write(self, writer: SecretWriter, target: SecretTarget, result: Result) -> Ending:
        values = {"Result": result, **({"Generated": self._generated} if self._spec.generated else {})}
        data = writer.write(lambda kept: secret.compose(self._spec, target, values, kept))
        for key in data.skipped:
            self._tools.audit.write("skipped", why="no Secret can have a key of this name", key=key)
        self._tools.audit.write(
            "secret-written", secret=writer.name, keys=sorted(data.values), sequence=self._spec.sequence
        )
        return Ending(Reason.SUCCEEDED, f"the Secret {writer.name} carries the credentials")


def check(watch: Watch) -> None:
    """Raise Failure(INTERRUPTED) when the story was cancelled while nothing ran on the server."""
    if watch.expiry is not None:
        raise Failure(Reason.INTERRUPTED, "the Job was cancelled")


def expired(expiry: Expiry, spec: OperationSpec) -> Ending:
    """The ending of a story that was cut short."""
    if expiry is Expiry.TERMINATED:
        return Ending(
            Reason.INTERRUPTED,
            "the Job's Pod was told to stop (is its node drained?) and the call did not end in time; "
            "what ran on the server was cancelled",
        )
    return Ending(
        Reason.TIMEOUT,
        f"it was not done within the class's timeout of {spec.timeout.total_seconds():g} s; "
        "what ran on the server was cancelled",
    )


def why_unwanted(entry: Entry | None) -> str:
    """Why an Operation is not wanted, in words."""
    if entry is None:
        return "there is no such Operation"
    if entry.terminating:
        return "the Operation is being deleted"
    return "the Operation's outcome has been reported" if not entry.wanted else "the Operation is another one now"


def since(begun: float) -> int:
    """Milliseconds since a moment of the monotonic clock."""
    return round((time.monotonic() - begun) * 1000)
