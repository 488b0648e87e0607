"""What controller and Job write, the other reads back as it was."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.operation import (
    MESSAGE_LIMIT,
    Call,
    Connection,
    DatabaseReference,
    InvalidOperation,
    OperationSpec,
    Owner,
    Report,
    SecretTarget,
    Server,
    Text,
    operation_name,
)
from api.reasons import Outcome, Reason
from api.stamp import Stamp
from api.templates import Pipe, Reference, Template

texts = st.text(max_size=20) | st.sampled_from(["{{ .Result.x }}", "\0", '"', "🐘", "\n"])
references = st.builds(
    Reference,
    st.sampled_from([("Operation", "id"), ("Generated", "password"), ("Result", "dsn")]),
    st.lists(st.sampled_from([Pipe("urlquery"), Pipe("trunc", -5), Pipe("default", '"}}"')]), max_size=2).map(tuple),
)
named = st.builds(Text, texts, st.builds(Template, st.lists(texts | references, max_size=4).map(tuple)))
calls = st.builds(
    Call,
    procedure=texts,
    arguments=st.lists(named, max_size=3).map(tuple),
    timeout=st.timedeltas(timedelta(), timedelta(days=1)),
)
secrets = st.builds(
    SecretTarget,
    name=texts,
    type=texts,
    format=st.none() | st.lists(named, max_size=3).map(tuple),
    credentials=st.lists(texts, max_size=2).map(tuple),
    owner=st.builds(Owner, texts, texts),
    former_uid=texts,
    returned=st.lists(texts, max_size=2).map(tuple),
)
specs = st.builds(
    OperationSpec,
    type=st.sampled_from(["create", "rotate", "delete"]),
    sequence=st.integers(1),
    attempt=st.integers(1),
    database=st.builds(DatabaseReference, texts, texts, texts),
    instance=texts,
    instance_uid=texts,
    identity=texts,
    class_name=texts,
    driver=texts,
    server=st.builds(Server, texts, texts, st.integers(1, 65535), texts, texts, texts, texts, texts),
    calls=st.lists(calls, max_size=2).map(tuple),
    secret=st.none() | secrets,
    requested_by=texts,
    basis=texts,
    generated=st.booleans(),
    request=texts,
    recoverable=st.booleans(),
    stamp=st.builds(Stamp, texts, st.lists(texts).map(tuple), st.integers(0), texts, texts),
)


def through_json(manifest: dict[str, Any]) -> dict[str, Any]:
    """As the API server would hand it over."""
    parsed: dict[str, Any] = json.loads(json.dumps(manifest))
    return parsed


@given(specs)
def test_a_job_reads_the_operation_that_the_controller_wrote(spec: OperationSpec) -> None:
    assert OperationSpec.parse(through_json(spec.manifest())) == spec


@given(named)
def test_a_text_without_references_is_plain_in_the_manifest(text: Text) -> None:
    manifest = text.manifest()

    assert ("value" in manifest) == (not text.template.references)
    assert Text.parse(through_json(manifest)) == text


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_of_the_contract_is_refused(version: int) -> None:
    with pytest.raises(InvalidOperation, match="different releases"):
        OperationSpec.parse({"version": version})


@pytest.mark.parametrize("broken", [None, [], "text", {}, {"version": "1"}, {"version": True}])
def test_what_is_no_operation_is_refused_with_its_path(broken: Any) -> None:
    with pytest.raises(InvalidOperation, match=r"^version: "):
        OperationSpec.parse(broken)


@given(specs, st.data())
def test_an_operation_with_a_part_missing_or_of_another_kind_is_refused(
    spec: OperationSpec, data: st.DataObject
) -> None:
    manifest = through_json(spec.manifest())
    key = data.draw(
        st.sampled_from(sorted(manifest.keys() - {"generated", "secret", "request", "recoverable", "stamp"}))
    )
    if data.draw(st.booleans()):
        del manifest[key]
    else:
        manifest[key] = None

    with pytest.raises(InvalidOperation, match=f"^{key}: "):
        OperationSpec.parse(manifest)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "name"),
        ({"name": "a"}, "value"),
        ({"name": "a", "value": 1}, "value"),
        ({"name": "a", "segments": {}}, "segments"),
        ({"name": "a", "segments": [{}]}, "text"),
        ({"name": "a", "segments": ["b"]}, "text"),
        ({"name": "a", "segments": [{"expression": 1}]}, "expression"),
        ({"name": "a", "segments": [{"expression": ".Values.x"}]}, "expression"),
    ],
)
def test_a_text_of_another_shape_is_refused_with_its_path(data: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidOperation, match=f"^{path}: "):
        Text.parse(data)


def test_a_timeout_that_is_no_duration_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidOperation, match=r"^timeout: 'soon' is not a duration"):
        Call.parse({"procedure": "p", "timeout": "soon"})


@given(specs)
def test_every_attempt_of_a_request_has_the_same_id_and_another_name(spec: OperationSpec) -> None:
    assert spec.id == f"{spec.instance}-{spec.sequence}"
    assert operation_name(spec.instance, spec.sequence, spec.attempt).startswith(spec.id)


def test_a_rotate_may_take_as_long_as_its_two_calls() -> None:
    call = Call("p", (), timedelta(seconds=30))
    spec = OperationSpec(
        type="rotate",
        sequence=1,
        attempt=1,
        database=DatabaseReference("team", "shop", "u"),
        instance="db-a",
        instance_uid="u",
        identity="shop",
        class_name="small",
        driver="postgres",
        server=Server("eu", "h", 5432, "postgres"),
        calls=(call, call),
        secret=None,
        requested_by="alice",
        basis="b",
    )

    assert spec.timeout == timedelta(minutes=1)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_report_carries_the_outcome_that_its_reason_decides(reason: Reason) -> None:
    report = Report(reason, "m" * 5000, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", called=True, reported_by="Job")
    manifest = report.manifest()

    assert Outcome(manifest["outcome"]) is reason.outcome
    assert len(manifest["message"]) == MESSAGE_LIMIT
    assert "connection" not in manifest


def test_a_report_names_only_the_facts_that_are_known() -> None:
    connection = Connection(server_version="15.4", tls_version="TLSv1.3")

    assert connection.manifest() == {"serverVersion": "15.4", "tlsVersion": "TLSv1.3"}
