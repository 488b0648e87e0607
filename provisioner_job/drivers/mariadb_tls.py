"""What the TLS of a MariaDB or MySQL server turned out to be, and why it came to nothing. Never sends a password."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pymysql.constants import CLIENT

from api.reasons import Reason
from provisioner_job.drivers.tls import Expectation, certificate_failure, context, handshake_failure
from provisioner_job.errors import Failure

_LOOK_SECONDS = 2.0


def not_offered(expected: Expectation) -> Failure:
    """The failure of a server whose greeting offers no TLS, or from whose greeting somebody took the offer away."""
    return Failure(
        Reason.TLS_NOT_OFFERED,
        f"{expected.where} offers no TLS, so no password was sent; set ssl_cert and ssl_key on that server",
    )


def failure(error: ssl.SSLError, expected: Expectation, address: str, until: float) -> Failure:
    """The failure behind an error of TLS; a refused certificate is looked at again. `until`: monotonic seconds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate_failure(error, expected, lambda looking: _shown(looking, expected, address, until))
    failed, said = handshake_failure(error, expected), error.reason or ""
    if failed.reason is Reason.TLS_FAILED and expected.client_certificate is not None and "ALERT" in said:
        return Failure(
            Reason.CLIENT_CERTIFICATE_REFUSED,
            f"{expected.where} refuses the endpoint's client certificate: {said.lower().replace('_', ' ')}",
        )
    return failed


def client_certificate_failure(expected: Expectation, address: str, until: float) -> Failure | None:
    """Whether a server that broke off a login did so because of our certificate.

    With TLS 1.3 it says so after the handshake, in an alert that is lost when it resets the connection under our login.
    """
    if expected.client_certificate is None:
        return None
    try:
        with _tls(context(expected), expected, address, until) as tls:
            tls.settimeout(_LOOK_SECONDS)
            tls.recv(1)
    except ssl.SSLError as error:
        return failure(error, expected, address, until)
    except OSError:
        return None
    return None


def _shown(looking: ssl.SSLContext, expected: Expectation, address: str, until: float) -> Mapping[str, Any] | None:
    """The certificate of that server."""
    with _tls(looking, expected, address, min(until, time.monotonic() + _LOOK_SECONDS)) as tls:
        return tls.getpeercert()


@contextlib.contextmanager
def _tls(looking: ssl.SSLContext, expected: Expectation, address: str, until: float) -> Iterator[ssl.SSLSocket]:
    """A TLS connection that is never logged in."""
    seconds = max(0.5, until - time.monotonic())
    with socket.create_connection((address, expected.port), timeout=seconds) as plain:
        (header,) = struct.unpack("<I", _exactly(plain, 4))
        _exactly(plain, header & 0xFFFFFF)
        plain.sendall(_SSL_REQUEST)
        with looking.wrap_socket(plain, server_hostname=expected.name) as tls:
            yield tls


_SSL_REQUEST = struct.pack(
    "<IIIB23s", 32 | 1 << 24, CLIENT.PROTOCOL_41 | CLIENT.SSL | CLIENT.SECURE_CONNECTION, 1 << 24, 45, b""
)
"""MySQL manual, "Protocol::SSLRequest": length and sequence number, capabilities, packet size, utf8mb4."""


def _exactly(plain: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        piece = plain.recv(count - len(read))
        if not piece:
            raise ConnectionResetError("closed")
        read += piece
    return read


# Facts


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, hexadecimal."""
    return hashlib.sha256(certificate).hexdigest()


def expiry(certificate: bytes) -> str:
    """When a DER certificate expires, RFC 3339; "" when it cannot be read."""
    try:
        return f"{not_after(certificate):%Y-%m-%dT%H:%M:%SZ}"
    except ValueError:
        return ""


def not_after(certificate: bytes) -> datetime:
    """When a DER certificate expires. Raises ValueError for what is none.

    RFC 5280, 4.1: Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, { from, until }, … }, … }.
    Python decodes only a certificate that it has verified, and a refused one is read, too.
    """
    try:
        [(_, parts)] = _children(certificate)
        body = _children(_children(parts)[0][1])
        first = 1 if body[0][0] == _VERSION else 0
        tag, text = _children(body[first + 3][1])[1]
        form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
        moment = datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
    except (IndexError, UnicodeDecodeError):
        raise ValueError("not a certificate") from None
    # strptime reads 69 to 99 as 19xx; X.509 does so from 50.
    return moment.replace(year=moment.year - 100) if tag == _UTC_TIME and moment.year >= _CENTURY_SPLIT else moment


_VERSION, _UTC_TIME = 0xA0, 0x17
_CENTURY_SPLIT = 2050


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of the DER elements that stand one after the other in `data`."""
    found, position = [], 0
    while position < len(data):
        tag, length, position = data[position], data[position + 1], position + 2
        if length & 0x80:
            size = length & 0x7F
            length, position = int.from_bytes(data[position : position + size], "big"), position + size
        found.append((tag, data[position : position + length]))
        position += length
    return found
