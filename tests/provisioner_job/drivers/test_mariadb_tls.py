"""What is read out of a certificate that Python's ssl does not decode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from provisioner_job.drivers.mariadb_tls import expiry, not_after
from tests.servers.pki import Authority

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def certificate(until: datetime, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = EC_KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 64)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1980, 1, 1, tzinfo=UTC))
        .not_valid_after(until)
    )
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@given(st.integers(0, 8000 * 365 * 24 * 3600))
def test_the_end_of_a_certificate_is_read_in_any_century(seconds: int) -> None:
    moment = datetime(1981, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)

    assert not_after(certificate(moment)) == moment


def test_it_is_read_whatever_the_key_and_the_extensions(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("server", ["a.example.test"], expires=timedelta(days=3)).parsed

    assert not_after(issued.public_bytes(Encoding.DER)) == issued.not_valid_after_utc
    assert expiry(certificate(datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), RSA_KEY)) == "2030-01-02T03:04:05Z"


@given(st.binary(max_size=200))
def test_what_is_no_certificate_has_no_end(data: bytes) -> None:
    assert expiry(data) == ""
    with pytest.raises(ValueError):  # noqa: PT011 - what it says helps nobody
        not_after(data)
