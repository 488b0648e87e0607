"""What is wrong with a DatabaseClass is said when it is applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.classes import argument_name, class_faults, sorted_inputs
from api.kinds import DatabaseClass

INPUTS = {"k8sName": "{{ .Metadata.name }}"}


def faults(spec: Mapping[str, Any], *, driver: str = "postgres", inputs: Mapping[str, str] | None = None) -> list[str]:
    create = {"name": "create_db", "inputs": INPUTS if inputs is None else inputs}
    whole = {"driver": driver, "operations": {"create": create}, **spec}
    return [str(fault) for fault in class_faults(DatabaseClass.parse({"metadata": {"name": "small"}, "spec": whole}))]


def procedure_faults(name: str, driver: str) -> list[str]:
    inputs = {"0": "{{ .Metadata.name }}"}
    return faults({"operations": {"create": {"name": name, "inputs": inputs}}}, driver=driver)


def test_a_whole_class_is_without_fault() -> None:
    spec = {
        "operations": {
            "create": {
                "name": "dbaas.create_db",
                "inputs": {
                    "name": "{{ .Metadata.name }}",
                    "size": "{{ .Params.size }}",
                    "p": "{{ .Generated.password }}",
                },
            },
            "delete": {"name": "dbaas.delete_db", "inputs": {"0": "{{ .Metadata.name }}", "1": "{{ .Operation.id }}"}},
            "rotate": {"name": '"Rotate ""it"""'},
        },
        "identity": "{{ .Metadata.namespace }}-{{ .Metadata.name }}",
        "secretFormat": {"dsn": "postgres://{{ .Result.username }}@{{ .Endpoint.host }}", "tls.crt": "x"},
        "params": {"size": {"enum": ["1", "2"], "default": "1"}},
    }

    assert faults(spec) == []


def test_every_template_is_judged_at_its_place() -> None:
    found = faults(
        {"identity": "{{ .Operation.id }}", "secretFormat": {"dsn": "{{ .Result", "ok": "{{ .Result.x }}"}},
        inputs={"a": "{{ .Result.x }}", "b": "{{ if }}", "c": "{{ .Metadata.name }}"},
    )

    assert [line.split(": ")[0] for line in found] == [
        "spec.operations.create.inputs[a]",
        "spec.operations.create.inputs[b]",
        "spec.identity",
        "spec.secretFormat[dsn]",
    ]


def test_create_is_required() -> None:
    assert faults({"operations": {"delete": {"name": "d"}}}) == [
        "spec.operations.create: is required; name the procedure that creates a database"
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("0 name", "mixes positions and names"),
        ("0 2", "a gap"),
        ("1 2", "a gap"),
        ("-1 0", "a gap"),
        ("0 00", "the same position twice"),
    ],
)
def test_positions_run_from_zero_without_gap_duplicate_or_name(keys: str, words: str) -> None:
    (fault,) = faults({}, inputs=dict.fromkeys(keys.split(), "{{ .Metadata.name }}"))

    assert fault.startswith("spec.operations.create.inputs: ")
    assert words in fault


@pytest.mark.parametrize("driver", ["mysql", "mariadb"])
def test_mariadb_and_mysql_take_positions_only(driver: str) -> None:
    (fault,) = faults({}, driver=driver)

    assert f"{driver} knows positions only" in fault
    assert faults({}, driver=driver, inputs={"0": "{{ .Metadata.name }}"}) == []


@pytest.mark.parametrize(
    ("key", "words"),
    [(" ", "empty name"), ("a\0b", "control character"), ("n" * 64, "64 bytes long; postgres allows 63")],
)
def test_an_argument_name_is_one_that_the_engine_takes(key: str, words: str) -> None:
    (fault,) = faults({}, inputs={key: "{{ .Metadata.name }}"})

    assert words in fault


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        ("create_db", "postgres"),
        ("dbaas.create_db", "postgres"),
        ('"My Schema"."create.db"', "postgres"),
        ("schöma.p$1", "postgres"),
        ('"' + "p" * 63 + '"', "postgres"),
        ("dbaas.`create db`", "mariadb"),
        ("sp_create", "sqlserver"),
        ("[master].[dbo].[sp ]]create]", "sqlserver"),
        ('master."dbo".sp_create', "sqlserver"),
    ],
)
def test_a_procedure_name_may_be_qualified_and_quoted_as_the_engine_does(name: str, driver: str) -> None:
    assert procedure_faults(name, driver) == []


