"""What expressions may read: as much as there is, and nothing that there is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from api.kinds import DatabaseClass, DatabaseEndpoint
from api.schemas import SPECS
from policy.expressions import VARIABLES
from policy.question import Peer, Question
from policy.vocabulary import ANYTHING, FIELDS, unknown_fields
from tests.webhook.builders import CREATE, DELETE, database, database_class, endpoint


class Nobody:
    def in_namespace(self) -> list[Peer]:
        return []

    on_endpoint = in_namespace


def given() -> Mapping[str, Any]:
    """The variables of a request, with everything in them that there can be."""
    operations = {"create": CREATE, "rotate": CREATE, "delete": DELETE}
    question = Question(
        operations=frozenset({"UPDATE"}),
        name="orders",
        namespace="shop",
        user="alice",
        groups=(),
        dry_run=False,
        object=database(),
        old=database(),
        labels={},
        endpoint=DatabaseEndpoint.parse(endpoint(port=5432, database="postgres", tls={"serverName": "pg"})),
        cls=DatabaseClass.parse(database_class(operations=operations, deletionPolicy="Delete", params={"size": {}})),
        usage=Nobody(),
    )
    return question.variables(question.object, counted=True)


def described(value: Any, fields: Mapping[str, Any]) -> Any:
    """The part of a value that `fields` describe, as fields."""
    if not fields:
        return ANYTHING
    return {name: described(item, fields.get(name, ANYTHING)) for name, item in value.items()}


@pytest.mark.parametrize("variable", sorted(set(VARIABLES) - {"object", "oldObject"}))
def test_the_fields_of_a_variable_are_those_that_it_is_given(variable: str) -> None:
    assert described(given()[variable], FIELDS[variable]) == FIELDS[variable]


def test_the_fields_of_a_database_are_those_of_its_schema() -> None:
    names = {field.data_key or name for name, field in SPECS["Database"]().fields.items()}

    assert FIELDS["object"]["spec"].keys() == names
    assert FIELDS["oldObject"] == FIELDS["object"]
    assert FIELDS.keys() == set(VARIABLES)


@pytest.mark.parametrize(
    "expression",
    [
        "object.spec.params.anything.below == 'x' && object.metadata.labels.team == 'a'",
        "object.?spec.?rotation.?every.hasValue() || object.spec[?'rotatoin'].hasValue()",
        "object.spec.endpoint.startsWith('a') && object.metadata.name.matches('object.spec.nope')",
        '\'object.nope\' == "class.nope" || r\'\\\' == """usage.nope\n"""  // endpoint.nope',
        "request.userInfo.groups.exists(object, object.nope == 'x')",
        "object.spec.params.all(usage, endpoint, usage.nope == endpoint.nope)",
        "has(class.spec.operations.rotate) && endpoint.spec.tls.mode == 'VerifyFull' && usage.namespace < 3",
        "my.object.nope == 1 || objects.nope == 1",
    ],
)
def test_what_may_be_meant_is_let_be(expression: str) -> None:
    assert list(unknown_fields(expression)) == []


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("usage.namespaces < 3", "line 1, column 7: usage has no namespaces; it has endpoint, namespace"),
        (
            "true &&\n !has(object . metadata . label)",
            "line 2, column 27: object.metadata has no label; it has annotations",
        ),
        (
            "object.?spec.?roatation.hasValue()",
            "line 1, column 15: object.spec has no roatation; it has deletionPolicy",
        ),
        (
            "endpoint.spec.credentials.name == 'x'",
            "endpoint.spec has no credentials; it has className",
        ),
        ("class.spec.inputs.size == 'x'", "class.spec has no inputs; it has credentials, deletionPolicy"),
        ("request.kind.kind == 'Database'", "request has no kind; it has dryRun, name"),
        ("'a' != '' && oldObject.Spec.endpoint == ''", "line 1, column 24: oldObject has no Spec; it has"),
    ],
)
def test_what_there_is_not_is_named_with_its_place_and_what_there_is(expression: str, said: str) -> None:
    (found,) = unknown_fields(expression)

    assert said in found
