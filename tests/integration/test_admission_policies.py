"""What the ValidatingAdmissionPolicies leave of the rights that RBAC grants, asked of a real API server.

Every request is made as one of the chart's own accounts, with the roles that the chart gives it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.binding import secret_name
from api.identity import instance_name
from api.kinds import DatabaseClass, DatabaseEndpoint
from api.labels import ABANDON, ADOPT, FINALIZER, LABEL_CREDENTIALS, MANAGED_BY, MANAGED_BY_VALUE
from api.operation import operation_name
from api.resources import (
    CLASSES,
    DATABASES,
    INSTANCES,
    JOBS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    VALIDATING_WEBHOOKS,
    Resource,
)
from controller.probing import Probe, probe_manifest
from controller.settings import JobTemplate
from controller.standing import Turn
from tests.chart.apiserver import CHART, Answer, ApiServer, running_api_server

pytestmark = pytest.mark.integration

HOME = "dbaas-system"
AWAY = "shop"
CONTROLLER = f"system:serviceaccount:{HOME}:dbaas-controller"
WEBHOOK = f"system:serviceaccount:{HOME}:dbaas-webhook"
INSTANCE = instance_name("postgresql", "db.example.test", 5432, "shop_orders")
OPERATION = operation_name(INSTANCE, 1, 1)
OTHER_OPERATION = operation_name(INSTANCE, 2, 1)
JOB = f"system:serviceaccount:{HOME}:{OPERATION}"
SECRET = secret_name("orders")
TENANT = "tina"
"""May edit Databases."""
HEIR = "henry"
"""May also do in one namespace what administrators may."""
ADMINISTRATOR = "ada"
"""May do so everywhere."""
REPORT = {
    "outcome": "Succeeded",
    "reason": "Succeeded",
    "message": "",
    "startedAt": "2026-01-01T00:00:00Z",
    "finishedAt": "2026-01-01T00:00:01Z",
    "called": True,
    "reportedBy": "Job",
}
Json = dict[str, Any]
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ApiServer]:
    """An API server with the chart installed, and its webhooks out of the way: nothing runs that could answer them."""
    with running_api_server() as server:
        for namespace in (HOME, AWAY):
            server.ask("POST", NAMESPACES.path(), {"metadata": {"name": namespace}})
        server.helm("install", "dbaas", str(CHART), "--namespace", HOME)
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            server.ask("DELETE", resource.path("dbaas"))
        bind(server, TENANT, "dbaas-edit", AWAY)
        bind(server, HEIR, "dbaas-administrator", AWAY)
        bind(server, ADMINISTRATOR, "dbaas-administrator")
        for name in (OPERATION, OTHER_OPERATION):
            created = server.ask("POST", OPERATIONS.path(namespace=HOME), operation(name))
            assert created.accepted, created.message
        wait_for_policies(server)
        yield server


def bind(server: ApiServer, user: str, role: str, namespace: str | None = None) -> None:
    body = {
        "metadata": {"name": f"{user}-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    path = ROLE_BINDINGS.path(namespace=namespace) if namespace else CLUSTER_ROLE_BINDINGS.path()
    bound = server.ask("POST", path, body)
    assert bound.accepted, bound.message


def database(name: str, annotations: Mapping[str, str] | None = None) -> Json:
    return {
        "apiVersion": DATABASES.api_version,
        "kind": DATABASES.kind,
        "metadata": {"name": name, "annotations": dict(annotations or {}), "finalizers": [FINALIZER]},
        "spec": {"endpoint": "main"},
    }


def wait_for_policies(server: ApiServer) -> None:
    """The API server compiles new policies within a second; the last one in force means that all are."""
    probes = (
        (SERVICE_ACCOUNTS, HOME, {"metadata": {"name": "probe"}}),
        (SECRETS, HOME, token_secret("probe")),
        (ROLES, AWAY, {"metadata": {"name": "probe"}}),
        (DATABASES, AWAY, database("probe", {ABANDON: ""})),
    )
    deadline = time.monotonic() + 30
    while True:
        refusals = [create(server, *probe, dry=True) for probe in probes]
        refusals.append(server.merge(status_path(OPERATION) + "?dryRun=All", {}, WEBHOOK))
        if all("ValidatingAdmissionPolicy" in refusal.message for refusal in refusals):
            return
        assert time.monotonic() < deadline, [refusal.message for refusal in refusals]
        time.sleep(0.1)


def operation(name: str) -> Json:
    return {
        "apiVersion": OPERATIONS.api_version,
        "kind": OPERATIONS.kind,
        "metadata": {"name": name},
        "spec": {
            "version": 1,
            "type": "create",
            "sequence": 1,
            "attempt": 1,
            "databaseRef": {"namespace": AWAY, "name": "orders", "uid": "u"},
            "instanceRef": {"name": INSTANCE, "uid": "u"},
            "identity": "shop_orders",
            "className": "postgres",
            "driver": "postgres",
            "server": {
                "endpoint": "main",
                "host": "db.example.test",
                "port": 5432,
                "tls": {"mode": "VerifyFull", "minimumVersion": "1.2"},
            },
            "calls": [{"procedure": "create_db", "timeout": "60s"}],
            "requestedBy": "alice",
            "basis": "b",
        },
    }


def status_path(name: str) -> str:
    return OPERATIONS.path(name, namespace=HOME, subresource="status")


def create(
    server: ApiServer, resource: Resource, namespace: str, body: Mapping[str, Any], *, dry: bool = False
) -> Answer:
    """As the controller; a Database, which it does not create, as somebody who may edit Databases."""
    user = TENANT if resource is DATABASES else CONTROLLER
    path = resource.path(namespace=namespace) + ("?dryRun=All" if dry else "")
    return server.ask("POST", path, {"apiVersion": resource.api_version, "kind": resource.kind, **body}, user)


def credentials(name: str = SECRET, **changes: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {LABEL_CREDENTIALS: "true"}},
        "type": "servicebinding.io/postgresql",
        **changes,
    }


def token_secret(name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "dbaas-controller"}},
        "type": "kubernetes.io/service-account-token",
    }


def role(name: str = OPERATION, **rule: Any) -> Json:
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [SECRET],
        "verbs": ["create", "get", "patch"],
        **rule,
    }
    return {"metadata": {"name": name, "labels": {MANAGED_BY: MANAGED_BY_VALUE}}, "rules": [rule]}


def role_binding(name: str = OPERATION, role: str = OPERATION, kind: str = "Role", **subject: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGED_BY_VALUE}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": HOME, **subject}],
    }


def job(name: str = OPERATION, account: str = OPERATION, **pod: Any) -> Json:
    container = {
        "name": "job",
        "image": "provisioner-job",
        "securityContext": {"allowPrivilegeEscalation": False},
        **pod.pop("container", {}),
    }
    spec = {"restartPolicy": "Never", "serviceAccountName": account, "containers": [container], **pod}
    return {"metadata": {"name": name}, "spec": {"template": {"spec": spec}}}


@pytest.fixture
def granted(cluster: ApiServer) -> Iterator[None]:
    """What the controller gives a Job for as long as it runs; that it may is the first thing to see."""
    for resource, body in ((ROLES, role()), (ROLE_BINDINGS, role_binding())):
        made = create(cluster, resource, AWAY, body)
        assert made.accepted, made.message
    yield
    for resource in (ROLE_BINDINGS, ROLES):
        gone = cluster.ask("DELETE", resource.path(OPERATION, namespace=AWAY), user=CONTROLLER)
        assert gone.accepted, gone.message


def refused_by_policy(answer: Answer, words: str) -> bool:
    return answer.status in (403, 422) and "ValidatingAdmissionPolicy" in answer.message and words in answer.message


# A Job


@pytest.mark.usefixtures("granted")
def test_a_job_writes_its_secret_whether_it_is_there_or_not(cluster: ApiServer) -> None:
    path = SECRETS.path(SECRET, namespace=AWAY)
    try:
        first = cluster.apply(path, credentials(stringData={"password": "a"}), JOB)
        again = cluster.apply(path, credentials(stringData={"password": "b"}), JOB)

        assert (first.status, again.status) == (201, 200)
    finally:
        cluster.ask("DELETE", path)


@pytest.mark.usefixtures("granted")
def test_a_job_creates_and_reads_no_other_secret(cluster: ApiServer) -> None:
    other = SECRETS.path("other-credentials", namespace=AWAY)

    assert cluster.apply(other, credentials("other-credentials"), JOB).status == 403
    assert cluster.ask("POST", SECRETS.path(namespace=AWAY), credentials("other-credentials"), JOB).status == 403
    assert cluster.ask("GET", other, user=JOB).status == 403
    assert cluster.ask("GET", SECRETS.path(namespace=AWAY), user=JOB).status == 403
    assert cluster.ask("DELETE", SECRETS.path(SECRET, namespace=AWAY), user=JOB).status == 403


@pytest.mark.usefixtures("granted")
@pytest.mark.parametrize(
    "changes",
    [
        {"type": "Opaque"},
        {"type": "kubernetes.io/service-account-token"},
        {"metadata": {"name": SECRET}},
        {"metadata": {"name": SECRET, "labels": {LABEL_CREDENTIALS: "false"}}},
    ],
)
def test_a_job_writes_its_secret_in_no_other_form(cluster: ApiServer, changes: Json) -> None:
    answer = cluster.apply(SECRETS.path(SECRET, namespace=AWAY), credentials(**changes), JOB)

    assert not answer.accepted, answer.body


@pytest.mark.usefixtures("granted")
def test_a_secret_that_is_not_ours_cannot_be_made_ours(cluster: ApiServer) -> None:
    """The old object is judged as well: somebody else's Secret of that name stays as it is."""
    path = SECRETS.path(SECRET, namespace=AWAY)
    theirs = {"metadata": {"name": SECRET}, "type": "servicebinding.io/postgresql", "stringData": {"a": "b"}}
    cluster.ask("POST", SECRETS.path(namespace=AWAY), theirs)
    try:
        answer = cluster.apply(path, credentials(), JOB)

        assert refused_by_policy(answer, "writes only Secrets of a type servicebinding.io/")
    finally:
        cluster.ask("DELETE", path)


