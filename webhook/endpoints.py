"""What can be wrong with a DatabaseEndpoint: created, changed or deleted."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from api.faults import Fault
from api.kinds import DatabaseEndpoint, Tls
from webhook.classes import listed
from webhook.review import Manifest, Request
from webhook.world import World


def faults(manifest: Manifest, *, allow_insecure: bool) -> Iterator[Fault]:
    """What is wrong with an endpoint in itself: how it is connected to must be safe, and mean what it says."""
    tls = DatabaseEndpoint.parse(manifest).tls
    if tls.mode == "Disabled":
        if not allow_insecure:
            message = (
                "Disabled sends passwords in clear text and is refused; use VerifyFull, "
                "or have the operator installed with allowInsecureEndpoints"
            )
            yield Fault("spec.tls.mode", message)
        for field in _trust_fields(tls):
            yield Fault(f"spec.tls.{field}", "has no meaning while spec.tls.mode is Disabled; remove one of them")
    if tls.mode == "VerifyCA" and tls.server_name:
        message = "is not looked at with mode VerifyCA; remove it, or use VerifyFull, which checks it"
        yield Fault("spec.tls.serverName", message)
    if tls.ca_secret and tls.ca_bundle:
        yield Fault("spec.tls.caBundle", "stands beside caSecretRef; set one of them, not both")
    if tls.ca_bundle and (fault := ca_bundle_fault(tls.ca_bundle)):
        yield Fault("spec.tls.caBundle", fault)


def deletion(request: Request, world: World) -> Iterator[Fault]:
    """A deletion: refused while a Database or an instance is on this endpoint."""
    users = sorted(map(str, world.users_of_endpoint(request.name)))
    if users:
        yield Fault("metadata.name", f"is in use by {listed(users)}; delete what uses it first")


def warnings(manifest: Manifest, world: World) -> Iterator[str]:
    """What may only be missing yet: objects of one `kubectl apply -f` race."""
    endpoint = DatabaseEndpoint.parse(manifest)
    if world.database_class(endpoint.class_name) is None:
        yield f"spec.className: there is no DatabaseClass {endpoint.class_name} yet; no Database can use it before"


def ca_bundle_fault(bundle: str) -> str | None:
    """What keeps a PEM text from being certificates to trust, in words; None when nothing does."""
    if "PRIVATE KEY-----" in bundle:
        return "contains a private key, which many can read here; remove it, and use another key from now on"
    try:
        certificates = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        return "is not certificates in PEM (-----BEGIN CERTIFICATE----- …); copy the authority's file whole"
    if not any(map(_can_issue, certificates)):
        return "has no certificate of an authority (CA:TRUE) in it; use the one that issued the server's certificate"
    return None


def _can_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        # Roots older than X.509 version 3 say nothing.
        return certificate.issuer == certificate.subject


def _trust_fields(tls: Tls) -> Iterator[str]:
    fields = {
        "caSecretRef": tls.ca_secret,
        "caBundle": tls.ca_bundle,
        "clientCertificateSecretRef": tls.client_certificate_secret,
        "serverName": tls.server_name,
    }
    return (name for name, value in fields.items() if value)
