"""The CRDs and the schemas say the same, and the schemas say it in sentences with paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import fields, validate

from api import schemas
from api.durations import parse_duration
from api.operation import (
    Call,
    Connection,
    DatabaseReference,
    OperationSpec,
    Owner,
    Report,
    SecretTarget,
    Server,
    Text,
)
from api.reasons import Reason
from api.schemas import Distinct, Items, KeysAre, Lasts, Map, Part, Pattern, faults
from api.stamp import Stamp
from api.templates import Template

CRDS = Path(__file__).parents[2] / "chart" / "templates" / "crds"
Json = dict[str, Any]


def crd(plural: str) -> Json:
    """The CRD as its file has it; the guard around it is the only line that is not YAML."""
    lines = (CRDS / f"{plural}.yaml").read_text("utf-8").splitlines()
    manifest: Json = yaml.safe_load("\n".join(line for line in lines if not line.startswith("{{")))
    return manifest


def structure(plural: str) -> Json:
    """The OpenAPI schema of the one version."""
    schema: Json = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


PLURALS = sorted(path.stem for path in CRDS.glob("*.yaml"))
USER_WRITTEN = {
    "Database": "databases",
    "DatabaseClass": "databaseclasses",
    "DatabaseEndpoint": "databaseendpoints",
    "DatabasePolicy": "databasepolicies",
}

BOUNDS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minimum", "maximum")


def stated_by_crd(node: Json) -> Json:
    """What a CRD demands of a value, without words, defaults and what only concerns merging."""
    stated: Json = {"type": node["type"]}
    stated |= {bound: node[bound] for bound in BOUNDS if bound in node}
    if "enum" in node:
        stated["enum"] = node["enum"]
    if node.get("x-kubernetes-list-type") == "set":
        stated["distinct"] = True
    patterns = [node["pattern"]] if "pattern" in node else []
    rules = " ".join(rule["rule"] for rule in node.get("x-kubernetes-validations", ()))
    patterns += re.findall(r"self\.matches\(r'(.*?)'\)", rules)
    if patterns:
        (stated["pattern"],) = patterns
    if keys := re.findall(r"(?:name|key)\.matches\(r?'(.*?)'\)", rules):
        (stated["keys"],) = keys
    if durations := re.findall(r"duration\(self\) ([<>]=) duration\('(.*?)'\)", rules):
        stated["lasts"] = {sign: parse_duration(bound) for sign, bound in durations}
    if "properties" in node:
        stated["properties"] = {name: stated_by_crd(child) for name, child in node["properties"].items()}
        stated["required"] = sorted(node.get("required", ()))
    if "additionalProperties" in node:
        stated["values"] = stated_by_crd(node["additionalProperties"])
    if "items" in node:
        stated["items"] = stated_by_crd(node["items"])
    return stated


def stated_by_schema(field: fields.Field[Any]) -> Json:
    """What a marshmallow field demands, in the same form."""
    types = {
        schemas.Flag: "boolean",
        schemas.Number: "integer",
        schemas.Text: "string",
        schemas.Choice: "string",
        Items: "array",
        Map: "object",
        Part: "object",
    }
    stated: Json = {"type": types[type(field)]}
    for validator in field.validators:
        stated |= stated_by_validator(validator, stated["type"], isinstance(field, Map))
    if isinstance(field, Part):
        children = {child.data_key or name: child for name, child in field.schema.fields.items()}
        stated["properties"] = {name: stated_by_schema(child) for name, child in children.items()}
        stated["required"] = sorted(name for name, child in children.items() if child.required)
    if isinstance(field, Map):
        assert field.value_field is not None
        stated["values"] = stated_by_schema(field.value_field)
    if isinstance(field, Items):
        stated["items"] = stated_by_schema(field.inner)
    return stated


def stated_by_validator(validator: object, kind: str, is_map: bool) -> Json:  # noqa: FBT001
    match validator:
        case validate.Length():
            unit = "Properties" if is_map else {"string": "Length", "array": "Items"}[kind]
            sizes = {f"min{unit}": validator.min, f"max{unit}": validator.max}
            return {name: bound for name, bound in sizes.items() if bound is not None}
        case validate.Range():
            return {"minimum": validator.min, "maximum": validator.max}
        case validate.OneOf():
            return {"enum": [str(choice) for choice in validator.choices]}
        case Lasts():
            bounds = {">=": validator.least, "<=": validator.most}
            return {
                "pattern": validator.pattern,
                "lasts": {sign: bound for sign, bound in bounds.items() if bound is not None},
            }
        case Pattern():
            return {"pattern": validator.pattern}
        case KeysAre():
            return {"keys": validator.pattern}
        case Distinct():
            return {"distinct": True}
    raise AssertionError(f"{validator!r} has no counterpart in a CRD")


@pytest.mark.parametrize("kind", USER_WRITTEN)
def test_crd_and_schema_demand_the_same_of_a_spec(kind: str) -> None:
    """Fields, types, what is required, enums, bounds, patterns and durations are equal, all the way down."""
    spec = structure(USER_WRITTEN[kind])["properties"]["spec"]

    assert stated_by_schema(Part(schemas.SPECS[kind]())) == stated_by_crd(spec)


@pytest.mark.parametrize(("kind", "plural"), USER_WRITTEN.items())
def test_crd_and_schema_limit_names_alike(kind: str, plural: str) -> None:
    """A name that becomes the value of a label has at most 63 characters."""
    rules = [rule["rule"] for rule in structure(plural).get("x-kubernetes-validations", ())]
    limit = next((int(rule.rpartition(" ")[2]) for rule in rules if "metadata.name" in rule), 253)
    spec = {"metadata": {"name": "n" * limit}, "spec": {}}
    longer = {"metadata": {"name": "n" * (limit + 1)}, "spec": {}}

    assert not [fault for fault in faults(kind, spec) if fault.path == "metadata.name"]
    assert [fault for fault in faults(kind, longer) if fault.path == "metadata.name"]


def nodes(node: Json, path: str) -> Iterator[tuple[str, Json]]:
    """Every field of an OpenAPI schema with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from nodes(node[key], f"{path}[]")


