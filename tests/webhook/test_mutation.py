"""What the webhook writes into a Database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.labels import (
    ADOPT,
    ADOPT_REQUESTED_BY,
    DEFAULTED_PARAMS,
    FINALIZER,
    REQUESTED_BY,
    RETRY,
    RETRY_REQUESTED_BY,
    ROTATE,
    ROTATE_REQUESTED_BY,
)
from api.stamp import Stamp
from tests.webhook.builders import annotated, database, review
from webhook.mutation import mutated
from webhook.review import Request, read_review

Json = dict[str, Any]
NOW = datetime(2026, 11, 21, 10, 13, 10, tzinfo=UTC)
DEFAULTS = {"size": "small", "tier": "gold"}


def a_request(operation: str, manifest: Json, old: Json | None = None, user: str = "alice") -> Request:
    return read_review(json.dumps(review(operation, manifest, old, user=user)).encode())


def created(manifest: Json, user: str = "alice") -> Json:
    return dict(mutated(a_request("CREATE", manifest, user=user), DEFAULTS, NOW))


def updated(old: Json, new: Json, user: str = "bob") -> Json:
    return dict(mutated(a_request("UPDATE", new, old, user), {}, NOW))


def test_of_many_groups_those_that_policies_name_are_stamped() -> None:
    request = read_review(json.dumps(review("CREATE", database(), groups=[f"g{n:03}" for n in range(99)])).encode())

    assert "g098" not in stamp_of(dict(mutated(request, {}, NOW))).groups
    assert "g098" in stamp_of(dict(mutated(request, {}, NOW, {"g098"}))).groups


def stamp_of(stored: Json, key: str = REQUESTED_BY) -> Stamp:
    return Stamp.read(stored["metadata"]["annotations"][key])


def requester(stored: Json, key: str = REQUESTED_BY) -> str:
    return stamp_of(stored, key).user


def test_a_new_database_gets_its_finalizer_its_requester_and_the_defaults() -> None:
    stored = created(database(params={"size": "large"}))

    assert stored["metadata"]["finalizers"] == [FINALIZER]
    assert stored["metadata"]["annotations"].keys() == {REQUESTED_BY, DEFAULTED_PARAMS}
    assert stored["metadata"]["annotations"][DEFAULTED_PARAMS] == "tier"
    assert stored["spec"]["params"] == {"size": "large", "tier": "gold"}


def test_a_stamp_says_who_asked_when_and_in_which_review() -> None:
    asked = review("CREATE", database(), user="alice")
    asked["request"]["userInfo"]["groups"] = ["system:authenticated", "team-a"]
    stored = dict(mutated(read_review(json.dumps(asked).encode()), {}, NOW))

    assert stamp_of(stored) == Stamp("alice", ("team-a",), 0, "2026-11-21T10:13:10Z", asked["request"]["uid"])


def test_a_user_without_groups_is_stamped_too() -> None:
    no_groups: tuple[Json, ...] = ({}, {"groups": None}, {"groups": []})
    for groups in no_groups:
        asked = review("CREATE", database())
        asked["request"]["userInfo"] = {"username": "alice", **groups}

        assert stamp_of(dict(mutated(read_review(json.dumps(asked).encode()), {}, NOW))).groups == ()


def test_an_exported_object_can_be_created_again() -> None:
    """The API server refuses to create what has a resourceVersion; everything else of an export it overwrites."""
    exported = created(database())
    exported["metadata"] |= {"resourceVersion": "17", "creationTimestamp": "2026-01-01T00:00:00Z"}
    stored = created(exported, user="bob")

    assert "resourceVersion" not in stored["metadata"]
    assert requester(stored) == "bob"
    assert updated(stored, exported, user="carol")["metadata"]["resourceVersion"] == "17"


def test_a_database_without_params_gets_all_defaults() -> None:
    manifest = database()
    del manifest["spec"]["params"]

    assert created(manifest)["spec"]["params"] == DEFAULTS


def test_a_forged_requester_is_overwritten() -> None:
    stored = created(annotated(database(), {REQUESTED_BY: "root", ROTATE_REQUESTED_BY: "root"}), user="mallory")

    assert requester(stored) == "mallory"
    assert ROTATE_REQUESTED_BY not in stored["metadata"]["annotations"]


def test_the_requester_cannot_be_changed_or_removed_later() -> None:
    old = created(database())

    for forged in ({}, {REQUESTED_BY: "mallory"}):
        stored = updated(old, annotated(old, forged), user="mallory")

        assert stored["metadata"]["annotations"] == old["metadata"]["annotations"]


def test_a_database_older_than_the_webhook_gets_no_forged_requester() -> None:
    stored = updated(database(), annotated(database(), {REQUESTED_BY: "mallory"}))

    assert stored["metadata"]["annotations"] == {}


def test_who_asks_for_a_rotation_or_retry_is_stamped_each_time() -> None:
    old = created(database())
    annotations = old["metadata"]["annotations"]
    rotated = updated(old, annotated(old, {**annotations, ROTATE: "1"}), user="bob")
    retried = updated(rotated, annotated(rotated, {**rotated["metadata"]["annotations"], RETRY: "1"}), user="carol")
    untouched = updated(retried, retried, user="dave")
    again = updated(untouched, annotated(untouched, {**untouched["metadata"]["annotations"], ROTATE: "2"}), user="eve")

    assert requester(rotated, ROTATE_REQUESTED_BY) == "bob"
    assert requester(retried, RETRY_REQUESTED_BY) == "carol"
    assert requester(retried, ROTATE_REQUESTED_BY) == "bob"
    assert untouched == retried
    assert requester(again, ROTATE_REQUESTED_BY) == "eve"
    assert {requester(each) for each in (rotated, retried, untouched, again)} == {"alice"}


def test_who_asks_to_adopt_is_stamped() -> None:
    old = created(database())
    adopting = updated(old, annotated(old, {ADOPT: "true"}), user="bob")

    assert requester(adopting, ADOPT_REQUESTED_BY) == "bob"
    assert requester(created(annotated(database(), {ADOPT: "true"})), ADOPT_REQUESTED_BY) == "alice"


def test_a_stamp_goes_with_what_it_stamps() -> None:
    rotated = created(annotated(database(), {ROTATE: ""}))
    done = updated(rotated, annotated(rotated, {REQUESTED_BY: "alice", ROTATE_REQUESTED_BY: "alice"}))

    assert requester(rotated, ROTATE_REQUESTED_BY) == "alice"
    assert ROTATE_REQUESTED_BY not in done["metadata"]["annotations"]


def test_replacing_with_the_same_manifest_changes_nothing() -> None:
    manifest = database(params={"size": "large"})
    stored = created(manifest)

    assert updated(stored, manifest) == stored


def test_a_parameter_that_the_user_gave_is_not_carried() -> None:
    stored = created(database(params={"size": "large", "tier": "iron"}))

    assert updated(stored, database(params={"tier": "iron"}))["spec"]["params"] == {"tier": "iron"}


def test_an_update_gets_no_new_defaults() -> None:
    stored = updated(database(), database())

    assert stored == database()


def test_the_finalizer_comes_back_on_a_live_database_and_stays_away_from_a_dying_one() -> None:
    old = created(database())
    without = {**old, "metadata": {**old["metadata"], "finalizers": []}}
    dying = {**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}

    assert updated(old, without)["metadata"]["finalizers"] == [FINALIZER]
    assert updated(dying, without) == without


def test_nobody_gets_past_the_stamp_by_calling_an_object_dying() -> None:
    dying = annotated(database(), {REQUESTED_BY: "root"})
    dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    old = created(database())

    assert requester(created(dying, user="mallory")) == "mallory"
    assert requester(updated(old, dying)) == "alice"


def test_other_finalizers_stay() -> None:
    manifest = database()
    manifest["metadata"]["finalizers"] = ["example.com/backup"]

    assert created(manifest)["metadata"]["finalizers"] == ["example.com/backup", FINALIZER]


def test_a_shape_that_the_api_server_will_refuse_is_left_alone() -> None:
    shapes: tuple[Any, ...] = (None, [], "text")
    for spec in shapes:
        manifest = {**database(), "spec": spec}

        assert created(manifest) == manifest


PARAMS = st.dictionaries(st.sampled_from(["size", "tier", "other"]), st.sampled_from(["small", "gold", "x"]))
ANNOTATIONS = st.dictionaries(
    st.sampled_from([REQUESTED_BY, DEFAULTED_PARAMS, ROTATE, RETRY, ADOPT, ROTATE_REQUESTED_BY, "mine"]),
    st.sampled_from(["", "root", "size", "size,tier,ghost"]),
)


@given(PARAMS, ANNOTATIONS)
def test_going_through_twice_is_going_through_once(params: dict[str, str], annotations: dict[str, str]) -> None:
    once = created(annotated(database(params=params), annotations))

    assert created(once) == once
    assert updated(once, once) == once


@given(PARAMS, ANNOTATIONS, ANNOTATIONS)
def test_what_was_stamped_at_creation_outlives_every_update(
    params: dict[str, str], annotations: dict[str, str], later: dict[str, str]
) -> None:
    stored = created(annotated(database(params=params), annotations))

    changed = updated(stored, annotated(database(params=params), later), user="mallory")

    assert requester(changed) == "alice"
    assert changed["spec"]["params"] == stored["spec"]["params"]
