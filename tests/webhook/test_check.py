"""`python -m webhook check`: the webhook's verdicts on files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.resources import API_VERSION
from tests.webhook.builders import WorldOf, annotated, database, database_class, endpoint, policy
from tests.webhook.verdicts import judged
from webhook import check

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
CLAIM: Json = {"endpoint": "pg", "className": "standard"}


def named(manifest: Json, **metadata: Any) -> Json:
    """A manifest as a user writes it: without a uid."""
    kept = {key: value for key, value in manifest["metadata"].items() if key != "uid"}
    return {**manifest, "metadata": {**kept, **metadata}}


class Files:
    """A folder of manifests, and what the check says of them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, name: str, *documents: Json | str) -> str:
        """A file of these documents."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("---\n".join(d if isinstance(d, str) else yaml.safe_dump(d) for d in documents))
        return str(path)

    def check(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what was printed with the folder's name cut out."""
        status = check.main(arguments)
        said = self._capsys.readouterr()
        return status, (said.out + said.err).replace(f"{self.folder}/", "")

    def objects(self, *arguments: str) -> list[Json]:
        """What it says in JSON."""
        found: list[Json] = json.loads(self.check(*arguments, "--output", "json")[1])["objects"]
        return found


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capsys)


def test_each_object_gets_the_verdict_that_admission_would_give(files: Files) -> None:
    manifests: list[tuple[Json, dict[str, Any]]] = [
        (named(database(params={"size": "huge", "ghost": "1"})), {}),
        (named(database(endpoint="nowhere")), {}),
        (named(database("o" * 63)), {}),
        (named(database(rotation={"every": "24h"})), {}),
        (database_class("other", operations={"create": {"name": "x y", "inputs": {"0": "{{ if }}", "a": ""}}}), {}),
        (endpoint("other", host="10.1", tls={"mode": "Disabled", "serverName": "x"}), {}),
        (endpoint("other", className="none", tls={"mode": "VerifyCA", "caSecretRef": {"name": "ca"}}), {}),
    ]
    cls = database_class(params={"size": {"enum": ["small"], "required": False}})
    world = files.write("world.yaml", cls, endpoint())

    for manifest, options in manifests:
        (found,) = files.objects("--existing", world, files.write("one.yaml", manifest))
        verdict = judged("CREATE", manifest, world=WorldOf(_classes=[cls]), **options)

        assert found["accepted"] is verdict.allowed
        assert [(v["field"], v["message"]) for v in found["violations"]] == [
            (f.path, f.message) for f in verdict.faults
        ]
        assert found["warnings"] == [*verdict.warnings]


def test_the_order_of_files_and_documents_does_not_matter(files: Files) -> None:
    everything = files.write("all.yaml", named(database()), endpoint(), database_class())

    status, said = files.check(everything)

    assert status == 0
    assert said == (
        "all.yaml:1: Database shop/orders: accepted\n"
        "all.yaml:10: DatabaseEndpoint pg: accepted\n"
        "all.yaml:20: DatabaseClass standard: accepted\n"
        'note: Namespace "shop" is in no file: taken to be there, without labels of its own\n'
        "3 accepted, 0 refused, 0 warnings; 0 of other kinds not looked at\n"
    )


def test_a_refusal_names_file_line_and_field(files: Files) -> None:
    manifest = """\
# a comment
apiVersion: dbaas.bedag.ch/v1
kind: Database
metadata:
  name: orders
spec:
  endpoint: pg
  params:
    size: small
    size: huge
    ghost: "1"
"""
    cls = database_class(params={"size": {"enum": ["small"]}})
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}

    status, said = files.check(files.write("a/b.yaml", cls, endpoint(), deployment, manifest))

    assert status == 1
    assert "a/b.yaml:39: Database default/orders: refused\n" in said
    assert "  a/b.yaml:47: spec.params.size: stands twice, on lines 46 and 47; keep one of them\n" in said
    assert '  a/b.yaml:48: spec.params.ghost: DatabaseClass "standard" does not know it' in said
    assert said.endswith("2 accepted, 1 refused, 1 warning; 1 of other kinds not looked at\n")