@pytest.mark.parametrize("plural", PLURALS)
def test_every_field_explains_itself(plural: str) -> None:
    """`kubectl explain` has a sentence for each field, and for each object within a list or map."""
    silent = [
        path
        for path, node in nodes(structure(plural), "")
        # The API server describes metadata itself; a list's plain values are described by the list.
        if path != ".metadata" and not (path.endswith("[]") and node["type"] == "string")
        if not str(node.get("description", "")).strip().endswith(".")
    ]

    assert silent == []


@pytest.mark.parametrize("plural", PLURALS)
def test_every_rule_of_a_crd_says_its_cure_itself(plural: str) -> None:
    """Without a message the API server would show the expression."""
    rules = [rule for _, node in nodes(structure(plural), "") for rule in node.get("x-kubernetes-validations", ())]

    assert all(rule["message"] and "\n" not in rule["message"] for rule in rules)


@pytest.mark.parametrize("plural", PLURALS)
def test_every_crd_stays_when_the_chart_goes(plural: str) -> None:
    """Else `helm uninstall` would delete every Database."""
    metadata = crd(plural)["metadata"]

    assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert metadata["name"] == f"{plural}.dbaas.bedag.ch"


def unknown_fields(node: Json, value: Any, path: str) -> Iterator[str]:
    """Paths of `value` that the API server would drop, for want of a field."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            child = node.get("properties", {}).get(name) or node.get("additionalProperties")
            if child is None:
                yield f"{path}.{name}"
            else:
                yield from unknown_fields(child, inner, f"{path}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from unknown_fields(node["items"], inner, f"{path}[]")


CALL = Call(
    "dbaas.create_db",
    (Text("name", Template(("a",))), Text("password", Template.parse("x{{ .Generated.password }}"))),
    parse_duration("60s"),
)


def test_what_the_controller_asks_of_a_job_survives_the_api_server() -> None:
    """Every field of an Operation's spec has its place in the CRD, and what is required is always there."""
    spec = OperationSpec(
        type="create",
        sequence=1,
        attempt=1,
        database=DatabaseReference("shop", "orders", "u-1"),
        instance="db-a",
        instance_uid="u-2",
        identity="shop_orders",
        class_name="postgres",
        driver="postgres",
        server=Server("main", "db.example.test", 5432, "postgres", server_name="db", ca_bundle="PEM"),
        calls=(CALL,),
        secret=SecretTarget(
            "orders-credentials",
            "servicebinding.io/postgresql",
            CALL.arguments,
            ("password",),
            Owner("db-a", "u-3"),
            "u-4",
        ),
        requested_by="alice",
        basis="digest",
        generated=True,
        stamp=Stamp("alice", ("a",), 1, "2026-01-01T00:00:00Z", "uid"),
    ).manifest()
    node = structure("operations")["properties"]["spec"]

    assert list(unknown_fields(node, spec, "spec")) == []
    assert set(spec) == set(node["properties"])
    assert set(node["required"]) == set(spec) - {"secret", "generated", "request", "recoverable", "stamp"}
    assert set(spec["stamp"]) == set(node["properties"]["stamp"]["properties"])


