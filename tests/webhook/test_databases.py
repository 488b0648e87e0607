"""What can be wrong with a Database."""

from __future__ import annotations

import pytest

from api.engines import Driver
from api.identity import instance_name
from api.labels import ROTATE
from tests.webhook.builders import CREATE, DELETE, WorldOf, annotated, claimed, database, database_class, endpoint
from tests.webhook.verdicts import faults, judged

PARAMETERS = {
    "size": {"enum": ["small", "large"], "default": "small"},
    "owner": {"pattern": "^[a-z]+$", "description": "the team that pays"},
    "note": {"required": False, "maxLength": 3},
}
SELECTED = {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}
BY_NAME = {"identity": "{{ .Metadata.name }}"}


def taken(identity: str) -> str:
    """The instance that claims `identity` on the server of endpoint `pg`."""
    return instance_name("postgresql", "pg.example.test", 5432, identity)


def test_a_database_with_all_that_it_needs_is_created() -> None:
    verdict = judged("CREATE", database())

    assert verdict.allowed
    assert verdict.audit == {"user": "alice", "operation": "create"}


def test_an_unknown_endpoint_is_refused_with_those_that_are_open() -> None:
    verdict = judged("CREATE", database(endpoint="nowhere"))

    assert faults(verdict) == {"spec.endpoint": 'there is no DatabaseEndpoint "nowhere"; open to this namespace: pg'}


def test_an_endpoint_without_its_class_is_refused() -> None:
    verdict = judged("CREATE", database(), world=WorldOf(_classes=[]))

    assert 'its DatabaseClass "standard" does not exist' in faults(verdict)["spec.endpoint"]


def test_an_endpoint_is_open_to_the_namespaces_that_it_selects() -> None:
    endpoints = [endpoint(allowedNamespaces=SELECTED)]
    closed = WorldOf(_endpoints=endpoints)
    opened = WorldOf(_endpoints=endpoints, _namespaces={"shop": {"team": "shop"}})

    assert judged("CREATE", database(), world=opened).allowed
    assert faults(judged("CREATE", database(), world=closed)) == {
        "spec.endpoint": 'DatabaseEndpoint "pg" is not open to namespace "shop"; '
        "no endpoint is open to this namespace; ask an administrator for one"
    }


def test_all_that_is_wrong_is_said_at_once() -> None:
    world = WorldOf(
        _endpoints=[endpoint(allowedNamespaces=SELECTED)],
        _classes=[database_class(params=PARAMETERS, operations={"create": CREATE})],
    )
    manifest = database(params={"size": "huge", "note": "long", "ghost": "1"}, deletionPolicy="Delete")

    found = faults(judged("CREATE", manifest, world=world))

    assert sorted(found) == [
        "spec.deletionPolicy",
        "spec.endpoint",
        "spec.params.ghost",
        "spec.params.note",
        "spec.params.owner",
        "spec.params.size",
    ]
    assert "the team that pays" in found["spec.params.owner"]


@pytest.mark.parametrize("owner", ["Shop", "shop\n", "shop\0"])
def test_a_parameter_must_match_its_pattern_to_the_last_character(owner: str) -> None:
    world = WorldOf(_classes=[database_class(params=PARAMETERS)])

    assert judged("CREATE", database(params={"owner": "shop"}), world=world).allowed
    assert list(faults(judged("CREATE", database(params={"owner": owner}), world=world))) == ["spec.params.owner"]


def test_a_parameter_that_only_a_template_needs_must_be_there() -> None:
    create = {"name": "dbaas.create", "inputs": {"name": "{{ .Metadata.name }}", "size": "{{ .Params.size }}"}}
    world = WorldOf(_classes=[database_class(operations={"create": create})])

    assert list(faults(judged("CREATE", database(), world=world))) == ["spec.params.size"]


def test_a_name_longer_than_the_engine_takes_is_refused() -> None:
    found = faults(judged("CREATE", database("o" * 63)))

    assert "68 bytes" in found["metadata.name"]


def test_a_name_that_another_tenant_has_is_refused_without_saying_whose() -> None:
    world = WorldOf(_classes=[database_class(**BY_NAME)], _instances=[claimed(taken("orders"), "secret-ns", "theirs")])

    verdict = judged("CREATE", database("Orders"), world=world)

    assert faults(verdict) == {
        "metadata.name": 'what it would be called on the server of endpoint "pg" is taken by '
        "a Database of another namespace; choose another one"
    }


def test_a_name_that_the_same_namespace_has_is_refused_with_whose_it_is() -> None:
    world = WorldOf(
        _classes=[database_class(identity="{{ .Params.name }}")],
        _instances=[claimed(taken("x"), "shop", "first")],
    )

    found = faults(judged("CREATE", database(params={"name": "X"}), world=world))

    assert 'taken by Database "first"' in found["spec.params.name"]


