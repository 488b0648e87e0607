"""What the accounts of a Job, the controller and the webhook can do, asked of the API server with their own tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.labels import LABEL_CREDENTIALS, MANAGED_BY, MANAGED_BY_VALUE
from api.operation import Report
from api.reasons import Reason
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    INSTANCES,
    JOBS,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from kube.client import Client
from kube.errors import Forbidden
from tests.e2e.cluster import OPERATOR, PODS, Cluster, eventually
from tests.e2e.controllers import CONTROLLER, token_of
from tests.e2e.scene import ACCOUNT, Applied, Scene

RULES_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False
)
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)

NOW = "2026-01-01T00:00:00Z"
OF_EVERYBODY = ("selfsubject", "authentication.k8s.io")
"""What system:basic-user gives to each account."""


def client_of(cluster: Cluster, token: str) -> Client:
    """A client that has this token and nothing else."""
    configuration = Configuration()
    config.load_kube_config(config_file=str(cluster.settings.kubeconfig), client_configuration=configuration)
    configuration.cert_file = configuration.key_file = None
    configuration.refresh_api_key_hook = None
    configuration.username = configuration.password = None
    configuration.api_key = {"BearerToken": token}
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    return Client(configuration)


def refused(attempt: Callable[[], Any]) -> bool:
    """Whether the API server says that this is not allowed; anything else that it says is raised."""
    try:
        attempt()
    except Forbidden:
        return True
    return False


def rights(client: Client, namespace: str) -> set[tuple[str, str, str]]:
    """(resource, name or "", verb) of everything that an account may do in a namespace, beyond what all may."""
    review = client.create(RULES_REVIEWS, {"metadata": {}, "spec": {"namespace": namespace}})
    return {
        (resource, name, verb)
        for rule in review["status"]["resourceRules"]
        if not any(word in f"{rule['apiGroups']}{rule['resources']}" for word in OF_EVERYBODY)
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }


def credentials(name: str, namespace: str, **changes: Any) -> dict[str, Any]:
    """A Secret in the form in which Jobs write them."""
    metadata = {"name": name, "namespace": namespace, "labels": {LABEL_CREDENTIALS: "true"}}
    return {"metadata": metadata, "type": "servicebinding.io/postgresql", "stringData": {"a": "b"}, **changes}


def token_secret(name: str, namespace: str, account: str) -> dict[str, Any]:
    """A Secret that the control plane would fill with a token of the account."""
    metadata = {"name": name, "namespace": namespace, "annotations": {"kubernetes.io/service-account.name": account}}
    return {"metadata": metadata, "type": "kubernetes.io/service-account-token"}


def role(name: str, namespace: str, **rule: Any) -> dict[str, Any]:
    """A Role of the operator's, with a rule that is none of its own."""
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGED_BY_VALUE}}
    return {"metadata": metadata, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], **rule}]}


def create_token(client: Client, account: str) -> Callable[[], Any]:
    """An attempt to have a token made for an account in the operator's namespace."""
    resource = Resource("", "v1", "TokenRequest", f"serviceaccounts/{account}/token", namespaced=True)
    return lambda: client.create(resource, {"metadata": {"namespace": OPERATOR}, "spec": {}})