def test_a_job_has_no_right_before_it_was_granted_and_after_it_was_taken(cluster: ApiServer) -> None:
    assert cluster.apply(SECRETS.path(SECRET, namespace=AWAY), credentials(), JOB).status == 403


def test_a_job_reads_its_operation_by_a_dry_run_of_its_report(cluster: ApiServer) -> None:
    answer = cluster.merge(status_path(OPERATION) + "?dryRun=All", {}, JOB)

    assert answer.accepted, answer.message
    assert answer.body["spec"]["calls"][0]["procedure"] == "create_db"


def test_a_job_reports_once_and_on_its_own_operation_alone(cluster: ApiServer) -> None:
    other = cluster.merge(status_path(OTHER_OPERATION), {"status": REPORT}, JOB)
    read_other = cluster.merge(status_path(OTHER_OPERATION) + "?dryRun=All", {}, JOB)
    own = cluster.merge(status_path(OPERATION), {"status": REPORT}, JOB)
    changed = cluster.merge(status_path(OPERATION), {"status": {"message": "other"}}, JOB)
    withdrawn = cluster.merge(status_path(OPERATION), {"status": None}, JOB)

    assert refused_by_policy(other, "the Operation of its own name")
    assert refused_by_policy(read_other, "the Operation of its own name")
    assert own.accepted, own.message
    assert "the outcome of this Operation has been reported" in changed.message
    assert "the outcome of this Operation has been reported" in withdrawn.message


