"""The addresses of a server's host, within a time: the resolver itself knows no limit."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


def addresses(host: str, port: int, until: float) -> list[str]:
    """What `host` resolves to, in the resolver's order; [] when there is nothing by `until` (monotonic seconds)."""
    found: list[str] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(answer[4][0]) for answer in answers))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    return found.copy()
