"""The controller's small HTTP server: liveness, readiness, metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def serve(port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
    """Serve /healthz, /readyz and /metrics on all addresses of the Pod, on a daemon thread."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """Answer one request."""
            match self.path.split("?")[0]:
                case "/healthz":
                    self._answer(200, b"ok\n")
                case "/readyz":
                    self._answer(*((200, b"ok\n") if ready() else (503, b"caches are being filled\n")))
                case "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"not found\n")

        def _answer(self, code: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Probes every few seconds are no news."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
