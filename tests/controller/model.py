"""A small world for plans: the API server's objects as values, a database server, and what may happen to them.

Steps are carried out as `controller/apply.py` does: what carries a resourceVersion fails against another version, what
creates a name fails when the name is taken. `check` holds each step against the promises before it is carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance
from api.labels import ABANDON, ADOPTED_FROM, FINALIZER, ROTATE
from api.reasons import Reason
from api.requests import RECOVERY, SCHEDULE, annotation_value
from controller.ledger import Entry
from controller.observed import Observed
from controller.plan import plan
from controller.standing import Login, Standing
from controller.status import Verdict, desired_status
from controller.steps import (
    AddFinalizer,
    AdoptInstance,
    ClaimInstance,
    ClearRotate,
    DeleteInstance,
    DeletePassword,
    RemoveFinalizer,
    ReportLost,
    RevokeRights,
    SetPhase,
    StartJob,
    StartOperation,
    Step,
    UpdateInstance,
)
from tests.controller.builders import (
    NOW,
    account_secret,
    annotated,
    database,
    database_class,
    endpoint,
    instance,
    job,
    observed,
    operation,
    reported,
)

MOST_STEPS = 20
NAME = {"inputs": {"name": "{{ .Metadata.namespace }}-{{ .Metadata.name }}"}}
OPERATIONS = {kind: {"name": f"{kind}_db", **NAME} for kind in ("create", "rotate", "delete")}


def a_class(generation: int = 1, **spec: Any) -> DatabaseClass:
    return database_class(generation=generation, operations=OPERATIONS, **spec)


CLASSES = {
    "gone": None,
    "back": a_class(),
    "edited": a_class(2),
    "other": a_class(3, identity="{{ .Metadata.name }}"),
}
ENDPOINTS = {"gone": None, "back": endpoint(), "edited": endpoint(generation=2)}


@dataclass
class Model:
    """The API server's objects, and what the database server holds."""

    database: Database | None = field(default_factory=lambda: database(finalizers=()))
    instances: list[DatabaseInstance] = field(default_factory=list)
    """At most one: there is one identity."""
    endpoint: DatabaseEndpoint | None = field(default_factory=endpoint)
    cls: DatabaseClass | None = field(default_factory=a_class)
    standing: Standing | None = None
    """What is known of the endpoint as it is."""
    secret_version: int = 1
    entries: list[Entry] = field(default_factory=list)
    running_jobs: set[str] = field(default_factory=set)
    ended_jobs: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    missing_after: int | None = None
    witnessed: set[tuple[str, str]] = field(default_factory=set)
    """Uids of Databases that the controller saw go, each with that of its claim."""
    uids: int = 0
    versions: int = 1
    exists: bool = False
    """Whether the server has the database."""
    abandoned: bool = False
    """Whether somebody gave up what the server has."""
    asked: set[str] = field(default_factory=set)
    """What has asked for rotations."""
    now: datetime = NOW

    # Seeing.

    def observe(self, *, orphan: bool = False) -> Observed:
        states = {name: job(name) for name in self.running_jobs} | {
            name: job(name, "Failed") for name in self.ended_jobs
        }
        uid = "" if self.database is None else self.database.metadata.uid
        mine = next((i for i in self.instances if i.claim is not None and i.claim.uid == uid), None)
        others = [i for i in self.instances if i is not mine and i.claim is not None]
        former = next((i for i in others if i.phase != "Released"), None)
        held = former if orphan else mine
        gone = held is not None and held.claim is not None and held.claim.uid != uid
        return observed(
            database=None if orphan else self.database,
            endpoint=self.endpoint,
            standing=self.standing,
            cls=self.cls if self.endpoint is not None else None,
            secrets={"main-account": account_secret(str(self.secret_version))},
            instance=held,
            former=None if orphan else former,
            namesake=next(iter(self.instances), None) if held is None else None,
            entries=tuple(self.entries),
            jobs=states,
            accounts=frozenset(self.accounts),
            secret_missing_after=self.missing_after,
            witnessed=gone
            and held is not None
            and held.claim is not None
            and (held.claim.uid, held.metadata.uid) in self.witnessed,
        )

    # Working.

    def settle(self) -> None:
        """Plan and write until nothing is left to write."""
        if self.run() is not None:
            raise AssertionError("no end of writes")

    def run(self, writes: int = MOST_STEPS) -> int | None:
        """Plan and write, `writes` times at most; None when nothing is left to write."""
        for _ in range(writes):
            world = self.observe(orphan=True)
            decided = plan(world, self.now) if world.instance is not None else None
            if decided is None or decided.step is None:
                world = self.observe()
                decided = plan(world, self.now)
            if decided.step is None:
                self.tell(world, decided.verdict)
                return None
            self.check(decided.step, world)
            self.apply(decided.step)
        return writes

    def tell(self, world: Observed, verdict: Verdict | None) -> None:
        """Write the status."""
        if self.database is not None and verdict is not None:
            status = desired_status(world, self.database, verdict, self.now)
            present = {key: value for key, value in status.items() if value is not None}
            self.database = replace(self.database, status={**self.database.status, **present})

    def check(self, step: Step, world: Observed) -> None:
        """The promises."""
        match step:
            case StartOperation(spec):
                own = [e for e in self.entries if e.running and e.instance_uid == spec.instance_uid]
                standing = self.standing
                assert standing is None or not standing.login.reason.of_endpoint, "tried what is known to be away"
                assert not own, "two operations at once"
                assert all((e.sequence, e.attempt) != (spec.sequence, spec.attempt) for e in self.entries)
                if spec.type == "delete":
                    assert world.database is None or world.database.metadata.terminating, "deleted without being asked"
                    assert world.may_exist, "deleted what was never claimed"
                    assert world.instance is not None
                    assert world.instance.deletion_policy == "Delete", "deleted what is to be retained"
                else:
                    assert world.database is not None
                    assert not world.database.metadata.terminating, "created for a Database that goes"
                    assert FINALIZER in world.database.metadata.finalizers, "created without a hold"
                if spec.type == "rotate" and spec.attempt == 1:
                    self.check_rotation(spec.request, world)
            case RemoveFinalizer(held):
                assert held.metadata.terminating
                mine = world.instance
                assert mine is None or mine.phase == "Released", "let go too early"
                assert self.instances or not self.exists or self.abandoned, "a database without a Database"
            case DeleteInstance():
                assert not self.exists or self.abandoned, "gave up the claim on what still exists"
            case StartJob(entry):
                assert entry.running
            case RevokeRights(entry):
                assert not entry.running
            case AdoptInstance(held_instance, _):
                assert held_instance.phase == "Released", "took over what somebody has"

    def check_rotation(self, request: str, world: Observed) -> None:
        """A rotation was asked for, or repairs what was lost."""
        if request == RECOVERY:
            reasons = [entry.reason for entry in world.ledger.own]
            assert Reason.CREDENTIALS_LOST in reasons, "recovered what nobody lost"
        else:
            assert request in self.asked, f"rotated unasked: {request}"
            served = [e for e in self.entries if e.type == "rotate" and e.succeeded and e.request == request]
            if served and not _once(request) and world.database is not None:
                mine = [entry for entry in served if entry.database_uid == world.database.metadata.uid]
                assert not mine or request != f"annotation:{world.database.status.get('rotateHandled')}", "served twice"

    def apply(self, step: Step) -> None:
        """Carry it out; what has met another version, or a name that is taken, has no effect."""
        match step:
            case AddFinalizer(held):
                self.database = replace(held, metadata=replace(held.metadata, finalizers=(FINALIZER,)))
            case RemoveFinalizer(held) if self.database is not None and self.database.metadata.uid == held.metadata.uid:
                self.witness(held)
                # What was abandoned is nobody's: no later claim answers for it.
                self.exists = self.exists and not self.abandoned
                self.database, self.abandoned = None, False
            case ClearRotate(held) if self.database is not None and self.database.metadata.uid == held.metadata.uid:
                rest = {key: value for key, value in held.metadata.annotations.items() if key != ROTATE}
                self.database = replace(held, metadata=replace(held.metadata, annotations=rest))
            case ClaimInstance(_, owner, frozen) if not self.instances:
                made = instance(
                    uid=owner.metadata.uid,
                    calls=frozen.calls,
                    identity=frozen.identity,
                    deletion_policy=frozen.deletion_policy,
                    class_generation=frozen.class_generation,
                )
                self.uids += 1
                self.put(replace(made, metadata=replace(made.metadata, uid=f"claim-{self.uids}")))
            case AdoptInstance(held_instance, owner) if self.present(held_instance):
                former = "" if held_instance.claim is None else held_instance.claim.uid
                claim = instance(uid=owner.metadata.uid).claim
                self.put(replace(annotated(held_instance, ADOPTED_FROM, former), claim=claim, phase="Pending"))
            case UpdateInstance(held_instance, frozen) if self.present(held_instance):
                self.put(
                    replace(
                        held_instance,
                        calls=dict(frozen.calls),
                        identity=frozen.identity,
                        class_generation=frozen.class_generation,
                        deletion_policy=frozen.deletion_policy,
                    )
                )
            case SetPhase(held_instance, phase) if self.present(held_instance):
                self.put(replace(held_instance, phase=phase))
            case DeleteInstance(held_instance) if self.present(held_instance):
                self.instances = []
            case StartOperation(spec):
                entry = operation(spec)
                if all(known.name != entry.name for known in self.entries):
                    self.entries.append(entry)
            case StartJob(entry) if entry.name not in self.ended_jobs:
                self.running_jobs.add(entry.name)
                self.accounts.add(entry.name)
            case ReportLost(entry, reason, _, called):
                self.close(entry, reason, called=called)
            case RevokeRights(entry):
                self.accounts.discard(entry.name)
            case DeletePassword():
                pass

    def put(self, changed: DatabaseInstance) -> None:
        """Store an instance under a new version."""
        self.versions += 1
        metadata = replace(changed.metadata, resource_version=str(self.versions))
        self.instances = [replace(changed, metadata=metadata)]

    def present(self, known: DatabaseInstance) -> bool:
        """Whether the instance is still the one that was seen."""
        return any(i.metadata.resource_version == known.metadata.resource_version for i in self.instances)

    def close(self, entry: Entry, reason: Reason, *, called: bool) -> None:
        """Write an Operation's outcome, if nobody has."""
        self.entries = [
            reported(e, reason, called=called, at=self.now) if e.name == entry.name and e.running else e
            for e in self.entries
        ]

    # Happening.

    def witness(self, gone: Database) -> None:
        """The controller sees it go."""
        self.witnessed |= {(gone.metadata.uid, held.metadata.uid) for held in self.instances}

    def job_ends(self, reason: Reason | None, *, called: bool) -> None:
        """The running Job reports `reason`, or dies without a word (None), perhaps after its call took effect."""
        for entry in self.entries:
            if entry.name in self.running_jobs:
                self.running_jobs.discard(entry.name)
                self.ended_jobs.add(entry.name)
                # Nobody waits for it any more: it asks before it calls.
                if not entry.running:
                    continue
                succeeded = reason is Reason.SUCCEEDED
                # What was there before is not this claim's.
                if succeeded or (called and reason is not Reason.ALREADY_EXISTS):
                    self.exists = entry.type != "delete"
                if succeeded and entry.type == "rotate" and _once(entry.request):
                    self.asked.discard(entry.request)
                if reason is not None:
                    self.close(entry, reason, called=called or succeeded)

    def learn(self, reason: Reason | None) -> None:
        """A probe has logged in, or could not; None: the endpoint is another than the one that was probed."""
        login = None if reason is None else Login("", reason, "as probed", self.now)
        self.standing = None if login is None else Standing(login, self.now)

    def ask(self, request: str) -> None:
        """Somebody asks for a rotation."""
        self.asked.add(request)

    def heal(self) -> None:
        """From here on nothing goes wrong any more."""
        self.endpoint = endpoint()
        self.learn(Reason.SUCCEEDED)
        # An edit that came to mean another database than the one that was begun is undone, as the condition asks.
        begun = any(held.identity == "shop" for held in self.instances)
        self.cls = a_class(5, identity="{{ .Metadata.name }}") if begun else a_class(4)
        if self.database is not None:
            self.database = replace(self.database, rotate_every=None)
        for _ in range(8):
            self.job_ends(Reason.SUCCEEDED, called=True)
            self.now += timedelta(hours=2)
            self.settle()

    def assert_at_rest(self) -> None:
        """Nothing runs, nothing lies about, and what is wanted is there."""
        held, claims = self.database, self.instances
        assert not self.accounts
        assert not [entry for entry in self.entries if entry.running]
        if held is None or held.metadata.terminating:
            assert held is None, "a Database that cannot be deleted"
            assert all(claim.phase == "Released" for claim in claims)
        else:
            assert [claim.phase for claim in claims] == ["Bound"]
            assert self.exists
            ready = next(c for c in held.status["conditions"] if c["type"] == "Ready")
            assert ready["status"] == "True"
            assert held.metadata.annotations.get(ROTATE) != "", "an empty annotation was not served"


