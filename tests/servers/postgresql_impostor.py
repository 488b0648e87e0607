"""An `impostor.Impostor` that passes for a PostgreSQL: it asks for the password in clear."""

from __future__ import annotations

import socket
import struct

from tests.servers.impostor import Impostor

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_CLEARTEXT_PASSWORD = b"R" + struct.pack("!ii", 8, 3)
"""PostgreSQL manual, "Message Formats"."""


class PostgreSQLImpostor(Impostor):
    """Answers the first request for TLS; then listens, and asks."""

    def _converse(self, plain: socket.socket) -> None:
        first = plain.recv(len(_SSL_REQUEST), socket.MSG_WAITALL)
        if first != _SSL_REQUEST:
            self.heard += first
            self._ask(plain)
        elif self._context is None:
            plain.sendall(b"N")
            self._ask(plain)
        else:
            plain.sendall(b"S")
            with self._context.wrap_socket(plain, server_side=True) as tls:
                self.encrypted = True
                self._ask(tls)

    def _ask(self, stream: socket.socket) -> None:
        while said := stream.recv(4096):
            self.heard += said
            stream.sendall(_CLEARTEXT_PASSWORD)