def test_a_database_takes_up_what_it_left_behind() -> None:
    own = claimed(taken("shop_orders"), "shop", "orders")

    assert judged("CREATE", database(), world=WorldOf(_instances=[own])).allowed


def test_a_closed_endpoint_says_nothing_of_who_uses_it() -> None:
    world = WorldOf(
        _endpoints=[endpoint(allowedNamespaces=SELECTED)],
        _classes=[database_class(**BY_NAME)],
        _instances=[claimed(taken("orders"), "secret-ns", "theirs")],
    )

    assert list(faults(judged("CREATE", database(), world=world))) == ["spec.endpoint"]


def test_endpoint_and_parameters_cannot_be_changed() -> None:
    old = database(params={"size": "small", "gone": "1", "kept": "x"})
    new = database(endpoint="other", params={"size": "x" * 1000, "new": "1", "kept": "x"})

    found = faults(judged("UPDATE", new, old))

    assert sorted(found) == ["spec.endpoint", "spec.params.gone", "spec.params.new", "spec.params.size"]
    assert found["spec.params.size"].startswith('cannot be changed from "small" to "xxx')
    assert len(found["spec.params.size"]) < 300


def test_what_was_right_at_creation_is_not_judged_again() -> None:
    world = WorldOf(_endpoints=[], _classes=[], _namespaces={})
    old = database(params={"size": "huge"})

    assert judged("UPDATE", annotated(old, {"note": "1"}), old, world=world).allowed
    assert judged("UPDATE", {**old, "spec": {**old["spec"], "deletionProtection": True}}, old, world=world).allowed


def test_a_deletion_policy_that_becomes_delete_needs_a_delete_operation() -> None:
    world = WorldOf(_classes=[database_class(operations={"create": CREATE})])

    assert list(faults(judged("UPDATE", database(deletionPolicy="Delete"), database(), world=world))) == [
        "spec.deletionPolicy"
    ]
    assert judged("UPDATE", database(deletionPolicy="Retain"), database(), world=world).allowed
    assert judged("UPDATE", database(deletionPolicy="Delete"), database()).allowed


def test_a_protected_database_is_not_deleted_before_its_namespace_is() -> None:
    protected = database(deletionProtection=True)
    leaving = WorldOf(_terminating=frozenset({"shop"}))
    gone = WorldOf(_namespaces={})

    refused = judged("DELETE", protected, user="mallory")

    assert "kubectl patch database orders -n shop" in faults(refused)["spec.deletionProtection"]
    assert refused.audit == {"user": "mallory", "operation": "delete"}
    assert judged("DELETE", database()).allowed
    assert judged("DELETE", protected, world=leaving).allowed
    assert judged("DELETE", protected, world=gone).allowed


def test_nothing_stops_the_update_of_a_dying_database() -> None:
    old = database(params={"size": "1"})
    new = database(params={})
    dying = {**old, "metadata": {**old["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}

    assert judged("UPDATE", new, dying).allowed
    assert not judged("UPDATE", new, old).allowed


def test_a_dry_run_tells_what_would_be_called() -> None:
    verdict = judged("CREATE", database(), dry_run=True)

    assert verdict.warnings == ("would call dbaas.create on endpoint pg (pg.example.test) for alice",)
    assert judged("CREATE", database()).warnings == ()
    assert judged("CREATE", database(endpoint="nowhere"), dry_run=True).warnings == ()


def test_a_rotation_that_the_class_cannot_do_is_warned_of() -> None:
    rotating = database_class(operations={"create": CREATE, "delete": DELETE, "rotate": CREATE})
    every = database(rotation={"every": "24h"})

    assert judged("CREATE", every, world=WorldOf(_classes=[rotating])).warnings == ()
    assert judged("CREATE", every).warnings == ("spec.rotation.every: DatabaseClass standard has no rotate operation",)
    assert len(judged("UPDATE", annotated(database(), {ROTATE: "1"}), database()).warnings) == 1


def test_a_shape_that_cannot_be_read_is_a_fault_not_a_failure() -> None:
    found = faults(judged("CREATE", database(params={"size": 1}, rotation={"every": "soon"})))

    assert sorted(found) == ["spec.params.size", "spec.rotation.every"]


def test_an_instance_is_named_as_the_controller_names_it() -> None:
    assert Driver(database_class()["spec"]["driver"]) is Driver.POSTGRES
    world = WorldOf(_classes=[database_class(**BY_NAME)], _instances=[claimed(taken("orders"), "b", "c")])

    assert not judged("CREATE", database(), world=world).allowed
    assert judged("CREATE", database("another"), world=world).allowed
