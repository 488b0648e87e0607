"""A server that pretends to be PostgreSQL as far as TLS, and keeps whatever it is sent.

What it is sent after that is what a stranger in the server's place would learn.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Self

from tests.servers.pki import KeyPair

SSL_REQUEST = bytes((0, 0, 0, 8, 4, 210, 22, 47))
"""PostgreSQL manual, "Message Formats": SSLRequest."""


class Recorder:
    """Listens while it is entered. With a certificate it agrees to TLS, without one it declines."""

    def __init__(self, address: str, certificate: KeyPair | None, newest: ssl.TLSVersion | None = None) -> None:
        self.asked = 0
        """How often TLS was asked for."""
        self.learned = b""
        """All that was sent besides: in clear, or under TLS."""
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.certificate, certificate.key)
            if newest is not None:
                self._context.maximum_version = newest
        self._listener = socket.create_server((address, 0))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="recorder", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes up the thread that accepts, which close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection, contextlib.suppress(OSError):
            first = connection.recv(len(SSL_REQUEST), socket.MSG_WAITALL)
            if first != SSL_REQUEST:
                self._keep(first, connection)
                return
            self.asked += 1
            if self._context is None:
                connection.sendall(b"N")
                self._keep(b"", connection)
                return
            connection.sendall(b"S")
            with self._context.wrap_socket(connection, server_side=True) as secured:
                self._keep(b"", secured)

    def _keep(self, first: bytes, connection: socket.socket) -> None:
        self.learned += first
        while data := connection.recv(4096):
            self.learned += data