def test_a_job_has_no_other_right(cluster: ApiServer) -> None:
    """Neither on its Operation's spec, nor on accounts, tokens, Jobs or Databases."""
    token = SERVICE_ACCOUNTS.path("dbaas-controller", namespace=HOME, subresource="token")

    assert cluster.merge(OPERATIONS.path(OPERATION, namespace=HOME), {}, JOB).status == 403
    assert cluster.ask("GET", OPERATIONS.path(OPERATION, namespace=HOME), user=JOB).status == 403
    assert cluster.ask("DELETE", OPERATIONS.path(OPERATION, namespace=HOME), user=JOB).status == 403
    assert cluster.ask("POST", token, {"spec": {}}, JOB).status == 403
    assert cluster.ask("GET", SECRETS.path(namespace=HOME), user=JOB).status == 403
    assert cluster.ask("GET", DATABASES.path(), user=JOB).status == 403


def test_the_webhook_writes_nothing(cluster: ApiServer) -> None:
    report = cluster.merge(status_path(OTHER_OPERATION), {"status": REPORT}, WEBHOOK)

    assert refused_by_policy(report, "the Operation of its own name")
    assert cluster.ask("GET", DATABASES.path(), user=WEBHOOK).accepted
    assert cluster.ask("GET", SECRETS.path("dbaas-webhook-tls", namespace=HOME), user=WEBHOOK).status == 404
    assert cluster.ask("GET", SECRETS.path("dbaas-webhook-ca", namespace=HOME), user=WEBHOOK).status == 403
    assert cluster.ask("POST", CLASSES.path(), {"metadata": {"name": "a"}}, WEBHOOK).status == 403


