"""The webhook's certificate: an authority of the release's own, a certificate from it, and the caBundle to match.

Level-triggered: every pass looks at what is there and mends what is missing, wrong or running out. The bundle carries
a former authority until it expires, and is written before anything is issued by a new one, so that at any moment the
API server trusts whatever a replica still serves.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from api.labels import CA_KEY, MANAGED_BY, MANAGED_BY_VALUE, TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY
from api.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Resource
from controller.metrics import Metrics
from controller.settings import Settings
from kube.client import Client
from kube.errors import NotFound

log = logging.getLogger(__name__)

AUTHORITY_LIFE = timedelta(days=5 * 365)
CERTIFICATE_LIFE = timedelta(days=90)
RENEW_AT = 2 / 3
"""The share of its life after which a certificate is replaced."""
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes

    @property
    def parsed(self) -> x509.Certificate:
        """The (first) certificate."""
        return x509.load_pem_x509_certificate(self.certificate)


def new_authority(name: str, now: datetime) -> Pair:
    """A self-signed authority that can sign nothing but leaves."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def new_certificate(authority: Pair, names: list[str], now: datetime) -> Pair:
    """A server certificate for DNS `names`."""
    signer = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.parsed.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.parsed.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(signer, hashes.SHA256())
    )
    return _pair(certificate, key)


def due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is time to replace it."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= start + (end - start) * RENEW_AT


def serves(pair: Pair, authority: Pair, names: list[str]) -> bool:
    """Whether `pair` is from `authority`, for exactly `names`, and its key is its own."""
    certificate = pair.parsed
    try:
        certificate.verify_directly_issued_by(authority.parsed)
        key = serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, InvalidSignature):
        return False
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    same_key = key.public_key() == certificate.public_key()
    return same_key and alternative.get_values_for_type(x509.DNSName) == names


class Certificates:
    """Keeps Secrets and webhook configurations right."""

    def __init__(self, client: Client, settings: Settings, metrics: Metrics) -> None:
        self._client = client
        self._namespace = settings.namespace
        self._webhook = settings.webhook
        self._metrics = metrics
        service = f"{settings.webhook.service}.{settings.namespace}"
        self._names = [f"{service}.svc", f"{service}.svc.cluster.local", service]

    def maintain(self, now: datetime) -> bool:
        """One pass; False when the next one should follow soon.

        Raises KubeError when the API server does not let it finish.
        """
        stored, served = self._read(self._webhook.ca_secret), self._read(self._webhook.tls_secret)
        if self._webhook.issuer == "cert-manager":
            self._measure(served)
            return True
        authority, former = _pair_of(stored), _certificates_in(stored, CA_KEY)
        if authority is None or due(authority.parsed, now):
            # An authority that was lost is still the one of what is served.
            former = [authority.parsed, *former] if authority is not None else _certificates_in(served, CA_KEY)
            former = [certificate for certificate in former if certificate.not_valid_after_utc > now]
            authority = new_authority(f"{self._webhook.service} webhook CA", now)
            self._write(self._webhook.ca_secret, "Opaque", authority, _pem(former))
            log.info("webhook authority issued")
        bundle = authority.certificate + _pem([c for c in former if c.not_valid_after_utc > now])
        trusted = self._trust(bundle)
        pair = _pair_of(served)
        # Only what every API server already trusts may take the place of what is served.
        if pair is None or (trusted and (due(pair.parsed, now) or not serves(pair, authority, self._names))):
            pair = new_certificate(authority, self._names, now)
            self._write(self._webhook.tls_secret, "kubernetes.io/tls", pair, bundle)
            log.info("webhook certificate issued", extra={"expires": pair.parsed.not_valid_after_utc.isoformat()})
            served = self._read(self._webhook.tls_secret)
        self._measure(served)
        return trusted

    def _trust(self, bundle: bytes) -> bool:
        """Have both configurations carry `bundle`; whether both did before, so that API servers know by now."""
        text = base64.b64encode(bundle).decode()
        mutating = self._trust_in(MUTATING_WEBHOOKS, text)
        return self._trust_in(VALIDATING_WEBHOOKS, text) and mutating

    def _trust_in(self, resource: Resource, bundle: str) -> bool:
        try:
            configuration = self._client.get(resource, self._webhook.configuration)
        except NotFound:
            return False
        webhooks = configuration.get("webhooks") or []
        if all(webhook["clientConfig"].get("caBundle") == bundle for webhook in webhooks):
            return True
        for webhook in webhooks:
            webhook["clientConfig"]["caBundle"] = bundle
        version = configuration["metadata"]["resourceVersion"]
        patch = {"webhooks": webhooks, "metadata": {"resourceVersion": version}}
        self._client.patch(resource, self._webhook.configuration, patch)
        log.info("caBundle written", extra={"configuration": resource.kind})
        return False

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            return self._client.get(SECRETS, name, namespace=self._namespace)
        except NotFound:
            return None

    def _write(self, name: str, kind: str, pair: Pair, authorities: bytes) -> None:
        data = {TLS_CERTIFICATE_KEY: pair.certificate, TLS_PRIVATE_KEY_KEY: pair.key, CA_KEY: authorities}
        manifest = {
            "metadata": {"name": name, "namespace": self._namespace, "labels": {MANAGED_BY: MANAGED_BY_VALUE}},
            "type": kind,
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }
        self._client.apply(SECRETS, manifest)

    def _measure(self, secret: Mapping[str, Any] | None) -> None:
        pair = _pair_of(secret)
        if pair is not None:
            self._metrics.certificate_expiry.set(pair.parsed.not_valid_after_utc.timestamp())


def _pair_of(secret: Mapping[str, Any] | None) -> Pair | None:
    """The pair that a Secret holds; None when it holds none that can be read."""
    data = (secret or {}).get("data") or {}
    try:
        pair = Pair(base64.b64decode(data[TLS_CERTIFICATE_KEY]), base64.b64decode(data[TLS_PRIVATE_KEY_KEY]))
        _ = pair.parsed
        serialization.load_pem_private_key(pair.key, password=None)
    except (KeyError, ValueError, TypeError):
        return None
    return pair


def _certificates_in(secret: Mapping[str, Any] | None, key: str) -> list[x509.Certificate]:
    text = base64.b64decode(((secret or {}).get("data") or {}).get(key, ""))
    try:
        return x509.load_pem_x509_certificates(text) if text else []
    except ValueError:
        return []


def _pem(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
