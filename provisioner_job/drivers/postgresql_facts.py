"""What an open PostgreSQL connection is, for the auditor: its TLS and its server's certificate.

Facts are of the live connection itself: a second handshake could meet another server, and costs a round trip more.
They are read with the very OpenSSL that libpq is linked with.
"""

from __future__ import annotations

import ctypes
import hashlib
from ctypes import c_char_p, c_int, c_void_p
from datetime import UTC, datetime
from typing import NamedTuple

from provisioner_job.drivers.postgresql_libpq import LIBRARY, Connection, declare

try:
    # A symbol is looked for in psycopg's extension and in what it depends on, not in Python's own OpenSSL.
    declare(
        LIBRARY,
        (
            ("PQsslAttribute", c_char_p, (c_void_p, c_char_p)),
            ("PQsslStruct", c_void_p, (c_void_p, c_char_p)),
            ("SSL_get1_peer_certificate", c_void_p, (c_void_p,)),
            ("i2d_X509", c_int, (c_void_p, c_void_p)),
            ("d2i_X509", c_void_p, (c_void_p, c_void_p, ctypes.c_long)),
            ("X509_get0_notAfter", c_void_p, (c_void_p,)),
            ("ASN1_TIME_to_tm", c_int, (c_void_p, c_void_p)),
            ("X509_free", None, (c_void_p,)),
        ),
    )
except AttributeError as error:
    raise ImportError("needs a libpq with OpenSSL 3", name="psycopg[binary]") from error


class _BrokenDownTime(ctypes.Structure):
    """`struct tm`."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("second", "minute", "hour", "day", "month", "year")),
        *((name, ctypes.c_int) for name in ("weekday", "yearday", "dst")),
        ("offset", ctypes.c_long),
        ("zone", ctypes.c_char_p),
    ]


class TlsFacts(NamedTuple):
    """What the TLS layer of a connection is; all "" where there is none."""

    version: str = ""
    """As OpenSSL writes it: `TLSv1.3`."""
    cipher: str = ""
    certificate: bytes = b""
    """The server's certificate, DER."""


def tls_facts(connection: Connection) -> TlsFacts:
    """TLS version, cipher and peer certificate of an open connection, as this side of it sees them."""
    if not connection.encrypted:
        return TlsFacts()
    attributes = [LIBRARY.PQsslAttribute(connection.pointer, name) or b"" for name in (b"protocol", b"cipher")]
    version, cipher = (attribute.decode() for attribute in attributes)
    return TlsFacts(version, cipher, _peer_certificate(LIBRARY.PQsslStruct(connection.pointer, b"OpenSSL")))


def _peer_certificate(ssl_pointer: int | None) -> bytes:
    certificate = LIBRARY.SSL_get1_peer_certificate(ssl_pointer) if ssl_pointer else None
    if not certificate:
        return b""
    try:
        buffer = ctypes.create_string_buffer(LIBRARY.i2d_X509(certificate, None))
        # i2d writes to where the pointer points, and advances it.
        LIBRARY.i2d_X509(certificate, ctypes.byref(ctypes.c_void_p(ctypes.addressof(buffer))))
        return buffer.raw
    finally:
        LIBRARY.X509_free(certificate)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, hexadecimal; "" for none."""
    return hashlib.sha256(certificate).hexdigest() if certificate else ""


def not_after(certificate: bytes) -> datetime | None:
    """When a DER certificate expires; None when it cannot be read."""
    start = ctypes.create_string_buffer(certificate, len(certificate))
    pointer = ctypes.c_void_p(ctypes.addressof(start))
    parsed = LIBRARY.d2i_X509(None, ctypes.byref(pointer), len(certificate))
    if not parsed:
        return None
    try:
        time = _BrokenDownTime()
        if not LIBRARY.ASN1_TIME_to_tm(LIBRARY.X509_get0_notAfter(parsed), ctypes.byref(time)):
            return None
        return datetime(time.year + 1900, time.month + 1, time.day, time.hour, time.minute, time.second, tzinfo=UTC)
    finally:
        LIBRARY.X509_free(parsed)
