"""What policies have against Databases that exist: who is held back, who is only told, and who comes first."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes.client.configuration import Configuration

from api.labels import ADOPT, FINALIZER, LABEL_ENDPOINT_CREDENTIALS, REQUESTED_BY
from api.stamp import Stamp
from controller.compliance import Compliance
from controller.news import news_of_status
from controller.observed import Observed
from controller.plan import Plan, plan
from controller.status import MESSAGE_LIMIT, desired_status
from controller.steps import ClaimInstance
from controller.world import World, concerns
from kube.client import Client

Json = dict[str, Any]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CREATE = {"name": "create_db", "inputs": {"name": "{{ .Metadata.namespace }}-{{ .Metadata.name }}"}}
SERVER = {"className": "postgres", "host": "main.example.test", "credentialsSecretRef": {"name": "account"}}


class Cluster:
    """A world whose caches hold what a test puts there."""

    def __init__(self) -> None:
        self.world = World(Client(Configuration()), "dbaas-system")
        self._versions = itertools.count(1)
        metadata = {"name": "account", "namespace": "dbaas-system", "labels": {LABEL_ENDPOINT_CREDENTIALS: "true"}}
        data = {"username": "YQ==", "password": "YQ=="}
        self.world.secrets.remember({"metadata": {**metadata, "resourceVersion": "1"}, "data": data})
        self.namespace("team-a", team="a")
        self.namespace("team-b", team="b")
        self.put("classes", "postgres", {"driver": "postgres", "operations": {"create": CREATE}})
        for name in ("main", "spare"):
            spec = {
                "className": "postgres",
                "host": f"{name}.example.test",
                "credentialsSecretRef": {"name": "account"},
            }
            self.put("endpoints", name, spec)

    def put(self, cache: str, name: str, spec: Json, namespace: str = "", **metadata: Any) -> Any:
        told = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "generation": 1,
            "creationTimestamp": "2026-11-21T11:00:00Z",
            **metadata,
            "resourceVersion": str(next(self._versions)),
        }
        held = self.world.databases[0] if cache == "databases" else getattr(self.world, cache)
        return held.remember({"metadata": told, "spec": spec, "status": metadata.get("status")})

    def namespace(self, name: str, **labels: str) -> None:
        self.put("namespaces", name, {}, labels=labels)

    def policy(self, name: str = "rules", **spec: Any) -> None:
        self.put("policies", name, spec)

    def database(self, name: str, namespace: str = "team-a", endpoint: str = "main", **more: Any) -> None:
        """Created in the order in which tests make them."""
        age = {"creationTimestamp": f"2026-11-21T11:{len(self.world.databases[0]):02}:00Z"}
        metadata = {**age, **more.pop("metadata", {})}
        metadata.setdefault("finalizers", [FINALIZER])
        self.put("databases", name, {"endpoint": endpoint, **more}, namespace, **metadata)

    def observe(self, name: str, namespace: str = "team-a") -> Observed:
        return self.world.observe((namespace, name))

    def judged(self, name: str, namespace: str = "team-a") -> Compliance:
        return self.observe(name, namespace).compliance

    def plan(self, name: str, namespace: str = "team-a") -> Plan:
        return plan(self.observe(name, namespace), NOW)

    def claim(self, name: str, namespace: str = "team-a", endpoint: str = "main", phase: str = "Bound") -> None:
        """What the controller's create of the instance leaves."""
        spec = {
            "endpoint": endpoint,
            "className": "postgres",
            "driver": "postgres",
            "claimRef": {"namespace": namespace, "name": name, "uid": f"uid-{namespace}-{name}"},
            "identity": f"{namespace}-{name}",
            "deletionPolicy": "Delete",
            "operations": {"create": {"procedure": "create_db", "timeout": "60s"}},
        }
        made = f"2026-11-21T11:{30 + len(self.world.instances):02}:00Z"
        self.put("instances", f"db-{namespace}-{name}", spec, creationTimestamp=made, status={"phase": phase})

    def settle(self) -> list[str]:
        """Let every Database that may claim do so, the last one first: order must not matter."""
        claimed = []
        waiting = sorted((d.metadata for d in self.world.databases[0].values()), key=lambda m: m.uid, reverse=True)
        for _ in waiting:
            for metadata in waiting:
                decided = self.plan(metadata.name, metadata.namespace)
                if isinstance(decided.step, ClaimInstance):
                    self.claim(metadata.name, metadata.namespace, decided.step.database.endpoint)
                    claimed.append(metadata.name)
        return sorted(claimed)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_without_policies_nothing_is_said(cluster: Cluster) -> None:
    cluster.database("a")
    observed = cluster.observe("a")

    assert not observed.compliance.concerned
    assert isinstance(cluster.plan("a").step, ClaimInstance)
    assert condition(observed) is None


