"""Whatever happens in whatever order, a plan keeps its promises.

A small model of the world carries out the plan's steps on the very values that the caches would hold; hypothesis
decides what users, administrators, Jobs and time do in between. Nothing of the controller is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance
from api.labels import FINALIZER
from api.reasons import Outcome, Reason
from controller.ledger import Entry
from controller.observed import Observed
from controller.plan import plan
from controller.steps import (
    AddFinalizer,
    ClaimInstance,
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
    database,
    database_class,
    endpoint,
    instance,
    job,
    observed,
    operation,
    reported,
)

FAILURES = [reason for reason in Reason if reason is not Reason.SUCCEEDED]
MOST_STEPS = 15


@dataclass
class Model:
    """The API server's objects, and what the database server holds."""

    database: Database | None = field(default_factory=lambda: database(finalizers=()))
    instance: DatabaseInstance | None = None
    endpoint: DatabaseEndpoint | None = field(default_factory=endpoint)
    cls: DatabaseClass | None = field(default_factory=database_class)
    secret_version: int = 1
    entries: list[Entry] = field(default_factory=list)
    running_jobs: set[str] = field(default_factory=set)
    ended_jobs: set[str] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    claims: int = 0
    exists: bool = False
    """Whether the server has the database."""
    now: datetime = NOW

    def observe(self) -> Observed:
        states = {name: job(name) for name in self.running_jobs} | {
            name: job(name, "Failed") for name in self.ended_jobs
        }
        return observed(
            database=self.database,
            endpoint=self.endpoint,
            cls=self.cls if self.endpoint is not None else None,
            secrets={"main-account": account_secret(str(self.secret_version))},
            instance=self.instance,
            entries=tuple(self.entries),
            jobs=states,
            accounts=frozenset(self.accounts),
        )

    def settle(self) -> None:
        """Plan and write until nothing is left to write."""
        for _ in range(MOST_STEPS):
            world = self.observe()
            if (step := plan(world, self.now).step) is None:
                return
            self.check(step, world)
            self.apply(step)
        raise AssertionError(f"no end of writes; the last was {step}")

    def check(self, step: Step, world: Observed) -> None:
        """The promises."""
        match step:
            case StartOperation(spec):
                assert not any(entry.running for entry in self.entries), "two operations at once"
                assert all((e.sequence, e.attempt) < (spec.sequence, spec.attempt) for e in self.entries)
                assert spec.type in ("create", "delete"), "an operation that nobody asked for"
                if spec.type == "delete":
                    assert world.database is None or world.database.metadata.terminating, "deleted without being asked"
                    assert world.ledger.may_exist, "deleted what was never claimed"
                    assert self.instance is not None
                    assert self.instance.deletion_policy == "Delete", "deleted what is to be retained"
                else:
                    assert world.database is not None
                    assert not world.database.metadata.terminating, "created for a Database that goes"
                    assert FINALIZER in world.database.metadata.finalizers, "created without a hold"
            case RemoveFinalizer(held):
                assert held.metadata.terminating
                assert self.instance is None or self.instance.phase == "Released", "let go too early"
                assert self.instance is not None or not self.exists, "a database without a Database"
            case DeleteInstance():
                assert not self.exists, "gave up the claim on what still exists"
                assert not self.running_jobs
            case StartJob(entry):
                assert entry.running
            case RevokeRights(entry):
                assert not entry.running

    def apply(self, step: Step) -> None:
        """Carry it out."""
        match step:
            case AddFinalizer(held):
                self.database = replace(held, metadata=replace(held.metadata, finalizers=(FINALIZER,)))
            case RemoveFinalizer():
                self.database = None
            case ClaimInstance(_, _, frozen):
                self.claims += 1
                made = instance(calls=frozen.calls, identity=frozen.identity, deletion_policy=frozen.deletion_policy)
                self.instance = replace(made, metadata=replace(made.metadata, uid=f"claim-{self.claims}"))
            case UpdateInstance(held_instance, frozen):
                self.instance = replace(
                    held_instance,
                    calls=dict(frozen.calls),
                    identity=frozen.identity,
                    class_generation=frozen.class_generation,
                    deletion_policy=frozen.deletion_policy,
                )
            case SetPhase(held_instance, phase):
                self.instance = replace(held_instance, phase=phase)
            case DeleteInstance():
                self.instance = None
            case StartOperation(spec):
                self.entries.append(operation(spec))
            case StartJob(entry):
                self.running_jobs.add(entry.name)
                self.accounts.add(entry.name)
            case ReportLost(entry, reason, _, called):
                self.close(entry, reason, called=called)
            case RevokeRights(entry):
                self.accounts.discard(entry.name)
            case DeletePassword():
                pass

    def close(self, entry: Entry, reason: Reason, *, called: bool) -> None:
        self.entries = [
            reported(e, reason, called=called, at=self.now) if e.name == entry.name else e for e in self.entries
        ]

    def job_ends(self, reason: Reason | None, *, called: bool) -> None:
        """The running Job reports `reason`, or dies without a word (None), perhaps after its call took effect."""
        for entry in self.entries:
            if entry.name in self.running_jobs:
                self.running_jobs.discard(entry.name)
                self.ended_jobs.add(entry.name)
                succeeded = reason is Reason.SUCCEEDED
                # What was there before is not this claim's.
                if succeeded or (called and reason is not Reason.ALREADY_EXISTS):
                    self.exists = entry.type != "delete"
                if reason is not None:
                    self.close(entry, reason, called=called or succeeded)


