"""A certificate authority for private servers: certificates that are right, and some that are wrong in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of a certificate and its private key, PEM."""

    certificate: Path
    key: Path

    @property
    def parsed(self) -> x509.Certificate:
        """The certificate, to compare facts with."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())


def _distinguished(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(directory: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    pair = KeyPair(directory / f"{stem}.crt", directory / f"{stem}.key")
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.touch(mode=0o600)
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


class Authority:
    """A CA whose files are in `directory`; one that is there already is used again."""

    def __init__(self, directory: Path, name: str = "Kubernetes DBaaS test CA") -> None:
        self.directory = directory
        self._files = KeyPair(directory / "ca.crt", directory / "ca.key")
        if not self._files.key.exists():
            self._create(name)

    @property
    def file(self) -> Path:
        """The CA certificate, PEM: what a client trusts."""
        return self._files.certificate

    @property
    def pem(self) -> str:
        """The same, as text."""
        return self.file.read_text()

    def _create(self, name: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_distinguished(name))
            .issuer_name(_distinguished(name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=800))
            .not_valid_after(now + 12 * VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.directory, "ca", certificate, key)

    def issue(
        self,
        stem: str,
        names: Sequence[str] = (),
        *,
        common_name: str | None = None,
        expires: timedelta = VALID,
        begins: timedelta = timedelta(days=-365),
    ) -> KeyPair:
        """A certificate for host names and addresses, or for a client (`common_name` is its user).

        expires, begins: from now; negative is in the past.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_distinguished(common_name or (names[0] if names else stem)))
            .issuer_name(self._files.parsed.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        authority_key = serialization.load_pem_private_key(self._files.key.read_bytes(), password=None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        return _write(self.directory, stem, builder.sign(authority_key, hashes.SHA256()), key)
