"""The one Secret of an Operation at the API server: read, tried, written. What it holds is decided in `secret`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from api.operation import OperationSpec, SecretTarget
from api.reasons import Reason
from api.resources import SECRETS
from provisioner_job import secret
from provisioner_job.audit import now
from provisioner_job.errors import Failure, shortened
from provisioner_job.kubernetes import ApiError, ApiServer, Rights, patiently
from provisioner_job.secret import Data, Present

CHECK_SECONDS = 10.0
"""Patience before the call, when nothing is lost yet."""
WRITE_SECONDS = 240.0
"""Patience after the call: a result in hand may hold the only copy of a password."""
_TURNS = 5
"""How often a Secret may change between reading and writing it."""


def denied(error: ApiError) -> bool:
    """Whether it was the authorizer, in its words, that refused a write: it is no refusal of the Secret."""
    return error.status == 403 and 'cannot patch resource "secrets"' in error.message


class SecretWriter:
    """Reads, tries and writes the target of one Operation; remembers the Secret as it last saw it."""

    def __init__(self, api: ApiServer, spec: OperationSpec, target: SecretTarget) -> None:
        self._api = api
        self._spec = spec
        self._target = target
        self._path = SECRETS.path(target.name, namespace=spec.database.namespace)
        self._present: Present | None = None

    @property
    def present(self) -> Present | None:
        """The Secret as last read; None when there was none."""
        return self._present

    @property
    def name(self) -> str:
        """`namespace/name`."""
        return f"{self._spec.database.namespace}/{self._target.name}"

    def carries(self) -> bool:
        """Read it; whether it already carries this request. Raises Failure as `secret.carries`, or unreachable."""
        try:
            self._present = self._read(CHECK_SECONDS)
        except ApiError as error:
            if error.status == 403:
                # No policy judges a reading: its Role is missing, and the controller that grants it may have just died.
                raise Failure(
                    Reason.KUBERNETES_UNAVAILABLE,
                    f"the Job was not given its right to the Secret {self.name} in time: {shortened(error.message)}",
                    code="403",
                ) from None
            raise self._refusal(error, shown=True) from None
        return secret.carries(self._present, self._spec, self._target)

    def attempt(self) -> None:
        """Apply it without effect and with placeholders. Raises Failure for whatever would stop the real one."""
        for turn in range(_TURNS):
            try:
                patiently(
                    lambda: self._apply(secret.trial(self._target, self._present), dry_run=True),
                    CHECK_SECONDS,
                    Rights(denied).awaited,
                )
            except ApiError as error:
                if error.status != 409 or turn == _TURNS - 1:
                    raise self._refusal(error, shown=True) from None
                self.carries()
            else:
                return

    def write(self, compose: Callable[[Mapping[str, bytes]], Data]) -> Data:
        """Apply what `compose` makes of the data that is there. Raises Failure; its words hold nothing of the data.

        When the Secret changes in between, it is read and judged again; when it is gone, what it held is not.
        """
        for turn in range(_TURNS):
            data = compose(self._present.kept if self._present is not None else {})
            try:
                patiently(
                    lambda values=data.values: self._apply(values, dry_run=False),  # type: ignore[misc]
                    WRITE_SECONDS,
                    Rights(denied).awaited,
                )
            except ApiError as error:
                if error.status != 409 or turn == _TURNS - 1:
                    raise self._refusal(error, shown=False) from None
                self._read_again()
            else:
                return data
        raise AssertionError("the last turn returns or raises")

    def _apply(self, data: Mapping[str, bytes], *, dry_run: bool) -> None:
        manifest = secret.manifest(self._spec, self._target, self._present, data, now())
        # Only what is known to be ours may be taken over; a Secret that appears just now has another owner.
        force = self._present is not None and bool(self._present.uid)
        self._api.apply(self._path, manifest, force=force, dry_run=dry_run)

    def _read(self, seconds: float) -> Present | None:
        try:
            found = patiently(lambda: self._api.get(self._path), seconds, Rights().awaited)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return Present.parse(found)

    def _read_again(self) -> None:
        try:
            found = self._read(WRITE_SECONDS)
        except ApiError as error:
            raise self._refusal(error, shown=True) from None
        secret.carries(found, self._spec, self._target)
        if found is None and self._present is not None:
            found = self._present._replace(uid="", resource_version="")
        self._present = found

    def _refusal(self, error: ApiError, *, shown: bool) -> Failure:
        """The API server's error in a Failure; its sentence only after a request without secrets."""
        if error.transient or denied(error):
            return Failure(
                Reason.KUBERNETES_UNAVAILABLE,
                f"the API server did not take the Secret {self.name}: "
                + (shortened(str(error)) if shown else f"{error.status or 'no answer'} {error.reason}"),
                code=str(error.status or ""),
            )
        if "NamespaceTerminating" in error.causes:
            sentence = f"the namespace {self._spec.database.namespace} is being deleted; it takes no Secret any more"
        elif error.status == 404:
            sentence = f"there is no namespace {self._spec.database.namespace} for the Secret"
        elif shown:
            sentence = f"the API server refuses the Secret {self.name}: {shortened(error.message)}"
        else:
            sentence = (
                f"the API server refused the Secret {self.name} ({error.status} {error.reason}), "
                "although it had accepted the trial before the call"
            )
        return Failure(Reason.SECRET_REFUSED, sentence, code=str(error.status))