def _once(request: str) -> bool:
    """Whether having been served ends it: the empty annotation is taken away, the schedule begins anew."""
    return annotation_value(request) == "" or request == SCHEDULE


def happen(model: Model, action: Sequence[Any]) -> None:
    """Let one thing happen that is not the controller's doing."""
    held = model.database
    match action:
        case ("job", reason, called):
            model.job_ends(reason, called=called)
        case ("success",):
            model.job_ends(Reason.SUCCEEDED, called=True)
        case ("class", how):
            model.cls = CLASSES[how]
        case ("endpoint", how):
            model.endpoint = ENDPOINTS[how]
            model.learn(None)
        case ("secret",):
            model.secret_version += 1
            model.learn(None)
        case ("probe", reason):
            model.learn(reason)
        case ("secret lost",):
            success = model.observe().ledger.last_success
            model.missing_after = 0 if success is None else success.sequence
        case ("wait", seconds):
            model.now += timedelta(seconds=seconds)
            model.ask(SCHEDULE)
        case ("crash", writes):
            # It had written so much when it ended; `settle` is its successor.
            model.run(writes)
        case ("second leader", writes):
            _lagging(model, writes)
        case ("forget operations",):
            _forget(model)
        case ("restore",) if held is not None:
            _restore(model, held)
        case ("apply", recreated) if held is None:
            _apply(model, witnessed=recreated)
        case _ if held is not None:
            _touch(model, held, action)


