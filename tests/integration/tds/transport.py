"""A server's end of one connection: in clear, and, after PRELOGIN, TLS whose handshake travels in TDS packets."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading

from tests.integration.tds.packets import HEADER, Kind, framed


class Channel:
    """Bytes to and from one client; raises ConnectionError when it is gone."""

    def __init__(self, sock: socket.socket, awake: threading.Event) -> None:
        self.sock = sock
        self._awake = awake
        """While it is not set, nothing is heard and nothing said."""
        self.in_clear = bytearray()
        """Everything that was received outside of TLS."""
        self._buffer = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def read(self, count: int) -> bytes:
        """Exactly this many bytes."""
        while len(self._buffer) < count:
            self._buffer += self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def readable(self, seconds: float) -> bool:
        """Whether something comes within that time."""
        self._awake.wait()
        if self._buffer or (self._tls is not None and self._tls.pending()):
            return True
        return bool(select.select([self.sock], [], [], seconds)[0])

    def _receive(self) -> bytes:
        while True:
            if self._tls is not None:
                with contextlib.suppress(ssl.SSLWantReadError):
                    if data := self._tls.read(65536):
                        return data
                    raise ConnectionError("the client ended TLS")
            data = self._receive_raw()
            if self._tls is None:
                self.in_clear += data
                return data
            self._incoming.write(data)

    def _receive_raw(self) -> bytes:
        data = self.sock.recv(65536)
        self._awake.wait()
        if not data:
            raise ConnectionError("the client went away")
        return data

    def send(self, data: bytes) -> None:
        """All of it."""
        self._awake.wait()
        if self._tls is None:
            self.sock.sendall(data)
            return
        for start in range(0, len(data), 16384):
            self._tls.write(data[start : start + 16384])
        self.sock.sendall(self._outgoing.read())

    def start_tls(self, context: ssl.SSLContext, *, tickets_in_packets: bool = True) -> None:
        """The handshake; raises ssl.SSLError when it fails, after the alert has been sent.

        tickets_in_packets: whether what TLS 1.3 sends after the handshake still travels in PRELOGIN packets.
        """
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_wrapped()
                _, _, length, *_ = HEADER.unpack(self.read(HEADER.size))
                self._incoming.write(self.read(length - HEADER.size))
            except ssl.SSLError:
                self._send_wrapped()
                raise
            else:
                break
        if tickets_in_packets:
            self._send_wrapped()
        else:
            self.sock.sendall(self._outgoing.read())
        self._tls = tls
        self._incoming.write(bytes(self._buffer))
        self._buffer.clear()

    def _send_wrapped(self) -> None:
        if data := self._outgoing.read():
            self.sock.sendall(framed(Kind.PRELOGIN, data))

    def close(self, *, abruptly: bool = False) -> None:
        """End it; abruptly: with a reset."""
        if abruptly:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()
