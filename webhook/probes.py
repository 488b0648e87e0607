"""Probes and metrics in clear text, on a thread beside the TLS server, in every worker process.

All workers accept on one socket that they inherit: whichever is free answers.
"""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from flask import Flask


class _ProbeServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Without a look-up of the host's name, which can take seconds.
        self.server_name, self.server_port = "", self.socket.getsockname()[1]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes are too many to log."""


def serve_on_thread(listener: socket.socket, app: Flask) -> None:
    """Serve `app` in clear text on a listening socket that several processes may share."""
    server = _ProbeServer(("", 0), _QuietHandler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_bind()
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()


def listen(port: int) -> socket.socket:
    """A socket that takes connections on every address of the machine; OSError when the port is taken."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    listener = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=64)
    # Another worker may have taken the connection that select announced.
    listener.settimeout(0)
    return listener
