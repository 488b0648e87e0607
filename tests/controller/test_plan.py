"""What the controller decides, situation by situation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.labels import FINALIZER, LABEL_ENDPOINT_CREDENTIALS
from api.reasons import ConditionReason, Reason
from controller.ledger import Entry
from controller.observed import Namespace, Observed
from controller.plan import Plan, plan
from controller.request import Asked, Request, operation_spec
from controller.steps import (
    AddFinalizer,
    AdoptInstance,
    ClaimInstance,
    ClearRotate,
    DeleteInstance,
    DeletePassword,
    GrantRights,
    RemoveFinalizer,
    ReportLost,
    RevokeRights,
    SetPhase,
    StartJob,
    StartOperation,
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
    metadata,
    observed,
    operation,
    reported,
)


def entry_of(world: Observed, kind: str = "create") -> Entry:
    """The Operation that would come next in `world`."""
    held = world.instance
    assert held is not None
    assert world.endpoint is not None
    assert world.cls is not None
    secret = None
    if kind != "delete":
        secret = Request(database(), world.endpoint, world.cls).secret(held)
    return operation(operation_spec(world, held, Asked(kind), secret))


def after(world: Observed, kind: str, reason: Reason | None, **how: Any) -> Observed:
    """`world` after one more Operation, running when `reason` is None."""
    entry = entry_of(world, kind)
    if reason is not None:
        entry = reported(entry, reason, **how)
    return replace(world, entries=(*world.entries, entry))


def verdict(decided: Plan) -> tuple[bool, str]:
    assert decided.verdict is not None
    return decided.verdict.ready, decided.verdict.reason


class TestProviding:
    def test_a_database_without_our_finalizer_is_held_before_anything_else(self) -> None:
        decided = plan(observed(database=database(finalizers=())), NOW)

        assert isinstance(decided.step, AddFinalizer)

    def test_a_new_database_claims_its_instance(self) -> None:
        decided = plan(observed(), NOW)

        assert isinstance(decided.step, ClaimInstance)
        assert decided.step.name.startswith("db-")
        assert dict(decided.step.frozen.calls).keys() == {"create", "delete"}

    def test_a_claim_is_followed_by_the_first_create(self) -> None:
        decided = plan(observed(instance=instance()), NOW)

        assert isinstance(decided.step, StartOperation)
        assert (decided.step.spec.type, decided.step.spec.sequence, decided.step.spec.attempt) == ("create", 1, 1)

    def test_an_operation_without_a_job_gets_one(self) -> None:
        world = after(observed(instance=instance()), "create", None)

        assert isinstance(plan(world, NOW).step, StartJob)

    def test_no_job_starts_on_an_endpoint_that_is_not_what_the_operation_was_made_from(self) -> None:
        """The Operation says which server, the endpoint of now which account would be sent there."""
        world = after(observed(instance=instance()), "create", None)
        changed = endpoint(generation=2)
        unmarked = account_secret("2", **{LABEL_ENDPOINT_CREDENTIALS: "false"})
        for meanwhile in ({"endpoint": changed}, {"secrets": {changed.credentials_secret: unmarked}}):
            decided = plan(replace(world, **meanwhile), NOW)

            assert isinstance(decided.step, ReportLost)
            assert (decided.step.reason, decided.step.called) == (Reason.ENDPOINT_INVALID, False)

    def test_a_job_that_somebody_deleted_may_have_called(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        world = replace(world, endpoint=None, accounts=frozenset({world.entries[0].name}))

        decided = plan(world, NOW)

        assert isinstance(decided.step, ReportLost)
        assert decided.step.called

    def test_a_running_job_is_waited_for(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        world = replace(world, jobs={world.entries[0].name: job(world.entries[0].name)})

        decided = plan(world, NOW)

        assert decided.step is None
        assert verdict(decided) == (False, "Provisioning")

    def test_a_job_whose_rights_nobody_saw_granted_is_granted_them(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        name = world.entries[0].name
        world = replace(world, jobs={name: job(name)}, ungranted=frozenset({name}))

        decided = plan(world, NOW)

        assert decided.step == GrantRights(world.entries[0])
        assert verdict(decided) == (False, "Provisioning")

    def test_a_job_that_ended_without_a_word_is_written_off(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        name = world.entries[0].name
        world = replace(world, jobs={name: job(name, "Failed", "BackoffLimitExceeded")})

        decided = plan(world, NOW)

        assert isinstance(decided.step, ReportLost)
        assert decided.step.reason is Reason.JOB_LOST

    def test_a_job_that_ran_out_of_time_is_written_off_too(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        name = world.entries[0].name
        world = replace(world, jobs={name: job(name, "Failed", "DeadlineExceeded")})

        decided = plan(world, NOW)

        assert isinstance(decided.step, ReportLost)
        assert decided.step.reason is Reason.JOB_NOT_STARTED

    def test_success_binds_the_instance_and_makes_the_database_ready(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.SUCCEEDED)

        decided = plan(world, NOW)

        assert isinstance(decided.step, SetPhase)
        assert decided.step.phase == "Bound"
        assert verdict(decided) == (True, "Provisioned")

    def test_a_bound_database_asks_for_nothing(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)

        decided = plan(world, NOW)

        assert decided.step is None
        assert decided.look_again is None
        assert verdict(decided) == (True, "Provisioned")

    def test_a_bound_database_stays_ready_while_its_class_is_gone(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)

        decided = plan(replace(world, cls=None, endpoint=None), NOW)

        assert verdict(decided) == (True, "Provisioned")
        assert decided.step is None

    def test_rights_are_taken_back_once_the_job_has_reported(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, accounts=frozenset({world.entries[0].name}))

        decided = plan(world, NOW)

        assert isinstance(decided.step, RevokeRights)
        assert verdict(decided) == (True, "Provisioned")

    def test_rights_of_a_running_job_stay(self) -> None:
        world = after(observed(instance=instance()), "create", None)
        name = world.entries[0].name
        world = replace(world, accounts=frozenset({name}), jobs={name: job(name)})

        assert plan(world, NOW).step is None

    def test_a_generated_password_lives_as_long_as_attempts_may_need_it(self) -> None:
        failed = after(observed(instance=instance()), "create", Reason.PROCEDURE_FAILED)
        failed = replace(failed, passwords=frozenset({"db-instance-1"}))
        done = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        done = replace(done, passwords=frozenset({"db-instance-1"}))

        assert plan(failed, NOW).step is None
        assert plan(done, NOW).step == DeletePassword("db-instance-1")


class TestRefusing:
    def test_a_missing_endpoint_stalls(self) -> None:
        decided = plan(observed(endpoint=None, cls=None), NOW)

        assert verdict(decided) == (False, ConditionReason.ENDPOINT_MISSING)
        assert decided.verdict is not None
        assert decided.verdict.stalled

    def test_a_missing_class_stalls(self) -> None:
        assert verdict(plan(observed(cls=None), NOW)) == (False, ConditionReason.CLASS_MISSING)

    def test_a_namespace_that_lost_its_label_cannot_claim(self) -> None:
        picky = endpoint(allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}})

        assert verdict(plan(observed(endpoint=picky), NOW)) == (False, ConditionReason.NAMESPACE_NOT_ALLOWED)

    def test_a_namespace_with_the_label_can(self) -> None:
        picky = endpoint(allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"tier": "gold"}}})
        gold = Namespace.parse({"metadata": metadata("team-a", labels={"tier": "gold"})})

        assert isinstance(plan(observed(endpoint=picky, namespace=gold), NOW).step, ClaimInstance)

    def test_what_somebody_else_holds_is_refused_without_saying_who(self) -> None:
        other = replace(instance("Bound"), claim=None)

        decided = plan(observed(namesake=other), NOW)

        assert decided.step is None
        assert verdict(decided) == (False, ConditionReason.NAME_TAKEN)
        assert decided.look_again is not None

    def test_a_template_without_a_value_stalls_with_its_name(self) -> None:
        needy = database_class(operations={"create": {"name": "c", "inputs": {"size": "{{ .Params.size }}"}}})

        decided = plan(observed(cls=needy), NOW)

        assert verdict(decided) == (False, ConditionReason.TEMPLATE_INVALID)
        assert decided.verdict is not None
        assert ".Params.size" in decided.verdict.message

    @pytest.mark.parametrize("secrets", [{}, {"main-account": None}])
    def test_no_job_starts_without_the_endpoints_secret(self, secrets: dict[str, None]) -> None:
        decided = plan(observed(instance=instance(), secrets=secrets), NOW)

        assert decided.step is None
        assert verdict(decided) == (False, Reason.ENDPOINT_INVALID)
        assert decided.verdict is not None
        assert "main-account" in decided.verdict.message


class TestTryingAgain:
    def test_a_retryable_failure_waits_and_goes_on_as_the_next_attempt(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.PROCEDURE_FAILED)

        waiting = plan(world, NOW)
        assert waiting.step is None
        assert waiting.look_again is not None
        later = plan(world, waiting.look_again)

        assert isinstance(later.step, StartOperation)
        assert (later.step.spec.sequence, later.step.spec.attempt) == (1, 2)

    @pytest.mark.parametrize("off", [timedelta(hours=9), -timedelta(hours=9)])
    def test_a_node_whose_clock_is_off_delays_and_hastens_nothing(self, off: timedelta) -> None:
        """The report's times are that node's; when the Operation was made, the API server says."""
        world = after(observed(instance=instance()), "create", Reason.PROCEDURE_FAILED)
        [entry] = world.entries
        made = replace(entry.metadata, created_at=NOW)
        world = replace(world, entries=(replace(entry, metadata=made, finished_at=NOW + off),))

        waiting = plan(world, NOW)

        assert waiting.step is None
        assert waiting.look_again is not None
        assert waiting.look_again - NOW < timedelta(minutes=1)
        assert isinstance(plan(world, waiting.look_again).step, StartOperation)

    def test_a_stalled_failure_says_so_and_is_tried_slowly(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.PROCEDURE_MISSING)

        decided = plan(world, NOW)

        assert decided.verdict is not None
        assert decided.verdict.stalled
        assert decided.look_again is not None
        assert decided.look_again - NOW > timedelta(minutes=3)

    @pytest.mark.parametrize(
        "change",
        [
            {"endpoint": endpoint(generation=2)},
            {"cls": database_class(generation=2)},
            {
                "database": replace(
                    database(), metadata=replace(database().metadata, annotations={"dbaas.bedag.ch/retry": "x"})
                )
            },
        ],
        ids=["endpoint", "class", "retry annotation"],
    )
    def test_a_change_of_what_it_rests_on_tries_a_stalled_request_at_once(self, change: dict[str, Any]) -> None:
        world = after(observed(instance=instance()), "create", Reason.CREDENTIALS_REFUSED, called=False)

        decided = plan(replace(world, **change), NOW)

        assert isinstance(decided.step, StartOperation)
        assert decided.step.spec.attempt == 2

    def test_a_procedure_that_fails_too_often_stalls(self) -> None:
        world = observed(instance=instance(), cls=database_class(retry={"limit": 2, "backoff": "1s"}))
        for _ in range(3):
            world = after(world, "create", Reason.PROCEDURE_FAILED)

        decided = plan(world, NOW)

        assert decided.verdict is not None
        assert decided.verdict.stalled
        assert decided.verdict.reason == Reason.PROCEDURE_FAILED

    def test_a_server_that_is_away_never_stalls(self) -> None:
        world = observed(instance=instance())
        for _ in range(30):
            world = after(world, "create", Reason.ENDPOINT_UNREACHABLE, called=False)

        decided = plan(world, NOW)

        assert decided.verdict is not None
        assert decided.verdict.reconciling
        assert decided.look_again is not None
        assert decided.look_again - NOW < timedelta(minutes=2)

    def test_a_mended_class_is_taken_over_while_nothing_is_bound(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.ARGUMENTS_INVALID, called=False)
        name = "{{ .Metadata.namespace }}-{{ .Metadata.name }}"
        mended = database_class(generation=2, operations={"create": {"name": "create_db", "inputs": {"k8sName": name}}})

        decided = plan(replace(world, cls=mended), NOW)

        assert isinstance(decided.step, UpdateInstance)
        assert dict(decided.step.frozen.calls)["create"].arguments[0].name == "k8sName"

    def test_a_class_edited_to_mean_another_database_stalls_once_something_may_exist(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.PROCEDURE_FAILED)
        other = database_class(generation=2, identity="{{ .Metadata.name }}")

        assert verdict(plan(replace(world, cls=other), NOW)) == (False, ConditionReason.IDENTITY_CHANGED)

    def test_a_class_edited_to_mean_another_database_is_claimed_anew_when_nothing_ran(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.ENDPOINT_UNREACHABLE, called=False)
        other = database_class(generation=2, identity="{{ .Metadata.name }}")

        assert isinstance(plan(replace(world, cls=other), NOW).step, DeleteInstance)

    def test_relabelling_never_changes_whom_a_procedure_acts_on(self) -> None:
        labelled = database_class(
            operations={"create": {"name": "c", "inputs": {"team": "{{ .Metadata.labels.team }}"}}},
        )
        red = replace(database(), metadata=replace(database().metadata, labels={"team": "red"}))
        frozen = Request(red, endpoint(), labelled).freeze()
        blue = replace(red, metadata=replace(red.metadata, labels={"team": "blue"}))
        world = observed(database=blue, cls=labelled, instance=instance(calls=frozen.calls))

        decided = plan(world, NOW)

        assert isinstance(decided.step, StartOperation)
        assert decided.step.spec.calls[0].arguments[0].template.literal == "red"


class TestEnding:
    def test_a_database_that_never_claimed_is_let_go(self) -> None:
        assert isinstance(plan(observed(database=database(deleted=True)), NOW).step, RemoveFinalizer)

    def test_a_claim_under_which_nothing_ran_is_given_up_without_a_call(self) -> None:
        world = observed(database=database(deleted=True), instance=instance())
        world = after(world, "create", Reason.ENDPOINT_UNREACHABLE, called=False)

        assert isinstance(plan(world, NOW).step, DeleteInstance)

    @pytest.mark.parametrize("kind", ["create", "rotate"])
    @pytest.mark.parametrize("policy", ["Delete", "Retain"])
    def test_an_operation_under_way_ends_first(self, kind: str, policy: str) -> None:
        """Else a delete would pass by the create that it is for, or credentials would come after their Secret went."""
        deleted = database(deleted=True, deletionPolicy=policy)
        world = after(replace(bound(), entries=(), database=deleted), kind, None)
        world = replace(world, jobs={world.entries[0].name: job(world.entries[0].name)})

        decided = plan(world, NOW)

        assert decided.step is None
        assert verdict(decided) == (False, ConditionReason.DELETING)

    def test_a_database_that_may_exist_is_deleted_by_its_frozen_inputs_alone(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True), cls=None, namespace=None)

        marked = plan(world, NOW)
        assert isinstance(marked.step, SetPhase)
        assert marked.step.phase == "Deleting"
        decided = plan(replace(world, instance=instance("Deleting")), NOW)

        assert isinstance(decided.step, StartOperation)
        assert decided.step.spec.type == "delete"
        assert decided.step.spec.sequence == 2
        assert decided.step.spec.secret is None

    def test_a_failed_create_that_may_have_acted_is_deleted_too(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.JOB_LOST)
        world = replace(world, database=database(deleted=True))

        assert isinstance(plan(world, NOW).step, SetPhase)

    def test_after_the_delete_the_claim_and_then_the_finalizer_go(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True), instance=instance("Deleting"))
        world = after(world, "delete", Reason.SUCCEEDED)

        assert isinstance(plan(world, NOW).step, DeleteInstance)
        assert isinstance(plan(replace(world, instance=None), NOW).step, RemoveFinalizer)

    def test_a_failed_delete_holds_the_database_and_says_why(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True), instance=instance("Deleting"))
        world = after(world, "delete", Reason.PROCEDURE_FAILED)

        decided = plan(world, NOW)

        assert decided.step is None
        assert decided.verdict is not None
        assert decided.verdict.message.startswith(
            "deletion: as reported; spec.deletionPolicy: Retain lets it go without"
        )
        assert decided.look_again is not None

    def test_what_a_failed_delete_said_stays_said_while_the_next_attempt_runs(self) -> None:
        """Else a server that is away would be two events an attempt."""
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True), instance=instance("Deleting"))
        world = after(world, "delete", Reason.ENDPOINT_UNREACHABLE, called=False)
        again = after(world, "delete", None)
        again = replace(again, jobs={again.entries[-1].name: job(again.entries[-1].name)})

        assert again.entries[-1].attempt == 2
        assert verdict(plan(again, NOW)) == verdict(plan(world, NOW)) == (False, Reason.ENDPOINT_UNREACHABLE)

    def test_a_deletion_whose_endpoint_lost_its_secret_says_so_and_goes_on_with_another(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True), instance=instance("Deleting"))

        decided = plan(replace(world, secrets={"main-account": None}), NOW)

        assert decided.step is None
        assert verdict(decided) == (False, Reason.ENDPOINT_INVALID)
        assert decided.verdict is not None
        assert decided.verdict.message.startswith("deletion: ")
        assert "main-account" in decided.verdict.message
        assert "spec.deletionPolicy: Retain lets it go without" in decided.verdict.message
        assert started(plan(world, NOW)) == ("delete", "")

    def test_retain_releases_the_instance_and_calls_nothing(self) -> None:
        world = after(observed(instance=instance("Bound", deletion_policy="Retain")), "create", Reason.SUCCEEDED)
        world = replace(world, database=database(deleted=True))

        released = plan(world, NOW)
        assert isinstance(released.step, SetPhase)
        assert released.step.phase == "Released"
        world = replace(world, instance=instance("Released", deletion_policy="Retain"))

        assert isinstance(plan(world, NOW).step, RemoveFinalizer)

    def test_setting_retain_while_terminating_ends_a_delete_that_cannot_succeed(self) -> None:
        world = after(observed(instance=instance("Deleting")), "create", Reason.SUCCEEDED)
        world = after(world, "delete", Reason.PROCEDURE_MISSING)
        world = replace(world, database=database(deleted=True, deletionPolicy="Retain"))

        decided = plan(world, NOW)

        assert isinstance(decided.step, UpdateInstance)
        assert decided.step.frozen.deletion_policy == "Retain"

    def test_an_orphan_is_deleted_like_its_database_would_have_been(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)

        decided = plan(replace(world, database=None, instance=instance("Deleting")), NOW)

        assert isinstance(decided.step, StartOperation)
        assert decided.step.spec.type == "delete"

    def test_nothing_is_deleted_for_a_claim_that_ended_before(self) -> None:
        """An earlier claim of the same instance name is no reason to believe that this one made anything."""
        world = after(observed(instance=instance()), "create", Reason.SUCCEEDED)
        former = tuple(replace(entry, instance_uid="another") for entry in world.entries)

        decided = plan(replace(world, entries=former, database=database(deleted=True)), NOW)

        assert isinstance(decided.step, DeleteInstance)

    def test_a_new_claim_counts_on_from_the_old_ones_operations(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.SUCCEEDED)
        former = tuple(replace(entry, instance_uid="another") for entry in world.entries)

        decided = plan(replace(world, entries=former), NOW)

        assert isinstance(decided.step, StartOperation)
        assert (decided.step.spec.sequence, decided.step.spec.attempt) == (2, 1)

    def test_a_database_of_the_same_name_waits_for_the_former_ones_end(self) -> None:
        decided = plan(observed(former=instance("Deleting", uid="former")), NOW)

        assert decided.step is None
        assert verdict(decided) == (False, ConditionReason.FORMER_DATABASE)

    def test_other_finalizers_do_not_keep_ours(self) -> None:
        held = database(deleted=True, finalizers=(FINALIZER, "example.test/other"))

        assert plan(observed(database=held), NOW).step == RemoveFinalizer(held)


ROTATING = {
    kind: {"name": f"{kind}_db", "inputs": {"name": "{{ .Metadata.namespace }}-{{ .Metadata.name }}"}}
    for kind in ("create", "rotate", "delete")
}


def bound(annotations: dict[str, str] | None = None, operations: dict[str, Any] | None = None, **spec: Any) -> Observed:
    """A Database whose first create succeeded, of a class that can rotate."""
    cls = database_class(operations=operations or ROTATING)
    frozen = Request(database(), endpoint(), cls).freeze()
    asked = database(**spec)
    asked = replace(asked, metadata=replace(asked.metadata, annotations=annotations or {}))
    world = observed(database=asked, cls=cls, instance=instance("Bound", calls=frozen.calls))
    return after(world, "create", Reason.SUCCEEDED)


def started(decided: Plan) -> tuple[str, str]:
    assert isinstance(decided.step, StartOperation)
    return decided.step.spec.type, decided.step.spec.request


def rotated(world: Observed, request: str, reason: Reason = Reason.SUCCEEDED, **how: Any) -> Observed:
    after_it = after(world, "rotate", reason, **how)
    return replace(after_it, entries=(*after_it.entries[:-1], replace(after_it.entries[-1], request=request)))


def told(world: Observed, **status: Any) -> Observed:
    """`world` with a Database whose status says so."""
    assert world.database is not None
    return replace(world, database=replace(world.database, status={**world.database.status, **status}))


class TestRotating:
    def test_an_annotation_with_a_value_rotates_once(self) -> None:
        world = bound({"dbaas.bedag.ch/rotate": "2026-11"})
        assert started(plan(world, NOW)) == ("rotate", "annotation:2026-11")

        done = rotated(world, "annotation:2026-11")

        assert plan(done, NOW).step is None
        assert plan(told(bound({"dbaas.bedag.ch/rotate": "2026-11"}), rotateHandled="2026-11"), NOW).step is None

    def test_another_value_rotates_again(self) -> None:
        done = rotated(bound({"dbaas.bedag.ch/rotate": "two"}), "annotation:one")

        assert started(plan(told(done, rotateHandled="one"), NOW)) == ("rotate", "annotation:two")

    def test_an_empty_annotation_is_removed_when_it_is_served_and_counts_again_when_it_comes_back(self) -> None:
        asked = bound({"dbaas.bedag.ch/rotate": ""})
        assert started(plan(asked, NOW)) == ("rotate", "annotation:")
        done = rotated(asked, "annotation:")

        assert isinstance(plan(done, NOW).step, ClearRotate)
        again = told(done, rotateHandled=done.entries[-1].name)
        assert started(plan(again, NOW)) == ("rotate", "annotation:")

    def test_the_schedule_rotates_when_it_is_due_and_says_when_to_look_again(self) -> None:
        world = bound(rotation={"every": "24h"})

        assert plan(world, NOW).look_again == NOW + timedelta(days=1)
        assert started(plan(world, NOW + timedelta(days=1))) == ("rotate", "schedule")

    def test_it_counts_from_the_last_rotation_even_when_the_ledger_has_forgotten_it(self) -> None:
        world = told(bound(rotation={"every": "24h"}), lastRotated="2026-11-22T00:00:00Z")

        decided = plan(world, NOW)

        assert decided.look_again is not None
        assert decided.look_again.isoformat() == "2026-11-23T00:00:00+00:00"

    def test_ready_stays_true_while_it_rotates_and_after_it_failed(self) -> None:
        world = bound({"dbaas.bedag.ch/rotate": "x"})
        assert verdict(plan(world, NOW))[0]

        running = after(world, "rotate", None)
        failed = rotated(world, "annotation:x", Reason.PROCEDURE_FAILED)

        assert verdict(plan(running, NOW))[0]
        assert verdict(plan(failed, NOW)) == (True, ConditionReason.ROTATION_FAILED)

    def test_an_unfinished_rotation_is_followed_by_a_rotation_asked_for_or_not(self) -> None:
        failed = rotated(bound(), "annotation:x", Reason.JOB_LOST)

        assert started(plan(failed, NOW + timedelta(hours=1))) == ("rotate", "annotation:x")

    def test_a_rotation_that_ran_nothing_and_is_wanted_no_more_is_left(self) -> None:
        failed = rotated(bound(), "annotation:x", Reason.ENDPOINT_UNREACHABLE, called=False)

        assert plan(failed, NOW + timedelta(hours=1)).step is None

    def test_a_class_without_rotate_says_so(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        asked = replace(world, database=bound({"dbaas.bedag.ch/rotate": "x"}).database)

        assert verdict(plan(asked, NOW)) == (True, ConditionReason.ROTATION_FAILED)

    def test_a_rotate_that_the_class_gained_is_frozen_for_databases_that_exist(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        world = replace(world, cls=database_class(generation=2, operations=ROTATING))

        decided = plan(world, NOW)

        assert isinstance(decided.step, UpdateInstance)
        assert set(dict(decided.step.frozen.calls)) == {"create", "rotate", "delete"}


class TestRecovering:
    def test_lost_credentials_of_an_own_database_are_reset(self) -> None:
        world = replace(bound(), entries=(), instance=replace(bound().instance, phase="Pending"))  # type: ignore[type-var]
        world = after(after(world, "create", Reason.JOB_LOST), "create", Reason.CREDENTIALS_LOST)

        assert started(plan(world, NOW)) == ("rotate", "recovery")

    def test_without_a_rotate_they_stall(self) -> None:
        world = observed(instance=instance())
        world = after(after(world, "create", Reason.JOB_LOST), "create", Reason.CREDENTIALS_LOST)

        decided = plan(world, NOW)

        assert decided.verdict is not None
        assert decided.verdict.stalled
        assert decided.verdict.reason == Reason.CREDENTIALS_LOST

    def test_only_a_claim_that_may_have_created_it_may_reset_credentials(self) -> None:
        first = plan(observed(instance=instance()), NOW)
        lost = after(observed(instance=instance()), "create", Reason.JOB_LOST)
        unreached = after(observed(instance=instance()), "create", Reason.ENDPOINT_UNREACHABLE, called=False)

        later = NOW + timedelta(hours=1)
        recoverable = [
            decided.step.spec.recoverable
            for decided in (first, plan(lost, later), plan(unreached, later))
            if isinstance(decided.step, StartOperation)
        ]
        assert recoverable == [False, True, False]

    def test_a_missing_secret_is_written_again_once(self) -> None:
        world = replace(bound(), secret_missing_after=1)
        assert started(plan(world, NOW)) == ("create", "missing-secret")

        done = after(world, "create", Reason.SUCCEEDED, at=NOW + timedelta(minutes=2))

        assert plan(done, NOW + timedelta(minutes=3)).step is None

    def test_which_credentials_were_returned_before_is_told(self) -> None:
        """A procedure that leaves the password out now has lost it, and one that never had it has not."""
        world = replace(bound(), secret_missing_after=1)
        keys = ("username", "password")
        world = replace(world, entries=(replace(world.entries[0], result_keys=keys), *world.entries[1:]))
        told = [plan(one, NOW).step for one in (bound({"dbaas.bedag.ch/rotate": "x"}), world)]

        assert [
            step.spec.secret and step.spec.secret.returned for step in told if isinstance(step, StartOperation)
        ] == [
            (),
            ("password",),
        ]

    def test_with_a_generated_password_a_missing_secret_is_a_rotation(self) -> None:
        """A create need not set another password on a login that is there; a rotate sets the one that it is given."""
        inputs = {"name": "{{ .Metadata.name }}", "password": "{{ .Generated.password }}"}
        operations = {kind: {**call, "inputs": inputs} for kind, call in ROTATING.items()}
        world = replace(bound(operations=operations), secret_missing_after=1)
        decided = plan(world, NOW)

        assert started(decided) == ("rotate", "missing-secret")
        assert verdict(decided) == (False, ConditionReason.PROVISIONING)

        refused = after(world, "rotate", Reason.ENDPOINT_UNREACHABLE, called=False)
        refused = replace(
            refused, entries=(*refused.entries[:-1], replace(refused.entries[-1], request="missing-secret"))
        )
        waiting = plan(refused, NOW)

        assert waiting.step is None
        assert waiting.look_again is not None
        assert started(plan(refused, waiting.look_again)) == ("rotate", "missing-secret")


class TestTakingOver:
    def test_a_retained_claim_goes_to_a_database_of_the_same_name(self) -> None:
        retained = instance("Released", uid="former")

        assert isinstance(plan(observed(namesake=retained), NOW).step, AdoptInstance)

    def test_to_nobody_else(self) -> None:
        retained = instance("Released", uid="former")
        elsewhere = replace(retained, claim=replace(retained.claim, namespace="team-b"))  # type: ignore[type-var]

        assert verdict(plan(observed(namesake=elsewhere), NOW)) == (False, ConditionReason.NAME_TAKEN)

    def test_to_whoever_asks_once_an_administrator_cleared_it(self) -> None:
        cleared = replace(instance("Released"), claim=None)

        assert isinstance(plan(observed(namesake=cleared), NOW).step, AdoptInstance)

    def test_what_was_done_for_the_former_database_is_done_again_for_the_new_one(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.SUCCEEDED)
        world = replace(world, entries=tuple(replace(e, database_uid="former") for e in world.entries))

        decided = plan(world, NOW)

        assert isinstance(decided.step, StartOperation)
        assert (decided.step.spec.type, decided.step.spec.sequence) == ("create", 2)
        assert decided.step.spec.recoverable

    def test_an_orphan_whose_deletion_nobody_saw_is_retained(self) -> None:
        """A restored backup has the claims, and Databases with other uids."""
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)

        decided = plan(replace(world, database=None), NOW)

        assert isinstance(decided.step, SetPhase)
        assert decided.step.phase == "Released"

    def test_an_orphan_whose_deletion_was_seen_is_deleted(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)

        decided = plan(replace(world, database=None, witnessed=True), NOW)

        assert isinstance(decided.step, SetPhase)
        assert decided.step.phase == "Deleting"

    def test_abandoning_tells_a_job_under_way_that_nobody_waits_for_it(self) -> None:
        """It asks, once it has its lock, and calls nothing then."""
        world = after(observed(instance=instance("Deleting")), "create", Reason.SUCCEEDED)
        world = after(world, "delete", None)
        running = world.entries[-1]
        gone = annotated(database(deleted=True), "dbaas.bedag.ch/abandon", "")
        world = replace(world, database=gone, jobs={running.name: job(running.name)})

        told = plan(world, NOW).step

        assert isinstance(told, ReportLost)
        assert (told.entry, told.reason) == (running, Reason.OPERATION_SUPERSEDED)
        world = replace(world, entries=(*world.entries[:-1], reported(running, Reason.OPERATION_SUPERSEDED)))
        assert isinstance(plan(world, NOW).step, DeleteInstance)

    def test_abandoning_calls_nothing(self) -> None:
        world = after(observed(instance=instance("Deleting")), "create", Reason.SUCCEEDED)
        gone = database(deleted=True)
        gone = replace(gone, metadata=replace(gone.metadata, annotations={"dbaas.bedag.ch/abandon": ""}))

        assert isinstance(plan(replace(world, database=gone), NOW).step, DeleteInstance)
