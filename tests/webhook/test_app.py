"""The webhook over HTTP, without a server."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from api.kinds import DatabaseEndpoint
from api.labels import DEFAULTED_PARAMS, FINALIZER, REQUESTED_BY
from api.stamp import Stamp
from kube.errors import Unavailable
from tests.webhook.builders import WorldOf, annotated, database, database_class, endpoint, patched, review
from webhook.app import BODY_LIMIT, Dependencies, create_app
from webhook.judgement import Judge
from webhook.metrics import Metrics
from webhook.review import WARNING_LINES

Json = dict[str, Any]


NOW = datetime(2026, 11, 21, 10, 13, 10, tzinfo=UTC)


class SilentWorld(WorldOf):
    """A world whose API server does not answer."""

    def endpoint(self, name: str) -> DatabaseEndpoint | None:
        raise Unavailable("the API server cannot be reached")


def serving(world: WorldOf, unready: str = "") -> FlaskClient:
    return create_app(Dependencies(Judge(world, clock=lambda: NOW), Metrics(), lambda: unready)).test_client()


def stamp(user: str) -> str:
    return Stamp.of(user, (), "2026-11-21T10:13:10Z", review("CREATE", database())["request"]["uid"]).text()


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return serving(WorldOf(_classes=[database_class(params={"size": {"default": "small"}})]))


def response_of(answer: TestResponse) -> Json:
    assert answer.status_code == 200, answer.text
    body: Json = answer.get_json()
    assert (body["apiVersion"], body["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: Json = body["response"]
    return response


def test_a_new_database_is_patched_and_then_allowed(client: FlaskClient) -> None:
    asked = review("CREATE", database())
    mutation = response_of(client.post("/mutate", json=asked))
    stored = patched(database(), mutation)
    validation = response_of(client.post("/validate", json=review("CREATE", stored)))

    assert mutation["uid"] == asked["request"]["uid"]
    assert mutation["patchType"] == "JSONPatch"
    assert json.loads(b64decode(mutation["patch"])) == [
        {
            "op": "add",
            "path": "/metadata/annotations",
            "value": {REQUESTED_BY: stamp("alice"), DEFAULTED_PARAMS: "size"},
        },
        {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]},
        {"op": "add", "path": "/spec/params/size", "value": "small"},
    ]
    assert validation == {
        "uid": asked["request"]["uid"],
        "allowed": True,
        "auditAnnotations": {"user": "alice", "operation": "create"},
    }
    assert mutation["auditAnnotations"] == {"review": asked["request"]["uid"]}


def test_an_object_that_needs_nothing_gets_no_patch(client: FlaskClient) -> None:
    stored = patched(database(), response_of(client.post("/mutate", json=review("CREATE", database()))))

    assert "patch" not in response_of(client.post("/mutate", json=review("CREATE", stored)))
    assert "patch" not in response_of(client.post("/mutate", json=review("UPDATE", stored, stored)))


def test_a_refusal_is_invalid_with_every_cause(client: FlaskClient) -> None:
    old = database(params={"size": "small"})
    response = response_of(client.post("/validate", json=review("UPDATE", database(endpoint="x"), old)))

    status = response["status"]
    assert not response["allowed"]
    assert (status["code"], status["reason"], status["status"]) == (422, "Invalid", "Failure")
    assert {**status["details"], "causes": None} == {
        "name": "orders",
        "group": "dbaas.bedag.ch",
        "kind": "Database",
        "causes": None,
    }
    assert [cause["field"] for cause in status["details"]["causes"]] == ["spec.endpoint", "spec.params.size"]
    assert {cause["reason"] for cause in status["details"]["causes"]} == {"FieldValueInvalid"}
    for cause in status["details"]["causes"]:
        assert f"{cause['field']}: {cause['message']}" in status["message"]


def test_warnings_are_short(client: FlaskClient) -> None:
    asked = review("CREATE", database(), user="u" * 200, dry_run=True)

    warnings = response_of(client.post("/validate", json=asked))["warnings"]
    endless = response_of(client.post("/validate", json=review("CREATE", database(), user="u " * 999, dry_run=True)))

    assert all(len(warning) <= 120 for warning in (*warnings, *endless["warnings"]))
    assert warnings[0].startswith("would call dbaas.create on endpoint pg")
    assert "".join(warnings).replace("… ", "").endswith("u" * 200)
    assert len(endless["warnings"]) == WARNING_LINES


def test_an_unknown_endpoint_does_not_stop_the_stamp(client: FlaskClient) -> None:
    stored = patched(database(), response_of(client.post("/mutate", json=review("CREATE", database(endpoint="x")))))

    assert stored["metadata"]["annotations"] == {REQUESTED_BY: stamp("alice")}


@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_when_the_api_server_is_silent_nothing_is_allowed(path: str) -> None:
    response = response_of(serving(SilentWorld()).post(path, json=review("CREATE", database())))

    assert not response["allowed"]
    assert response["status"]["code"] == 503
    assert "try again" in response["status"]["message"]


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "the body is not JSON in UTF-8"),
    (b"{", "the body is not JSON in UTF-8"),
    (b"\xff", "the body is not JSON in UTF-8"),
    (b'"\\ud800"', "the body is not JSON in UTF-8"),
    ('{"a": "\\ud800"}'.encode("utf-16"), "the body is not JSON in UTF-8"),
    (b"\xef\xbb\xbf{}", "the body is not JSON in UTF-8"),
    (b'{"a": NaN}', "the body is not JSON in UTF-8"),
    (b'{"a": 1, "b": {"c": 1, "\\u0063": 2}}', "the body has a key twice in one object"),
    (b"[" * 100_000, "the body is not JSON in UTF-8"),
    (b"[]", "this is no AdmissionReview: Invalid input type."),
    (b"{}", "this is no AdmissionReview: apiVersion: Missing data for required field."),
]


@pytest.mark.parametrize(("body", "sentence"), MALFORMED)
def test_what_is_no_review_is_told_so_in_a_sentence(client: FlaskClient, body: bytes, sentence: str) -> None:
    answer = client.post("/validate", data=body, content_type="application/json")

    assert (answer.status_code, answer.text.strip()) == (400, sentence)


def test_a_review_of_something_else_is_told_so(client: FlaskClient) -> None:
    of_pods = review("CREATE", {**database(), "kind": "Pod"})
    other_group = review("CREATE", database())
    other_group["request"]["kind"]["group"] = "apps"
    nothing = review("CREATE", database())
    nothing["request"]["object"] = None
    listed = review("CREATE", database())
    listed["request"]["object"] = []
    unlabelled = review("CREATE", {**database(), "metadata": {**database()["metadata"], "labels": []}})

    for asked, words in (
        (of_pods, "is none of Database"),
        (other_group, "only objects of"),
        (nothing, "object"),
        (listed, "request.object: Invalid input type."),
        (unlabelled, "request.object.metadata.labels: Not a valid mapping type."),
    ):
        answer = client.post("/validate", json=asked)

        assert answer.status_code == 400
        assert words in answer.text


def test_only_json_of_a_bearable_size_is_read(client: FlaskClient) -> None:
    large = b" " * (BODY_LIMIT + 1)

    assert client.post("/validate", data=large, content_type="application/json").status_code == 413
    assert client.post("/validate", data=b"{}", content_type="text/plain").status_code == 415
    assert client.get("/validate").status_code == 405
    assert client.get("/nowhere").status_code == 404


def test_probes_and_metrics_answer(client: FlaskClient) -> None:
    client.post("/validate", json=review("CREATE", database(endpoint="x")))
    metrics = client.get("/metrics").text

    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    assert (
        'dbaas_webhook_reviews_total{kind="Database",operation="CREATE",verdict="denied",webhook="validate"}' in metrics
    )
    assert 'dbaas_webhook_review_duration_seconds_count{webhook="validate"}' in metrics


def test_readiness_says_what_is_missing() -> None:
    answer = serving(WorldOf(), unready="waiting for the certificate's Secret").get("/readyz")

    assert (answer.status_code, answer.text) == (503, "waiting for the certificate's Secret\n")


def test_every_decision_is_one_audit_line_without_values(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="webhook"):
        client.post("/validate", json=review("CREATE", database(params={"ghost": "its-value"}), user="mallory"))

    (record,) = caplog.records
    fields = vars(record)
    assert record.getMessage() == "reviewed"
    assert (fields["user"], fields["namespace"], fields["object"]) == ("mallory", "shop", "orders")
    assert (fields["allowed"], fields["faults"]) == (False, ["spec.params.ghost"])
    assert "its-value" not in str(fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = (
    "metadata spec name namespace uid labels annotations finalizers endpoint params rotation every deletionPolicy "
    "deletionProtection deletionTimestamp driver operations create inputs tls caBundle identity className host size "
    "generation creationTimestamp credentialsSecretRef allowedNamespaces pattern status"
)
KEYS = st.sampled_from(WORDS.split())
KEYED = st.recursive(JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=4), max_leaves=10)
RIGHT = {"Database": database(), "DatabaseClass": database_class(), "DatabaseEndpoint": endpoint()}


@st.composite
def manifests(draw: st.DrawFn, kind: str) -> Json:
    """A right object in which some things are wrong."""
    manifest: Json = json.loads(json.dumps(RIGHT[kind]))
    for part in ("metadata", "spec"):
        if draw(st.booleans()):
            manifest[part] |= draw(st.dictionaries(KEYS, KEYED, max_size=2))
        elif draw(st.integers(0, 9)) == 0:
            manifest[part] = draw(JSON)
    return manifest


@st.composite
def reviews(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(sorted(RIGHT)))
    operation = draw(st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT"]))
    asked = review(operation, RIGHT[kind])
    asked["request"]["object"] = None if operation == "DELETE" else draw(manifests(kind))
    asked["request"]["oldObject"] = None if operation == "CREATE" else draw(manifests(kind))
    if draw(st.integers(0, 4)) == 0:
        asked["request"] |= draw(st.dictionaries(st.sampled_from(sorted(asked["request"])), JSON, max_size=2))
    return asked


@given(st.one_of(JSON, reviews()), st.sampled_from(["/mutate", "/validate"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_any_json_is_refused_in_a_sentence_or_answered(client: FlaskClient, body: Any, path: str) -> None:
    answer = client.post(path, data=json.dumps(body), content_type="application/json")

    if answer.status_code == 400:
        assert answer.text.count("\n") == 1
        return
    response = response_of(answer)
    assert response["uid"] == body["request"]["uid"]
    assert isinstance(response["allowed"], bool)
    assert response["allowed"] or response["status"]["details"]["causes"]


@given(manifests("Database"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_mutating_twice_is_mutating_once(client: FlaskClient, manifest: Json) -> None:
    first = client.post("/mutate", json=review("CREATE", RIGHT["Database"]) | _with_object(manifest))
    if first.status_code != 200:
        return
    once = patched(manifest, response_of(first))

    again = response_of(client.post("/mutate", json=review("CREATE", RIGHT["Database"]) | _with_object(once)))

    assert "patch" not in again


def _with_object(manifest: Json) -> Json:
    return {"request": review("CREATE", RIGHT["Database"])["request"] | {"object": manifest}}


def test_an_impersonated_user_is_the_one_who_asked(client: FlaskClient) -> None:
    """The API server puts the impersonated user into userInfo, and nothing else of a review counts."""
    asked = review("CREATE", annotated(database(), {REQUESTED_BY: "root"}), user="system:serviceaccount:ci:deployer")
    asked["request"]["userInfo"]["extra"] = {"impersonator": ["root"]}

    stored = patched(asked["request"]["object"], response_of(client.post("/mutate", json=asked)))

    assert stored["metadata"]["annotations"][REQUESTED_BY] == stamp("system:serviceaccount:ci:deployer")
