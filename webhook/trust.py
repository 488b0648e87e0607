"""Whether API servers trust what is served: the caBundles of this release's own webhook configurations, followed."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from api.kinds import Manifest, Metadata
from api.resources import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS
from kube.cache import Cache
from kube.client import Client


@dataclass(frozen=True, slots=True)
class Configuration:
    """A Mutating- or ValidatingWebhookConfiguration, as far as it says whom to trust."""

    metadata: Metadata
    bundles: frozenset[bytes]
    """PEM, of all its webhooks; empty where nobody has written one yet."""

    @classmethod
    def parse(cls, manifest: Manifest) -> Configuration:
        """Read a manifest."""
        clients = [webhook.get("clientConfig") or {} for webhook in manifest.get("webhooks") or ()]
        bundles = frozenset(b64decode(client.get("caBundle") or "") for client in clients)
        return cls(Metadata.parse(manifest), bundles)


class Trust:
    """The configurations of one name, as of a moment ago. Safe from any thread."""

    def __init__(self, client: Client, name: str) -> None:
        self._name = name
        # One name only: all that the webhook may read.
        self._caches = [
            Cache(client, resource, Configuration.parse, fields=f"metadata.name={name}")
            for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)
        ]

    def start(self) -> None:
        """Begin to watch, on threads of this process."""
        for cache in self._caches:
            cache.start()

    def fault(self, chain: bytes) -> str:
        """Why API servers would not trust this PEM chain, in words; "" when they would."""
        for cache in self._caches:
            if not cache.synced.is_set():
                return f"waiting for the API server's list of {cache.resource.plural}"
            configuration = cache.get(self._name)
            if configuration is None:
                return f"there is no {cache.resource.kind} {self._name}"
            if not all(trusted(chain, bundle) for bundle in configuration.bundles):
                return f"the caBundle of {cache.resource.kind} {self._name} is not of the served certificate"
        return ""


def trusted(chain: bytes, bundle: bytes) -> bool:
    """Whether a certificate of `chain` is in `bundle` or issued by one that is; both PEM."""
    try:
        served = x509.load_pem_x509_certificates(chain)
        authorities = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return False
    return any(
        certificate == authority or _issued(certificate, authority)
        for certificate in served
        for authority in authorities
    )


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