def _touch(model: Model, held: Database, action: Sequence[Any]) -> None:
    """Something happens to the Database."""
    metadata = held.metadata
    match action:
        case ("delete",) if not metadata.terminating:
            gone = replace(held, metadata=replace(metadata, deleted_at=model.now))
            model.database = gone if metadata.finalizers else None
        case ("force", seen) if metadata.terminating:
            if seen:
                model.witness(held)
            model.database = None
        case ("abandon",) if metadata.terminating:
            model.database, model.abandoned = annotated(held, ABANDON, ""), True
        case ("rotate", value) if not metadata.terminating:
            rest = {key: old for key, old in metadata.annotations.items() if key != ROTATE}
            if value is not None:
                rest[ROTATE] = value
                if value != metadata.annotations.get(ROTATE):
                    model.ask(f"annotation:{value}")
            model.database = replace(held, metadata=replace(metadata, annotations=rest))
        case ("schedule", seconds):
            # 0: it is taken away.
            model.database = replace(held, rotate_every=timedelta(hours=1) if seconds else None)
            model.now += timedelta(seconds=seconds)
            model.ask(SCHEDULE)
        case ("relabel", value):
            model.database = replace(held, metadata=replace(metadata, labels={"team": value}))
        case ("policy", policy):
            model.database = replace(held, deletion_policy=policy)