def test_namespaces_are_read_for_their_labels(files: Files) -> None:
    selector = {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}
    by_name = {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}
    cluster = files.write(
        "cluster.yaml",
        database_class(),
        endpoint(allowedNamespaces=selector),
        endpoint("own", allowedNamespaces=by_name),
    )
    labelled = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "shop"}}}
    wanted = files.write("db.yaml", named(database()), named(database("other", endpoint="own")))

    unknown = files.objects("--existing", cluster, wanted)
    known = files.objects("--existing", cluster, wanted, files.write("ns.yaml", labelled))

    assert [found["accepted"] for found in unknown] == [False, True]
    assert [found["accepted"] for found in known] == [True, True]


def test_a_database_without_a_namespace_goes_where_one_says(files: Files) -> None:
    manifest = named(database())
    del manifest["metadata"]["namespace"]
    file = files.write("db.yaml", database_class(), endpoint(), manifest)

    assert [found["namespace"] for found in files.objects(file)] == ["", "", "default"]
    assert [found["namespace"] for found in files.objects(file, "-n", "shop")] == ["", "", "shop"]


def test_two_databases_that_the_server_would_take_for_one_are_told_apart(files: Files) -> None:
    cls = database_class(identity="{{ .Metadata.name }}")

    first, second = files.objects(
        files.write("a.yaml", named(database()), named(database(namespace="other"))),
        "--existing",
        files.write("cluster.yaml", cls, endpoint()),
    )

    assert first["accepted"]
    assert [violation["field"] for violation in second["violations"]] == ["metadata.name"]
    assert "is taken by a Database of another namespace" in second["violations"][0]["message"]


def test_what_is_there_already_is_changed_not_made(files: Files) -> None:
    cluster = files.write("cluster.yaml", database_class(), endpoint(), named(database(params={"size": "small"})))

    (changed,) = files.objects("--existing", cluster, files.write("a.yaml", named(database(params={"size": "large"}))))
    same = annotated(named(database(params={"size": "small"})), {"note": "1"})
    (kept,) = files.objects("--existing", cluster, files.write("b.yaml", same))

    assert [violation["field"] for violation in changed["violations"]] == ["spec.params.size"]
    assert "cannot be changed from" in changed["violations"][0]["message"]
    assert kept["accepted"]


def test_what_the_class_knows_only_at_creation_is_there(files: Files) -> None:
    inputs = {"name": "{{ .Metadata.name }}", "id": "{{ .Metadata.uid }}"}
    cls = database_class(operations={"create": {"name": "dbaas.create", "inputs": inputs}})
    manifest = named(database(), generateName="orders-")
    del manifest["metadata"]["name"]

    *_, found = files.objects(files.write("a.yaml", cls, endpoint(), manifest))

    assert found["accepted"]
    assert found["name"] == "orders-*"


def test_expressions_see_what_the_api_server_adds_and_takes_away(files: Files) -> None:
    """A creation's time, generation and uid are the API server's, and it has no status; an update's are as stored."""
    expressions = [
        "object.metadata.uid != 'forged' && object.metadata.generation == 1 || oldObject != null",
        "timestamp(object.metadata.creationTimestamp).getFullYear() > 2025",
        "!has(object.metadata.resourceVersion) && !has(object.metadata.deletionTimestamp) || oldObject != null",
        "!has(object.status) || object.status.instance == 'db-x'",
        "oldObject == null || object.metadata.uid == oldObject.metadata.uid",
        "oldObject == null || object.metadata.creationTimestamp == oldObject.metadata.creationTimestamp",
    ]
    rules = policy(validations=[{"expression": expression} for expression in expressions])
    world = [database_class(), endpoint(), rules]
    system = {"uid": "forged", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7, "resourceVersion": "5"}
    system["deletionTimestamp"] = "2001-01-01T00:00:00Z"
    forged = {**named(database(), **system), "status": {"instance": "mine"}}
    kept = {"uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 3, "resourceVersion": "9"}
    stored = {**named(database(), **kept), "status": {"instance": "db-x"}}
    labelled = {**forged, "metadata": {**forged["metadata"], "labels": {"a": "b"}}}

    made = files.check("--existing", files.write("world.yaml", *world), files.write("new.yaml", forged))
    changed = files.check("--existing", files.write("all.yaml", *world, stored), files.write("new.yaml", labelled))

    assert made[0] == 0, made[1]
    assert changed[0] == 0, changed[1]


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"endpoint": "pg", "className": None},
        {**CLAIM, "claimRef": ""},
        {**CLAIM, "claimRef": {"name": "a"}},
    ],
)
def test_a_claim_of_another_shape_claims_nothing(files: Files, spec: object) -> None:
    claim: Json = {"apiVersion": API_VERSION, "kind": "DatabaseInstance", "metadata": {"name": "db-x"}, "spec": spec}
    world = files.write("world.yaml", database_class(), endpoint(), claim)

    assert files.check("--existing", world, files.write("one.yaml", named(database())))[0] == 0


