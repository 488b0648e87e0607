"""Whose database it is that was there before the call: decided by what the ledger says of this claim. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from api.labels import ADOPT
from api.operation import Call, OperationSpec
from api.reasons import Reason
from provisioner_job.errors import Failure

_FOREIGN = (
    "the database existed before this Database asked for it; choose other parameters or another name, "
    f'have the existing one removed, or have an administrator take it over for you with the annotation {ADOPT}: "true"'
)


def lost(spec: OperationSpec, credentials: Iterable[str]) -> Failure:
    """What it means that a declared credential came back empty, and the Secret lacks it.

    When no earlier attempt of this claim can have created it, the database is somebody else's. Else it is this claim's
    own, with credentials that never reached the Secret: the controller has them reset where there is a rotate.
    """
    names = ", ".join(credentials)
    procedure = spec.calls[-1].procedure
    if not spec.recoverable:
        return Failure(Reason.ALREADY_EXISTS, f"{procedure} returned no {names}: {_FOREIGN}")
    return Failure(
        Reason.CREDENTIALS_LOST,
        f"{procedure} returned no {names} and the Secret has none: the database exists, but its credentials are lost; "
        "have them reset so that the procedure returns them, or delete the Database and apply it again",
    )


def judged(spec: OperationSpec, call: Call, failure: Failure) -> Failure:
    """A call's failure, where it is that the database was there already: whose it is, only the ledger knows."""
    if failure.reason is not Reason.ALREADY_EXISTS:
        return failure
    if spec.type == "create" and not spec.recoverable:
        return Failure(failure.reason, f"{failure.message}: {_FOREIGN}", code=failure.code)
    return Failure(
        Reason.PROCEDURE_FAILED,
        f"{failure.message}; let {call.procedure} go on with what is there already, as after a call that was cut short",
        code=failure.code,
    )