def condition(observed: Observed) -> Json | None:
    """What its status would say."""
    assert observed.database is not None
    verdict = plan(observed, NOW).verdict
    assert verdict is not None
    status = desired_status(observed, observed.database, verdict, NOW)
    return next((c for c in status["conditions"] if c["type"] == "PolicyCompliant"), None)


def test_of_several_created_at_once_the_first_come_are_made_and_the_others_wait(cluster: Cluster) -> None:
    cluster.policy(quota={"perNamespace": 2})
    for name in "abcde":
        cluster.database(name)

    assert cluster.settle() == ["a", "b"]
    decided = cluster.plan("c")
    assert decided.step is None
    assert decided.verdict is not None
    assert (decided.verdict.reason, decided.verdict.stalled) == ("QuotaExceeded", True)
    assert 'metadata.namespace: DatabasePolicy "rules" allows 2 Databases in namespace "team-a"' in (
        decided.verdict.message
    )
    assert decided.verdict.message.endswith("It goes on by itself as soon as there is room")
    assert decided.look_again is not None


def test_of_the_same_second_the_uid_decides(cluster: Cluster) -> None:
    cluster.policy(quota={"perEndpoint": 1})
    at_once = {"creationTimestamp": "2026-11-21T11:00:00Z"}
    for name, namespace in (("z", "team-a"), ("y", "team-b"), ("x", "team-a")):
        cluster.database(name, namespace, metadata={**at_once, "uid": f"uid-{name}"})

    assert cluster.judged("x").denied == ()
    assert cluster.judged("y", "team-b").denied != ()
    assert cluster.judged("z").denied != ()


def test_who_has_a_claim_keeps_it_before_who_came_earlier(cluster: Cluster) -> None:
    """Caches may show the later one first; what is provisioned is never taken back."""
    cluster.policy(quota={"perNamespace": 1})
    cluster.database("late", metadata={"creationTimestamp": "2026-11-21T11:59:00Z"})
    cluster.claim("late")
    cluster.database("early")

    assert cluster.judged("late").denied == ()
    assert cluster.judged("early").reason == "QuotaExceeded"


def test_a_deletion_makes_room_once_its_claim_is_gone(cluster: Cluster) -> None:
    cluster.policy(quota={"perNamespace": 1})
    cluster.database("a")
    cluster.claim("a")
    cluster.database("b")
    cluster.database("a", metadata={"deletionTimestamp": "2026-11-21T12:00:00Z"})
    during = cluster.judged("b")
    held = cluster.world.instances.get("db-team-a-a")
    assert held is not None
    cluster.world.instances.forget(held)

    assert during.reason == "QuotaExceeded"
    assert cluster.judged("b").denied == ()
    assert isinstance(cluster.plan("b").step, ClaimInstance)


def test_what_is_retained_takes_up_no_room(cluster: Cluster) -> None:
    cluster.policy(quota={"perNamespace": 1})
    cluster.claim("a", phase="Released")
    cluster.database("b")

    assert cluster.judged("b").denied == ()