def _apply(model: Model, *, witnessed: bool) -> None:
    """A Database of the same name, after the former one went."""
    model.uids += 1
    fresh = database(finalizers=(FINALIZER,) if witnessed else ())
    model.database = replace(fresh, metadata=replace(fresh.metadata, uid=f"database-{model.uids}"))


def _lagging(model: Model, writes: int) -> None:
    """A second leader sees, for a while, the world of a moment ago; names and versions decide between the two."""
    past = model.observe()
    model.run(writes)
    decided = plan(past, model.now)
    if isinstance(decided.step, UpdateInstance | SetPhase | AdoptInstance | StartOperation):
        model.apply(decided.step)


def _forget(model: Model) -> None:
    """Retention, or a person, deletes Operations that ended; the latest is kept."""
    ended = [entry for entry in model.entries if not entry.running]
    gone = {entry.name for entry in ended[:-1]} - model.running_jobs - model.accounts
    model.entries = [entry for entry in model.entries if entry.name not in gone]


def _restore(model: Model, held: Database) -> None:
    """A backup comes back: the same objects with other uids, without statuses; no Job runs."""
    if held.metadata.terminating or model.running_jobs:
        return
    model.uids += 1
    metadata = replace(held.metadata, uid=f"database-{model.uids}")
    model.database = replace(held, metadata=metadata, status={})
    for claim in model.instances:
        model.uids += 1
        restored = replace(claim.metadata, uid=f"claim-{model.uids}", annotations={})
        model.put(replace(claim, metadata=restored, phase="Pending"))
    if value := held.metadata.annotations.get(ROTATE):
        model.ask(f"annotation:{value}")
    if held.metadata.annotations.get(ROTATE) == "":
        model.ask("annotation:")
    model.accounts.clear()
