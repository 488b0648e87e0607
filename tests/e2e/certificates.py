"""The webhook's certificate: what it is by now, what API servers trust, and how to have another one issued."""

from __future__ import annotations

from api.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS
from tests.e2e.cluster import OPERATOR, RELEASE, Cluster, eventually

CA, TLS = f"{RELEASE}-webhook-ca", f"{RELEASE}-webhook-tls"
"""The Secrets of the authority and of the certificate."""


def certificate(cluster: Cluster) -> str:
    """What is to be served; "" while there is none."""
    return (cluster.secret(TLS, OPERATOR) or {}).get("tls.crt", "")


def replace_certificate(cluster: Cluster, lost: str = TLS) -> None:
    """Lose one of the Secrets, and wait until there is another certificate."""
    before = certificate(cluster)
    cluster.delete(SECRETS, lost, OPERATOR)
    eventually(lambda: certificate(cluster) not in ("", before), "a new certificate is there")


def bundles(cluster: Cluster) -> set[str]:
    """The caBundles of all webhooks."""
    configurations = [cluster.client.get(kind, RELEASE) for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)]
    return {hook["clientConfig"].get("caBundle", "") for each in configurations for hook in each["webhooks"]}