# The controller


def test_the_controller_reports_for_a_job_that_died(cluster: ApiServer) -> None:
    report = {**REPORT, "outcome": "Retry", "reason": "JobLost", "reportedBy": "Controller"}

    assert cluster.merge(status_path(OTHER_OPERATION) + "?dryRun=All", {"status": report}, CONTROLLER).accepted


def test_the_controller_has_no_secret_outside_its_namespace(cluster: ApiServer) -> None:
    for method in ("GET", "DELETE"):
        assert cluster.ask(method, SECRETS.path(SECRET, namespace=AWAY), user=CONTROLLER).status == 403
    assert cluster.ask("GET", SECRETS.path(), user=CONTROLLER).status == 403
    assert create(cluster, SECRETS, AWAY, credentials()).status == 403


def test_the_controller_keeps_its_secrets_at_home_but_mints_no_token(cluster: ApiServer) -> None:
    """RBAC alone would let it have the token of any account by making a Secret of that type."""
    marked = {"metadata": {"name": "a", "annotations": {"kubernetes.io/service-account.name": "default"}}}
    token = SERVICE_ACCOUNTS.path("dbaas-webhook", namespace=HOME, subresource="token")

    assert create(cluster, SECRETS, HOME, {"metadata": {"name": "a"}, "type": "Opaque"}, dry=True).accepted
    assert refused_by_policy(create(cluster, SECRETS, HOME, token_secret("a"), dry=True), "tokens of service accounts")
    assert refused_by_policy(create(cluster, SECRETS, HOME, marked, dry=True), "tokens of service accounts")
    assert cluster.ask("POST", token, {"spec": {}}, CONTROLLER).status == 403


@pytest.mark.parametrize(
    "body",
    [
        role("mine"),
        role(resourceNames=[]),
        role(resourceNames=[SECRET, "other-credentials"]),
        role(resourceNames=["the-token-of-an-administrator"]),
        role(resources=["secrets", "pods"]),
        role(resources=["*"]),
        role(apiGroups=["*"]),
        role(verbs=["*"]),
        role(verbs=["get", "delete"]),
        {**role(), "rules": role()["rules"] * 2},
        {**role(), "metadata": {"name": OPERATION}},
    ],
)
def test_the_controller_grants_nothing_but_one_secret_of_credentials(cluster: ApiServer, body: Json) -> None:
    """It may escalate, so that only the policy holds it."""
    answer = create(cluster, ROLES, AWAY, body, dry=True)

    assert refused_by_policy(answer, "the operator's Roles")


def test_the_controller_looks_after_the_secret_of_a_claim_and_writes_it_not(cluster: ApiServer) -> None:
    """Deleting it by name is no more than deleting the Role that it belongs to."""
    refused = (["get", "patch"], ["create"], ["get", "list"], ["*"])

    assert create(cluster, ROLES, AWAY, role(INSTANCE, verbs=["delete", "get"]), dry=True).accepted
    for verbs in refused:
        assert refused_by_policy(
            create(cluster, ROLES, AWAY, role(INSTANCE, verbs=verbs), dry=True), "delete and get to the controller"
        )


