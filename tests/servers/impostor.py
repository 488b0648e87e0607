"""Something that speaks an engine's handshake and wants the password: it asks, and keeps whatever it is told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tests.servers.pki import KeyPair


class Impostor(ABC):
    """Listens on 127.0.0.1, while it is entered; whoever logs in is refused in the end."""

    def __init__(self, certificate: KeyPair | None) -> None:
        """Without a certificate it offers no TLS, as one that sits in between and took the offer away."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = None if certificate is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self._context is not None and certificate is not None:
            self._context.load_cert_chain(certificate.certificate, certificate.key)
        self.encrypted = False
        self.heard = b""
        """What it was told, TLS taken off, beside the request for TLS."""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with plain, contextlib.suppress(OSError, struct.error):
                    plain.settimeout(5)
                    self._converse(plain)

    @abstractmethod
    def _converse(self, plain: socket.socket) -> None:
        """With one client, to the end. Raises OSError or struct.error when it goes away."""
