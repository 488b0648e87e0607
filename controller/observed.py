"""What a plan is made from: everything the caches hold about one Database, as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from api.kinds import NOTHING, Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance, Metadata, parse_time
from api.labels import ADOPTED_FROM, LABEL_ENDPOINT, LABEL_PROBE_BASIS
from controller.compliance import UNCONCERNED, Compliance
from controller.ledger import AFTER_A_CALL, Entry, Ledger
from controller.standing import Standing

_JOB_NAME = "batch.kubernetes.io/job-name"
_BEING_MADE = frozenset({"ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace: its labels, and whether it is going away (`metadata.terminating`)."""

    metadata: Metadata

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a Namespace manifest."""
        return cls(Metadata.parse(manifest))


@dataclass(frozen=True, slots=True)
class JobState:
    """A Job as far as it tells whether its process can still act."""

    metadata: Metadata
    finished: str
    """`Complete` or `Failed` once all its Pods have ended, "" before (Kubernetes 1.31 on)."""
    reason: str
    message: str
    finished_at: datetime | None
    begun: bool = False
    """Whether Kubernetes has begun to make its Pod."""
    podless: bool = False
    """Whether it has begun, and there is no Pod: refused, or not made yet."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a Job manifest."""
        status = manifest.get("status") or NOTHING
        conditions = status.get("conditions") or ()
        for condition in conditions:
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                return cls(
                    metadata=Metadata.parse(manifest),
                    finished=condition["type"],
                    reason=condition.get("reason", ""),
                    message=condition.get("message", ""),
                    finished_at=parse_time(condition.get("lastTransitionTime")),
                )
        begun = "startTime" in status
        counted = status.get("uncountedTerminatedPods") or NOTHING
        had = any(status.get(count) for count in ("active", "terminating", "failed", "succeeded"))
        return cls(Metadata.parse(manifest), "", "", "", None, begun, begun and not had and not any(counted.values()))


@dataclass(frozen=True, slots=True)
class PendingPod:
    """The Pod of a Job whose container has not been started yet."""

    metadata: Metadata
    obstacle: str
    """What it waits for, in Kubernetes' words; "" while they say nothing but that it is being made."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a Pod manifest."""
        status = manifest.get("status") or NOTHING
        return cls(Metadata.parse(manifest), next(_obstacles(status), ""))

    @property
    def job(self) -> str:
        """The Job that it is of."""
        return self.metadata.labels.get(_JOB_NAME, "")


def _obstacles(status: Mapping[str, Any]) -> Iterator[str]:
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or NOTHING).get("waiting") or NOTHING
        if waiting.get("reason") and waiting["reason"] not in _BEING_MADE:
            yield f"{waiting['reason']}: {waiting.get('message', '')}"
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"


@dataclass(frozen=True, slots=True)
class Start:
    """How far Kubernetes is with a Job's Pod."""

    since: datetime
    """When this process saw the Job first, by its own clock: the API server's may be hours off."""
    obstacle: str
    """Why no process runs; "" when one does, for all that is seen."""
    settled: bool = True
    """Whether that can only become better."""


@dataclass(frozen=True, slots=True)
class ProbePod:
    """The Pod of a probe, as far as its container's last words."""

    metadata: Metadata
    ended: bool
    words: str
    reason: str
    """Why its container, or it as a whole, ended."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a Pod manifest."""
        status = manifest.get("status") or NOTHING
        containers = status.get("containerStatuses") or ()
        states = (((container.get("state") or NOTHING).get("terminated") or NOTHING) for container in containers)
        terminated = next((state for state in states if state), NOTHING)
        return cls(
            metadata=Metadata.parse(manifest),
            ended=bool(terminated) or status.get("phase") in ("Succeeded", "Failed"),
            words=terminated.get("message", ""),
            reason=terminated.get("reason", "") or status.get("reason", ""),
        )

    @property
    def endpoint(self) -> str:
        """The endpoint that it looks at."""
        return self.metadata.labels.get(LABEL_ENDPOINT, "")

    @property
    def job(self) -> str:
        """The Job that it is of."""
        return self.metadata.labels.get(_JOB_NAME, "")

    @property
    def basis(self) -> str:
        """See `Probed.basis`."""
        return self.metadata.labels.get(LABEL_PROBE_BASIS, "")