def test_what_a_job_reports_survives_the_api_server() -> None:
    """Every field of an Operation's status has its place in the CRD, and what is required is always there."""
    start, end = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
    bare = Report(Reason.TIMEOUT, "slow", start, end, called=True, reported_by="Job")
    connection = Connection("15.1", "TLSv1.3", "AES", "ab", "2027-01-01T00:00:00Z")
    full = bare._replace(connection=connection, result_keys=("a",))
    node = structure("operations")["properties"]["status"]

    assert list(unknown_fields(node, full.manifest(), "status")) == []
    assert set(full.manifest()) == set(node["properties"])
    assert set(bare.manifest()) == set(node["required"])
    assert all(re.search(node["properties"]["reason"]["pattern"], reason) for reason in Reason)


def test_an_instance_carries_calls_in_the_form_of_the_contract() -> None:
    """What is frozen at the claim is what an Operation will call."""
    operations = structure("databaseinstances")["properties"]["spec"]["properties"]["operations"]

    assert list(unknown_fields(operations, {"create": CALL.manifest(), "delete": CALL.manifest()}, "operations")) == []
    assert set(operations["properties"]) == {"create", "rotate", "delete"}


DATABASE: Json = {"endpoint": "main"}
CLASS: Json = {"driver": "postgres", "operations": {"create": {"name": "create_db"}}}
ENDPOINT: Json = {"className": "postgres", "host": "db", "credentialsSecretRef": {"name": "main"}}


@pytest.mark.parametrize(
    ("kind", "spec"), [("Database", DATABASE), ("DatabaseClass", CLASS), ("DatabaseEndpoint", ENDPOINT)]
)
def test_the_least_that_can_be_written_has_no_fault(kind: str, spec: Json) -> None:
    assert faults(kind, {"apiVersion": "dbaas.bedag.ch/v1", "kind": kind, "spec": spec}) == []


def test_all_faults_are_reported_at_once_each_with_its_path() -> None:
    spec = {
        "operations": {"create": {"inputs": {"a b": "1", "c": 2}, "timeout": "2h"}, "drop": {}},
        "params": {"size": {"default": "xl", "enum": ["s", "m"], "required": "yes"}},
        "credentials": ["a", "a"],
        "deletionPolicy": "Delete",
    }

    assert [fault.path for fault in faults("DatabaseClass", {"spec": spec})] == [
        "spec.credentials",
        "spec.deletionPolicy",
        "spec.driver",
        "spec.operations.create.inputs.c",
        "spec.operations.create.name",
        "spec.operations.create.timeout",
        "spec.operations.drop",
        "spec.params.size.default",
        "spec.params.size.required",
    ]


