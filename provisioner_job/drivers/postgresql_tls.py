"""Why a connection came to nothing: asks the server again, as far as its certificate, and never sends a password.

libpq decides; this explains. libpq says `certificate verify failed` for every fault of a certificate, and words its
sentences for people; Python's ssl gives codes. Costs nothing while connections succeed.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from datetime import timedelta
from typing import NamedTuple

from api.reasons import Reason
from provisioner_job.drivers.postgresql_facts import not_after
from provisioner_job.errors import Failure, shortened

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL manual, "Message Formats": SSLRequest."""

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
_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "WRONG_VERSION_NUMBER")


class Expectation(NamedTuple):
    """What the endpoint demands of the server's TLS."""

    host: str
    """As the endpoint names it, for messages."""
    port: int
    name: str
    """That the certificate must carry."""
    check_name: bool
    minimum_version: str
    ca_file: str
    client_certificate: tuple[str, str] | None

    @property
    def where(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


def context(expected: Expectation) -> ssl.SSLContext:
    """The same demands for Python's ssl. Raises Failure(ENDPOINT_INVALID) for unusable files."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = expected.check_name
    made.minimum_version = ssl.TLSVersion[f"TLSv{expected.minimum_version.replace('.', '_')}"]
    try:
        made.load_verify_locations(cafile=expected.ca_file)
    except (ssl.SSLError, OSError):
        raise Failure(
            Reason.ENDPOINT_INVALID, "the CA certificates to trust for this endpoint cannot be read; give them as PEM"
        ) from None
    if expected.client_certificate is not None:
        try:
            made.load_cert_chain(*expected.client_certificate)
        except (ssl.SSLError, OSError):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                "the endpoint's client certificate cannot be used: its Secret needs tls.crt and tls.key as PEM, "
                "the key without a pass phrase and belonging to the certificate",
            ) from None
    return made


def explain(expected: Expectation, address: str, until: float) -> Failure | None:
    """What is wrong with reaching this address over TLS; None when nothing is. `until`: monotonic seconds."""
    demands = context(expected)
    try:
        with _connect(address, expected.port, until) as plain:
            answer = _ask_for_tls(plain)
            if answer != b"S":
                return _without_tls(answer, expected)
            with demands.wrap_socket(plain, server_hostname=expected.name):
                return None
    except ssl.SSLCertVerificationError as error:
        return _certificate_failure(error, expected, address, until)
    except ssl.SSLError as error:
        return _handshake_failure(error, expected)
    except OSError as error:
        return _unreachable(error, expected)


def reach(expected: Expectation, address: str, until: float) -> Failure | None:
    """The same for a connection without TLS: whether the port answers at all."""
    try:
        _connect(address, expected.port, until).close()
    except OSError as error:
        return _unreachable(error, expected)
    return None


def _unreachable(error: OSError, expected: Expectation) -> Failure:
    said = network_error(error)
    return Failure(Reason.ENDPOINT_UNREACHABLE, f"{expected.where} cannot be reached: {said}")


def network_error(error: OSError) -> str:
    """What the network said, without addresses and numbers."""
    return "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()


def _connect(address: str, port: int, until: float) -> socket.socket:
    left = timedelta(seconds=max(0.5, until - time.monotonic()))
    return socket.create_connection((address, port), timeout=left.total_seconds())


def _ask_for_tls(plain: socket.socket) -> bytes:
    plain.sendall(_SSL_REQUEST)
    return plain.recv(1)


def _without_tls(answer: bytes, expected: Expectation) -> Failure:
    if answer == b"N":
        return Failure(
            Reason.TLS_NOT_OFFERED,
            f"{expected.where} offers no TLS, so no password was sent; set ssl = on with a certificate on that server",
        )
    if not answer:
        return Failure(Reason.SERVER_NOT_READY, f"{expected.where} accepts connections and closes them again")
    return Failure(Reason.TLS_FAILED, f"{expected.where} does not answer as a PostgreSQL server does")


def _certificate_failure(
    error: ssl.SSLCertVerificationError, expected: Expectation, address: str, until: float
) -> Failure:
    reason = _VERIFY_REASONS.get(error.verify_code, Reason.CERTIFICATE_NOT_TRUSTED)
    said = shortened(error.verify_message or "verification failed").rstrip(".")
    try:
        shown = _describe(reason, expected, address, until)
    except OSError:
        shown = ""
    return Failure(reason, f"the certificate of {expected.where} is refused: {said}{shown}; {_CURES[reason]}")


def _describe(reason: Reason, expected: Expectation, address: str, until: float) -> str:
    """What the refused certificate says of itself: looked at, and trusted in nothing."""
    looking = context(expected)
    looking.check_hostname = False
    if reason is not Reason.CERTIFICATE_NAME_MISMATCH:
        looking.verify_mode = ssl.CERT_NONE
    with _connect(address, expected.port, until) as plain:
        if _ask_for_tls(plain) != b"S":
            return ""
        with looking.wrap_socket(plain, server_hostname=expected.name) as tls:
            decoded, certificate = tls.getpeercert(), tls.getpeercert(binary_form=True)
    if reason is Reason.CERTIFICATE_NAME_MISMATCH:
        alternatives = (decoded or {}).get("subjectAltName", ())
        names = ", ".join(str(alternative[1]) for alternative in alternatives)
        return f" (it is for {shortened(names or 'no name')}, not for {expected.name})"
    expiry = not_after(certificate or b"") if reason is Reason.CERTIFICATE_EXPIRED else None
    return f" (it is valid until {expiry:%Y-%m-%d %H:%M} UTC)" if expiry else ""


def _handshake_failure(error: ssl.SSLError, expected: Expectation) -> Failure:
    reason = error.reason or "no reason given"
    if any(word in reason for word in _OLD_PROTOCOL):
        return Failure(
            Reason.TLS_VERSION_REFUSED,
            f"{expected.where} does not offer TLS {expected.minimum_version} or newer, as the endpoint demands",
        )
    return Failure(Reason.TLS_FAILED, f"the TLS handshake with {expected.where} failed: {reason.lower()}")