@pytest.mark.parametrize(
    ("name", "driver", "words"),
    [
        ("", "postgres", "is empty"),
        ("  ", "postgres", "is empty"),
        ("a\0", "postgres", "control character"),
        ("a\n", "postgres", "control character"),
        ("a.b.c", "postgres", "write procedure or schema.procedure"),
        ("a.b.c.d", "sqlserver", "database.schema.procedure"),
        ("a..b", "sqlserver", "no procedure name"),
        (".a", "postgres", "no procedure name"),
        ("create_db(text)", "postgres", "without arguments"),
        ("a; drop table b", "postgres", "no procedure name"),
        ('"unclosed', "postgres", "no procedure name"),
        ('""', "postgres", "no procedure name"),
        ("[a]", "postgres", "no procedure name"),
        ("p" * 64, "postgres", "64 bytes long"),
        ("dbo." + "p" * 129, "sqlserver", "129 UTF-16 units long"),
    ],
)
def test_what_is_no_procedure_name_is_refused(name: str, driver: str, words: str) -> None:
    (fault,) = procedure_faults(name, driver)

    assert fault.startswith("spec.operations.create.name: ")
    assert words in fault


def test_a_used_parameter_is_declared_when_any_is() -> None:
    inputs = {"a": "{{ .Params.size }}{{ .Parameters.color }}"}

    assert faults({}, inputs=inputs) == []
    assert faults({"params": {"size": {}}}, inputs=inputs) == [
        "spec.operations.create.inputs[a]: .Params.color is not declared in spec.params (declared: size); declare it"
    ]


def test_a_default_obeys_its_own_rule() -> None:
    assert faults({"params": {"size": {"default": "large", "enum": ["s", "m"], "maxLength": 3}}}) == [
        'spec.params[size].default: is not an allowed value; allowed are "s", "m"',
        "spec.params[size].default: is 5 characters long; at most 3 are allowed",
    ]


@pytest.mark.parametrize("key", ["", "a b", "a/b", "ä", "x" * 254, "..", "a\n"])
def test_a_secret_format_key_is_a_key_that_a_secret_takes(key: str) -> None:
    (fault,) = faults({"secretFormat": {key: "x"}})

    assert fault.startswith(f"spec.secretFormat[{key}]: is no key of a Secret")


def test_a_credential_has_a_name() -> None:
    assert faults({"credentials": ["password", ""]}) == [
        "spec.credentials[1]: is empty; name a key of the procedure's result"
    ]


@pytest.mark.parametrize(
    "inputs",
    [{}, {"a": "constant"}, {"a": "{{ .Operation.id }}"}, {"a": "{{ .Metadata.uid }}"}, {"a": "{{ .Endpoint.host }}"}],
)
def test_a_class_whose_databases_would_all_be_one_is_refused(inputs: dict[str, str]) -> None:
    (fault,) = faults({}, inputs=inputs)

    assert fault.startswith("spec.identity: is needed, because no create input names the database")
    assert faults({"identity": "{{ .Metadata.name }}"}, inputs=inputs) == []


def test_an_identity_that_names_nothing_is_refused() -> None:
    (fault,) = faults({"identity": "shop"})

    assert fault.startswith("spec.identity: is the same for every Database")


@given(st.integers(0, 40))
def test_positional_inputs_are_arguments_in_numeric_order(count: int) -> None:
    inputs = {str(number): "x" for number in reversed(range(count))}

    assert [key for key, _ in sorted_inputs(inputs)] == [str(number) for number in range(count)]


def test_one_position_has_one_name() -> None:
    assert [argument_name(key) for key in ("0", "01", "+2", "name")] == ["0", "1", "2", "name"]
