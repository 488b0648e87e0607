"""A way to the API server that can be cut: an HTTP proxy on loopback which knows of every write, after it was made.

Knows requests and answers, never what is in them. A `Gate` hears of each request before and after, and may have it
fail.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tests.servers.pki import KeyPair

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


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrives."""

    method: str
    target: str
    """Path and query."""
    token: str
    """Of the one who asks."""

    @property
    def watches(self) -> bool:
        """Whether its answer has no end."""
        return "watch=true" in self.target


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens instead of an answer."""

    code: int
    """Of HTTP; CUT or SILENT."""
    reason: str = ""


CUT, SILENT = 0, -1
"""Codes of no answer: the connection ends, or nothing comes until the client goes away."""


class Gate:
    """Hears of every request, and may have it fail; this one lets everything pass."""

    def arrives(self, asked: Asked) -> Fault | None:
        """Before it goes to the API server; with a fault it does not go there."""
        return None

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """The API server has done it and answered (a watch: begins to)."""
        return None


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away during its handshake is no news."""


class Proxy:
    """Listens on a port of loopback while it is entered; every request goes to the API server as it came."""

    def __init__(
        self,
        server: str,
        trust: ssl.SSLContext,
        deliver: Deliver = lambda write: True,
        *,
        gate: Gate | None = None,
        certificate: KeyPair | None = None,
    ) -> None:
        """`server` is the API server's URL; with a `certificate` the proxy itself is one with TLS."""
        self._target = urlsplit(server)
        self._trust = trust
        self._deliver = deliver
        self.gate = gate or Gate()
        self._scheme = "https" if certificate else "http"
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where to send requests."""
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

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

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class with small methods
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # An answer is written in two parts.
            disable_nagle_algorithm = True

            def setup(self) -> None:
                if proxy._context is not None:
                    self.request.settimeout(10)
                    self.request = proxy._context.wrap_socket(self.request, server_side=True)
                    self.request.settimeout(None)
                super().setup()

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                if proxy._context is not None:
                    self.request.close()

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
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                asked = Asked(self.command, self.path, token)
                if (fault := proxy.gate.arrives(asked)) is not None:
                    self.fail(fault)
                    return
                self.upstream.request(self.command, self.path, body or None, headers)
                answer = self.upstream.getresponse()
                fault = proxy.gate.answered(asked, answer.status)
                if asked.watches and answer.status == 200 and fault is None:
                    self.stream(answer)
                    return
                if fault is not None:
                    # A connection with an answer that nobody reads is of no more use.
                    self.upstream.close()
                    self.fail(fault)
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

            def fail(self, fault: Fault) -> None:
                if fault.code == SILENT:
                    # Until the client loses patience.
                    select.select([self.connection], [], [], 60)
                if fault.code in (CUT, SILENT):
                    self.close_connection = True
                    return
                status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
                status |= {"reason": fault.reason, "code": fault.code, "message": "a fault of the test"}  # type: ignore[dict-item]
                content = json.dumps(status).encode()
                self.send_response(fault.code)
                self.send_header("Content-Type", "application/json")
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
