"""What the controller decides when somebody else's database, password or patience is at stake."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from api.reasons import ConditionReason, Reason
from controller.observed import Namespace
from controller.plan import plan
from controller.rotation import rotate_handled
from controller.steps import AdoptInstance, DeleteInstance, RemoveFinalizer, ReportLost, SetPhase, StartOperation
from tests.controller.builders import NOW, annotated, database, database_class, instance, job, metadata, observed, time
from tests.controller.test_plan import ROTATING, after, bound, entry_of, rotated, started, told, verdict


class TestWhatSomebodyTookOutOfTheLedger:
    """`kubectl delete operation`, to be rid of a call that hangs; its Job goes with it, its effect does not."""

    @pytest.mark.parametrize(
        "said", [{}, {"outcome": "Retry", "reason": "Timeout"}, {"outcome": "Succeeded", "reason": "Succeeded"}]
    )
    def test_what_it_may_have_made_is_this_claims_own(self, said: dict[str, str]) -> None:
        last = {"name": "db-instance-3-1", "type": "create", **said}
        world = told(observed(instance=instance()), lastOperation=last)
        step = plan(world, NOW).step

        assert isinstance(step, StartOperation)
        assert (step.spec.type, step.spec.sequence, step.spec.recoverable) == ("create", 4, True)

        world = told(observed(instance=instance(), database=database(deleted=True)), lastOperation=last)

        assert plan(world, NOW).step == SetPhase(instance(), "Deleting")

    @pytest.mark.parametrize(
        "last",
        [
            {"name": "db-instance-3-1", "type": "create", "outcome": "Stalled", "reason": "AlreadyExists"},
            {"name": "db-instance-3-1", "type": "create", "outcome": "Retry", "reason": "EndpointUnreachable"},
            {"name": "db-instance-3-1", "type": "delete", "outcome": "Succeeded", "reason": "Succeeded"},
            {"name": "db-another-3-1", "type": "create"},
        ],
    )
    def test_what_it_cannot_have_made_is_not(self, last: dict[str, str]) -> None:
        step = plan(told(observed(instance=instance()), lastOperation=last), NOW).step

        assert isinstance(step, StartOperation)
        assert not step.spec.recoverable

        world = told(observed(instance=instance(), database=database(deleted=True)), lastOperation=last)

        assert isinstance(plan(world, NOW).step, DeleteInstance)


class TestWhatIsNotOurs:
    """A database that was there before is neither reset nor deleted, however often it is asked for."""

    def test_asking_twice_for_what_existed_before_does_not_make_it_recoverable(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.ALREADY_EXISTS)

        decided = plan(world, NOW + timedelta(hours=1))

        assert isinstance(decided.step, StartOperation)
        assert not decided.step.spec.recoverable

    def test_giving_up_on_what_existed_before_deletes_nothing(self) -> None:
        world = after(observed(instance=instance()), "create", Reason.ALREADY_EXISTS)

        assert isinstance(plan(replace(world, database=database(deleted=True)), NOW).step, DeleteInstance)

    def test_no_password_is_shared_with_the_database_that_had_the_claim_before(self) -> None:
        """Attempts of one sequence share a generated password."""
        world = after(observed(instance=instance()), "create", Reason.JOB_LOST)
        world = replace(world, entries=tuple(replace(e, database_uid="former") for e in world.entries))

        decided = plan(world, NOW)

        assert isinstance(decided.step, StartOperation)
        assert (decided.step.spec.sequence, decided.step.spec.attempt) == (2, 1)

    def test_a_class_that_means_another_database_by_now_gives_no_operation_to_those_that_exist(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        other = database_class(generation=2, operations=ROTATING, identity="{{ .Metadata.name }}")

        assert plan(replace(world, cls=other), NOW).step is None

    def test_a_namespace_that_was_made_anew_does_not_inherit_what_its_predecessor_left(self) -> None:
        later = Namespace.parse({"metadata": metadata("team-a", creationTimestamp=time(NOW))})

        decided = plan(observed(namesake=instance("Released", uid="former"), namespace=later), NOW)

        assert decided.step is None
        assert verdict(decided) == (False, ConditionReason.NAME_TAKEN)
        assert decided.verdict is not None
        assert "removing spec.claimRef of DatabaseInstance db-instance" in decided.verdict.message

    def test_it_does_once_an_administrator_handed_it_over(self) -> None:
        later = Namespace.parse({"metadata": metadata("team-a", creationTimestamp=time(NOW))})
        cleared = replace(instance("Released"), claim=None)

        assert isinstance(plan(observed(namesake=cleared, namespace=later), NOW).step, AdoptInstance)


class TestForgottenOperations:
    """The ledger is kept for a while only, and anybody with the right may delete from it."""

    def test_a_delete_is_called_though_the_create_is_forgotten(self) -> None:
        world = observed(database=database(deleted=True), instance=instance("Deleting"))
        world = after(world, "delete", Reason.PROCEDURE_FAILED)

        assert started(plan(world, NOW + timedelta(hours=1))) == ("delete", "")

    def test_a_bound_database_without_operations_is_left_alone(self) -> None:
        decided = plan(observed(instance=instance("Bound")), NOW)

        assert decided.step is None
        assert verdict(decided) == (True, "Provisioned")

    def test_numbers_count_on_from_what_the_status_tells(self) -> None:
        world = replace(bound({"dbaas.bedag.ch/rotate": "x"}), entries=())
        decided = plan(told(world, lastOperation={"name": "db-instance-7-2"}), NOW)

        assert isinstance(decided.step, StartOperation)
        assert (decided.step.spec.sequence, decided.step.spec.attempt) == (8, 1)

    def test_a_restored_claim_without_operations_is_retained(self) -> None:
        decided = plan(observed(database=None, instance=instance()), NOW)

        assert isinstance(decided.step, SetPhase)
        assert decided.step.phase == "Released"

    def test_an_operation_that_no_claim_waits_for_is_closed(self) -> None:
        """A backup restores Operations without their outcome; each would keep a slot of its endpoint for ever."""
        world = after(observed(instance=instance("Bound")), "create", Reason.SUCCEEDED)
        stray = replace(entry_of(world), instance_uid="before the restore")
        world = replace(world, entries=(*world.entries, stray))

        decided = plan(world, NOW)

        assert isinstance(decided.step, ReportLost)
        assert decided.step.entry == stray
        assert plan(replace(world, jobs={stray.name: job(stray.name)}), NOW).step is None


class TestAbandoning:
    def test_a_job_under_way_is_told_first_that_nobody_waits_for_it(self) -> None:
        world = after(observed(instance=instance("Bound")), "create", None)
        gone = annotated(database(deleted=True), "dbaas.bedag.ch/abandon", "")
        world = replace(world, database=gone, jobs={world.entries[0].name: job(world.entries[0].name)})

        decided = plan(world, NOW)

        assert isinstance(decided.step, ReportLost)
        assert decided.step.reason is Reason.OPERATION_SUPERSEDED

    def test_an_administrator_abandons_a_claim_whose_database_is_gone(self) -> None:
        world = after(observed(instance=instance("Deleting")), "create", Reason.SUCCEEDED)
        held = annotated(world.instance, "dbaas.bedag.ch/abandon", "")

        assert isinstance(plan(replace(world, database=None, instance=held), NOW).step, DeleteInstance)

    def test_a_database_that_waits_for_a_former_one_can_be_deleted(self) -> None:
        waiting = observed(database=database(deleted=True), former=instance("Deleting", uid="former"))

        assert isinstance(plan(waiting, NOW).step, RemoveFinalizer)


class TestFailedRotations:
    def test_the_status_names_an_empty_annotation_as_served_only_once_it_is_gone(self) -> None:
        """Else one that cannot be removed would be served again and again."""
        done = rotated(bound({"dbaas.bedag.ch/rotate": ""}), "annotation:")
        cleared = rotated(bound(), "annotation:")
        assert done.database is not None
        assert cleared.database is not None

        assert rotate_handled(done, done.database) is None
        assert rotate_handled(cleared, cleared.database) == cleared.entries[-1].name

    def test_the_former_databases_empty_annotation_does_not_count_for_the_next(self) -> None:
        done = rotated(bound({"dbaas.bedag.ch/rotate": ""}), "annotation:")
        former = tuple(replace(entry, database_uid="former") for entry in done.entries)
        world = after(replace(done, entries=former), "create", Reason.SUCCEEDED)

        assert started(plan(world, NOW)) == ("rotate", "annotation:")

    def test_another_value_takes_the_place_of_one_that_ran_nothing(self) -> None:
        world = bound({"dbaas.bedag.ch/rotate": "two"})
        world = rotated(world, "annotation:one", Reason.ENDPOINT_UNREACHABLE, called=False)

        decided = plan(world, NOW)

        assert started(decided) == ("rotate", "annotation:two")

    def test_one_that_ran_nothing_is_tried_again_with_backoff_while_it_is_wanted(self) -> None:
        world = rotated(
            bound({"dbaas.bedag.ch/rotate": "x"}), "annotation:x", Reason.ENDPOINT_UNREACHABLE, called=False
        )

        waiting = plan(world, NOW)

        assert waiting.step is None
        assert verdict(waiting) == (True, ConditionReason.ROTATION_FAILED)
        assert waiting.look_again is not None
        assert started(plan(world, waiting.look_again)) == ("rotate", "annotation:x")

    def test_what_failed_stays_said_while_the_next_attempt_runs(self) -> None:
        """Else every attempt would be two events."""
        world = rotated(bound({"dbaas.bedag.ch/rotate": "x"}), "annotation:x", Reason.PROCEDURE_FAILED)
        again = replace(entry_of(world, "rotate"), request="annotation:x", sequence=2, attempt=2)
        running = replace(world, entries=(*world.entries, again), jobs={again.name: job(again.name)})

        assert plan(running, NOW).verdict == plan(world, NOW).verdict

    def test_a_missing_secret_is_not_called_ready_while_it_is_written_again(self) -> None:
        world = replace(bound(), secret_missing_after=1)
        world = after(world, "create", None)

        assert verdict(plan(world, NOW)) == (False, ConditionReason.PROVISIONING)

    def test_a_missing_secret_is_written_again_though_a_rotation_failed(self) -> None:
        failed = rotated(bound(), "annotation:x", Reason.ENDPOINT_UNREACHABLE, called=False)
        world = replace(failed, secret_missing_after=1)

        assert started(plan(world, NOW)) == ("create", "missing-secret")

    def test_a_rotation_that_cannot_be_served_for_want_of_its_endpoint_says_so(self) -> None:
        world = replace(bound({"dbaas.bedag.ch/rotate": "x"}), endpoint=None, cls=None)

        assert verdict(plan(world, NOW)) == (True, ConditionReason.ROTATION_FAILED)
