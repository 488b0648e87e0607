"""A webhook that does not judge: what the controller has to hold by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from api.resources import DATABASES, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from tests.e2e.cluster import RELEASE, Cluster, eventually

_PLACE = "kubernetes.io/metadata.name"


@contextmanager
def unjudged(cluster: Cluster, *namespaces: str) -> Iterator[None]:
    """While the block runs, Databases of these namespaces pass by the webhook, as if it had been away."""
    selector = {"matchExpressions": [{"key": _PLACE, "operator": "NotIn", "values": list(namespaces)}]}
    _select(cluster, selector)
    try:
        for namespace in namespaces:
            eventually(lambda ns=namespace: _passes(cluster, ns), f"{namespace} is not judged")  # type: ignore[misc]
        yield
    finally:
        _select(cluster, {})


def _select(cluster: Cluster, selector: Mapping[str, object]) -> None:
    for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        configuration = cluster.client.get(resource, RELEASE)
        webhooks = [{**webhook, "namespaceSelector": selector} for webhook in configuration["webhooks"]]
        version = configuration["metadata"]["resourceVersion"]
        cluster.patch(resource, RELEASE, {"webhooks": webhooks, "metadata": {"resourceVersion": version}})


def _passes(cluster: Cluster, namespace: str) -> bool:
    metadata = {"name": "probe", "namespace": namespace}
    database = {"metadata": metadata, "spec": {"endpoint": "there-is-none-of-this-name"}}
    body = {"apiVersion": DATABASES.api_version, "kind": DATABASES.kind, **database}
    created = cluster.kubectl_apply(body, arguments=("--dry-run=server", "-o", "json"), check=False)
    return created.code == 0 and "requested-by" not in created.out
