"""A server's host on the network: its addresses, how a connection to one is kept, what an error of it says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from api.reasons import Reason
from provisioner_job.errors import Failure

T = TypeVar("T")

KEEPALIVE = (
    # A server that vanishes during a long call is noticed after 20 seconds.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""Options of a socket: level, name, value."""


def first_that_serves(host: str, port: int, until: float, attempt: Callable[[str], T]) -> T:
    """What `attempt` makes of the first address of `host` that can be reached and is ready; raises Failure.

    until: monotonic seconds. attempt: is given an address; raises Failure.
    """
    failure: Failure | None = None
    for address in addresses(host, port, until):
        try:
            return attempt(address)
        except Failure as refused:
            # Another address may be reachable, or the primary; it would not know the password any better.
            failure = refused
            if refused.reason not in (Reason.ENDPOINT_UNREACHABLE, Reason.SERVER_NOT_READY):
                raise
    raise failure or Failure(Reason.ENDPOINT_UNREACHABLE, f"the host name {host} cannot be resolved")


def addresses(host: str, port: int, until: float) -> list[str]:
    """What `host` resolves to, in the resolver's order; [] when there is nothing by `until` (monotonic seconds).

    The resolver itself knows no limit.
    """
    found: list[str] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(answer[4][0]) for answer in answers))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    return found.copy()


def network_error(error: OSError) -> str:
    """What the network said, without addresses and numbers."""
    return "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