@dataclass(frozen=True, slots=True)
class Account:
    """The ServiceAccount of an Operation: as long as it is there, so may be the rights of its Job."""

    metadata: Metadata

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a ServiceAccount manifest."""
        return cls(Metadata.parse(manifest))


@dataclass(frozen=True, slots=True)
class OperatorSecret:
    """A Secret of the operator's namespace: which keys it has, never what is in them."""

    metadata: Metadata
    keys: frozenset[str]
    """Keys with a value that is not empty."""

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a Secret manifest and forget its values."""
        data = manifest.get("data") or NOTHING
        return cls(Metadata.parse(manifest), frozenset(key for key, value in data.items() if value))


@dataclass(frozen=True, slots=True)
class Observed:
    """One Database and all that belongs to it."""

    key: tuple[str, str]
    """(namespace, name)."""
    database: Database | None = None
    namespace: Namespace | None = None
    endpoint: DatabaseEndpoint | None = None
    """The Database's, or without a Database the instance's."""
    standing: Standing | None = None
    """What is known of the endpoint as it is now; None: nobody has tried to log in yet."""
    cls: DatabaseClass | None = None
    """The endpoint's class."""
    compliance: Compliance = UNCONCERNED
    """What policies have against the Database; nothing once it is being deleted."""
    secrets: Mapping[str, OperatorSecret | None] = field(default_factory=dict)
    """Those that the endpoint names; None: there is no such Secret."""
    instance: DatabaseInstance | None = None
    """What this Database claims; without a Database, what a former one claimed."""
    former: DatabaseInstance | None = None
    """What an earlier Database of this name still claims."""
    namesake: DatabaseInstance | None = None
    """The instance of the name that this Database would claim, when another Database holds it."""
    entries: Sequence[Entry] = ()
    """Every Operation under the instance's name, and every one made for this Database."""
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    """By name; of those entries."""
    starts: Mapping[str, Start] = field(default_factory=dict)
    """By name; of those Jobs that have not finished."""
    accounts: frozenset[str] = frozenset()
    """Names of the ServiceAccounts that still exist for those entries."""
    strays: frozenset[str] = frozenset()
    """Names of the ServiceAccounts for this Database whose Operations are gone: somebody has deleted them."""
    ungranted: frozenset[str] = frozenset()
    """Names of those entries whose Jobs this process has not seen to have their rights."""
    secret_missing_after: int | None = None
    """The sequence (0: none) after whose success the user's Secret was found deleted, or without keys that it had."""
    witnessed: bool = False
    """Whether this process saw the Database go: only then may an orphan's database be deleted."""
    passwords: frozenset[str] = frozenset()
    """Names of the generated passwords' Secrets that exist for those entries."""

    @property
    def ledger(self) -> Ledger:
        """The Operations of the instance."""
        instance = self.instance
        if instance is None:
            return Ledger((), "")
        own = [entry for entry in self.entries if entry.instance == instance.metadata.name]
        return Ledger.of(own, instance.metadata.uid, self._told(instance))

    @property
    def _last_operation(self) -> Mapping[str, Any]:
        status = NOTHING if self.database is None else self.database.status
        return status.get("lastOperation") or NOTHING

    def _told(self, instance: DatabaseInstance) -> int:
        """The sequence of the Operation that the Database's status names."""
        name, _, _ = self._last_operation.get("name", "").rpartition("-")
        owner, _, sequence = name.rpartition("-")
        return int(sequence) if owner == instance.metadata.name else 0

    @property
    def may_exist(self) -> bool:
        """Whether the server may hold something for the instance's claim.

        Its phase outlives Operations, which are forgotten after a while or deleted by hand.
        """
        instance = self.instance
        if instance is None:
            return False
        told = instance.phase in ("Bound", "Deleting", "Released") or ADOPTED_FROM in instance.metadata.annotations
        return told or self.ledger.may_exist or self._bereft(instance)

    def _bereft(self, instance: DatabaseInstance) -> bool:
        """Whether an Operation that may have acted was deleted, with its Job: the Database's status still names it."""
        last = self._last_operation
        name, kind, reason = (str(last.get(key) or "") for key in ("name", "type", "reason"))
        present = any(entry.name == name for entry in self.entries)
        acted = reason in AFTER_A_CALL or not last.get("outcome")
        return self._told(instance) > 0 and not present and kind in ("create", "rotate") and acted
