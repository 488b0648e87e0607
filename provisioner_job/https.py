"""HTTP/1.1 over one TLS connection that is kept alive: as much as an API server speaks.

The standard library's http.client would do, but imports a parser of e-mails: 15 ms of every Job's start-up.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

_LINE_BYTES = 65536
_HEADER_LINES = 200
_BODY_BYTES = 64 * 1024 * 1024


class NoHttp(Exception):
    """What came is no answer in HTTP/1.1, or it broke off."""


class Answer(NamedTuple):
    """A response; its body is read to the end."""

    status: int
    body: bytes


class Https:
    """One connection to one server, made when it is needed. Used by one thread."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, seconds: float) -> None:
        self._address = address
        self._context = context
        self._seconds = seconds
        self._streams: tuple[ssl.SSLSocket, BinaryIO] | None = None
        """What is written to, and what is read from."""

    @property
    def connected(self) -> bool:
        """Whether the next request goes over a connection that has served one."""
        return self._streams is not None

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send a request and read its answer; every wait ends after the connection's seconds.

        target, headers: of characters that HTTP has there; nothing is escaped here. Raises OSError, NoHttp; then the
        connection is closed.
        """
        try:
            output, source = self._streams = self._streams or self._connect()
            host, port = self._address
            lines = [
                f"{method} {target} HTTP/1.1",
                f"Host: {f'[{host}]' if ':' in host else host}:{port}",
                *(f"{name}: {value}" for name, value in headers.items()),
                *([] if body is None else [f"Content-Length: {len(body)}"]),
            ]
            # In one piece: a second one would wait for the other side's acknowledgement.
            output.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
            return self._answer(source)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; may be called twice."""
        streams, self._streams = self._streams, None
        for stream in streams or ():
            stream.close()

    def _connect(self) -> tuple[ssl.SSLSocket, BinaryIO]:
        plain = socket.create_connection(self._address, self._seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            output = self._context.wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise
        return output, output.makefile("rb")

    def _answer(self, source: BinaryIO) -> Answer:
        while True:
            status, headers = _head(source)
            if status >= 200:
                break
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = _chunked(source)
        elif status in (204, 304):
            body = b""
        elif "content-length" in headers:
            body = _exactly(source, _number(headers["content-length"], 10))
        else:
            raise NoHttp("an answer without a length")
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, body)


def _head(source: BinaryIO) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case."""
    version, _, rest = _line(source).partition(" ")
    if not version.startswith("HTTP/1."):
        raise NoHttp("no HTTP/1.1")
    status = _number(rest[:3], 10)
    headers: dict[str, str] = {}
    for _ in range(_HEADER_LINES):
        line = _line(source)
        if not line:
            return status, headers
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    raise NoHttp("too many headers")


def _chunked(source: BinaryIO) -> bytes:
    body = b""
    while size := _number(_line(source).partition(";")[0].strip(), 16):
        body += _exactly(source, size)
        if _line(source) or len(body) > _BODY_BYTES:
            raise NoHttp("a chunk has another size")
    while _line(source):
        continue
    return body


def _line(source: BinaryIO) -> str:
    line = source.readline(_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise NoHttp("the answer broke off")
    return line.rstrip(b"\r\n").decode("latin-1")


def _exactly(source: BinaryIO, size: int) -> bytes:
    if size > _BODY_BYTES:
        raise NoHttp("too long an answer")
    data = source.read(size)
    if len(data) < size:
        raise NoHttp("the answer broke off")
    return data


def _number(text: str, base: int) -> int:
    if not text.isalnum() or not text.isascii():
        raise NoHttp("no number")
    try:
        return int(text, base)
    except ValueError:
        raise NoHttp("no number") from None
