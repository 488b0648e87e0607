"""What an endpoint demands of a server's TLS, the same for every engine, and why it was refused. Opens no connection.

Python's ssl decides, or explains what a driver's own TLS decided, with a context made here and nothing that the
environment would rather have.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from api.reasons import Reason
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.network import network_error
from provisioner_job.errors import Failure, shortened

MODES = ("VerifyFull", "VerifyCA", "Disabled")
VERSIONS = ("1.2", "1.3")
PUBLIC_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
)
"""Named, because OpenSSL's own default follows SSL_CERT_FILE and SSL_CERT_DIR, and that of psycopg's wheels knows no
directory of this system."""

_VERIFY_REASONS = {
    # X509_V_ERR_*: OpenSSL manual, X509_STORE_CTX_get_error.
    9: Reason.CERTIFICATE_EXPIRED,  # not yet valid
    10: Reason.CERTIFICATE_EXPIRED,
    62: Reason.CERTIFICATE_NAME_MISMATCH,  # host name
    64: Reason.CERTIFICATE_NAME_MISMATCH,  # IP address
}
_IGNORE_DATES = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, to read the dates of a certificate that has been refused."""
_CURES = {
    Reason.CERTIFICATE_EXPIRED: "renew the server's certificate",
    Reason.CERTIFICATE_NAME_MISMATCH: "correct the endpoint's host or tls.serverName, or the certificate",
    Reason.CERTIFICATE_NOT_TRUSTED: "correct the endpoint's tls.caSecretRef or tls.caBundle, or the certificate",
}
_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "WRONG_VERSION_NUMBER")
_NOTHING_COMMON = "ALERT_HANDSHAKE_FAILURE"


class Expectation(NamedTuple):
    """What the endpoint demands of the server's TLS."""

    host: str
    """As the endpoint names it, for messages."""
    port: int
    name: str
    """That the certificate must carry."""
    mode: str
    """One of MODES."""
    minimum_version: str
    """One of VERSIONS."""
    ca_bundle: str
    """PEM; comes before `ca_file`."""
    ca_file: str
    client_certificate: tuple[str, str] | None

    @classmethod
    def of(cls, login: Login) -> Expectation:
        """The demands of a login. Raises Failure(ENDPOINT_INVALID) for what nobody here knows how to keep."""
        server = login.server
        for field, demand, known in (
            ("tls.mode", server.tls_mode, MODES),
            ("tls.minimumVersion", server.minimum_tls_version, VERSIONS),
        ):
            if demand not in known:
                raise Failure(Reason.ENDPOINT_INVALID, f"{field} {demand!r} is none of {', '.join(known)}")
        return cls(
            host=server.host,
            port=server.port,
            name=server.server_name or server.host,
            mode=server.tls_mode,
            minimum_version=server.minimum_tls_version,
            ca_bundle=server.ca_bundle,
            ca_file=login.ca_file or next(filter(os.path.exists, PUBLIC_CA_FILES), PUBLIC_CA_FILES[0]),
            client_certificate=login.client_certificate,
        )

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
            made.load_verify_locations(cafile=expected.ca_file)
    except (ssl.SSLError, OSError, TypeError, ValueError):
        raise Failure(
            Reason.ENDPOINT_INVALID, "the CA certificates to trust for this endpoint cannot be read; give them as PEM"
        ) from None
    if expected.client_certificate is not None:
        try:
            # Without a function to ask, OpenSSL would ask the terminal for a pass phrase.
            made.load_cert_chain(*expected.client_certificate, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                "the endpoint's client certificate cannot be used: its Secret needs tls.crt and tls.key as PEM, "
                "the key without a pass phrase and belonging to the certificate",
            ) from None
    return made


def certificate_failure(
    error: ssl.SSLCertVerificationError,
    expected: Expectation,
    look: Callable[[ssl.SSLContext], Mapping[str, Any] | None],
) -> Failure:
    """The failure of a server whose certificate was refused, with a cure and with what the certificate says of itself.

    `look` shakes hands with that server once more, by a context that passes over names and dates, and gives its
    certificate as `getpeercert` does. What it cannot see (OSError, EOFError, ValueError, None) is left out.
    """
    reason, shown = _VERIFY_REASONS.get(error.verify_code, Reason.CERTIFICATE_NOT_TRUSTED), ""
    if reason is not Reason.CERTIFICATE_NOT_TRUSTED:
        looking = context(expected)
        looking.check_hostname = False
        looking.verify_flags = ssl.VerifyFlags(looking.verify_flags | _IGNORE_DATES)
        with contextlib.suppress(OSError, EOFError, ValueError):
            shown = _shown(reason, look(looking) or {}, expected)
    said = shortened(error.verify_message or "verification failed").rstrip(".")
    return Failure(reason, f"the certificate of {expected.where} is refused: {said}{shown}; {_CURES[reason]}")


def _shown(reason: Reason, certificate: Mapping[str, Any], expected: Expectation) -> str:
    if reason is Reason.CERTIFICATE_NAME_MISMATCH:
        names = ", ".join(str(alternative[1]) for alternative in certificate.get("subjectAltName", ()))
        return f" (it is for {shortened(names or 'no name')}, not for {expected.name})"
    begin, end = moment(certificate, "notBefore"), moment(certificate, "notAfter")
    return f" (it is valid from {begin:%Y-%m-%d %H:%M} until {end:%Y-%m-%d %H:%M} UTC)" if begin and end else ""


def moment(certificate: Mapping[str, Any], which: str) -> datetime | None:
    """`notBefore` or `notAfter` of a certificate as `getpeercert` gives it; None where it is missing."""
    text = certificate.get(which)
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def handshake_failure(error: ssl.SSLError, expected: Expectation) -> Failure:
    """Why a handshake failed, if not for a certificate: TLS_VERSION_REFUSED, TLS_FAILED, or SERVER_NOT_READY.

    A server that objects says so, in an alert; one that just hangs up may have been stopped, or the network cut.
    """
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return hung_up(expected)
    said = error.reason or "no reason given"
    # wolfSSL, with which MariaDB's own packages are built, objects to TLS 1.3 alone with this one.
    nothing_common = expected.minimum_version == "1.3" and _NOTHING_COMMON in said
    if nothing_common or any(word in said for word in _OLD_PROTOCOL):
        return Failure(
            Reason.TLS_VERSION_REFUSED,
            f"{expected.where} does not offer TLS {expected.minimum_version} or newer, as the endpoint demands",
        )
    return Failure(Reason.TLS_FAILED, f"the TLS handshake with {expected.where} failed: {said.lower()}")


def hung_up(expected: Expectation) -> Failure:
    """The connection ended amid the handshake, without a word."""
    return Failure(
        Reason.SERVER_NOT_READY,
        f"{expected.where} ended the connection during the TLS handshake: perhaps it was stopped, or it has nothing in "
        f"common with TLS {expected.minimum_version} or newer",
    )


def unreachable(error: OSError, expected: Expectation) -> Failure:
    """No connection came about at all."""
    return Failure(Reason.ENDPOINT_UNREACHABLE, f"{expected.where} cannot be reached: {network_error(error)}")