def test_a_kind_that_is_no_text_is_none(files: Files) -> None:
    (found,) = files.objects(files.write("one.yaml", {**database_class(), "kind": ["DatabaseClass"]}))

    assert [violation["field"] for violation in found["violations"]] == ["kind"]


def test_an_object_of_the_go_operators_version_is_told_so(files: Files) -> None:
    old = {"apiVersion": "database.dbaas.bedag.ch/v1", "kind": "Database", "metadata": {"name": "a"}, "spec": {}}
    unknown = {"apiVersion": "dbaas.bedag.ch/v1", "kind": "Databse", "metadata": {"name": "a"}}

    first, second = files.objects(files.write("a.yaml", old, unknown))

    assert first["violations"][0] == {"field": "apiVersion", "line": 1, "message": "must be dbaas.bedag.ch/v1"}
    assert second["violations"][0]["field"] == "kind"


def test_what_the_api_server_refuses_by_itself_is_refused(files: Files) -> None:
    manifest = named(database(params={"size": 1}, endpont="pg"), name="Orders", lables={"a": "b"})

    (found,) = files.objects(files.write("a.yaml", manifest))

    fields = [violation["field"] for violation in found["violations"]]
    assert fields == ["metadata.lables", "metadata.name", "spec.endpont", "spec.params.size"]


def test_a_null_is_what_the_api_server_makes_of_it(files: Files) -> None:
    """Nothing, in a spec; an empty text, in labels and annotations."""
    create = {"name": "dbaas.create", "inputs": {"name": "{{ .Metadata.name }}", "size": None}}
    cls = database_class(
        operations={"create": create, "delete": None}, params={"size": None}, secretFormat={"host": None, "uri": "text"}
    )
    rules = policy(
        match={"namespaceSelector": {"matchLabels": {"team": None}}},
        params={"size": None, "tier": {"forbidden": True}},
        validations=[{"expression": "object.metadata.labels.a == '' && !('size' in object.spec.params)"}],
    )
    orders = named(database(params={"size": None}), labels={"a": None}, annotations={"b": None})

    status, said = files.check(files.write("nulls.yaml", cls, endpoint(), rules, orders))

    assert status == 0, said
    assert "4 accepted" in said


def test_a_field_beside_spec_is_refused(files: Files) -> None:
    (found,) = files.objects(files.write("one.yaml", {**named(database()), "params": {}}))

    assert [violation["field"] for violation in found["violations"]] == ["params"]


def test_the_same_object_twice_is_warned_of(files: Files) -> None:
    *_, first, second = files.objects(
        files.write("a.yaml", database_class(), endpoint(), named(database()), named(database()))
    )

    assert first["warnings"] == []
    assert "the same object is described at" in second["warnings"][0]


def test_insecure_endpoints_are_refused_unless_the_installation_allows_them(files: Files) -> None:
    file = files.write("a.yaml", database_class(), endpoint(tls={"mode": "Disabled"}))

    assert files.check(file)[0] == 1
    assert files.check(file, "--allow-insecure-endpoints")[0] == 0