def test_what_the_controller_deletes_is_a_secret_of_ours_and_of_that_name(cluster: ApiServer) -> None:
    binding = {**role_binding(INSTANCE, INSTANCE), "subjects": role_binding(name="dbaas-controller")["subjects"]}
    for resource, body in ((ROLES, role(INSTANCE, verbs=["delete", "get"])), (ROLE_BINDINGS, binding)):
        assert create(cluster, resource, AWAY, body).accepted
    plain = {"metadata": {"name": SECRET}, "type": "Opaque"}
    answers = []
    for name, body in (
        ("other-credentials", credentials("other-credentials")),
        (SECRET, plain),
        (SECRET, credentials()),
    ):
        cluster.ask("POST", SECRETS.path(namespace=AWAY), body)
        answers.append(cluster.ask("DELETE", SECRETS.path(name, namespace=AWAY), user=CONTROLLER))
        cluster.ask("DELETE", SECRETS.path(name, namespace=AWAY))
    for resource in (ROLE_BINDINGS, ROLES):
        assert cluster.ask("DELETE", resource.path(INSTANCE, namespace=AWAY), user=CONTROLLER).accepted

    assert answers[0].status == 403
    assert refused_by_policy(answers[1], "writes only Secrets of a type servicebinding.io")
    assert answers[2].accepted


@pytest.mark.parametrize(
    "body",
    [
        role_binding(role="other"),
        role_binding(name=OTHER_OPERATION, role=OPERATION),
        role_binding(namespace=AWAY),
        role_binding(namespace="default"),
        {**role_binding(), "subjects": [{"kind": "User", "name": OPERATION, "apiGroup": "rbac.authorization.k8s.io"}]},
        {**role_binding(), "subjects": role_binding()["subjects"] * 2},
        {**role_binding(), "subjects": []},
    ],
)
@pytest.mark.usefixtures("granted")
def test_the_controller_binds_a_role_to_its_job_alone(cluster: ApiServer, body: Json) -> None:
    answer = create(cluster, ROLE_BINDINGS, AWAY, body, dry=True)

    assert refused_by_policy(answer, "the operator's RoleBindings")


def test_the_controller_binds_no_cluster_role(cluster: ApiServer) -> None:
    answer = create(cluster, ROLE_BINDINGS, AWAY, role_binding(role="cluster-admin", kind="ClusterRole"), dry=True)

    assert answer.status == 403


@pytest.mark.usefixtures("granted")
def test_the_controller_changes_no_grant(cluster: ApiServer) -> None:
    for resource in (ROLES, ROLE_BINDINGS):
        assert cluster.merge(resource.path(OPERATION, namespace=AWAY), {"rules": []}, CONTROLLER).status == 403


def test_the_controller_starts_jobs_under_their_own_account_alone(cluster: ApiServer) -> None:
    """A Pod under the controller's or another's account would have that account's token."""
    assert create(cluster, JOBS, HOME, job(), dry=True).accepted
    assert create(cluster, SERVICE_ACCOUNTS, HOME, {"metadata": {"name": OPERATION}}, dry=True).accepted
    for account in ("dbaas-controller", "dbaas-webhook", "default", OTHER_OPERATION):
        answer = create(cluster, JOBS, HOME, job(account=account), dry=True)

        assert refused_by_policy(answer, "service account of their own name")


@pytest.mark.parametrize("name", ["dbaas-controller", "default", "db-short-1-1", OPERATION.upper().lower() + "-x"])
def test_the_controller_makes_only_what_is_called_like_an_operation(cluster: ApiServer, name: str) -> None:
    for resource, body in ((SERVICE_ACCOUNTS, {"metadata": {"name": name}}), (JOBS, job(name, name))):
        answer = create(cluster, resource, HOME, body, dry=True)

        assert refused_by_policy(answer, "have the name of an Operation")


def test_the_controller_starts_probes_without_an_account_alone(cluster: ApiServer) -> None:
    """What logs in to look around needs nothing of the cluster, and gets nothing."""
    name = f"probe-{'a' * 26}"

    assert create(cluster, JOBS, HOME, probe_job(name), dry=True).accepted
    assert refused_by_policy(create(cluster, JOBS, HOME, probe_job(f"{name}b"), dry=True), "or of a probe")
    assert refused_by_policy(
        create(cluster, SERVICE_ACCOUNTS, HOME, {"metadata": {"name": name}}, dry=True), "name of an Operation"
    )
    for pod in (
        {"serviceAccountName": name},
        {"serviceAccountName": "dbaas-controller"},
        {"automountServiceAccountToken": True},
        {"automountServiceAccountToken": None},
    ):
        answer = create(cluster, JOBS, HOME, probe_job(name, **pod), dry=True)

        assert refused_by_policy(answer, "a probe has no service account and no token")