def test_a_quota_counts_what_its_policy_is_about(cluster: Cluster) -> None:
    cluster.policy(match={"endpoints": ["spare"]}, quota={"perNamespace": 1})
    cluster.policy("labels", match={"namespaceSelector": {"matchLabels": {"team": "b"}}}, quota={"perEndpoint": 0})
    for name in "ab":
        cluster.database(name)
    cluster.database("c", endpoint="spare")
    cluster.database("d", endpoint="spare")
    cluster.database("e", "team-b")

    assert cluster.settle() == ["a", "b", "c"]
    assert 'DatabasePolicy "labels"' in cluster.judged("e", "team-b").message


def test_nobody_crowds_others_out_of_an_endpoint_with_what_waits_at_home(cluster: Cluster) -> None:
    cluster.policy("home", quota={"perNamespace": 1})
    cluster.policy("shared", quota={"perEndpoint": 2})
    for number in range(5):
        cluster.database(f"greedy-{number}")
    cluster.claim("greedy-0")
    cluster.database("modest", "team-b")

    assert cluster.judged("modest", "team-b").denied == ()
    assert cluster.settle() == ["modest"]


@pytest.mark.parametrize("seed", range(30))
def test_however_they_come_a_quota_is_kept_and_used_up(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster()
    limit, count = rng.randrange(5), rng.randrange(8)
    cluster.policy("a", quota={"perNamespace": limit})
    cluster.policy("b", quota={"perEndpoint": limit + rng.randrange(3)})
    for number in range(count):
        cluster.database(f"d{number}", rng.choice(["team-a", "team-b"]), rng.choice(["main", "spare"]))
    made = cluster.settle()
    by_namespace = [
        sum(i.claim is not None and i.claim.namespace == name for i in cluster.world.instances.values())
        for name in ("team-a", "team-b")
    ]

    assert max(by_namespace) <= limit
    assert made or not count or not limit
    assert cluster.settle() == []


def test_a_lowered_quota_tells_those_who_came_last_and_takes_nothing(cluster: Cluster) -> None:
    cluster.policy(quota={"perNamespace": 1})
    for name in "abc":
        cluster.database(name)
        cluster.claim(name)

    assert [cluster.judged(name).reason for name in "abc"] == ["Compliant", "QuotaExceeded", "QuotaExceeded"]
    assert "It stays, and is rotated and deleted as before" in cluster.judged("b").message


def test_a_policy_that_became_stricter_is_told_with_field_policy_and_cure(cluster: Cluster) -> None:
    cluster.database("a", params={"size": "huge"})
    cluster.claim("a")
    cluster.policy(params={"size": {"enum": ["small"]}}, deletionProtection="Required")
    found = condition(cluster.observe("a"))

    assert found is not None
    assert (found["status"], found["reason"]) == ("False", "PolicyViolated")
    assert found["message"].startswith(
        'spec.deletionProtection: DatabasePolicy "rules" requires it; set it to true, or to delete, annotate '
    )
    assert 'spec.params.size: DatabasePolicy "rules" allows only "small"; choose one of them' in found["message"]


def test_however_much_there_is_against_it_what_follows_is_told(cluster: Cluster) -> None:
    """And how much more there is; what fits into a status is not cut."""
    rules = [{"expression": f"object.metadata.name == 'x{n}'", "message": f"no {n} " * 70} for n in range(20)]
    cluster.policy("a", validations=rules)
    cluster.policy("b", validations=[{"expression": "object.spec.ghost == '" + "x" * 4000 + "'"}])
    cluster.database("a")
    cluster.claim("a")
    message = cluster.judged("a").message

    assert message.startswith('spec: DatabasePolicy "a" no 0 no 0')
    assert "; and 17 more. It stays, and is rotated and deleted as before" in message
    assert len(message) <= MESSAGE_LIMIT


def test_what_cannot_be_mended_any_more_is_told_so(cluster: Cluster) -> None:
    cluster.policy(params={"size": {"required": True}})
    cluster.database("a")
    cluster.claim("a")
    message = cluster.judged("a").message
    cluster.policy(deletionProtection="Required")

    assert message.endswith(
        "as before; endpoint and params stay as they are: an administrator can exempt it by spec.match"
    )
    assert "stay as they are" not in cluster.judged("a").message


def test_what_is_new_to_the_controller_is_judged_before_it_is_claimed(cluster: Cluster) -> None:
    """It may have come while the webhook was away."""
    cluster.policy(allowedEndpoints=["spare"])
    cluster.database("a")
    decided = cluster.plan("a")

    assert decided.step is None
    assert decided.verdict is not None
    assert decided.verdict.reason == "PolicyViolated"
    assert "spec.endpoint" in decided.verdict.message
    assert "delete it and apply it anew" in decided.verdict.message


def test_parameters_that_its_class_does_not_take_are_found_too(cluster: Cluster) -> None:
    spec = {
        "driver": "postgres",
        "operations": {"create": CREATE},
        "params": {"size": {"enum": ["small"]}, "note": {"required": False, "pattern": "^x$"}},
    }
    cluster.put("classes", "postgres", spec)
    cluster.database("a", params={"size": "huge", "note": "x\n", "ghost": "1"})
    decided = cluster.plan("a")

    assert decided.verdict is not None
    assert decided.verdict.reason == "ParametersInvalid"
    for field in ("spec.params.size", "spec.params.note", "spec.params.ghost"):
        assert f"{field}: " in decided.verdict.message


def test_warn_and_audit_hold_nothing_back_and_are_told(cluster: Cluster) -> None:
    cluster.policy("loud", enforcement="Warn", deletionProtection="Required")
    cluster.policy("quiet", enforcement="Audit", quota={"perNamespace": 0})
    cluster.database("a")
    found = condition(cluster.observe("a"))

    assert isinstance(cluster.plan("a").step, ClaimInstance)
    assert found is not None
    assert (found["status"], found["reason"]) == ("True", "PolicyWarned")
    assert '"loud"' in found["message"]
    assert '"quiet"' in found["message"]


@pytest.mark.parametrize(
    ("expression", "violated"),
    [
        ("object.spec.params.size == 'huge'", False),
        ("object.spec.params.size == 'small'", True),
        ("object.metadata.name == 'a' && request.namespace == 'team-a' && request.name == 'a'", False),
        ("class.spec.driver == 'postgres' && endpoint.spec.host == 'main.example.test'", False),
        ("namespaceObject.metadata.labels.team == 'b'", True),
        ("usage.namespace < 1", False),
        ("object.spec.ghost == 1", True),
        ("'dba' in request.userInfo.groups", False),
        ("oldObject == null", False),
        ("object.metadata.generateName == 'a-' && !has(object.metadata.resourceVersion)", False),
        ("object.metadata.ownerReferences[0].kind == 'Application' && object.metadata.finalizers.size() == 1", False),
        ("!has(object.status)", False),
    ],
)
def test_expressions_are_asked_again_but_for_those_about_the_requester(
    cluster: Cluster, expression: str, *, violated: bool
) -> None:
    """They find what admission lets them read."""
    cluster.policy(validations=[{"expression": expression, "message": "no"}])
    owner = {"apiVersion": "example.com/v1", "kind": "Application", "name": "a", "uid": "1"}
    metadata = {"generateName": "a-", "ownerReferences": [owner], "status": {"instance": "db-a"}}
    cluster.database("a", params={"size": "huge"}, metadata=metadata)

    assert bool(cluster.judged("a").denied) == violated


def test_of_what_exists_expressions_find_the_status_too(cluster: Cluster) -> None:
    """As in an update; a new Database has none."""
    expression = "object.status.instance == 'db-a' && object.metadata.resourceVersion != ''"
    cluster.policy(validations=[{"expression": expression, "message": "no"}])
    cluster.database("a", metadata={"status": {"instance": "db-a"}})
    cluster.claim("a")

    assert not cluster.judged("a").denied


def test_whom_a_policy_is_about_is_read_from_the_stamp(cluster: Cluster) -> None:
    cluster.policy(match={"users": ["bob"], "groups": ["interns"]}, allowedEndpoints=["spare"])
    stamps = {
        "bobs": Stamp.of("bob", (), "", ""),
        "interns": Stamp.of("carol", ("interns",), "", ""),
        "alices": Stamp.of("alice", ("staff",), "", ""),
    }
    for name, stamp in stamps.items():
        cluster.database(name, metadata={"annotations": {REQUESTED_BY: stamp.text()}})
    cluster.database("nobodys")

    assert [name for name in (*stamps, "nobodys") if cluster.judged(name).denied] == ["bobs", "interns"]


def test_a_quota_for_service_accounts_is_kept_though_their_groups_are_in_no_stamp(cluster: Cluster) -> None:
    cluster.policy(match={"groups": ["system:serviceaccounts:ci"]}, quota={"perNamespace": 1})
    stamp = Stamp.of("system:serviceaccount:ci:deployer", ["system:serviceaccounts:ci"], "", "")
    for name in "abc":
        cluster.database(name, metadata={"annotations": {REQUESTED_BY: stamp.text()}})

    assert cluster.settle() == ["a"]


@pytest.mark.parametrize(
    "expression",
    [
        "request.operation != 'UPDATE' || object.metadata.labels.team == oldObject.metadata.labels.team",
        "timestamp(object.metadata.creationTimestamp) > timestamp('2026-11-21T10:59:59Z')",
        "oldObject == null || oldObject.kind == object.kind && oldObject.apiVersion == 'dbaas.bedag.ch/v1'",
    ],
)
def test_what_exists_is_judged_as_applied_again_so_what_may_not_change_has_not(
    cluster: Cluster, expression: str
) -> None:
    cluster.policy(validations=[{"expression": expression}])
    cluster.database("a", metadata={"labels": {"team": "x"}})
    before = cluster.judged("a").violations
    cluster.claim("a")

    assert (before, cluster.judged("a").violations) == ((), ())


def test_what_concerns_creations_alone_is_nothing_to_what_exists(cluster: Cluster) -> None:
    cluster.policy("new", match={"operations": ["CREATE"]}, allowedEndpoints=["spare"])
    cluster.policy("turning", match={"operations": ["ROTATE", "DELETE"]}, validations=[{"expression": "false"}])
    for name in "ab":
        cluster.database(name)
    cluster.claim("a")

    assert not cluster.judged("a").concerned
    assert cluster.judged("b").denied


def test_adoption_that_was_forbidden_since_is_told(cluster: Cluster) -> None:
    cluster.policy(adoption="Forbidden")
    cluster.database("a", metadata={"annotations": {ADOPT: "true"}})
    cluster.claim("a")

    assert "forbids adoption" in cluster.judged("a").message


def test_a_namespace_that_was_relabelled_is_told_or_held_back(cluster: Cluster) -> None:
    selector = {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}
    cluster.put("endpoints", "main", {**SERVER, "allowedNamespaces": selector}, generation=2)
    for name in "ab":
        cluster.database(name)
    cluster.claim("a")
    before = cluster.judged("a")
    cluster.namespace("team-a", team="gone")
    decided = cluster.plan("b")

    assert not before.denied
    assert "not open to namespace" in cluster.judged("a").message
    assert decided.verdict is not None
    assert decided.verdict.reason == "NamespaceNotAllowed"


def test_what_is_being_deleted_is_judged_by_nobody(cluster: Cluster) -> None:
    cluster.policy(allowedEndpoints=["spare"])
    cluster.database("a", metadata={"deletionTimestamp": "2026-11-21T12:00:00Z"})
    cluster.claim("a", phase="Deleting")

    assert not cluster.judged("a").concerned


def test_a_change_of_the_verdict_is_one_event(cluster: Cluster) -> None:
    cluster.database("a")
    cluster.claim("a")
    told: list[tuple[str, bool]] = []

    def tell() -> None:
        observed = cluster.observe("a")
        verdict = plan(observed, NOW).verdict
        assert observed.database is not None
        assert verdict is not None
        status = desired_status(observed, observed.database, verdict, NOW)
        told.extend((news.reason, news.normal) for news in news_of_status(observed.database, verdict, status))
        cluster.database("a", metadata={"status": status, "creationTimestamp": "2026-11-21T11:00:00Z"})

    tell()
    told.clear()
    for allowed in (["main"], ["spare"], ["spare"], ["main"]):
        cluster.policy(allowedEndpoints=allowed)
        tell()

    assert told == [("PolicyViolated", False), ("Compliant", True)]


def test_a_verdict_is_worked_out_anew_only_when_something_changed(cluster: Cluster) -> None:
    cluster.policy(allowedEndpoints=["main"])
    cluster.database("a")
    first = cluster.judged("a")
    cluster.database("b")
    again = cluster.judged("a")
    cluster.policy(allowedEndpoints=["spare"])

    assert again is first
    assert cluster.judged("a").denied


@pytest.mark.parametrize(
    ("cache", "name", "variable"), [("endpoints", "main", "endpoint"), ("classes", "postgres", "class")]
)
def test_an_annotation_of_endpoint_or_class_is_something_that_changed(
    cluster: Cluster, cache: str, name: str, variable: str
) -> None:
    """Annotations change no generation."""
    closed = f"'closed' in {variable}.metadata.annotations"
    cluster.policy(validations=[{"expression": f"!({closed})", "message": "closed"}])
    spec = {"endpoints": SERVER, "classes": {"driver": "postgres", "operations": {"create": CREATE}}}[cache]
    cluster.database("a")
    cluster.claim("a")
    denied = []
    for written in ({}, {"closed": "yes"}, {}):
        cluster.put(cache, name, spec, annotations=written)
        denied.append(bool(cluster.judged("a").denied))

    assert denied == [False, True, False]


def test_an_owner_of_the_database_is_something_that_changed(cluster: Cluster) -> None:
    cluster.policy(validations=[{"expression": "has(object.metadata.ownerReferences)", "message": "owned"}])
    denied = []
    for owners in ([], [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]):
        cluster.database("a", metadata={"creationTimestamp": "2026-11-21T11:00:00Z", "ownerReferences": owners})
        denied.append(bool(cluster.judged("a").denied))

    assert denied == [True, False]


def test_a_policy_wakes_those_whom_it_is_about_and_a_deletion_those_who_wait(cluster: Cluster) -> None:
    woken: list[tuple[str, str]] = []
    waits = {"conditions": [{"type": "Ready", "status": "False", "reason": "QuotaExceeded", "message": ""}]}
    for name, namespace, status in (("a", "team-a", {}), ("b", "team-b", waits), ("c", "team-a", waits)):
        cluster.database(name, namespace, metadata={"status": status})
    cluster.claim("a")
    concerns(cluster.world, woken.append)

    cluster.policy(match={"namespaceSelector": {"matchLabels": {"team": "a"}}}, quota={"perNamespace": 1})
    about = sorted(woken)
    woken.clear()
    cluster.policy(match={"namespaceSelector": {"matchLabels": {"team": "a"}}}, quota={"perNamespace": 1})
    unchanged = list(woken)
    held = cluster.world.instances.get("db-team-a-a")
    assert held is not None
    cluster.world.instances.forget(held)

    assert about == [("team-a", "a"), ("team-a", "c")]
    assert unchanged == []
    assert {("team-a", "a"), ("team-a", "c"), ("team-b", "b")} == set(woken)