def test_a_folder_is_read_with_all_below_it(files: Files) -> None:
    files.write("b/class.yml", database_class())
    files.write("a/endpoint.yaml", endpoint())
    files.write("c.json", json.dumps(named(database())))
    files.write(".hidden/x.yaml", "{[")
    files.write("notes.txt", "{[")

    found = files.objects(str(files.folder))

    assert [o["kind"] for o in found] == ["DatabaseEndpoint", "DatabaseClass", "Database"]
    assert all(o["accepted"] for o in found)


def test_stdin_is_a_file(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump_all([database_class(), endpoint()])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    status, said = files.check("-")

    assert status == 0
    assert said.startswith("<stdin>:1: DatabaseClass standard: accepted")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "a.yaml:1:5: is no YAML: "),
        ("a: {{ .Values.a }}", "a.yaml:1:"),
        ("\udcff", "a.yaml: is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_ends_the_check(files: Files, content: str, words: str) -> None:
    (files.folder / "a.yaml").write_bytes(content.encode(errors="surrogateescape"))

    status, said = files.check(str(files.folder / "a.yaml"))

    assert status == 2
    assert said.startswith(f"webhook check: {words}")


def test_a_file_that_is_not_there_ends_the_check(files: Files) -> None:
    assert files.check(str(files.folder / "none.yaml")) == (2, "webhook check: none.yaml: No such file or directory\n")


def test_wrong_arguments_are_a_usage_error(files: Files) -> None:
    for arguments in ([], ["--output", "xml", "a.yaml"], ["--unknown"]):
        with pytest.raises(SystemExit) as ended:
            files.check(*arguments)

        assert ended.value.code == 2


def test_it_runs_by_the_webhooks_name_without_its_environment(files: Files) -> None:
    file = files.write("a.yaml", database_class(), endpoint(host="a b"))

    done = subprocess.run(
        [sys.executable, "-m", "webhook", "check", file], cwd=ROOT, env={}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "spec.host: must be a DNS name" in done.stdout
    assert done.stderr == ""


def test_the_examples_are_accepted(files: Files) -> None:
    for engine in ("postgresql", "mariadb", "mysql", "sqlserver"):
        assert files.check(str(ROOT / "examples" / engine))[0] == 0


def test_policies_are_judged_and_judge(files: Files) -> None:
    quota = policy("quota", quota={"perNamespace": 2})
    sizes = policy("sizes", params={"size": {"enum": ["small"], "default": "small"}})
    broken = policy("broken", validations=[{"expression": "object.spec.("}])
    cls = database_class(params={"size": {}})
    wanted = [named(database(name)) for name in ("a", "b", "c")]
    large = named(database("d", namespace="other", params={"size": "large"}))

    found = files.objects(files.write("a.yaml", quota, sizes, broken, cls, endpoint(), *wanted, large))

    refused = {o["name"]: [v["field"] for v in o["violations"]] for o in found if not o["accepted"]}
    assert refused == {
        "broken": ["spec.validations[0].expression"],
        "c": ["metadata.namespace"],
        "d": ["spec.params.size"],
    }


def test_a_policy_is_about_who_asks(files: Files) -> None:
    closed = policy("closed", match={"groups": ["developers"]}, allowedEndpoints=["none"])
    file = files.write("a.yaml", closed, database_class(), endpoint(), named(database()))

    assert files.check(file)[0] == 0
    assert files.check(file, "--user", "alice", "--group", "developers")[0] == 1


def test_a_service_account_is_in_the_groups_that_its_name_says(files: Files) -> None:
    closed = policy("closed", match={"groups": ["system:serviceaccounts:ci"]}, allowedEndpoints=["none"])
    file = files.write("all.yaml", closed, database_class(), endpoint(), named(database()))

    assert files.check(file, "--user", "system:serviceaccount:ci:flux")[0] == 1
    assert files.check(file, "--user", "system:serviceaccount:other:flux")[0] == 0


def test_who_reads_no_further_is_no_error(files: Files) -> None:
    """As with `| head`."""
    file = files.write("all.yaml", *(database_class(f"{number:0240}") for number in range(150)))
    argv = [sys.executable, "-m", "webhook", "check", file, "--output", "json"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read()

    assert said == b""
