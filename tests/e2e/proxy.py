"""A way to the API server that can be cut: an HTTP proxy on loopback which knows of every write, after it was made.

Knows requests and answers; nothing of who asks, nor of what is in them.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

WRITES = ("POST", "PUT", "PATCH", "DELETE")
_HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})


@dataclass(frozen=True, slots=True)
class Write:
    """A request that changes something, and how the API server answered it."""

    method: str
    path: str
    """Without its query."""
    status: int

    @property
    def done(self) -> bool:
        """Whether it changed something."""
        return 200 <= self.status < 300


Deliver = Callable[[Write], bool]
"""Told of each write before its answer goes back; False: the answer never arrives."""


class Proxy:
    """Listens on a port of loopback while it is entered; every request goes to the API server as it came."""

    def __init__(self, server: str, trust: ssl.SSLContext, deliver: Deliver) -> None:
        """`server` is the API server's URL."""
        self._target = urlsplit(server)
        self._trust = trust
        self._deliver = deliver
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where to send requests."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def cut(self) -> None:
        """Break every connection that is open now, watches included."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.cut()

    @contextlib.contextmanager
    def _known(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer is written in two parts.
            disable_nagle_algorithm = True

            def handle(self) -> None:
                host, port = proxy._target.hostname or "", proxy._target.port or 443
                self.upstream = http.client.HTTPSConnection(host, port, timeout=330, context=proxy._trust)
                # Either side may go away at any moment: that is what this is for.
                with proxy._known(self.connection), contextlib.suppress(OSError, http.client.HTTPException):
                    super().handle()
                self.upstream.close()

            def relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                self.upstream.request(self.command, self.path, body or None, headers)
                answer = self.upstream.getresponse()
                if "watch=true" in self.path and answer.status == 200:
                    self.stream(answer)
                    return
                content = answer.read()
                write = Write(self.command, urlsplit(self.path).path, answer.status)
                if self.command in WRITES and not proxy._deliver(write):
                    self.close_connection = True
                    return
                self.begin(answer)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def stream(self, answer: http.client.HTTPResponse) -> None:
                self.begin(answer)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while part := answer.read1():
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")

            def begin(self, answer: http.client.HTTPResponse) -> None:
                self.send_response(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Requests are too many to print."""

        for method in ("GET", *WRITES):
            setattr(Handler, f"do_{method}", Handler.relay)
        return Handler