@pytest.mark.parametrize(
    ("kind", "change", "path", "sentence"),
    [
        ("Database", {"params": {"a-b": "1"}}, "spec.params", "letters, digits and underscores"),
        ("Database", {"params": {"a": 5}}, "spec.params.a", "put numbers and yes/no in quotes"),
        ("Database", {"params": {f"p{n}": "x" * 16000 for n in range(5)}}, "spec.params", "at most 65536"),
        ("Database", {"rotation": {"every": "30d"}}, "spec.rotation.every", "of at least 1h, such as 24h or 1h30m"),
        ("Database", {"rotation": {"every": "59m"}}, "spec.rotation.every", "of at least 1h"),
        ("Database", {"rotation": {"every": "0"}}, "spec.rotation.every", "of at least 1h"),
        ("Database", {"size": "5"}, "spec.size", "known are deletionPolicy, deletionProtection, endpoint"),
        ("Database", {"endpoint": None}, "spec.endpoint", "is required"),
        ("DatabaseClass", {"driver": "oracle"}, "spec.driver", "one of postgres, mysql, mariadb, sqlserver"),
        ("DatabaseClass", {"retry": {"limit": True}}, "spec.retry.limit", "must be an integer"),
        ("DatabaseClass", {"operations": "create"}, "spec.operations", "must be a map"),
        ("DatabaseClass", {"deletionPolicy": "Delete"}, "spec.deletionPolicy", "add it, or write Retain"),
        ("DatabaseEndpoint", {"host": "db:5432"}, "spec.host", "the port goes to spec.port"),
        ("DatabaseEndpoint", {"host": "/var/run/postgresql"}, "spec.host", "DNS name or IP address"),
        ("DatabaseEndpoint", {"host": "db,other"}, "spec.host", "DNS name or IP address"),
        ("DatabaseEndpoint", {"host": "db\n"}, "spec.host", "DNS name or IP address"),
        ("DatabaseEndpoint", {"port": 65536}, "spec.port", "from 1 to 65535"),
        (
            "DatabaseEndpoint",
            {"probe": {"every": "5ms"}},
            "spec.probe.every",
            "of at least 1s, such as 90s or 1h30m, or 0",
        ),
        (
            "DatabaseEndpoint",
            {"allowedNamespaces": {"from": "Selector"}},
            "spec.allowedNamespaces",
            "selector is needed",
        ),
        (
            "DatabaseEndpoint",
            {"tls": {"caSecretRef": {"name": "a"}, "caBundle": schemas.CERTIFICATE}},
            "spec.tls",
            "one of caSecretRef and caBundle",
        ),
        ("DatabaseEndpoint", {"tls": {"caBundle": "LS0tLS1CRUdJTg=="}}, "spec.tls.caBundle", "not base64"),
    ],
)
def test_a_fault_says_what_to_write_instead(kind: str, change: Json, path: str, sentence: str) -> None:
    least = {"Database": DATABASE, "DatabaseClass": CLASS, "DatabaseEndpoint": ENDPOINT}[kind]
    (fault,) = faults(kind, {"spec": {**least, **change}})

    assert fault.path == path
    assert sentence in fault.message


@pytest.mark.parametrize("host", ["db", "db.example.test", "10.0.0.1", "::1", "2001:db8::1", "my_db"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert faults("DatabaseEndpoint", {"spec": {**ENDPOINT, "host": host}}) == []


@pytest.mark.parametrize("every", ["0", "0s", "1s", "1h30m", "1.5h"])
def test_a_probe_may_be_switched_off(every: str) -> None:
    assert faults("DatabaseEndpoint", {"spec": {**ENDPOINT, "probe": {"every": every}}}) == []


@pytest.mark.parametrize("spec", [None, [], "endpoint: main", 5])
def test_a_spec_that_is_no_map_is_a_fault(spec: object) -> None:
    (fault,) = faults("Database", {"spec": spec})

    assert fault.path == "spec"


@pytest.mark.parametrize("operations", [5, True, "create", ["create"]])
def test_operations_of_another_shape_break_no_rule_about_them(operations: object) -> None:
    spec = {"driver": "postgres", "deletionPolicy": "Delete", "operations": operations}

    assert "spec.operations" in [fault.path for fault in faults("DatabaseClass", {"spec": spec})]


def test_what_stands_beside_spec_is_known_too() -> None:
    manifest = {"spec": DATABASE, "metadata": {"name": "a"}, "status": {}, "params": {"size": "small"}}
    (fault,) = faults("Database", manifest)

    assert (fault.path, fault.message) == (
        "params",
        "is not known here; known are apiVersion, kind, metadata, spec, status",
    )


def test_another_version_or_kind_is_a_fault() -> None:
    manifest = {"apiVersion": "database.dbaas.bedag.ch/v1", "kind": "DatabaseClass", "spec": DATABASE}

    assert [fault.path for fault in faults("Database", manifest)] == ["apiVersion", "kind"]


def test_kinds_that_users_do_not_write_are_refused() -> None:
    with pytest.raises(ValueError, match="those are Database, DatabaseClass, DatabaseEndpoint, DatabasePolicy"):
        faults("Operation", {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({path.rpartition(".")[2] for p in PLURALS for path, _ in nodes(structure(p), "") if path})


@given(
    kind=st.sampled_from(sorted(USER_WRITTEN)),
    spec=st.recursive(JSON, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=6), max_leaves=10),
)
def test_no_manifest_breaks_the_check(kind: str, spec: Any) -> None:
    """Whatever is written, the answer is a list of faults with paths."""
    assert all(fault.path and fault.message for fault in faults(kind, {"spec": spec}))
