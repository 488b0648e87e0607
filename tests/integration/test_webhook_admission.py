"""What users and administrators get to see, from kubectl, of a webhook that a real API server calls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from api.identity import instance_name
from api.labels import DEFAULTED_PARAMS, FINALIZER, REQUESTED_BY, ROTATE, ROTATE_REQUESTED_BY
from api.resources import CLASSES, DATABASES, ENDPOINTS, INSTANCES, NAMESPACES
from api.stamp import Stamp
from tests.chart.apiserver import ApiServer, running_api_server
from tests.cluster.settings import Settings
from tests.webhook.builders import CREATE, DELETE, database, database_class, endpoint, review
from tests.webhook.running import Webhook, eventually, install, running_webhook

pytestmark = pytest.mark.integration

Json = dict[str, Any]
PARAMS = {
    "size": {"enum": ["small", "large"], "default": "small"},
    "owner": {"pattern": "^[a-z]+$", "description": "the team that pays"},
}
OWNED = {"owner": "sales"}


class Kubectl:
    """kubectl, as some user, in some namespace; in no particular one with the empty name."""

    def __init__(self, server: ApiServer) -> None:
        self._argv = [str(Settings.from_env({"HOME": str(Path.home())}).bin / "kubectl")]
        self._argv += ["--kubeconfig", str(server.kubeconfig), "--cache-dir", str(server.folder / "cache")]

    def __call__(
        self, *args: str, stdin: Mapping[str, Any] | None = None, user: str = "", namespace: str = "shop"
    ) -> subprocess.CompletedProcess[str]:
        impersonated = ["--as", user, "--as-group", "system:masters"] if user else []
        place = ["--namespace", namespace] if namespace else []
        return subprocess.run(
            [*self._argv, *place, *impersonated, *args],
            input=None if stdin is None else json.dumps(stdin),
            text=True,
            capture_output=True,
            check=False,
        )

    def apply(self, manifest: Json, *args: str, user: str = "") -> subprocess.CompletedProcess[str]:
        """Apply one manifest."""
        return self("apply", "-f", "-", *args, stdin=manifest, user=user)

    def refusal(self, *args: str, stdin: Mapping[str, Any] | None = None, namespace: str = "shop") -> str:
        """What a command says that must fail."""
        done = self(*args, stdin=stdin, namespace=namespace)

        assert done.returncode != 0, done.stdout
        return done.stderr.strip()

    def get(self, kind: str, name: str, namespace: str = "shop") -> Json:
        """One object."""
        done = self("get", kind, name, "-o", "json", namespace=namespace)
        assert done.returncode == 0, done.stderr
        found: Json = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with running_api_server() as server:
        install(server, "shop", "other")
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            yield webhook


@pytest.fixture(scope="module")
def server(webhook: Webhook) -> ApiServer:
    return webhook.server


def wait_until_called(webhook: Webhook) -> None:
    """The API server hears of a changed webhook configuration within a second."""
    path = ENDPOINTS.path() + "?dryRun=All"
    refused = {**endpoint("probe"), "spec": {**endpoint()["spec"], "tls": {"mode": "Disabled"}}}
    answer = [webhook.server.ask("POST", path, refused)]

    def called() -> bool:
        answer[0] = webhook.server.ask("POST", path, refused)
        return answer[0].status == 422

    eventually(called, lambda: f"{answer[0]}\n{webhook.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def kubectl(server: ApiServer) -> Kubectl:
    kubectl = Kubectl(server)
    parametrised = database_class("parametrised", params=PARAMS)
    for manifest in (
        database_class(),
        endpoint(),
        parametrised,
        endpoint("sized", className="parametrised", host="sized.example.test"),
        database_class("by-name", identity="{{ .Metadata.name }}"),
        endpoint("shared", className="by-name", host="shared.example.test"),
        endpoint("closed", allowedNamespaces={"from": "Selector", "selector": {"matchLabels": {"team": "db"}}}),
    ):
        done = kubectl.apply(manifest)
        assert done.returncode == 0, done.stderr
    return kubectl


def bare(name: str, **spec: Any) -> Json:
    """A Database as a user writes it, without uid and namespace."""
    manifest = database(name, **spec)
    return {**manifest, "metadata": {"name": name}}


def requester(stored: Json, key: str = REQUESTED_BY) -> str:
    return Stamp.read(stored["metadata"]["annotations"][key]).user


def test_a_database_is_stamped_completed_and_protected_by_its_finalizer(kubectl: Kubectl) -> None:
    kubectl.apply(bare("stamped", endpoint="sized", params=OWNED), user="alice")

    stored = kubectl.get("database", "stamped")
    assert requester(stored) == "alice"
    assert stored["metadata"]["annotations"][DEFAULTED_PARAMS] == "size"
    assert stored["metadata"]["finalizers"] == [FINALIZER]
    assert stored["spec"]["params"] == {"owner": "sales", "size": "small"}


@pytest.mark.parametrize("way", [["apply", "-f", "-"], ["apply", "--server-side", "-f", "-"], ["replace", "-f", "-"]])
def test_applying_the_same_manifest_again_changes_nothing(kubectl: Kubectl, way: list[str]) -> None:
    name = "again-" + "".join(way).replace("-", "")
    manifest = bare(name, endpoint="sized", params=OWNED)
    kubectl(*(["create", "-f", "-"] if way[0] == "replace" else way), stdin=manifest, user="alice")
    before = kubectl.get("database", name)

    done = kubectl(*way, stdin=manifest, user="bob")

    after = kubectl.get("database", name)
    assert done.returncode == 0, done.stderr
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert after["metadata"]["finalizers"] == before["metadata"]["finalizers"]


def test_a_class_that_gains_a_default_changes_no_database_that_is_there(kubectl: Kubectl) -> None:
    growing = database_class("growing", params={"tier": {"required": False}})
    kubectl.apply(growing)
    kubectl.apply(endpoint("growing", className="growing"))
    manifest = bare("grown", endpoint="growing")
    kubectl.apply(manifest)
    kubectl.apply(database_class("growing", params={"tier": {"default": "gold"}}))

    done = kubectl("replace", "-f", "-", stdin=manifest)

    assert done.returncode == 0, done.stderr
    assert kubectl.get("database", "grown")["spec"]["params"] == {}


def test_a_forged_requester_does_not_stay(kubectl: Kubectl) -> None:
    manifest = bare("forged")
    manifest["metadata"]["annotations"] = {REQUESTED_BY: "root"}
    kubectl.apply(manifest, user="mallory")
    kubectl("annotate", "database", "forged", "--overwrite", f"{REQUESTED_BY}=root", user="mallory")
    removed = kubectl("annotate", "database", "forged", f"{REQUESTED_BY}-", user="mallory")

    assert removed.returncode == 0, removed.stderr
    assert requester(kubectl.get("database", "forged")) == "mallory"


def test_nobody_gets_past_the_stamp_by_calling_an_object_dying(kubectl: Kubectl) -> None:
    manifest = bare("undead")
    manifest["metadata"] |= {"annotations": {REQUESTED_BY: "root"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}

    kubectl("create", "-f", "-", stdin=manifest, user="mallory")
    stored = kubectl.get("database", "undead")
    stored["metadata"] |= manifest["metadata"] | {"finalizers": []}
    kubectl("replace", "-f", "-", stdin=stored, user="mallory")

    stored = kubectl.get("database", "undead")
    assert requester(stored) == "mallory"
    assert stored["metadata"]["finalizers"] == [FINALIZER]


WAYS: Mapping[str, tuple[str, ...]] = {
    "merge": ("patch", "--type=merge", "-p", json.dumps({"metadata": {"annotations": {REQUESTED_BY: "root"}}})),
    "removal": ("patch", "--type=merge", "-p", json.dumps({"metadata": {"annotations": None}})),
    "json": ("patch", "--type=json", "-p", '[{"op": "remove", "path": "/metadata/annotations"}]'),
    "status": (
        "patch",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"metadata": {"annotations": {REQUESTED_BY: "root"}}}),
    ),
    "annotate": ("annotate", "--overwrite", f"{REQUESTED_BY}=root"),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_of_changing_it_changes_the_stamp(kubectl: Kubectl, way: str) -> None:
    name = f"changed-by-{way}"
    kubectl.apply(bare(name), user="alice")
    before = kubectl.get("database", name)["metadata"]["annotations"][REQUESTED_BY]
    verb, *rest = WAYS[way]

    done = kubectl(verb, "database", name, *rest, user="mallory")

    assert done.returncode == 0, done.stderr
    assert kubectl.get("database", name)["metadata"]["annotations"][REQUESTED_BY] == before


def test_whoever_forces_ownership_of_the_stamp_owns_what_it_was(kubectl: Kubectl) -> None:
    kubectl.apply(bare("owned"), user="alice")
    forged = bare("owned")
    forged["metadata"]["annotations"] = {REQUESTED_BY: "root"}
    before = kubectl.get("database", "owned")["metadata"]["annotations"][REQUESTED_BY]

    done = kubectl.apply(forged, "--server-side", "--force-conflicts", user="mallory")

    assert done.returncode == 0, done.stderr
    assert kubectl.get("database", "owned")["metadata"]["annotations"][REQUESTED_BY] == before


@pytest.mark.parametrize("way", [["apply"], ["apply", "--server-side"], ["create"]])
def test_an_exported_object_can_be_applied_and_carries_who_applied_it(kubectl: Kubectl, way: list[str]) -> None:
    """Of `kubectl get -o json`, with everything that stands in it, after the object itself has gone."""
    name = "exported-by-" + "".join(way).replace("-", "")
    kubectl.apply(bare(name), user="alice")
    exported = kubectl.get("database", name)
    again = kubectl(*way, "-f", "-", stdin=exported, user="bob")
    there = requester(kubectl.get("database", name))
    kubectl("delete", "database", name, "--wait=false")
    kubectl("patch", "database", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')

    if way == ["apply", "--server-side"]:
        # The API server itself refuses to apply an object under another's uid, before admission.
        exported["metadata"].pop("uid")
    anew = kubectl(*way, "-f", "-", stdin=exported, user="bob")

    assert again.returncode == 0 or way == ["create"], again.stderr
    assert there == "alice"
    assert anew.returncode == 0, anew.stderr
    assert requester(kubectl.get("database", name)) == "bob"


def test_who_asks_for_a_rotation_is_stamped(kubectl: Kubectl) -> None:
    kubectl.apply(bare("rotated"), user="alice")
    kubectl("annotate", "database", "rotated", f"{ROTATE}=1", user="bob")

    stored = kubectl.get("database", "rotated")
    assert (requester(stored), requester(stored, ROTATE_REQUESTED_BY)) == ("alice", "bob")


def test_kubectl_prints_every_fault_with_its_field(kubectl: Kubectl) -> None:
    manifest = bare("faulty", endpoint="sized", params={"size": "huge", "ghost": "1"})

    assert kubectl.refusal("apply", "-f", "-", stdin=manifest).splitlines() == [
        'The Database "faulty" is invalid: ',
        '* spec.params.ghost: DatabaseClass "parametrised" does not know it; the parameters it knows: owner, size',
        '* spec.params.owner: DatabaseClass "parametrised" requires it (the team that pays); add it',
        '* spec.params.size: is not an allowed value; allowed are "small", "large"',
    ]


def test_a_value_with_a_line_break_does_not_pass_a_pattern(kubectl: Kubectl) -> None:
    manifest = bare("newline", endpoint="sized", params={"owner": "sales\n"})

    assert "spec.params.owner: must match the pattern" in kubectl.refusal("apply", "-f", "-", stdin=manifest)


def test_unknown_and_closed_endpoints_are_refused(kubectl: Kubectl) -> None:
    unknown = kubectl.refusal("apply", "-f", "-", stdin=bare("lost", endpoint="nowhere"))
    closed = kubectl.refusal("apply", "-f", "-", stdin=bare("lost", endpoint="closed"))

    assert unknown.startswith('The Database "lost" is invalid: spec.endpoint: there is no DatabaseEndpoint "nowhere"')
    assert 'is not open to namespace "shop"; open to this namespace: ' in closed


def test_a_namespace_label_opens_an_endpoint(kubectl: Kubectl, server: ApiServer) -> None:
    server.ask("POST", NAMESPACES.path(), {"metadata": {"name": "dbs", "labels": {"team": "db"}}})

    done = kubectl("create", "-f", "-", stdin=bare("opened", endpoint="closed"), namespace="dbs")

    assert done.returncode == 0, done.stderr


def test_class_endpoint_and_database_of_one_file_go_through_together(kubectl: Kubectl) -> None:
    items = [
        database_class("together"),
        endpoint("together", className="together"),
        bare("together-1", endpoint="together"),
    ]

    done = kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": items})

    assert done.returncode == 0, done.stderr


def test_a_generated_name_is_judged_as_it_turns_out(kubectl: Kubectl) -> None:
    manifest = bare("x", endpoint="shared")
    manifest["metadata"] = {"generateName": "generated-"}

    done = kubectl("create", "-f", "-", stdin=manifest)
    dry = kubectl("create", "-f", "-", "--dry-run=server", stdin=manifest)

    assert done.returncode == 0, done.stderr
    assert dry.returncode == 0, dry.stderr


def test_a_dry_run_says_what_would_be_called_and_stores_nothing(kubectl: Kubectl) -> None:
    done = kubectl("create", "-f", "-", "--dry-run=server", stdin=bare("planned"), user="alice")

    assert done.returncode == 0
    assert "Warning: would call dbaas.create on endpoint pg (pg.example.test) for alice" in done.stderr
    assert kubectl("get", "database", "planned").returncode != 0


def test_what_cannot_be_changed_is_refused_in_a_sentence(kubectl: Kubectl) -> None:
    kubectl.apply(bare("fixed", endpoint="sized", params=OWNED))

    moved = kubectl.refusal("apply", "-f", "-", stdin=bare("fixed", params=OWNED))
    resized = kubectl.refusal("apply", "-f", "-", stdin=bare("fixed", endpoint="sized", params={"owner": "other"}))

    assert "spec.endpoint" in moved
    assert "cannot be changed" in moved
    assert "cannot be changed" in resized


def test_a_name_that_another_namespace_has_is_refused_without_naming_it(kubectl: Kubectl, server: ApiServer) -> None:
    name = instance_name("postgresql", "shared.example.test", 5432, "taken")
    instance = {
        "apiVersion": INSTANCES.api_version,
        "kind": INSTANCES.kind,
        "metadata": {"name": name},
        "spec": {
            "endpoint": "shared",
            "className": "by-name",
            "driver": "postgres",
            "claimRef": {"namespace": "other", "name": "theirs", "uid": "u"},
            "identity": "taken",
            "deletionPolicy": "Delete",
            "operations": {"create": {"procedure": "dbaas.create", "timeout": "60s", "arguments": []}},
        },
    }
    answer = server.ask("POST", INSTANCES.path(), instance)
    assert answer.accepted, answer.message
    said: list[str] = []

    def refused() -> bool:
        done = kubectl("create", "-f", "-", "--dry-run=server", stdin=bare("taken", endpoint="shared"))
        said[:] = [done.stderr]
        return done.returncode != 0

    eventually(refused)

    assert "is taken by a Database of another namespace; choose another one" in said[0]
    assert "other/" not in said[0]
    assert "theirs" not in said[0]


def test_a_protected_database_is_not_deleted(kubectl: Kubectl) -> None:
    kubectl.apply(bare("protected", deletionProtection=True))

    refusal = kubectl.refusal("delete", "database", "protected", "--wait=false")
    kubectl("patch", "database", "protected", "--type=merge", "-p", '{"spec":{"deletionProtection":false}}')
    done = kubectl("delete", "database", "protected", "--wait=false")

    assert refusal.startswith('The Database "protected" is invalid: spec.deletionProtection: protects it from deletion')
    assert done.returncode == 0, done.stderr


def test_a_finalizer_comes_off_a_dying_database_only(kubectl: Kubectl) -> None:
    kubectl.apply(bare("dying"))
    none = ["patch", "database", "dying", "--type=merge", "-p", '{"metadata":{"finalizers":null}}']
    kubectl(*none)
    kept = kubectl.get("database", "dying")["metadata"].get("finalizers")
    kubectl("delete", "database", "dying", "--wait=false")
    kubectl(*none)

    assert kept == [FINALIZER]
    assert "NotFound" in kubectl("get", "database", "dying").stderr


def test_the_status_is_written_past_the_webhook(kubectl: Kubectl) -> None:
    kubectl.apply(bare("observed"))
    patch = '{"status":{"observedGeneration":1}}'

    done = kubectl("patch", "database", "observed", "--subresource=status", "--type=merge", "-p", patch)

    assert done.returncode == 0, done.stderr


def test_a_class_that_does_not_compile_is_refused(kubectl: Kubectl) -> None:
    create = {"name": "dbaas.create", "inputs": {"0": "{{ .Metadata.nam }}", "name": "{{ if .X }}"}}
    manifest = database_class("broken", operations={"create": create, "delete": DELETE}, params={"a": {"pattern": "("}})

    refusal = kubectl.refusal("apply", "-f", "-", stdin=manifest)

    for path in (
        "spec.operations.create.inputs",
        "spec.operations.create.inputs[0]",
        "spec.operations.create.inputs[name]",
        "spec.params[a].pattern",
    ):
        assert f"* {path}: " in refusal


def test_what_may_be_meant_otherwise_is_warned_of(kubectl: Kubectl) -> None:
    keeping = database_class("keeping", operations={"create": CREATE})

    assert "Warning: spec.operations.delete is not set" in kubectl.apply(keeping).stderr
    assert "Warning: spec.className: there is no DatabaseClass unborn yet" in (
        kubectl.apply(endpoint("early", className="unborn"), "--dry-run=server").stderr
    )


def test_an_endpoint_in_clear_text_is_refused(kubectl: Kubectl) -> None:
    refusal = kubectl.refusal("apply", "-f", "-", stdin=endpoint("clear", tls={"mode": "Disabled"}))

    assert refusal.startswith('The DatabaseEndpoint "clear" is invalid: spec.tls.mode: Disabled sends passwords')


def test_what_is_in_use_is_not_deleted(kubectl: Kubectl, server: ApiServer) -> None:
    kubectl.apply(database_class("used"))
    kubectl.apply(endpoint("used", className="used"))
    kubectl.apply(bare("user", endpoint="used"))

    for kind, user in (("databaseclass", "DatabaseEndpoint used"), ("databaseendpoint", "Database shop/user")):
        said: list[str] = []

        def refused(kind: str = kind, said: list[str] = said) -> bool:
            done = kubectl("delete", kind, "used", "--dry-run=server")
            said[:] = [done.stderr]
            return done.returncode != 0

        eventually(refused)

        assert f"is in use by {user}; delete what uses it first" in said[0]
    collection = server.ask("DELETE", ENDPOINTS.path() + "?dryRun=All&fieldSelector=metadata.name%3Dused")
    assert "is in use by Database shop/user" in collection.message
    for resource in (CLASSES, ENDPOINTS):
        assert server.ask("GET", resource.path("used")).accepted
    assert server.ask("GET", DATABASES.path("user", namespace="shop")).accepted


def test_a_webhook_of_some_namespaces_knows_no_others(kubectl: Kubectl, webhook: Webhook, tmp_path: Path) -> None:
    for name in ("narrow-1", "narrow-2"):
        kubectl.apply(endpoint(name))
    kubectl("create", "-f", "-", stdin=bare("inside", endpoint="narrow-1"), namespace="shop")
    kubectl("create", "-f", "-", stdin=bare("outside", endpoint="narrow-2"), namespace="other")
    narrow = Webhook(webhook.server, tmp_path)
    narrow.authority = webhook.authority
    try:
        narrow.start(DBAAS_WATCH_NAMESPACES="shop")
        narrow.wait_until_ready()

        verdicts = [narrow.ask(review("DELETE", endpoint(name)))["allowed"] for name in ("narrow-1", "narrow-2")]
    finally:
        narrow.kill()

    assert verdicts == [False, True]
