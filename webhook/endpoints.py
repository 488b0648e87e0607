"""What can be wrong with a DatabaseEndpoint: created, changed or deleted."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from api.engines import ENGINES
from api.faults import Fault
from api.identity import described_length, too_long
from api.kinds import NOTHING, DatabaseEndpoint, Tls
from api.listing import listed
from api.resources import ENDPOINTS
from api.schemas import faults as schema_faults
from webhook.hosts import host_fault, is_loopback
from webhook.review import Manifest, Request
from webhook.selectors import selector_faults
from webhook.world import Claimed, Use, World


def faults(manifest: Manifest, *, allow_insecure: bool) -> Iterator[Fault]:
    """What is wrong with an endpoint in itself: how it is connected to must be safe, and mean what it says."""
    endpoint = DatabaseEndpoint.parse(manifest)
    if fault := host_fault(endpoint.host):
        yield Fault("spec.host", fault)
    yield from _tls_faults(endpoint.tls, allow_insecure=allow_insecure)
    allowed = manifest["spec"].get("allowedNamespaces") or NOTHING
    yield from selector_faults(allowed.get("selector") or NOTHING, "spec.allowedNamespaces.selector")


def fitting(request: Request, world: World) -> Iterator[Fault]:
    """What an endpoint says that its class's engine cannot do; a class that is not there yet says nothing."""
    endpoint = DatabaseEndpoint.parse(request.object)
    cls = world.database_class(endpoint.class_name)
    before = _parsed(request.old)
    if cls is None:
        return
    database, engine = endpoint.database or "", ENGINES[cls.driver]
    as_before = before is not None and (before.database, before.class_name) == (database, endpoint.class_name)
    if too_long(database, engine) and not as_before:
        limit = engine.identifier_limit
        message = f"is {described_length(database, engine)} long; {cls.driver.value} allows {limit}"
        yield Fault("spec.database", message)
    if before is None or before.class_name == endpoint.class_name:
        return
    old = world.database_class(before.class_name)
    if old is not None and ENGINES[old.driver].family != engine.family and (users := _instances(request.name, world)):
        message = (
            f"cannot be changed to {endpoint.class_name}, which is for {cls.driver.value}, while {listed(users)} "
            f"of {old.driver.value} exist; register the other server as another endpoint"
        )
        yield Fault("spec.className", message)


def _tls_faults(tls: Tls, *, allow_insecure: bool) -> Iterator[Fault]:
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
    if tls.mode == "VerifyCA" and not (tls.ca_secret or tls.ca_bundle):
        message = (
            "VerifyCA with the public authorities would trust every server that has any public certificate; "
            "set caSecretRef or caBundle, or use VerifyFull"
        )
        yield Fault("spec.tls.mode", message)
    if tls.ca_secret and tls.ca_bundle:
        yield Fault("spec.tls.caBundle", "stands beside caSecretRef; set one of them, not both")
    if tls.ca_bundle and (fault := ca_bundle_fault(tls.ca_bundle)):
        yield Fault("spec.tls.caBundle", fault)


def deletion(request: Request, world: World) -> Iterator[Fault]:
    """A deletion: refused while a Database or an instance is on this endpoint."""
    users = list(world.users_of_endpoint(request.name))
    databases = {(user.metadata.namespace, user.metadata.name) for user in users if isinstance(user, Use)}
    # A Database and its own instance are one.
    names = sorted({str(user) for user in users if isinstance(user, Use) or user.claim not in databases})
    if names:
        yield Fault("metadata.name", f"is in use by {listed(names)}; delete what uses it first")


def warnings(manifest: Manifest) -> Iterator[str]:
    """What is allowed, and weaker than it could be or meant otherwise."""
    endpoint = DatabaseEndpoint.parse(manifest)
    if endpoint.tls.mode == "VerifyCA":
        yield "spec.tls.mode: VerifyCA does not check the server's name; any certificate of the authority passes for it"
    if is_loopback(endpoint.host):
        yield f"spec.host: {endpoint.host} is the Job's own Pod, not the node and not a server"


def missing(request: Request, world: World) -> Iterator[str]:
    """What may only be missing yet: objects of one `kubectl apply -f` race."""
    endpoint = DatabaseEndpoint.parse(request.object)
    if world.database_class(endpoint.class_name) is None:
        yield f"spec.className: there is no DatabaseClass {endpoint.class_name} yet; no Database can use it before"


def moved(request: Request, world: World) -> Iterator[str]:
    """A server that is exchanged under the databases which were made on it."""
    before, now = _parsed(request.old), DatabaseEndpoint.parse(request.object)
    if before is None or (before.host, before.port) == (now.host, now.port):
        return
    if users := _instances(request.name, world):
        field = "spec.host" if before.host != now.host else "spec.port"
        made = "1 database was" if len(users) == 1 else f"{len(users)} databases were"
        yield f"{field}: {made} made on the server before; the new one must have what is in use"


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
        # 1.2 is what the API server writes where nothing was.
        "minimumVersion": tls.minimum_version != "1.2",
    }
    return (name for name, value in fields.items() if value)


def _parsed(old: Manifest) -> DatabaseEndpoint | None:
    """The stored endpoint; None when there is none that can be read."""
    return DatabaseEndpoint.parse(old) if old and not schema_faults(ENDPOINTS.kind, old) else None


def _instances(endpoint: str, world: World) -> list[str]:
    return sorted(str(user) for user in world.users_of_endpoint(endpoint) if isinstance(user, Claimed))