ACTIONS = st.one_of(
    st.tuples(st.just("job"), st.sampled_from([Reason.SUCCEEDED, *FAILURES]), st.booleans()),
    st.tuples(st.just("job"), st.none(), st.booleans()),
    st.tuples(st.just("delete")),
    st.tuples(st.just("force"), st.booleans()),
    st.tuples(st.just("relabel"), st.text(max_size=3)),
    st.tuples(st.just("policy"), st.sampled_from(["Delete", "Retain", None])),
    st.tuples(st.just("class"), st.sampled_from(["gone", "back", "edited", "other"])),
    st.tuples(st.just("endpoint"), st.sampled_from(["gone", "back", "edited"])),
    st.tuples(st.just("secret")),
    st.tuples(st.just("wait"), st.integers(min_value=1, max_value=7200)),
)


def happen(model: Model, action: Sequence[object]) -> None:
    """Let one thing happen that is not the controller's doing."""
    held = model.database
    match action:
        case ("job", reason, bool(called)):
            assert reason is None or isinstance(reason, Reason)
            model.job_ends(reason, called=called)
        case ("delete",) if held is not None and not held.metadata.terminating:
            gone = replace(held, metadata=replace(held.metadata, deleted_at=model.now))
            model.database = gone if gone.metadata.finalizers else None
        case ("force", _) if held is not None and held.metadata.terminating:
            model.database = None
        case ("relabel", str(value)) if held is not None:
            model.database = replace(held, metadata=replace(held.metadata, labels={"team": value}))
        case ("policy", policy) if held is not None:
            model.database = replace(held, deletion_policy=policy)  # type: ignore[arg-type]
        case ("class", "gone"):
            model.cls = None
        case ("class", "back"):
            model.cls = database_class()
        case ("class", "edited"):
            model.cls = database_class(generation=2)
        case ("class", "other"):
            model.cls = database_class(generation=3, identity="{{ .Metadata.name }}")
        case ("endpoint", "gone"):
            model.endpoint = None
        case ("endpoint", "back"):
            model.endpoint = endpoint()
        case ("endpoint", "edited"):
            model.endpoint = endpoint(generation=2)
        case ("secret",):
            model.secret_version += 1
        case ("wait", int(seconds)):
            model.now += timedelta(seconds=seconds)


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_promises_hold_and_everything_converges(actions: list[tuple[object, ...]]) -> None:
    model = Model()
    model.settle()
    for action in actions:
        happen(model, action)
        model.settle()

    # From here on nothing goes wrong any more.
    model.endpoint = endpoint()
    # An edit that came to mean another database than the one that was begun is undone, as the condition asks.
    begun = model.instance is not None and model.instance.identity == "shop"
    model.cls = database_class(generation=5, identity="{{ .Metadata.name }}") if begun else database_class(generation=4)
    for _ in range(6):
        model.job_ends(Reason.SUCCEEDED, called=True)
        model.now += timedelta(hours=2)
        model.settle()

    assert not model.running_jobs
    assert not model.accounts
    if model.database is None or model.database.metadata.terminating:
        assert model.database is None, "a Database that cannot be deleted"
        assert model.instance is None or model.instance.phase == "Released"
        assert model.instance is not None or not model.exists
    else:
        assert model.instance is not None
        assert model.instance.phase == "Bound"
        assert model.exists
        last = next(entry for entry in reversed(model.entries) if entry.outcome == Outcome.SUCCEEDED)
        assert last.type == "create"
