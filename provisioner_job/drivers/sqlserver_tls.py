"""TLS with a SQL Server, as its endpoint demands it, and why it came to nothing.

TDS 7.4 hides the handshake in PRELOGIN packets, after which plain TLS carries TDS. Nothing that is secret is sent
before the server's certificate has been verified; a server that would encrypt the login alone, or nothing, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from api.reasons import Reason
from provisioner_job.drivers import sqlserver_tds as tds
from provisioner_job.drivers.network import KEEPALIVE
from provisioner_job.drivers.tls import (
    Expectation,
    certificate_failure,
    context,
    handshake_failure,
    hung_up,
    moment,
    unreachable,
)
from provisioner_job.errors import Failure

_CERTIFICATE_REQUEST = 13
"""RFC 5246, 7.4.4."""
_HANDSHAKE_RECORD = 0x16
_RECORDS = range(0x14, 0x18)
"""RFC 5246, 6.2.1: ContentType."""


class TlsFacts(NamedTuple):
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
        expiry = moment(self.object.getpeercert() or {}, "notAfter")
        return TlsFacts(
            version=self.object.version() or "",
            cipher=(self.object.cipher() or ("",))[0],
            certificate_sha256=hashlib.sha256(certificate).hexdigest(),
            certificate_not_after=f"{expiry:%Y-%m-%dT%H:%M:%SZ}" if expiry else "",
        )


def open_upstream(expected: Expectation, address: str, until: float) -> Upstream:
    """Connect, and verify as demanded. `until`: monotonic seconds. Raises Failure."""
    demands = None if expected.mode == "Disabled" else context(expected)
    try:
        sock = _connect(address, expected.port, until)
    except OSError as error:
        raise unreachable(error, expected) from None
    try:
        upstream = _verified(expected, demands, sock)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise certificate_failure(error, expected, lambda looking: _shown(looking, expected, address, until)) from None
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return upstream


def _connect(address: str, port: int, until: float) -> socket.socket:
    sock = socket.create_connection((address, port), timeout=max(0.1, until - time.monotonic()))
    sock.settimeout(max(0.1, until - time.monotonic()))
    for level, option, value in KEEPALIVE:
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


def _shaken(expected: Expectation, demands: ssl.SSLContext, sock: socket.socket) -> Tls:
    tls = Tls(demands, expected.name)
    try:
        tls.shake(sock)
    except ssl.SSLCertVerificationError:
        raise
    except ssl.SSLError as error:
        raise tls_failure(error, expected, asked=tls.asked_for_certificate) from None
    except tds.Unexpected:
        message = f"{expected.where} does not answer as a SQL Server does"
        raise Failure(Reason.TLS_FAILED, message) from None
    except TimeoutError:
        message = f"{expected.where} did not go on with the TLS handshake in time"
        raise Failure(Reason.SERVER_NOT_READY, message) from None
    except (EOFError, OSError):
        raise hung_up(expected) from None
    return tls


def tls_failure(error: ssl.SSLError, expected: Expectation, *, asked: bool) -> Failure:
    """What a handshake that failed, or an alert, means; `asked`: a client's certificate was asked for."""
    failed, said = handshake_failure(error, expected), error.reason or ""
    if failed.reason is Reason.TLS_VERSION_REFUSED and expected.minimum_version == "1.3":
        return Failure(failed.reason, f"{failed.message}; SQL Server has TLS 1.3 with TDS 8.0 only")
    of_certificate = asked or "CERTIFICATE" in said or "UNKNOWN_CA" in said
    if failed.reason is not Reason.TLS_FAILED or "ALERT" not in said or not of_certificate:
        return failed
    if expected.client_certificate is None:
        message = f"{expected.where} demands a client certificate; name one in tls.clientCertificateSecretRef"
    else:
        message = f"{expected.where} refuses the endpoint's client certificate: {said.lower()}"
    return Failure(Reason.CLIENT_CERTIFICATE_REFUSED, message)


def _shown(looking: ssl.SSLContext, expected: Expectation, address: str, until: float) -> Mapping[str, Any] | None:
    """The certificate of that server; None when it offers no TLS any more."""
    with _connect(address, expected.port, until) as sock:
        if _ask(sock, tds.ENCRYPT_ON)[tds.ENCRYPTION][0] not in (tds.ENCRYPT_ON, tds.ENCRYPT_REQUIRED):
            return None
        tls = Tls(looking, expected.name)
        tls.shake(sock)
    return tls.object.getpeercert()