def beyond_its_job(client: Client, own: str, database: Applied, other: str) -> Mapping[str, Callable[[], Any]]:
    """What a Job's account must not do, by name; `own` and `other` are Operations."""
    namespace, secret = database.namespace, database.secret_name
    report = {"status": Report(Reason.SUCCEEDED, "forged", NOW, NOW, called=True, reported_by="Job").manifest()}
    pod = {"metadata": {"name": "x", "namespace": OPERATOR}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    return {
        "list secrets": lambda: client.list(SECRETS, namespace=namespace),
        "list the operator's secrets": lambda: client.list(SECRETS, namespace=OPERATOR),
        "read the endpoint's account": lambda: client.get(SECRETS, ACCOUNT, namespace=OPERATOR),
        "read another secret": lambda: client.get(SECRETS, "other-credentials", namespace=namespace),
        "create another secret": lambda: client.create(SECRETS, credentials("other-credentials", namespace)),
        "apply another secret": lambda: client.apply(SECRETS, credentials("other-credentials", namespace)),
        "apply its secret elsewhere": lambda: client.apply(SECRETS, credentials(secret, OPERATOR)),
        "make a token of its secret": lambda: client.apply(SECRETS, token_secret(secret, namespace, "default")),
        "make its secret plain": lambda: client.apply(SECRETS, credentials(secret, namespace, type="Opaque")),
        "delete its secret": lambda: client.delete(SECRETS, secret, namespace=namespace),
        "report on another operation": lambda: client.patch(
            OPERATIONS, other, report, namespace=OPERATOR, subresource="status"
        ),
        "read another operation": lambda: client.patch(OPERATIONS, other, {}, namespace=OPERATOR, subresource="status"),
        "change its operation": lambda: client.patch(OPERATIONS, own, {"spec": {"attempt": 9}}, namespace=OPERATOR),
        "delete its operation": lambda: client.delete(OPERATIONS, own, namespace=OPERATOR),
        "list operations": lambda: client.list(OPERATIONS, namespace=OPERATOR),
        "read its job": lambda: client.get(JOBS, own, namespace=OPERATOR),
        "read its role": lambda: client.get(ROLES, own, namespace=namespace),
        "widen its role": lambda: client.patch(ROLES, own, {"rules": []}, namespace=namespace),
        "read databases": lambda: client.list(DATABASES, namespace=namespace),
        "read instances": lambda: client.list(INSTANCES),
        "read endpoints": lambda: client.list(ENDPOINTS),
        "start a pod": lambda: client.create(PODS, pod),
        "make a token of its own": create_token(client, own),
        "make a token of the controller": create_token(client, CONTROLLER),
        "make a token of another account": create_token(client, "default"),
    }


def test_a_job_can_write_its_secret_and_its_report_and_nothing_else_and_after_its_end_nothing(
    cluster: Cluster, scene: Scene
) -> None:
    shop, neighbour = scene.applied("shop"), scene.applied("neighbour")
    with scene.dbms.held(shop.identity), scene.dbms.held(neighbour.identity):
        cluster.kubectl_apply(*(scene.database_manifest(one.name) for one in (shop, neighbour)))
        for one in (shop, neighbour):
            one.wait_called()
        own, other = (one.operations()[-1]["metadata"]["name"] for one in (shop, neighbour))
        client = client_of(cluster, token_of(cluster, own))

        report = {("operations/status", "", "patch")}
        secret = {("secrets", shop.secret_name, verb) for verb in ("create", "get", "patch")}
        assert rights(client, OPERATOR) == report
        assert rights(client, scene.namespace) == secret
        assert rights(client, "kube-system") == set()
        for name, attempt in beyond_its_job(client, own, shop, other).items():
            assert refused(attempt), name
    shop.wait_ready()

    # API servers remember a token that they have checked for ten seconds.
    eventually(lambda: refused(lambda: rights(client, OPERATOR)), "its token is worth nothing any more")
    report_again = {"metadata": {"name": own}}
    assert refused(lambda: client.patch(OPERATIONS, own, report_again, namespace=OPERATOR, subresource="status"))
    assert refused(lambda: client.get(SECRETS, shop.secret_name, namespace=scene.namespace))


def test_the_controller_looks_after_one_secret_and_makes_no_rights_but_a_jobs(cluster: Cluster, scene: Scene) -> None:
    """It may escalate within Roles; admission policies hold it to the one form of them."""
    shop = scene.apply()
    shop.wait_ready()
    own = shop.operations()[-1]["metadata"]["name"]
    client = client_of(cluster, token_of(cluster, CONTROLLER))
    namespace = scene.namespace
    next_name = f"{own[:-3]}9-9"
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    subject = {"kind": "ServiceAccount", "name": CONTROLLER, "namespace": OPERATOR}
    binding = {
        "metadata": {"name": next_name, "namespace": namespace, "labels": {MANAGED_BY: MANAGED_BY_VALUE}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [subject],
    }
    attempts: dict[str, Callable[[], Any]] = {
        "read another secret of a user": lambda: client.get(SECRETS, "another", namespace=namespace),
        "list a user's secrets": lambda: client.list(SECRETS, namespace=namespace),
        "list all secrets": lambda: client.list(SECRETS),
        "write a user's secret": lambda: client.apply(SECRETS, credentials(shop.secret_name, namespace)),
        "delete another secret of a user": lambda: client.delete(SECRETS, "another", namespace=namespace),
        "make a token's secret": lambda: client.create(SECRETS, token_secret("e2e-token", OPERATOR, CONTROLLER)),
        "mark a secret for a token": lambda: client.create(
            SECRETS, {**token_secret("e2e-token", OPERATOR, CONTROLLER), "type": "Opaque"}
        ),
        "make a token": create_token(client, "dbaas-webhook"),
        "make a role of all": lambda: client.create(ROLES, {**role(next_name, namespace), "rules": [everything]}),
        "make a role for every secret": lambda: client.create(ROLES, role(next_name, namespace)),
        "make a role for another secret": lambda: client.create(
            ROLES, role(next_name, namespace, resourceNames=["admin-token"])
        ),
        "make a role of another name": lambda: client.create(
            ROLES, role("mine", namespace, resourceNames=[shop.secret_name])
        ),
        "make a cluster role": lambda: client.create(
            CLUSTER_ROLES, {"metadata": {"name": "e2e"}, "rules": [everything]}
        ),
        "bind a cluster role": lambda: client.create(ROLE_BINDINGS, binding),
        "bind a role to itself": lambda: client.create(
            ROLE_BINDINGS,
            {**binding, "roleRef": {**binding["roleRef"], "kind": "Role", "name": next_name}},  # type: ignore[dict-item]
        ),
        "bind to the cluster": lambda: client.create(BINDINGS, {**binding, "metadata": {"name": "e2e"}}),
        "start a job as itself": lambda: client.create(JOBS, job(own, CONTROLLER)),
        "start a pod": lambda: client.create(PODS, {"metadata": {"name": "x", "namespace": OPERATOR}}),
        "make an account of its choice": lambda: client.create(
            SERVICE_ACCOUNTS, {"metadata": {"name": "e2e-mine", "namespace": OPERATOR}}
        ),
        "create a database": lambda: client.create(DATABASES, scene.database_manifest("forged")),
        "list pods elsewhere": lambda: client.list(PODS, namespace=namespace),
    }
    for name, attempt in attempts.items():
        assert refused(attempt), name


def job(name: str, account: str) -> dict[str, Any]:
    """A Job that would run under an account."""
    container = {"name": "x", "image": "x", "securityContext": {"allowPrivilegeEscalation": False}}
    pod = {"restartPolicy": "Never", "serviceAccountName": account, "containers": [container]}
    return {"metadata": {"name": name, "namespace": OPERATOR}, "spec": {"template": {"spec": pod}}}


def test_the_webhook_writes_nothing_and_reads_one_secret(cluster: Cluster, scene: Scene) -> None:
    client = client_of(cluster, token_of(cluster, "dbaas-webhook"))
    writes = {right for right in rights(client, scene.namespace) if right[2] not in ("get", "list", "watch")}
    secrets = {right for right in rights(client, OPERATOR) if right[0] == "secrets"}

    assert writes == set()
    assert {name for _, name, _ in secrets} == {"dbaas-webhook-tls"}
    assert refused(lambda: client.create(CLASSES, scene.class_manifest("forged")))