def probe_job(name: str, **pod: Any) -> Json:
    """As the controller writes it, with fields of the Pod replaced."""
    endpoint = DatabaseEndpoint.parse(
        {
            "metadata": {"name": "main", "uid": "u"},
            "spec": {"className": "c", "host": "h", "credentialsSecretRef": {"name": "a"}},
        }
    )
    cls = DatabaseClass.parse(
        {"metadata": {"name": "c"}, "spec": {"driver": "postgres", "operations": {"create": {"name": "p"}}}}
    )
    probe = Probe(endpoint, cls, "a.b", Turn("first", datetime.now(UTC), timedelta()))
    manifest = probe_manifest(probe, HOME, JobTemplate("provisioner-job"))
    spec = {**manifest["spec"]["template"]["spec"], **pod}
    manifest["spec"]["template"]["spec"] = {key: value for key, value in spec.items() if value is not None}
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def test_no_job_mounts_a_token_of_its_own_choice(cluster: ApiServer) -> None:
    token = {"serviceAccountToken": {"path": "token"}}
    volume = {"name": "dbaas", "projected": {"sources": [token]}}
    for body in (job(volumes=[volume]), probe_job(f"probe-{'a' * 26}", volumes=[volume])):
        answer = create(cluster, JOBS, HOME, body, dry=True)

        assert refused_by_policy(answer, "not of tokens")


def test_the_controller_makes_jobs_and_accounts_at_home_alone(cluster: ApiServer) -> None:
    assert create(cluster, JOBS, AWAY, job(), dry=True).status == 403
    assert create(cluster, SERVICE_ACCOUNTS, AWAY, {"metadata": {"name": OPERATION}}, dry=True).status == 403


@pytest.mark.parametrize(
    "pod",
    [
        {"hostNetwork": True},
        {"hostPID": True},
        {"hostIPC": True},
        {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
        {"container": {"securityContext": {}}},
    ],
)
def test_a_job_gets_no_part_of_its_node(cluster: ApiServer, pod: Json) -> None:
    answer = create(cluster, JOBS, HOME, job(**pod), dry=True)

    assert refused_by_policy(answer, "no part of their node")


def test_policies_concern_nobody_else(cluster: ApiServer) -> None:
    """People and other operators, even in the same namespace, make what they like."""
    neighbour = f"system:serviceaccount:{HOME}:neighbour"
    binding = {
        "metadata": {"name": "neighbour"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "neighbour", "namespace": HOME}],
    }
    cluster.ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    bodies = ((SECRETS, {"metadata": {"name": "a"}}), (ROLES, role("a", verbs=["*"])), (JOBS, job("a", "default")))
    for resource, body in bodies:
        answer = cluster.ask("POST", resource.path(namespace=AWAY) + "?dryRun=All", body, neighbour)

        assert answer.accepted, answer.message


def test_no_policy_has_a_fault_in_its_expressions(cluster: ApiServer) -> None:
    """An expression that fails refuses everything; what the tests above accept has passed all of them."""
    policies = cluster.ask("GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies").body["items"]

    assert {policy["metadata"]["name"] for policy in policies} == {
        "dbaas-annotations",
        "dbaas-deletions",
        "dbaas-grants",
        "dbaas-jobs",
        "dbaas-operations",
        "dbaas-secrets",
    }
    assert all(policy["spec"]["failurePolicy"] == "Fail" for policy in policies)


# Who edits a Database


VERBS = {ABANDON: "abandon", ADOPT: "adopt"}
guarded = pytest.mark.parametrize("annotation", VERBS)


def test_who_may_edit_databases_may_read_them_by_that_role_alone(cluster: ApiServer) -> None:
    """Bound in a namespace, not aggregated to `edit`: `kubectl apply` reads before it writes."""
    path = DATABASES.path(namespace=AWAY)

    assert cluster.ask("GET", path, user=TENANT).accepted
    assert not cluster.ask("GET", path, user="nobody").accepted


