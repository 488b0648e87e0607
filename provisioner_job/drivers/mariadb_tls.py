"""What is demanded of a server's TLS, what it turned out to be, and why it came to nothing. Never sends a password.

Python's ssl decides, with a context made here and nothing that the environment or PyMySQL would rather have.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pymysql.constants import CLIENT

from api.reasons import Reason
from provisioner_job.errors import Failure, shortened

PUBLIC_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
)
"""Named, because OpenSSL's own default follows SSL_CERT_FILE and SSL_CERT_DIR."""

_VERIFY_REASONS = {
    # X509_V_ERR_*: OpenSSL manual, X509_STORE_CTX_get_error.
    9: Reason.CERTIFICATE_EXPIRED,  # not yet valid
    10: Reason.CERTIFICATE_EXPIRED,
    62: Reason.CERTIFICATE_NAME_MISMATCH,  # host name
    64: Reason.CERTIFICATE_NAME_MISMATCH,  # IP address
}
_CURES = {
    Reason.CERTIFICATE_EXPIRED: "renew the server's certificate",
    Reason.CERTIFICATE_NAME_MISMATCH: "correct the endpoint's host or tls.serverName, or the certificate",
    Reason.CERTIFICATE_NOT_TRUSTED: "correct the endpoint's tls.caSecretRef or tls.caBundle, or the certificate",
}
_LOOK_SECONDS = 2.0
_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "WRONG_VERSION_NUMBER")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the endpoint demands of the server's TLS."""

    host: str
    """As the endpoint names it, for messages."""
    port: int
    name: str
    """That the certificate must carry."""
    mode: str
    """VerifyFull, VerifyCA or Disabled."""
    minimum_version: str
    ca_bundle: str
    """PEM; comes before `ca_file`."""
    ca_file: str | None
    client_certificate: tuple[str, str] | None

    @property
    def where(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


def context(expected: Expectation) -> ssl.SSLContext:
    """The demands for Python's ssl. Raises Failure(ENDPOINT_INVALID) for unusable files."""
    # Not create_default_context(): that would write the session's keys to a file that SSLKEYLOGFILE names.
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = expected.mode == "VerifyFull"
    made.minimum_version = ssl.TLSVersion[f"TLSv{expected.minimum_version.replace('.', '_')}"]
    try:
        if expected.ca_bundle:
            made.load_verify_locations(cadata=expected.ca_bundle)
        else:
            made.load_verify_locations(cafile=expected.ca_file or _public_ca_file())
    except (ssl.SSLError, OSError, TypeError, ValueError):
        raise Failure(
            Reason.ENDPOINT_INVALID, "the CA certificates to trust for this endpoint cannot be read; give them as PEM"
        ) from None
    if expected.client_certificate is not None:
        try:
            # Without the password's callback OpenSSL would ask the terminal.
            made.load_cert_chain(*expected.client_certificate, password=lambda: "")
        except (ssl.SSLError, OSError):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                "the endpoint's client certificate cannot be used: its Secret needs tls.crt and tls.key as PEM, "
                "the key without a pass phrase and belonging to the certificate",
            ) from None
    return made


def _public_ca_file() -> str:
    return next((path for path in PUBLIC_CA_FILES if os.path.exists(path)), PUBLIC_CA_FILES[0])


def not_offered(expected: Expectation) -> Failure:
    """The failure of a server whose greeting offers no TLS, or from whose greeting somebody took the offer away."""
    return Failure(
        Reason.TLS_NOT_OFFERED,
        f"{expected.where} offers no TLS, so no password was sent; set ssl_cert and ssl_key on that server",
    )


def failure(error: ssl.SSLError, expected: Expectation, address: str, until: float) -> Failure:
    """The failure behind an error of TLS; a refused certificate is looked at again. `until`: monotonic seconds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_failure(error, expected, address, until)
    reason = error.reason or "no reason given"
    if any(word in reason for word in _OLD_PROTOCOL):
        return Failure(
            Reason.TLS_VERSION_REFUSED,
            f"{expected.where} does not offer TLS {expected.minimum_version} or newer, as the endpoint demands",
        )
    if expected.client_certificate is not None and "ALERT" in reason:
        return Failure(
            Reason.CLIENT_CERTIFICATE_REFUSED,
            f"{expected.where} refuses the endpoint's client certificate: {reason.lower().replace('_', ' ')}",
        )
    return Failure(Reason.TLS_FAILED, f"the TLS handshake with {expected.where} failed: {reason.lower()}")


def _certificate_failure(
    error: ssl.SSLCertVerificationError, expected: Expectation, address: str, until: float
) -> Failure:
    reason = _VERIFY_REASONS.get(error.verify_code, Reason.CERTIFICATE_NOT_TRUSTED)
    said = shortened(error.verify_message or "verification failed").rstrip(".")
    shown = ""
    if reason is not Reason.CERTIFICATE_NOT_TRUSTED:
        with contextlib.suppress(OSError, ValueError):
            shown = _describe(reason, expected, address, min(until, time.monotonic() + _LOOK_SECONDS))
    return Failure(reason, f"the certificate of {expected.where} is refused: {said}{shown}; {_CURES[reason]}")


def _describe(reason: Reason, expected: Expectation, address: str, until: float) -> str:
    """What the refused certificate says of itself: looked at, and trusted in nothing."""
    looking = context(expected)
    looking.check_hostname = False
    if reason is not Reason.CERTIFICATE_NAME_MISMATCH:
        looking.verify_mode = ssl.CERT_NONE
    with _tls(looking, expected, address, until) as tls:
        decoded, certificate = tls.getpeercert(), tls.getpeercert(binary_form=True)
    if reason is Reason.CERTIFICATE_NAME_MISMATCH:
        alternatives = (decoded or {}).get("subjectAltName", ())
        names = ", ".join(str(alternative[1]) for alternative in alternatives)
        return f" (it is for {shortened(names or 'no name')}, not for {expected.name})"
    return f" (it is valid until {not_after(certificate or b''):%Y-%m-%d %H:%M} UTC)"


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
