"""What can be wrong with a DatabaseClass."""

from __future__ import annotations

from tests.webhook.builders import CREATE, WorldOf, claimed, database_class, endpoint
from tests.webhook.verdicts import faults, judged


def broken(template: str = "{{ if .X }}") -> dict[str, object]:
    return {"create": {"name": "dbaas.create", "inputs": {"name": template}}}


def test_a_class_that_compiles_is_created() -> None:
    verdict = judged("CREATE", database_class())

    assert verdict.allowed
    assert verdict.warnings == ()


def test_templates_keys_and_patterns_are_judged_when_the_class_is_applied() -> None:
    params = {
        "a": {"pattern": "("},
        "b": {"pattern": "^[a-z]+$", "default": "1"},
        "c": {"pattern": "^[a-z]+$", "default": "x"},
    }
    found = faults(judged("CREATE", database_class(operations=broken(), params=params, secretFormat={"k": "{{ x }}"})))

    assert sorted(found) == [
        "spec.operations.create.inputs[name]",
        "spec.params[a].pattern",
        "spec.params[b].default",
        "spec.secretFormat[k]",
    ]
    assert found["spec.params[a].pattern"] == "is no RE2 pattern: missing ): ("


def test_only_what_an_update_brings_is_held_against_it() -> None:
    old = database_class(operations=broken())
    labelled = {**old, "metadata": {"name": "standard", "labels": {"a": "b"}}}
    worse = database_class(operations=broken(), secretFormat={"k": "{{ x }}"})

    assert judged("UPDATE", labelled, old).allowed
    assert list(faults(judged("UPDATE", worse, old))) == ["spec.secretFormat[k]"]


def test_what_may_be_meant_otherwise_is_warned_of_once() -> None:
    bare = database_class(operations={"create": CREATE})
    del bare["spec"]["identity"]

    warnings = judged("CREATE", bare).warnings

    assert [warning.split()[0] for warning in warnings] == ["spec.identity", "spec.operations.delete"]
    assert all(len(warning) <= 120 for warning in warnings)
    assert judged("UPDATE", bare, bare).warnings == ()


def test_a_class_in_use_is_not_deleted() -> None:
    world = WorldOf(
        _endpoints=[endpoint(f"pg-{n}") for n in range(4)], _instances=[claimed(f"db-{n}", "a", "b") for n in range(3)]
    )

    found = faults(judged("DELETE", database_class(), world=world))

    assert found["metadata.name"] == (
        "is in use by DatabaseEndpoint pg-0, DatabaseEndpoint pg-1, DatabaseEndpoint pg-2, DatabaseEndpoint pg-3, "
        "DatabaseInstance db-0 and 2 more; delete what uses it first"
    )
    assert judged("DELETE", database_class("unused"), world=world).allowed
