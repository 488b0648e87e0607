"""An `impostor.Impostor` that passes for a MariaDB or MySQL: it asks for the password by a method of its choice."""

from __future__ import annotations

import socket
import ssl
import struct

from pymysql.constants import CLIENT

from tests.servers.impostor import Impostor
from tests.servers.pki import KeyPair

SALT = b"abcdefghijklmnopqrst"
OFFERED = (
    CLIENT.LONG_PASSWORD
    | CLIENT.PROTOCOL_41
    | CLIENT.CONNECT_WITH_DB
    | CLIENT.SECURE_CONNECTION
    | CLIENT.PLUGIN_AUTH
    | CLIENT.PLUGIN_AUTH_LENENC_CLIENT_DATA
)


class MariaDBImpostor(Impostor):
    """Whoever logs in is asked for `method`."""

    def __init__(self, certificate: KeyPair | None, method: str, greeting: str = "mysql_native_password") -> None:
        """greeting: the method that it proposes at first."""
        super().__init__(certificate)
        self._method = method
        self._greeting = greeting

    def _hello(self) -> bytes:
        capabilities = OFFERED | (CLIENT.SSL if self._context is not None else 0)
        low, high = capabilities & 0xFFFF, capabilities >> 16
        return (
            b"\x0a8.0.99\0"
            + struct.pack("<I8sxHBHHB10x", 7, SALT[:8], low, 45, 2, high, 21)
            + SALT[8:]
            + b"\0"
            + self._greeting.encode()
            + b"\0"
        )

    def _converse(self, plain: socket.socket) -> None:
        _send(plain, 0, self._hello())
        number, packet = _receive(plain)
        if len(packet) != 32 or self._context is None:
            self._question(plain, number, packet)
            return
        with self._context.wrap_socket(plain, server_side=True) as tls:
            self.encrypted = True
            self._question(tls, *_receive(tls))

    def _question(self, stream: socket.socket, number: int, login: bytes) -> None:
        self.heard += login
        _send(stream, number + 1, b"\xfe" + self._method.encode() + b"\0" + SALT + b"\0")
        number, answer = _receive(stream)
        self.heard += answer
        if self._method == "caching_sha2_password":
            # "perform full authentication": the password itself, please.
            _send(stream, number + 1, b"\x01\x04")
            number, answer = _receive(stream)
            self.heard += answer
        _send(stream, number + 1, b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied")


def _send(stream: socket.socket, number: int, payload: bytes) -> None:
    stream.sendall(struct.pack("<I", len(payload) | number << 24) + payload)


def _receive(stream: socket.socket) -> tuple[int, bytes]:
    (header,) = struct.unpack("<I", stream.recv(4, socket.MSG_WAITALL) if _plain(stream) else stream.recv(4))
    length, payload = header & 0xFFFFFF, b""
    while len(payload) < length:
        piece = stream.recv(length - len(payload))
        if not piece:
            raise ConnectionResetError
        payload += piece
    return header >> 24, payload


def _plain(stream: socket.socket) -> bool:
    return not isinstance(stream, ssl.SSLSocket)
