"""A webhook that does not judge: what the controller has to hold by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from api.resources import DATABASES, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, Resource
from tests.e2e.cluster import RELEASE, Cluster, eventually

_PLACE = "kubernetes.io/metadata.name"
_UNJUDGED = "dbaas.test/unjudged"


@contextmanager
def unjudged(cluster: Cluster, *namespaces: str) -> Iterator[None]:
    """While the block runs, Databases of these namespaces pass by the webhook, as if it had been away."""
    selector = {"matchExpressions": [{"key": _PLACE, "operator": "NotIn", "values": list(namespaces)}]}
    _select(cluster, selector)
    try:
        eventually(lambda: all(_passes(cluster, each) for each in namespaces), f"nobody judges {namespaces}")
        yield
    finally:
        _select(cluster, {})
        eventually(lambda: not any(_passes(cluster, each) for each in namespaces), f"{namespaces} are judged again")


@contextmanager
def unjudged_deletion(cluster: Cluster, resource: Resource, name: str) -> Iterator[None]:
    """While the block runs, this cluster-scoped object may be deleted although it is in use."""
    unmarked = {"matchExpressions": [{"key": _UNJUDGED, "operator": "DoesNotExist"}]}
    _select(cluster, unmarked, "objectSelector")
    try:
        cluster.patch(resource, name, {"metadata": {"labels": {_UNJUDGED: "true"}}})
        dry_run = ("delete", resource.plural, name, "--dry-run=server")
        eventually(lambda: cluster.kubectl(*dry_run, check=False).code == 0, f"{resource.kind} {name} is not judged")
        yield
    finally:
        _select(cluster, {}, "objectSelector")


def _select(cluster: Cluster, selector: Mapping[str, object], kind: str = "namespaceSelector") -> None:
    def select(resource: Resource) -> bool:
        configuration = cluster.client.get(resource, RELEASE)
        webhooks = [{**webhook, kind: selector} for webhook in configuration["webhooks"]]
        version = configuration["metadata"]["resourceVersion"]
        cluster.patch(resource, RELEASE, {"webhooks": webhooks, "metadata": {"resourceVersion": version}})
        return True

    for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        # The controller writes its certificates there.
        eventually(lambda each=resource: select(each), f"{resource.kind} has the selector")  # type: ignore[misc]


def _passes(cluster: Cluster, namespace: str) -> bool:
    metadata = {"name": "probe", "namespace": namespace}
    database = {"metadata": metadata, "spec": {"endpoint": "there-is-none-of-this-name"}}
    body = {"apiVersion": DATABASES.api_version, "kind": DATABASES.kind, **database}
    created = cluster.kubectl_apply(body, arguments=("--dry-run=server", "-o", "json"), check=False)
    return created.code == 0 and "requested-by" not in created.out