@pytest.fixture
def orders(cluster: ApiServer) -> Iterator[str]:
    """The path of a Database that a tenant has made."""
    path = DATABASES.path("orders", namespace=AWAY)
    made = cluster.ask("POST", DATABASES.path(namespace=AWAY), database("orders"), TENANT)
    assert made.accepted, made.message
    yield path
    cluster.ask("DELETE", path)
    cluster.merge(path, {"metadata": {"finalizers": None}})


def annotated(annotation: str, value: str | None) -> Json:
    return {"metadata": {"annotations": {annotation: value}}}


@guarded
def test_who_may_edit_a_database_may_neither_abandon_nor_adopt_one(
    cluster: ApiServer, orders: str, annotation: str
) -> None:
    made = create(cluster, DATABASES, AWAY, database("other", {annotation: "true"}), dry=True)
    merged = cluster.merge(orders, annotated(annotation, "true"), TENANT)
    nameless = {**database("other", {annotation: "true"})}
    nameless["metadata"] = {**nameless["metadata"], "name": None, "generateName": "other-"}
    generated = create(cluster, DATABASES, AWAY, nameless, dry=True)
    applied = cluster.apply(orders, {**database("orders"), **annotated(annotation, "true")}, TENANT)
    replacement = cluster.ask("GET", orders).body
    replacement["metadata"].setdefault("annotations", {})[annotation] = "true"
    replaced = cluster.ask("PUT", orders, replacement, TENANT)
    empty = cluster.merge(orders, annotated(annotation, ""), TENANT)

    for answer in (made, generated, merged, applied, replaced, empty):
        assert refused_by_policy(answer, f'takes the verb "{VERBS[annotation]}" on databases.dbaas.bedag.ch')
        assert "ClusterRole dbaas-administrator" in answer.message
        assert f"metadata.annotations[{annotation}]" in answer.message
    assert annotation not in cluster.ask("GET", orders).body["metadata"].get("annotations", {})


@pytest.mark.parametrize("before", ["Retain", None, "Delete"])
def test_what_is_being_deleted_may_still_be_retained_and_no_longer_be_deleted(
    cluster: ApiServer, orders: str, before: str | None
) -> None:
    """The webhook is not asked about it any more, and with it no DatabasePolicy."""
    cluster.merge(orders, {"spec": {"deletionPolicy": before}}, TENANT)
    cluster.ask("DELETE", orders)
    kept = cluster.merge(orders, {"metadata": {"labels": {"a": "b"}}, "spec": {"deletionPolicy": before}}, TENANT)
    changed = cluster.merge(orders, {"spec": {"deletionPolicy": "Delete"}}, TENANT)
    dropped = cluster.merge(orders, {"spec": {"deletionPolicy": None}}, TENANT)
    retained = cluster.merge(orders, {"spec": {"deletionPolicy": "Retain"}}, TENANT)

    assert (kept.accepted, retained.accepted) == (True, True), kept.message + retained.message
    assert [answer.accepted for answer in (changed, dropped)] == [before == "Delete", before is None]
    for answer in (changed, dropped):
        assert answer.accepted or "spec.deletionPolicy: while a Database is being deleted" in answer.message


@guarded
def test_the_status_carries_no_annotation_in(cluster: ApiServer, orders: str, annotation: str) -> None:
    """The controller alone writes status, and even it brings nothing but status in that way."""
    status = DATABASES.path("orders", namespace=AWAY, subresource="status")
    cluster.merge(status, {**annotated(annotation, "true"), "status": {"observedGeneration": 1}}, CONTROLLER)

    assert annotation not in cluster.ask("GET", orders).body["metadata"].get("annotations", {})
    assert not cluster.merge(orders, annotated(annotation, "true"), CONTROLLER).accepted


@guarded
@pytest.mark.parametrize("user", [HEIR, ADMINISTRATOR])
def test_who_has_the_verb_may(cluster: ApiServer, orders: str, annotation: str, user: str) -> None:
    answer = cluster.merge(orders, annotated(annotation, "true"), user)

    assert answer.accepted, answer.message


