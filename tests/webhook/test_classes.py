"""What can be wrong with a DatabaseClass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webhook.builders import CREATE, DELETE, WorldOf, claimed, database_class, endpoint
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


@pytest.mark.parametrize(
    ("driver", "inputs", "path"),
    [
        ("postgres", {"0": "{{ .Metadata.name }}", "name": "x"}, "inputs"),
        ("postgres", {"0": "{{ .Metadata.name }}", "2": "x"}, "inputs"),
        ("postgres", {"0": "{{ .Metadata.name }}", "00": "x"}, "inputs"),
        ("postgres", {"1": "{{ .Metadata.name }}"}, "inputs"),
        ("mariadb", {"name": "{{ .Metadata.name }}"}, "inputs"),
        ("mysql", {"name": "{{ .Metadata.name }}"}, "inputs"),
        ("postgres", {"name": "{{ .Metadata.name }}", "e": "{{ .Result.password }}"}, "inputs[e]"),
        ("postgres", {"name": "{{ .Metadata.name }}", "e": "{{ range .Params }}"}, "inputs[e]"),
        ("postgres", {"name": "{{ .Metadata.name | printf }}"}, "inputs[name]"),
        ("postgres", {"name": "{{ .Metadata.name }}", "e": "{{ .Params.ghost }}"}, "inputs[e]"),
    ],
)
def test_inputs_are_judged_when_the_class_is_applied(driver: str, inputs: dict[str, str], path: str) -> None:
    for kind in ("create", "rotate", "delete"):
        operations = {"create": CREATE, "delete": DELETE} | {kind: {"name": "dbaas.call", "inputs": inputs}}
        if driver != "postgres":
            right = {"name": "dbaas.call", "inputs": {"0": "{{ .Metadata.name }}"}}
            operations = {"create": right, "delete": right} | {kind: operations[kind]}

        found = faults(judged("CREATE", database_class(driver=driver, operations=operations, params={})))

        assert list(found) == [f"spec.operations.{kind}.{path}"]


@pytest.mark.parametrize(
    "template",
    ["constant", "{{ .Result.name }}", "{{ .Operation.id }}", "{{ .Params.ghost }}", "{{", "{{ .Endpoint.host }}"],
)
def test_an_identity_must_tell_databases_apart(template: str) -> None:
    assert list(faults(judged("CREATE", database_class(identity=template, params={})))) == ["spec.identity"]


def test_parameters_that_were_declared_may_be_used_everywhere() -> None:
    inputs = {"name": "{{ .Metadata.name }}", "size": "{{ .Params.size }}", "also": "{{ .Parameters.size }}"}
    verdict = judged(
        "CREATE",
        database_class(
            operations={"create": {"name": "dbaas.create", "inputs": inputs}, "delete": DELETE},
            identity="{{ .Metadata.name }}_{{ .Params.size }}",
            secretFormat={"size": "{{ .Params.size }}"},
            params={"size": {}},
        ),
    )

    assert (verdict.allowed, verdict.warnings) == (True, ())


def test_parameters_that_may_be_meant_otherwise_are_warned_of_together() -> None:
    inputs = {"name": "{{ .Metadata.name }}", "size": "{{ .Params.size }}", "tier": '{{ .Params.tier | default "1" }}'}
    operations = {"create": {"name": "dbaas.create", "inputs": inputs}, "delete": DELETE}
    params = {
        "size": {"required": False, "pattern": "small|large"},
        "tier": {"required": False, "enum": ["gold", "iron!"], "pattern": "^[a-z]+$"},
        "b": {"pattern": "^x$|y"},
        "a": {"required": False, "pattern": "(?m)^x$"},
    }

    assert judged("CREATE", database_class(operations=operations, params=params)).warnings == (
        "spec.params[a, b, size].pattern: may be found in a part of the value; begin it with ^ and end it with $",
        "spec.params[tier].enum: has a value that pattern or maxLength refuses",
        "spec.params[size] is optional, has no default, and a template cannot do without it",
        "spec.params[a, b] is used by no template",
    )


def test_a_class_with_databases_stays_with_its_engine() -> None:
    used = WorldOf(_instances=[claimed("db-x", "shop", "orders")])

    refused = faults(judged("UPDATE", database_class(driver="sqlserver"), database_class(), world=used))

    assert (
        "from postgres to sqlserver while DatabaseInstance db-x (claimed by shop/orders) exist"
        in refused["spec.driver"]
    )
    assert judged("UPDATE", database_class(driver="sqlserver"), database_class()).allowed
    assert judged("UPDATE", database_class(retry={"limit": 1}), database_class(), world=used).allowed


def test_a_class_in_use_is_not_deleted() -> None:
    world = WorldOf(
        _endpoints=[endpoint(f"pg-{n}") for n in range(4)], _instances=[claimed(f"db-{n}", "a", "b") for n in range(3)]
    )

    found = faults(judged("DELETE", database_class(), world=world))

    assert found["metadata.name"] == (
        "is in use by DatabaseEndpoint pg-0, DatabaseEndpoint pg-1, DatabaseEndpoint pg-2, DatabaseEndpoint pg-3, "
        "DatabaseInstance db-0 (claimed by a/b) and 2 more; delete what uses it first"
    )
    assert judged("DELETE", database_class("unused"), world=world).allowed


def test_credentials_that_the_secret_does_not_hold_are_warned_of() -> None:
    """Their names are those of another result: an empty password would be written, and nobody would notice."""

    def warned(secret_format: dict[str, str], **spec: Any) -> tuple[str, ...]:
        return judged("CREATE", database_class(secretFormat=secret_format, **spec)).warnings

    pwd = {"password": "{{ .Result.pwd }}", "username": "{{ .Result.username }}"}

    assert warned(pwd) == ("spec.credentials[password]: spec.secretFormat uses none; lost ones go unnoticed",)
    assert warned(pwd, credentials=["pwd", "token"]) == ()
    assert warned(pwd, credentials=[]) == ()
    assert warned({"password": "{{ .Generated.password }}", "username": "{{ .Result.username }}"}) == ()
    assert warned({"host": "{{ .Endpoint.host }}"}) == ()
