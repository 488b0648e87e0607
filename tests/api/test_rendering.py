"""What a Database makes of its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.engines import ENGINES
from api.identity import normalise, too_long
from api.kinds import Database, DatabaseClass, DatabaseEndpoint
from api.rendering import (
    IdentityError,
    database_faults,
    identity_limit_applies,
    instance_name_for,
    render_call,
    render_identity,
    render_secret_format,
    request_faults,
    template_values,
)
from api.templates import Reference, Template, TemplateError, Values

CREATE = {
    "name": "{{ .Metadata.name }}",
    "namespace": "{{ .Metadata.namespace }}",
    "size": "{{ .Params.size }}",
    "password": "{{ .Generated.password }}",
    "id": "{{ .Operation.id }}",
    "uid": "{{ .Metadata.uid }}",
}
anything = st.text(max_size=12)


def a_class(
    create: Mapping[str, str] = CREATE,
    *,
    driver: str = "postgres",
    delete: Mapping[str, str] | None = None,
    **spec: Any,
) -> DatabaseClass:
    operations: dict[str, Any] = {"create": {"name": "create_db", "inputs": create, "timeout": "90s"}}
    if delete is not None:
        operations["delete"] = {"name": "delete_db", "inputs": delete}
    manifest = {"metadata": {"name": "small"}, "spec": {"driver": driver, "operations": operations, **spec}}
    return DatabaseClass.parse(manifest)


def a_database(name: str = "shop", namespace: str = "team-a", **params: str) -> Database:
    metadata = {"name": name, "namespace": namespace, "uid": "0c7e", "labels": {"team": "blue"}}
    return Database.parse({"metadata": metadata, "spec": {"endpoint": "eu", "params": params}})


def an_endpoint(**spec: Any) -> DatabaseEndpoint:
    whole = {"className": "small", "host": "db.example.org", "credentialsSecretRef": {"name": "s"}, **spec}
    return DatabaseEndpoint.parse({"metadata": {"name": "eu"}, "spec": whole})


def values(database: Database, cls: DatabaseClass) -> Values:
    return template_values(database, cls, an_endpoint())


def identity(database: Database, cls: DatabaseClass) -> str:
    return render_identity(cls, values(database, cls))


def faults(database: Database, cls: DatabaseClass) -> list[str]:
    return [str(fault) for fault in request_faults(database, cls, an_endpoint())]


@pytest.mark.parametrize(
    ("driver", "port", "database"),
    [("postgres", "5432", "postgres"), ("mariadb", "3306", ""), ("mysql", "3306", ""), ("sqlserver", "1433", "master")],
)
def test_an_endpoint_has_its_engines_port_and_database_when_it_names_none(
    driver: str, port: str, database: str
) -> None:
    cls = a_class(driver=driver)

    assert template_values(a_database(), cls, an_endpoint())["Endpoint"] == {
        "name": "eu",
        "host": "db.example.org",
        "port": port,
        "database": database,
    }
    own = template_values(a_database(), cls, an_endpoint(port=1, database="d"))["Endpoint"]
    assert (own["port"], own["database"]) == ("1", "d")


def test_parameters_have_the_classes_defaults() -> None:
    cls = a_class(params={"size": {"default": "10"}})

    assert values(a_database(), cls)["Params"] == {"size": "10"}
    assert values(a_database(size="20"), cls)["Params"] == {"size": "20"}


def test_a_call_leaves_open_only_what_the_job_alone_can_know() -> None:
    cls = a_class()
    call = render_call(cls, "create", values(a_database(size="10"), cls))

    assert call.procedure == "create_db"
    assert call.timeout.total_seconds() == 90
    assert [(argument.name, argument.template) for argument in call.arguments] == [
        ("id", Template((Reference(("Operation", "id")),))),
        ("name", Template(("shop",))),
        ("namespace", Template(("team-a",))),
        ("password", Template((Reference(("Generated", "password")),))),
        ("size", Template(("10",))),
        ("uid", Template(("0c7e",))),
    ]


def test_positional_arguments_are_in_numeric_order() -> None:
    cls = a_class({str(n): f"v{n}" for n in range(12)}, driver="mysql")

    assert [
        argument.template.literal for argument in render_call(cls, "create", values(a_database(), cls)).arguments
    ] == [f"v{n}" for n in range(12)]


@given(st.text())
def test_a_parameter_arrives_unchanged(size: str) -> None:
    cls = a_class()
    call = render_call(cls, "create", values(a_database(size=size), cls))

    assert {argument.name: argument.template.literal for argument in call.arguments}["size"] == size


def test_a_secret_format_waits_for_the_result() -> None:
    cls = a_class(secretFormat={"url": "{{ .Endpoint.host }}/{{ .Result.name | urlquery }}", "kind": "db"})

    assert render_secret_format(a_class(), values(a_database(), cls)) is None
    kind, url = render_secret_format(cls, values(a_database(), cls)) or ()
    assert (kind.name, kind.template.literal) == ("kind", "db")
    assert url.template.render({"Result": {"name": "a b"}}) == "db.example.org/a%20b"


def test_the_default_identity_joins_the_create_inputs_that_never_change() -> None:
    assert identity(a_database(size="10"), a_class()) == "shop/team-a/10"


@given(st.lists(anything, min_size=2, max_size=2), st.lists(anything, min_size=2, max_size=2))
def test_different_inputs_give_different_identities(one: list[str], other: list[str]) -> None:
    cls = a_class({"0": "{{ .Params.a }}", "1": "{{ .Params.b }}", "2": "x"})
    first, second = (identity(a_database(a=pair[0], b=pair[1]), cls) for pair in (one, other))

    assert (normalise(first) == normalise(second)) == (list(map(normalise, one)) == list(map(normalise, other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a/b", "c"), ("a", "b/c")), (("a\uff0fb", "c"), ("a", "b\uff0fc")), (("a\\", "b"), ("a", "\\b"))],
)
def test_a_separator_in_a_value_separates_nothing(one: tuple[str, str], other: tuple[str, str]) -> None:
    cls = a_class({"0": "{{ .Params.a }}", "1": "{{ .Params.b }}"})
    first, second = (identity(a_database(a=pair[0], b=pair[1]), cls) for pair in (one, other))

    assert normalise(first) != normalise(second)


def test_a_free_text_parameter_may_be_of_any_length() -> None:
    database = a_database(size="x" * 10_000)

    assert faults(database, a_class()) == []
    assert identity(database, a_class()) != identity(a_database(size="x" * 9_999 + "y"), a_class())
    assert instance_name_for(a_class(), an_endpoint(), identity(database, a_class()))


@pytest.mark.parametrize(("driver", "limit"), [("postgres", 63), ("mariadb", 64), ("sqlserver", 128)])
def test_an_identity_longer_than_an_identifier_is_refused(driver: str, limit: int) -> None:
    cls = a_class(driver=driver, identity="{{ .Params.name }}")

    assert identity(a_database(name="a", size="1"), a_class(driver=driver))
    assert identity(Database.parse({"metadata": {"name": "a"}, "spec": {"params": {"name": "n" * limit}}}), cls)
    too_long_one = Database.parse({"metadata": {"name": "a"}, "spec": {"params": {"name": "n" * (limit + 1)}}})
    with pytest.raises(IdentityError, match=f"allows {limit}; use a shorter one"):
        identity(too_long_one, cls)


def test_an_input_made_of_metadata_names_the_database_and_has_its_limit() -> None:
    cls = a_class(
        {"name": "{{ .Metadata.namespace }}-{{ .Metadata.name }}", "note": "{{ .Metadata.annotations.note }}"}
    )
    metadata = {"namespace": "n" * 40, "name": "d" * 30, "annotations": {"note": "x" * 500}}

    (fault,) = faults(Database.parse({"metadata": metadata}), cls)
    assert fault == (
        'metadata.name: spec.operations.create.inputs[name] of DatabaseClass "small" gives a name of 71 bytes, '
        "and postgres allows 63; use a shorter one"
    )
    assert faults(Database.parse({"metadata": {**metadata, "name": "d" * 22}}), cls) == []


def test_a_long_host_is_no_long_database_name() -> None:
    cls = a_class({"host": "{{ .Endpoint.host }}", "name": "{{ .Metadata.name }}"})
    endpoint = an_endpoint(host="db." + "a" * 60 + ".example.org")

    assert request_faults(a_database(), cls, endpoint) == []


@pytest.mark.parametrize("name", ["", "  ", "\u0301"])
def test_an_identity_that_names_nothing_is_refused(name: str) -> None:
    for cls in (a_class(identity="{{ .Params.name }}"), a_class({"0": "{{ .Params.name }}"})):
        database = Database.parse({"metadata": {"name": "a"}, "spec": {"params": {"name": name, "size": "1"}}})

        with pytest.raises(IdentityError, match="must name the database"):
            identity(database, cls)


@given(st.text(min_size=1, max_size=40), st.sampled_from(["postgres", "mariadb", "sqlserver"]))
def test_an_identity_from_a_template_is_the_rendered_text(name: str, driver: str) -> None:
    cls = a_class(driver=driver, identity="{{ .Params.x }}")
    database = Database.parse({"metadata": {"name": "a"}, "spec": {"params": {"x": name}}})
    if too_long(name, ENGINES[cls.driver]) or not normalise(name):
        with pytest.raises(IdentityError):
            identity(database, cls)
        return

    assert identity(database, cls) == name


def test_names_that_the_server_confuses_are_one_instance() -> None:
    cls = a_class(identity="{{ .Metadata.name }}")

    assert identity_limit_applies(cls)
    assert not identity_limit_applies(a_class())
    assert instance_name_for(cls, an_endpoint(), "Café ") == instance_name_for(cls, an_endpoint(port=5432), "cafe")
    assert instance_name_for(cls, an_endpoint(), "a" * 64) == instance_name_for(cls, an_endpoint(), "a" * 63)
    assert instance_name_for(cls, an_endpoint(), "a") != instance_name_for(cls, an_endpoint(port=5433), "a")


def test_engines_of_one_family_on_one_port_are_one_server() -> None:
    mysql, mariadb = (a_class({"0": "{{ .Metadata.name }}"}, driver=driver) for driver in ("mysql", "mariadb"))

    assert instance_name_for(mysql, an_endpoint(), "a") == instance_name_for(mariadb, an_endpoint(), "a")


def test_every_missing_value_is_reported_once_with_everything_that_needs_it() -> None:
    cls = a_class(
        {"n": "{{ .Metadata.name }}", "s": "{{ .Params.size }}", "c": "{{ .Metadata.annotations.cost }}"},
        delete={"s": "{{ .Params.size }}", "t": "{{ .Metadata.labels.tier }}"},
        secretFormat={"size": "{{ .Params.size }}{{ .Params.size }}", "r": "{{ .Result.r }}"},
    )

    assert faults(a_database(color="red"), cls) == [
        'metadata.annotations[cost]: DatabaseClass "small" needs it for operations.create.inputs[c]; '
        "add it (there is no .Metadata.annotations at all)",
        'metadata.labels[tier]: DatabaseClass "small" needs it for operations.delete.inputs[t]; '
        "add it (available are .Metadata.labels.team)",
        'spec.params.size: DatabaseClass "small" needs it for operations.create.inputs[s], '
        "operations.delete.inputs[s], secretFormat[size]; add it (available are .Params.color)",
    ]


def test_a_broken_class_is_the_fault_of_the_class() -> None:
    (fault,) = faults(a_database(), a_class({"n": "{{ if }}"}))

    assert fault.startswith('spec.endpoint: its DatabaseClass "small" is wrong: spec.operations.create.inputs[n]: ')


def test_a_missing_parameter_is_not_reported_twice() -> None:
    cls = a_class(params={"size": {}})
    found = database_faults(a_database(color="red"), cls, an_endpoint(), lambda _pattern, _value: True)

    assert [fault.path for fault in found] == ["spec.params.color", "spec.params.size"]


@given(st.dictionaries(st.sampled_from(["size", "a", "b"]), anything), st.sampled_from(["shop", "a" * 63]))
def test_what_has_no_fault_can_be_rendered_and_what_has_one_cannot(params: dict[str, str], name: str) -> None:
    cls = a_class(
        {"0": "{{ .Metadata.name }}-x", "1": "{{ .Params.a }}"},
        delete={"0": "{{ .Params.b | default `c` }}"},
        secretFormat={"size": "{{ .Params.size }}"},
    )
    database = a_database(name, **params)
    given_values = values(database, cls)

    def render_all() -> None:
        render_call(cls, "create", given_values)
        render_call(cls, "delete", given_values)
        render_secret_format(cls, given_values)
        render_identity(cls, given_values)

    if faults(database, cls):
        with pytest.raises(TemplateError):
            render_all()
    else:
        render_all()
