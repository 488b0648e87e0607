"""What libpq and its OpenSSL know about a connection and psycopg does not pass on, read from their memory with ctypes.

Facts are of the live connection itself: a second handshake could meet another server, and costs a round trip more.
Works with psycopg's compiled flavours (`psycopg[binary]`, `psycopg[c]`), whose extension module leads to the very
libpq, libssl and libcrypto that it was linked with; with another flavour the import fails, and the Job says so.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import pq

_VERBOSE = 2
"""PQERRORS_VERBOSE: the text of a refused login then carries its SQLSTATE, which is the same in every language."""

_LIBPQ_17 = 170000


def _linked_libraries() -> ctypes.CDLL:
    if pq.version() < _LIBPQ_17:
        raise ImportError("needs libpq 17 for cancellations over verified TLS", name="psycopg[binary]>=3.3")
    path = sys.modules[pq.PGconn.__module__].__file__
    try:
        # A symbol is looked for in the extension module and in what it depends on, not in Python's own OpenSSL.
        library = ctypes.CDLL(path)
        for name, result, arguments in (
            ("PQsetErrorVerbosity", ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
            ("PQsslAttribute", ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_char_p)),
            ("PQsslStruct", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
            ("SSL_get1_peer_certificate", ctypes.c_void_p, (ctypes.c_void_p,)),
            ("i2d_X509", ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
            ("d2i_X509", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)),
            ("X509_get0_notAfter", ctypes.c_void_p, (ctypes.c_void_p,)),
            ("ASN1_TIME_to_tm", ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
            ("X509_free", None, (ctypes.c_void_p,)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise ImportError("needs psycopg[binary] with OpenSSL 3", name="psycopg[binary]") from error
    return library


_LIBRARY = _linked_libraries()


class _BrokenDownTime(ctypes.Structure):
    """`struct tm`."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("second", "minute", "hour", "day", "month", "year")),
        *((name, ctypes.c_int) for name in ("weekday", "yearday", "dst")),
        ("offset", ctypes.c_long),
        ("zone", ctypes.c_char_p),
    ]


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What the TLS layer of a connection is; all "" where there is none."""

    version: str = ""
    """As OpenSSL writes it: `TLSv1.3`."""
    cipher: str = ""
    certificate: bytes = b""
    """The server's certificate, DER."""


def report_sqlstate(connection: pq.abc.PGconn) -> None:
    """Make the error text of a connection attempt carry SQLSTATE and source location."""
    _LIBRARY.PQsetErrorVerbosity(_pointer(connection), _VERBOSE)


def _pointer(connection: pq.abc.PGconn) -> int:
    pointer: int = connection.pgconn_ptr  # type: ignore[attr-defined]  # documented, but not in the protocol
    return pointer


def tls_facts(connection: pq.abc.PGconn) -> TlsFacts:
    """TLS version, cipher and peer certificate of an open connection, as this side of it sees them."""
    if not connection.ssl_in_use:
        return TlsFacts()
    pointer = _pointer(connection)
    attributes = [_LIBRARY.PQsslAttribute(pointer, name) or b"" for name in (b"protocol", b"cipher")]
    version, cipher = (attribute.decode() for attribute in attributes)
    return TlsFacts(version, cipher, _peer_certificate(_LIBRARY.PQsslStruct(pointer, b"OpenSSL")))


def _peer_certificate(ssl_pointer: int | None) -> bytes:
    certificate = _LIBRARY.SSL_get1_peer_certificate(ssl_pointer) if ssl_pointer else None
    if not certificate:
        return b""
    try:
        buffer = ctypes.create_string_buffer(_LIBRARY.i2d_X509(certificate, None))
        # i2d writes to where the pointer points, and advances it.
        _LIBRARY.i2d_X509(certificate, ctypes.byref(ctypes.c_void_p(ctypes.addressof(buffer))))
        return buffer.raw
    finally:
        _LIBRARY.X509_free(certificate)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, hexadecimal; "" for none."""
    return hashlib.sha256(certificate).hexdigest() if certificate else ""


def not_after(certificate: bytes) -> datetime | None:
    """When a DER certificate expires; None when it cannot be read."""
    start = ctypes.create_string_buffer(certificate, len(certificate))
    pointer = ctypes.c_void_p(ctypes.addressof(start))
    parsed = _LIBRARY.d2i_X509(None, ctypes.byref(pointer), len(certificate))
    if not parsed:
        return None
    try:
        time = _BrokenDownTime()
        if not _LIBRARY.ASN1_TIME_to_tm(_LIBRARY.X509_get0_notAfter(parsed), ctypes.byref(time)):
            return None
        return datetime(time.year + 1900, time.month + 1, time.day, time.hour, time.minute, time.second, tzinfo=UTC)
    finally:
        _LIBRARY.X509_free(parsed)
