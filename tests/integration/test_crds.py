"""What the API server itself decides about the kinds: defaults, rules, what may change, and that the schemas agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.resources import CLASSES, DATABASES, ENDPOINTS, INSTANCES, NAMESPACES, OPERATIONS, POLICIES, Resource
from api.schemas import CERTIFICATE, faults
from tests.chart.apiserver import Answer, ApiServer, render, running_api_server

pytestmark = pytest.mark.integration

NAMESPACE = "shop"
KINDS = (DATABASES, CLASSES, ENDPOINTS, POLICIES, INSTANCES, OPERATIONS)
Json = dict[str, Any]

DATABASE: Json = {"endpoint": "main"}
CLASS: Json = {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}
ENDPOINT: Json = {"className": "postgres", "host": "db", "credentialsSecretRef": {"name": "main"}}
INSTANCE: Json = {
    "endpoint": "main",
    "className": "postgres",
    "classGeneration": 1,
    "driver": "postgres",
    "claimRef": {"namespace": NAMESPACE, "name": "orders", "uid": "u"},
    "identity": "shop_orders",
    "operations": {"create": {"procedure": "create_db", "arguments": [{"name": "a", "value": ""}], "timeout": "1m0s"}},
    "deletionPolicy": "Delete",
}
OPERATION: Json = {
    "version": 1,
    "type": "create",
    "sequence": 1,
    "attempt": 1,
    "databaseRef": {"namespace": NAMESPACE, "name": "orders", "uid": "u"},
    "instanceRef": {"name": "db-a", "uid": "u"},
    "identity": "shop_orders",
    "className": "postgres",
    "driver": "postgres",
    "server": {
        "endpoint": "main",
        "host": "db",
        "port": 5432,
        "database": "",
        "tls": {"mode": "VerifyFull", "minimumVersion": "1.2"},
    },
    "calls": [
        {
            "procedure": "create_db",
            "arguments": [{"name": "0", "segments": [{"text": ""}, {"expression": "{{ .Generated.password }}"}]}],
            "timeout": "1m0s",
        }
    ],
    "requestedBy": "alice",
    "basis": "b",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """An API server with the chart's CRDs, and nothing else of it."""
    with running_api_server() as server:
        server.ask("POST", NAMESPACES.path(), {"metadata": {"name": NAMESPACE}})
        server.kubectl("apply", "--server-side", "-f", "-", text=crds())
        wait_for_discovery(server)
        yield server


def wait_for_discovery(server: ApiServer) -> None:
    """A new kind is served a moment after its CRD is there."""
    deadline = time.monotonic() + 30
    while len(server.kubectl("api-resources", "--categories=dbaas", "--output=name").split()) < len(KINDS):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def crds() -> str:
    return render(*(f"--show-only=templates/crds/{kind.plural}.yaml" for kind in KINDS))


def manifest(resource: Resource, spec: object, name: str = "a") -> Json:
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}


def create(cluster: ApiServer, resource: Resource, spec: object, name: str = "a", *, dry: bool = False) -> Answer:
    """Strictly: an unknown field is refused, not dropped."""
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    return cluster.ask("POST", resource.path(namespace=NAMESPACE) + query, manifest(resource, spec, name))


