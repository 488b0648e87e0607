"""TLS with a SQL Server, as its endpoint demands it, and why it came to nothing.

TDS 7.4 hides the handshake in PRELOGIN packets, after which plain TLS carries TDS. Nothing that is secret is sent
before the server's certificate has been verified; a server that would encrypt the login alone, or nothing, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from api.reasons import Reason
from provisioner_job.drivers import sqlserver_tds as tds
from provisioner_job.errors import Failure, shortened

PUBLIC_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
)

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
_IGNORE_DATES = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, to read the dates of a certificate that has been refused."""
_CERTIFICATE_REQUEST = 13
"""RFC 5246, 7.4.4."""
_HANDSHAKE_RECORD = 0x16
_RECORDS = range(0x14, 0x18)
"""RFC 5246, 6.2.1: ContentType."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the endpoint demands of the connection."""

    host: str
    """As the endpoint names it, for messages."""
    port: int
    name: str
    """That the certificate must carry."""
    mode: str
    """VerifyFull, VerifyCA or Disabled."""
    minimum_version: str
    ca_file: str | None
    ca_bundle: str
    client_certificate: tuple[str, str] | None

    @property
    def where(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What the TLS of a connection is; all "" where there is none."""

    version: str = ""
    cipher: str = ""
    certificate_sha256: str = ""
    certificate_not_after: str = ""


class Upstream:
    """A connection to the server, verified; whole packets go in, bytes come out. Not for several threads at once."""

    def __init__(self, sock: socket.socket, version: bytes, tls: Tls | None) -> None:
        self.socket = sock
        self.version = version
        """Of the server, as its PRELOGIN says it."""
        self._tls = tls
        self.facts = TlsFacts() if tls is None else tls.facts()

    def send(self, packet: bytes) -> None:
        """One packet. Raises OSError."""
        self.socket.sendall(packet if self._tls is None else self._tls.encrypted(packet))

    def receive(self) -> bytes:
        """What one read of the socket yields; may be nothing yet. Raises EOFError at the end, OSError."""
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        return data if self._tls is None else self._tls.decrypted(data)

    def close(self) -> None:
        """End it; may be called twice."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Tls:
    """TLS over memory: its records travel in packets first, and bare after the handshake."""

    def __init__(self, demands: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = demands.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._wrapped: bytearray | None = bytearray()
        """Bytes that may still be a packet; None once bare records have come."""
        self._heard = bytearray()
        self.finished = False

    def shake(self, sock: socket.socket) -> None:
        """The whole handshake. Raises ssl.SSLError, OSError, EOFError, tds.Unexpected."""
        while not self.finished:
            try:
                self.object.do_handshake()
                self.finished = True
            except ssl.SSLWantReadError:
                pass
            finally:
                if records := self._outgoing.read():
                    sock.sendall(tds.framed(tds.PRELOGIN, records))
            if not self.finished:
                data = sock.recv(65536)
                if not data:
                    raise EOFError
                self._take(data)
        self._heard.clear()

    def _take(self, data: bytes) -> None:
        """Hand records to TLS, out of their packets. A server may begin to send them bare with its last ones."""
        if self._wrapped is None:
            self._incoming.write(data)
            return
        self._wrapped += data
        while self._wrapped:
            if self._wrapped[0] in _RECORDS:
                bare, self._wrapped = bytes(self._wrapped), None
                self._hear(bare)
                return
            if self._wrapped[0] != tds.PRELOGIN:
                raise tds.Unexpected("no TLS handshake")
            if len(self._wrapped) < tds.HEADER.size:
                return
            length = tds.HEADER.unpack_from(self._wrapped)[2]
            if len(self._wrapped) < length:
                return
            self._hear(bytes(self._wrapped[tds.HEADER.size : length]))
            del self._wrapped[: max(length, tds.HEADER.size)]

    def _hear(self, records: bytes) -> None:
        self._incoming.write(records)
        if not self.finished:
            self._heard += records

    @property
    def asked_for_certificate(self) -> bool:
        """Whether the server has asked for a client's certificate, as far as it did so in clear (TLS 1.2)."""
        messages, position = bytearray(), 0
        while position + 5 <= len(self._heard):
            length = int.from_bytes(self._heard[position + 3 : position + 5])
            if self._heard[position] == _HANDSHAKE_RECORD:
                messages += self._heard[position + 5 : position + 5 + length]
            position += 5 + length
        position = 0
        while position + 4 <= len(messages):
            if messages[position] == _CERTIFICATE_REQUEST:
                return True
            position += 4 + int.from_bytes(messages[position + 1 : position + 4])
        return False

    def encrypted(self, packet: bytes) -> bytes:
        """The records of one packet: SQL Server expects a record to hold whole packets."""
        self.object.write(packet)
        return self._outgoing.read()

    def decrypted(self, data: bytes) -> bytes:
        """What these bytes hold, as far as it is whole. Raises EOFError when the server has ended TLS."""
        self._take(data)
        plain = bytearray()
        while True:
            try:
                piece = self.object.read(65536)
            except ssl.SSLWantReadError:
                return bytes(plain)
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                if plain:
                    return bytes(plain)
                raise EOFError
            plain += piece

    def facts(self) -> TlsFacts:
        """Version, cipher and certificate of this very connection."""
        certificate = self.object.getpeercert(binary_form=True) or b""
        expiry = _moment(self.object, "notAfter")
        return TlsFacts(
            version=self.object.version() or "",
            cipher=(self.object.cipher() or ("",))[0],
            certificate_sha256=hashlib.sha256(certificate).hexdigest(),
            certificate_not_after=f"{expiry:%Y-%m-%dT%H:%M:%SZ}" if expiry else "",
        )


def _moment(tls: ssl.SSLObject, which: str) -> datetime | None:
    text = (tls.getpeercert() or {}).get(which)
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC) if isinstance(text, str) else None


def context(expected: Expectation) -> ssl.SSLContext:
    """The demands for Python's ssl. Raises Failure(ENDPOINT_INVALID) for unusable files."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = expected.mode == "VerifyFull"
    made.minimum_version = ssl.TLSVersion[f"TLSv{expected.minimum_version.replace('.', '_')}"]
    try:
        if expected.ca_bundle:
            made.load_verify_locations(cadata=expected.ca_bundle)
        else:
            public = next(filter(os.path.exists, PUBLIC_CA_FILES), PUBLIC_CA_FILES[0])
            made.load_verify_locations(cafile=expected.ca_file or public)
    except (ssl.SSLError, OSError, ValueError):
        raise Failure(
            Reason.ENDPOINT_INVALID, "the CA certificates to trust for this endpoint cannot be read; give them as PEM"
        ) from None
    if expected.client_certificate is not None:
        try:
            # Without a function to ask, a key with a pass phrase would be asked for on a terminal.
            made.load_cert_chain(*expected.client_certificate, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                "the endpoint's client certificate cannot be used: its Secret needs tls.crt and tls.key as PEM, "
                "the key without a pass phrase and belonging to the certificate",
            ) from None
    return made


def open_upstream(expected: Expectation, address: str, until: float) -> Upstream:
    """Connect, and verify as demanded. `until`: monotonic seconds. Raises Failure."""
    demands = None if expected.mode == "Disabled" else context(expected)
    try:
        sock = _connect(address, expected.port, until)
    except OSError as error:
        raise _unreachable(error, expected) from None
    try:
        upstream = _verified(expected, demands, sock)
    except Failure as failure:
        sock.close()
        raise _explained(failure, expected, address, until) from None
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return upstream


def _connect(address: str, port: int, until: float) -> socket.socket:
    sock = socket.create_connection((address, port), timeout=max(0.1, until - time.monotonic()))
    sock.settimeout(max(0.1, until - time.monotonic()))
    # A server that vanishes during a long call is noticed after 20 seconds.
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    ):
        sock.setsockopt(level, option, value)
    return sock


def _verified(expected: Expectation, demands: ssl.SSLContext | None, sock: socket.socket) -> Upstream:
    try:
        options = _ask(sock, tds.ENCRYPT_NOT_SUPPORTED if demands is None else tds.ENCRYPT_ON)
    except tds.Unexpected:
        message = f"{expected.where} does not answer as a SQL Server does"
        raise Failure(Reason.TLS_FAILED, message) from None
    except TimeoutError:
        message = f"{expected.where} takes connections, but did not answer in time"
        raise Failure(Reason.SERVER_NOT_READY, message) from None
    except (EOFError, OSError):
        message = f"{expected.where} accepts connections and closes them again"
        raise Failure(Reason.SERVER_NOT_READY, message) from None
    encryption = options[tds.ENCRYPTION][0]
    _check_encryption(encryption, expected)
    tls = None if demands is None else _shaken(expected, demands, sock)
    return Upstream(sock, options[tds.VERSION], tls)


def _ask(sock: socket.socket, encryption: int) -> dict[int, bytes]:
    """PRELOGIN and its answer."""
    sock.sendall(tds.framed(tds.PRELOGIN, tds.prelogin(encryption)))
    data, packets = b"", tds.Packets()
    while True:
        received = sock.recv(4096)
        if not received:
            raise EOFError
        if not data and received[0] != tds.REPLY:
            raise tds.Unexpected("no reply")
        for packet in packets.feed(received):
            data += packet[tds.HEADER.size :]
            if tds.ends_message(packet):
                return dict(tds.read_prelogin(data))


def _check_encryption(answer: int, expected: Expectation) -> None:
    if expected.mode == "Disabled":
        if answer in (tds.ENCRYPT_ON, tds.ENCRYPT_REQUIRED):
            raise Failure(
                Reason.TLS_FAILED, f"{expected.where} demands TLS, which the endpoint's tls.mode Disabled forbids"
            )
        return
    if answer in (tds.ENCRYPT_ON, tds.ENCRYPT_REQUIRED):
        return
    only = "would encrypt the login alone and nothing after it" if answer == tds.ENCRYPT_OFF else "offers no TLS"
    raise Failure(
        Reason.TLS_NOT_OFFERED,
        f"{expected.where} {only}, so no password was sent; give that server a certificate and let it take encryption",
    )


class _Refused(Failure):
    """A certificate that was not accepted: what it says of itself is still to be added."""


def _shaken(expected: Expectation, demands: ssl.SSLContext, sock: socket.socket) -> Tls:
    tls = Tls(demands, expected.name)
    try:
        tls.shake(sock)
    except ssl.SSLCertVerificationError as error:
        reason = _VERIFY_REASONS.get(error.verify_code, Reason.CERTIFICATE_NOT_TRUSTED)
        raise _Refused(reason, shortened(error.verify_message or "verification failed").rstrip(".")) from None
    except ssl.SSLError as error:
        raise handshake_failure(error, expected, asked=tls.asked_for_certificate) from None
    except tds.Unexpected:
        message = f"{expected.where} does not answer as a SQL Server does"
        raise Failure(Reason.TLS_FAILED, message) from None
    except TimeoutError:
        message = f"{expected.where} did not go on with the TLS handshake in time"
        raise Failure(Reason.SERVER_NOT_READY, message) from None
    except (EOFError, OSError):
        message = (
            f"{expected.where} ended the connection during the TLS handshake: "
            f"perhaps it has nothing in common with TLS {expected.minimum_version} or newer"
        )
        raise Failure(Reason.TLS_FAILED, message) from None
    return tls


def handshake_failure(error: ssl.SSLError, expected: Expectation, *, asked: bool) -> Failure:
    """What a handshake that failed, or an alert, means; `asked`: a client's certificate was asked for."""
    said = error.reason or "no reason given"
    if any(word in said for word in _OLD_PROTOCOL):
        return Failure(
            Reason.TLS_VERSION_REFUSED,
            f"{expected.where} does not offer TLS {expected.minimum_version} or newer, as the endpoint demands"
            + ("; SQL Server has TLS 1.3 with TDS 8.0 only" if expected.minimum_version == "1.3" else ""),
        )
    if "ALERT" in said and (asked or "CERTIFICATE" in said or "UNKNOWN_CA" in said):
        if expected.client_certificate is None:
            message = f"{expected.where} demands a client certificate; name one in tls.clientCertificateSecretRef"
        else:
            message = f"{expected.where} refuses the endpoint's client certificate: {said.lower()}"
        return Failure(Reason.CLIENT_CERTIFICATE_REFUSED, message)
    return Failure(Reason.TLS_FAILED, f"the TLS handshake with {expected.where} failed: {said.lower()}")


def _unreachable(error: OSError, expected: Expectation) -> Failure:
    said = "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
    return Failure(Reason.ENDPOINT_UNREACHABLE, f"{expected.where} cannot be reached: {said}")


def _explained(failure: Failure, expected: Expectation, address: str, until: float) -> Failure:
    if not isinstance(failure, _Refused):
        return failure
    shown = ""
    with contextlib.suppress(OSError, EOFError, tds.Unexpected):
        shown = _describe(failure.reason, expected, address, until)
    return Failure(
        failure.reason,
        f"the certificate of {expected.where} is refused: {failure.message}{shown}; {_CURES[failure.reason]}",
    )


def _describe(reason: Reason, expected: Expectation, address: str, until: float) -> str:
    """What the refused certificate says of itself: asked for again, and trusted in nothing."""
    if reason is Reason.CERTIFICATE_NOT_TRUSTED:
        return ""
    looking = context(expected)
    looking.check_hostname = False
    looking.verify_flags = ssl.VerifyFlags(looking.verify_flags | _IGNORE_DATES)
    with _connect(address, expected.port, until) as sock:
        if _ask(sock, tds.ENCRYPT_ON)[tds.ENCRYPTION][0] not in (tds.ENCRYPT_ON, tds.ENCRYPT_REQUIRED):
            return ""
        tls = Tls(looking, expected.name)
        tls.shake(sock)
    if reason is Reason.CERTIFICATE_NAME_MISMATCH:
        alternatives = (tls.object.getpeercert() or {}).get("subjectAltName", ())
        names = ", ".join(str(alternative[1]) for alternative in alternatives)
        return f" (it is for {shortened(names or 'no name')}, not for {expected.name})"
    begin, end = _moment(tls.object, "notBefore"), _moment(tls.object, "notAfter")
    return f" (it is valid from {begin:%Y-%m-%d %H:%M} until {end:%Y-%m-%d %H:%M} UTC)" if begin and end else ""