@guarded
def test_the_right_in_one_namespace_is_none_in_another(cluster: ApiServer, annotation: str) -> None:
    bind(cluster, HEIR, "dbaas-edit", HOME)
    path = DATABASES.path(namespace=HOME) + "?dryRun=All"
    try:
        assert cluster.ask("POST", path, database("other"), HEIR).accepted
        answer = cluster.ask("POST", path, database("other", {annotation: "true"}), HEIR)
        assert refused_by_policy(answer, "it takes the verb")
    finally:
        cluster.ask("DELETE", ROLE_BINDINGS.path(f"{HEIR}-dbaas-edit", namespace=HOME))


@guarded
def test_what_an_administrator_set_is_in_nobodys_way(cluster: ApiServer, orders: str, annotation: str) -> None:
    """Labels, the same manifest again, the finalizer, taking the annotation away: but no other value."""
    cluster.merge(orders, annotated(annotation, "true"), ADMINISTRATOR)
    labelled = cluster.merge(orders, {"metadata": {"labels": {"a": "b"}}}, TENANT)
    again = cluster.apply(orders, {**database("orders"), **annotated(annotation, "true")}, TENANT)
    replaced = cluster.ask("PUT", orders, cluster.ask("GET", orders).body, TENANT)
    other = cluster.merge(orders, annotated(annotation, "yes"), TENANT)
    held = cluster.merge(orders, {"metadata": {"finalizers": [FINALIZER]}}, CONTROLLER)
    removed = cluster.merge(orders, annotated(annotation, None), TENANT)
    set_again = cluster.merge(orders, annotated(annotation, "true"), ADMINISTRATOR)
    deleted = cluster.ask("DELETE", orders, user=TENANT)
    let_go = cluster.merge(orders, {"metadata": {"finalizers": None}}, CONTROLLER)

    for answer in (labelled, again, replaced, held, removed, set_again, deleted, let_go):
        assert answer.accepted, answer.message
    assert refused_by_policy(other, "it takes the verb")
    assert cluster.ask("GET", orders).status == 404


@guarded
def test_a_claim_is_abandoned_by_administrators_alone(cluster: ApiServer, annotation: str) -> None:
    """Also by nobody who may change instances otherwise, as the controller may."""
    body = {
        "metadata": {"name": INSTANCE},
        "spec": {
            "endpoint": "main",
            "className": "postgres",
            "classGeneration": 1,
            "driver": "postgres",
            "identity": "shop_orders",
            "operations": {"create": {"procedure": "create_db", "timeout": "60s"}},
            "deletionPolicy": "Retain",
        },
    }
    path = INSTANCES.path(INSTANCE)
    made = create(cluster, INSTANCES, "", body)
    try:
        assert made.accepted, made.message
        refused = cluster.merge(path, annotated(annotation, "true"), CONTROLLER)
        assert refused_by_policy(refused, f'takes the verb "{VERBS[annotation]}" on databaseinstances.dbaas.bedag.ch')
        assert cluster.merge(path, annotated(annotation, "true"), ADMINISTRATOR).accepted
        assert cluster.merge(path, {"metadata": {"labels": {"a": "b"}}}, CONTROLLER).accepted
    finally:
        cluster.ask("DELETE", path)


# The finalizer


def test_the_controller_takes_finalizers_off_and_writes_status(cluster: ApiServer) -> None:
    body = {
        "apiVersion": DATABASES.api_version,
        "kind": DATABASES.kind,
        "metadata": {"name": "orders", "finalizers": [FINALIZER]},
        "spec": {"endpoint": "main"},
    }
    path = DATABASES.path("orders", namespace=AWAY)
    assert cluster.ask("POST", DATABASES.path(namespace=AWAY), body).accepted
    status = DATABASES.path("orders", namespace=AWAY, subresource="status")

    assert cluster.merge(status, {"status": {"observedGeneration": 1}}, CONTROLLER).accepted
    assert cluster.ask("DELETE", path).accepted
    assert cluster.merge(path, {"metadata": {"finalizers": None}}, CONTROLLER).accepted
    assert cluster.ask("GET", path).status == 404
