"""The single writes that a plan may ask for. Each is safe to repeat and safe to lose a race with."""

from __future__ import annotations

from dataclasses import dataclass

from api.kinds import Database, DatabaseEndpoint, DatabaseInstance, DeletionPolicy
from api.operation import Call, OperationSpec
from api.reasons import Reason
from controller.ledger import Entry
from controller.slots import Limits


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Hold the Database: it came past the webhook without the finalizer."""

    database: Database


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Let the Database go: its server owes it nothing any more."""

    database: Database


@dataclass(frozen=True, slots=True)
class Frozen:
    """What an instance keeps of the request that made it."""

    endpoint: str
    class_name: str
    class_generation: int
    driver: str
    identity: str
    calls: tuple[tuple[str, Call], ...]
    """By operation type."""
    deletion_policy: DeletionPolicy


@dataclass(frozen=True, slots=True)
class ClaimInstance:
    """Create the instance: whoever succeeds has the database of that identity on that server."""

    name: str
    database: Database
    frozen: Frozen
    counted: bool = False
    """Whether a quota leaves room for so many: then claims are made one after the other."""


@dataclass(frozen=True, slots=True)
class AdoptInstance:
    """Take over a claim that was retained, or whose Database came back under another uid."""

    instance: DatabaseInstance
    database: Database
    counted: bool = False
    """As for a new claim."""


@dataclass(frozen=True, slots=True)
class ClearRotate:
    """Remove an empty rotate annotation that has been served."""

    database: Database


@dataclass(frozen=True, slots=True)
class UpdateInstance:
    """Freeze anew what an edited class renders for the same identity, or another deletion policy."""

    instance: DatabaseInstance
    frozen: Frozen


@dataclass(frozen=True, slots=True)
class SetPhase:
    """Record what became of the instance."""

    instance: DatabaseInstance
    phase: str


@dataclass(frozen=True, slots=True)
class DeleteInstance:
    """Give the claim up."""

    instance: DatabaseInstance


@dataclass(frozen=True, slots=True)
class StartOperation:
    """Take the turn: create the Operation, if the endpoint has a slot."""

    spec: OperationSpec
    limits: Limits
    alone: bool = False
    """Whether it is to try the endpoint for all that wait."""


@dataclass(frozen=True, slots=True)
class StartJob:
    """Grant the rights of a running Operation and start its Job."""

    entry: Entry
    endpoint: DatabaseEndpoint


@dataclass(frozen=True, slots=True)
class GrantRights:
    """See that a Job under way has its rights: who started it may have ended before it had granted them."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class ReportLost:
    """Close an Operation whose Job ended without a word."""

    entry: Entry
    reason: Reason
    message: str
    called: bool = True
    """Whether its call must be reckoned with."""


@dataclass(frozen=True, slots=True)
class RevokeRights:
    """Take back what a finished Operation's Job was granted."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class RevokeStray:
    """Take back what the Job of an Operation was granted that somebody has deleted."""

    name: str
    """Of the Operation, its ServiceAccount, its Role and the Role's binding."""
    namespace: str
    """Where the Role is."""


@dataclass(frozen=True, slots=True)
class DeletePassword:
    """Forget a generated password that no attempt needs any more."""

    name: str


Step = (
    AddFinalizer
    | RemoveFinalizer
    | AdoptInstance
    | ClearRotate
    | ClaimInstance
    | UpdateInstance
    | SetPhase
    | DeleteInstance
    | StartOperation
    | StartJob
    | GrantRights
    | ReportLost
    | RevokeRights
    | RevokeStray
    | DeletePassword
)
