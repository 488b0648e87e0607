"""Why a connection came to nothing: asks the server again, as far as its certificate, and never sends a password.

libpq decides; this explains. libpq says `certificate verify failed` for every fault of a certificate, and words its
sentences for people; Python's ssl gives codes. Costs nothing while connections succeed.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from api.reasons import Reason
from provisioner_job.drivers.tls import (
    Expectation,
    certificate_failure,
    context,
    handshake_failure,
    unreachable,
)
from provisioner_job.errors import Failure

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL manual, "Message Formats": SSLRequest."""


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
        return certificate_failure(error, expected, lambda looking: _shown(looking, expected, address, until))
    except ssl.SSLError as error:
        return handshake_failure(error, expected)
    except OSError as error:
        return unreachable(error, expected)


def reach(expected: Expectation, address: str, until: float) -> Failure | None:
    """The same for a connection without TLS: whether the port answers at all."""
    try:
        _connect(address, expected.port, until).close()
    except OSError as error:
        return unreachable(error, expected)
    return None


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


def _shown(looking: ssl.SSLContext, expected: Expectation, address: str, until: float) -> Mapping[str, Any] | None:
    """The certificate of that server; None when it offers no TLS any more."""
    with _connect(address, expected.port, until) as plain:
        if _ask_for_tls(plain) != b"S":
            return None
        with looking.wrap_socket(plain, server_hostname=expected.name) as tls:
            return tls.getpeercert()