@pytest.fixture
def made(cluster: ApiServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a new object of the kind and spec that the test names."""
    resource, spec = request.param
    answer = create(cluster, resource, spec)
    assert answer.accepted, answer.message
    path = resource.path("a", namespace=NAMESPACE)
    yield path
    assert cluster.ask("DELETE", path).accepted


# The schemas agree with the API server

WORDS = st.text(st.sampled_from("ab-_.:/,0A9é \n"), max_size=6)
DURATIONS = st.text(st.sampled_from("0159.hmsu µ-"), max_size=5) | st.sampled_from(
    ["0", "1h", "59m", "60m", "90s", "1ms"]
)
NUMBERS = st.integers(-1, 3) | st.sampled_from([100, 101, 1000, 1001, 65535, 65536, 100000, 100001])
ODD = st.sampled_from([None, True, 1, "1", [], {}, ["a"], {"a": "b"}])
MAPS = st.dictionaries(WORDS, WORDS | ODD, max_size=3)
SELECTORS = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": MAPS,
        "matchExpressions": st.lists(
            st.fixed_dictionaries(
                {"key": WORDS, "operator": st.sampled_from(["In", "Exists", "Is"])},
                optional={"values": st.lists(WORDS, max_size=2)},
            ),
            max_size=2,
        ),
    },
)
NAMED = st.fixed_dictionaries({}, optional={"name": WORDS})


def choice(*choices: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*choices, "", "other"])


def procedures() -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"name": st.just("p") | WORDS}, optional={"inputs": MAPS, "timeout": DURATIONS})


SPECS: dict[str, st.SearchStrategy[Json]] = {
    "Database": st.fixed_dictionaries(
        {"endpoint": st.just("main") | WORDS},
        optional={
            "params": MAPS | ODD,
            "deletionPolicy": choice("Delete", "Retain"),
            "deletionProtection": ODD,
            "rotation": st.fixed_dictionaries({}, optional={"every": DURATIONS}) | ODD,
            "other": ODD,
        },
    ),
    "DatabaseClass": st.fixed_dictionaries(
        {
            "driver": choice("postgres", "sqlserver"),
            "operations": st.fixed_dictionaries(
                {"create": procedures()}, optional={"rotate": procedures() | ODD, "delete": procedures()}
            ),
        },
        optional={
            "identity": WORDS,
            "secretFormat": MAPS | ODD,
            "credentials": st.lists(WORDS, max_size=3) | ODD,
            "params": st.dictionaries(
                WORDS,
                st.fixed_dictionaries(
                    {},
                    optional={
                        "required": ODD,
                        "default": WORDS,
                        "enum": st.lists(WORDS, max_size=3),
                        "pattern": WORDS,
                        "maxLength": NUMBERS,
                    },
                ),
                max_size=2,
            ),
            "deletionPolicy": choice("Delete", "Retain"),
            "retry": st.fixed_dictionaries({}, optional={"limit": NUMBERS, "backoff": DURATIONS}),
        },
    ),
    "DatabaseEndpoint": st.fixed_dictionaries(
        {
            "className": st.just("postgres") | WORDS,
            "host": st.just("db") | WORDS,
            "credentialsSecretRef": st.just({"name": "main"}) | NAMED,
        },
        optional={
            "port": NUMBERS | ODD,
            "database": WORDS,
            "tls": st.fixed_dictionaries(
                {},
                optional={
                    "mode": choice("VerifyFull", "Disabled"),
                    "caSecretRef": NAMED,
                    "caBundle": st.just(CERTIFICATE) | WORDS,
                    "serverName": WORDS,
                    "minimumVersion": choice("1.2", "1.3"),
                },
            ),
            "allowedNamespaces": st.fixed_dictionaries(
                {}, optional={"from": choice("All", "Selector"), "selector": SELECTORS}
            ),
            "maxConcurrentJobs": NUMBERS,
            "operationsPerMinute": NUMBERS,
            "probe": st.fixed_dictionaries({}, optional={"every": DURATIONS}),
        },
    ),
}
SPECS["DatabasePolicy"] = st.fixed_dictionaries(
    {},
    optional={
        "enforcement": choice("Deny", "Warn", "Audit"),
        "match": st.fixed_dictionaries(
            {},
            optional={
                "namespaceSelector": SELECTORS,
                "endpoints": st.lists(WORDS, max_size=2),
                "operations": st.lists(choice("CREATE", "ROTATE"), max_size=2),
                "users": st.lists(WORDS, max_size=2) | ODD,
            },
        ),
        "allowedEndpoints": st.lists(WORDS, max_size=2),
        "params": st.dictionaries(
            WORDS,
            st.fixed_dictionaries({}, optional={"enum": st.lists(WORDS, max_size=2), "required": ODD, "other": ODD}),
            max_size=2,
        ),
        "quota": st.fixed_dictionaries({}, optional={"perNamespace": NUMBERS, "perEndpoint": NUMBERS | ODD}),
        "deletionProtection": choice("Required", "RequireConfirmation"),
        "rotation": st.fixed_dictionaries({}, optional={"maxAge": DURATIONS}) | ODD,
        "adoption": choice("Forbidden", "Allowed"),
        "validations": st.lists(
            st.fixed_dictionaries(
                {"expression": WORDS}, optional={"message": WORDS, "fieldPath": WORDS | st.just("spec.params")}
            ),
            max_size=2,
        ),
    },
)
RESOURCES = {"Database": DATABASES, "DatabaseClass": CLASSES, "DatabaseEndpoint": ENDPOINTS, "DatabasePolicy": POLICIES}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.sampled_from(sorted(SPECS)).flatmap(lambda kind: st.tuples(st.just(kind), SPECS[kind])))
@example(("Database", {**DATABASE, "params": {"p" * 63: "x" * 16384}}))
@example(("Database", {**DATABASE, "params": {"p" * 64: ""}}))
@example(("Database", {**DATABASE, "params": {"p": "x" * 16385}}))
@example(("Database", {**DATABASE, "params": {f"p{n}": "é" * 16384 for n in range(4)}}))
@example(("Database", {**DATABASE, "params": {**{f"p{n}": "é" * 16384 for n in range(4)}, "q": "x"}}))
@example(("Database", {**DATABASE, "params": {f"p{n}": "" for n in range(65)}}))
@example(("Database", {**DATABASE, "rotation": {"every": "99999999999h"}}))
@example(("DatabaseClass", {**CLASS, "operations": {"create": {"name": "p", "inputs": {"größe": "", "@a": ""}}}}))
@example(("DatabaseClass", {**CLASS, "operations": {"create": {"name": "p", "inputs": {"größe": "", "0": ""}}}}))
@example(("DatabaseClass", {**CLASS, "params": {"size": {"enum": ["s"], "default": "m"}}}))
@example(("DatabaseClass", {**CLASS, "deletionPolicy": "Delete"}))
@example(("DatabaseEndpoint", {**ENDPOINT, "host": "2001:db8::1"}))
@example(("DatabaseEndpoint", {**ENDPOINT, "host": "https://db"}))
@example(("DatabaseEndpoint", {**ENDPOINT, "host": "db\n"}))
@example(("DatabaseEndpoint", {**ENDPOINT, "probe": {"every": "0"}}))
def test_what_the_schemas_find_is_what_the_api_server_refuses(cluster: ApiServer, written: tuple[str, Json]) -> None:
    """Whoever checks a manifest offline hears neither more nor less than `kubectl apply` would tell."""
    kind, spec = written
    answer = create(cluster, RESOURCES[kind], spec, dry=True)

    assert answer.accepted == (not faults(kind, {"spec": spec})), answer.message


# Defaults


def test_an_unseen_object_is_not_taken_for_a_finished_one(cluster: ApiServer) -> None:
    """kstatus compares observedGeneration with generation; a missing one would mean that all is done."""
    for resource, spec in ((DATABASES, DATABASE), (ENDPOINTS, ENDPOINT)):
        answer = create(cluster, resource, spec)
        path = resource.path("a", namespace=NAMESPACE)

        assert cluster.ask("GET", path).body["status"] == {"observedGeneration": -1}, answer.message
        cluster.ask("DELETE", path)


@pytest.mark.parametrize(
    ("resource", "spec", "defaults"),
    [
        (DATABASES, DATABASE, {"params": {}}),
        (
            CLASSES,
            CLASS,
            {
                "operations": {"create": {"name": "create_db", "inputs": {}, "timeout": "60s"}},
                "credentials": ["password"],
                "retry": {"limit": 5, "backoff": "5s"},
            },
        ),
        (
            ENDPOINTS,
            ENDPOINT,
            {
                "tls": {"mode": "VerifyFull", "minimumVersion": "1.2"},
                "allowedNamespaces": {"from": "All"},
                "maxConcurrentJobs": 5,
                "operationsPerMinute": 0,
                "probe": {"every": "10m"},
            },
        ),
    ],
)
def test_defaults_can_be_read_from_the_object(
    cluster: ApiServer, resource: Resource, spec: Json, defaults: Json
) -> None:
    answer = create(cluster, resource, spec, dry=True)

    assert answer.body["spec"] == {**spec, **defaults}


# What may change


@pytest.mark.parametrize("made", [(DATABASES, {**DATABASE, "params": {"a": "1"}})], indirect=True)
@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"endpoint": "other"}, "spec.endpoint", "apply a Database of another name with the new endpoint"),
        ({"params": {"a": "2"}}, "spec.params", "apply a Database of another name, or delete this one"),
        ({"params": {"b": "1"}}, "spec.params", "the database was made with them"),
        ({"params": None}, "spec.params", "the database was made with them"),
    ],
)
def test_what_a_database_was_made_with_stays(
    cluster: ApiServer, made: str, change: Json, field: str, sentence: str
) -> None:
    answer = cluster.merge(made, {"spec": change})

    assert answer.status == 422
    assert answer.fields == {field}
    assert sentence in answer.message


@pytest.mark.parametrize("made", [(DATABASES, DATABASE)], indirect=True)
def test_how_a_database_is_kept_may_change(cluster: ApiServer, made: str) -> None:
    change = {"deletionPolicy": "Retain", "deletionProtection": True, "rotation": {"every": "720h"}}
    answer = cluster.merge(made, {"spec": change})

    assert answer.accepted, answer.message


@pytest.mark.parametrize(("resource", "spec"), [(DATABASES, DATABASE), (ENDPOINTS, ENDPOINT)])
def test_a_name_that_labels_cannot_hold_is_refused(cluster: ApiServer, resource: Resource, spec: Json) -> None:
    answer = create(cluster, resource, spec, "n" * 64, dry=True)

    assert "longer than 63 characters; choose a shorter name" in answer.message
    assert create(cluster, resource, spec, "n" * 63, dry=True).accepted


@pytest.mark.parametrize("made", [(INSTANCES, INSTANCE)], indirect=True)
def test_a_claim_follows_an_edited_class_until_its_database_is_made(cluster: ApiServer, made: str) -> None:
    """A procedure's name that was wrong must be correctable; what a database was made with must not get lost."""
    corrected = {"operations": {"create": {"procedure": "make_db"}}, "classGeneration": 2, "deletionPolicy": "Retain"}
    before = cluster.merge(made, {"spec": corrected})
    assert cluster.merge(f"{made}/status", {"status": {"phase": "Bound"}}).accepted
    after = cluster.merge(made, {"spec": {"operations": {"create": {"procedure": "drop_all"}}}})
    released = cluster.merge(made, {"spec": {"deletionPolicy": "Delete"}})
    assert cluster.merge(f"{made}/status", {"status": {"phase": "Deleting"}}).accepted
    late = cluster.merge(made, {"spec": {"operations": {"create": {"procedure": "drop_all"}}}})
    moved = cluster.merge(made, {"spec": {"endpoint": "other"}})

    assert before.accepted, before.message
    assert "they are what it was made with" in after.message
    assert "they are what it was made with" in late.message
    assert released.accepted, released.message
    assert "a database stays on its server" in moved.message


@pytest.mark.parametrize("made", [(INSTANCES, INSTANCE)], indirect=True)
@pytest.mark.parametrize("phase", ["Pending", "Bound", "Deleting"])
def test_a_claim_is_nobodys_to_take_away_while_a_database_holds_it(cluster: ApiServer, made: str, phase: str) -> None:
    """Its Database would wait for a name that is its own, and go without its database being deleted."""
    assert cluster.merge(f"{made}/status", {"status": {"phase": phase}}).accepted
    taken = cluster.merge(made, {"spec": {"claimRef": None}})
    given = cluster.merge(made, {"spec": {"claimRef": {"namespace": "another"}}})
    assert cluster.merge(f"{made}/status", {"status": {"phase": "Released"}}).accepted
    released = cluster.merge(made, {"spec": {"claimRef": None}})

    assert "claimRef can be changed once the phase is Released" in taken.message
    assert "claimRef can be changed once the phase is Released" in given.message
    assert released.accepted, released.message


@pytest.mark.parametrize("made", [(OPERATIONS, OPERATION)], indirect=True)
def test_an_operation_is_a_record(cluster: ApiServer, made: str) -> None:
    report = {
        "outcome": "Retry",
        "reason": "Timeout",
        "message": "slow",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:01:00Z",
        "called": True,
        "reportedBy": "Job",
    }
    spec = cluster.merge(made, {"spec": {"requestedBy": "mallory"}})
    half = cluster.merge(f"{made}/status", {"status": {"outcome": "Succeeded"}})
    first = cluster.merge(f"{made}/status", {"status": report})
    same = cluster.merge(f"{made}/status", {"status": report})
    other = cluster.merge(f"{made}/status", {"status": {**report, "outcome": "Succeeded"}})

    assert "an Operation is a record of what was asked for" in spec.message
    assert not half.accepted
    assert first.accepted, first.message
    assert same.accepted, same.message
    assert "the outcome of this Operation has been reported" in other.message


@pytest.mark.parametrize(
    "change",
    [
        {"calls": []},
        {"calls": [{"procedure": "p", "timeout": "1s", "arguments": [{"name": "a"}]}]},
        {"calls": [{"procedure": "p", "timeout": "1s", "arguments": [{"name": "a", "value": "", "segments": []}]}]},
        {"calls": [{"procedure": "p", "timeout": "1s", "arguments": [{"name": "a", "segments": [{}]}]}]},
        {"secret": {"name": "a", "type": "Opaque", "owner": {"name": "a", "uid": "b"}}},
        {"type": "drop"},
        {"version": 0},
        {"password": "secret"},
    ],
)
def test_an_operation_has_the_form_of_the_contract(cluster: ApiServer, change: Json) -> None:
    assert create(cluster, OPERATIONS, OPERATION, dry=True).accepted
    assert not create(cluster, OPERATIONS, {**OPERATION, **change}, dry=True).accepted


@pytest.mark.parametrize("kind", ["dbs", "dbc", "dbe", "dbp", "dbi", "dbo"])
def test_short_names_and_explanations_work(cluster: ApiServer, kind: str) -> None:
    explained = cluster.kubectl("explain", f"{kind}.spec")

    assert "DESCRIPTION" in explained
    assert "<no description>" not in cluster.kubectl("explain", "--recursive", kind)


def test_the_category_lists_every_kind(cluster: ApiServer) -> None:
    listed = cluster.kubectl("api-resources", "--categories=dbaas", "--output=name").split()

    assert {name.partition(".")[0] for name in listed} == {kind.plural for kind in KINDS}


def test_columns_show_what_people_ask_first(cluster: ApiServer) -> None:
    create(cluster, DATABASES, DATABASE)
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "fine",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = DATABASES.path("a", namespace=NAMESPACE)
    cluster.merge(f"{path}/status", {"status": {"conditions": [ready], "className": "postgres"}})
    header, row = cluster.kubectl("get", "dbs", "-n", NAMESPACE).splitlines()
    cluster.ask("DELETE", path)

    assert header.split() == ["NAME", "READY", "REASON", "ENDPOINT", "CLASS", "AGE"]
    assert row.split()[:5] == ["a", "True", "Ready", "main", "postgres"]


@pytest.mark.parametrize("wrong", ["Ready", "Reachable", "ProceduresFound", ""])
def test_columns_of_an_endpoint_say_what_is_wrong_first(cluster: ApiServer, wrong: str) -> None:
    create(cluster, ENDPOINTS, ENDPOINT)
    kinds = ("Ready", "Reachable", "ProceduresFound", "ProceduresPrivate")
    conditions = [
        {
            "type": kind,
            "status": "False" if wrong and kind in (wrong, "ProceduresPrivate") else "True",
            "reason": f"{kind}Reason",
            "message": f"{kind}-message",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in kinds
    ]
    cluster.merge(f"{ENDPOINTS.path('a')}/status", {"status": {"conditions": conditions}})
    _, row = cluster.kubectl("get", "dbe", "-o", "wide").splitlines()
    cluster.ask("DELETE", ENDPOINTS.path("a"))

    assert [word for word in row.split() if word.endswith(("Reason", "-message"))] == (
        [f"{wrong}Reason", f"{wrong}-message"] if wrong else []
    )
