"""As much of SQL Server's protocol as its relay reads and writes: packets, PRELOGIN, LOGIN7, the end of a reply.

Pure. Source: Microsoft's open specification [MS-TDS], sections in parentheses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

HEADER = struct.Struct(">BBHHBB")
"""(2.2.3.1) Type, status, length with the header, process, number, window."""
END_OF_MESSAGE = 1
REPLY, LOGIN7, PRELOGIN = 0x04, 0x10, 0x12
PACKET_SIZE = 4096
"""Until both sides have agreed on another."""

VERSION, ENCRYPTION, INSTANCE, THREAD, MARS = range(5)
ENCRYPT_OFF, ENCRYPT_ON, ENCRYPT_NOT_SUPPORTED, ENCRYPT_REQUIRED = range(4)
"""(2.2.6.5) OFF is the dangerous one: the login is encrypted, and everything after it is not."""

_CLIENT_VERSION = bytes(6)
_ERROR, _INFO, _LOGIN_ACKNOWLEDGED, _ENVIRONMENT, _AUTHENTICATION = 0xAA, 0xAB, 0xAD, 0xE3, (0xED, 0xEE)
_FEATURES, _DONE = 0xAE, 0xFD
_ROUTING = 20
_DONE_SIZE, _ATTENTION = 13, 0x20


class Unexpected(ValueError):
    """Bytes that are not what this point of the conversation allows; the message says what is wrong with them."""


class Packets:
    """Splits a stream into packets."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that are whole now, with their headers. Raises Unexpected."""
        self._data += data
        while len(self._data) >= HEADER.size:
            length = HEADER.unpack_from(self._data)[2]
            if length < HEADER.size:
                raise Unexpected("a packet shorter than its header")
            if len(self._data) < length:
                return
            packet = bytes(self._data[:length])
            del self._data[:length]
            yield packet


def ends_message(packet: bytes) -> bool:
    """Whether it is the last packet of its message."""
    return bool(packet[1] & END_OF_MESSAGE)


def framed(kind: int, data: bytes) -> bytes:
    """A message as packets of at most PACKET_SIZE bytes."""
    room = PACKET_SIZE - HEADER.size
    starts = range(0, max(1, len(data)), room)
    return b"".join(
        HEADER.pack(
            kind,
            END_OF_MESSAGE if start + room >= len(data) else 0,
            HEADER.size + len(data[start : start + room]),
            0,
            number % 256,
            0,
        )
        + data[start : start + room]
        for number, start in enumerate(starts, 1)
    )


def prelogin(encryption: int, version: bytes = _CLIENT_VERSION) -> bytes:
    """A PRELOGIN message, of either side; several active result sets are never offered."""
    options = {VERSION: version, ENCRYPTION: bytes((encryption,)), INSTANCE: b"\0", THREAD: b"", MARS: b"\0"}
    if version is _CLIENT_VERSION:
        options[THREAD] = bytes(4)
    offset, head, body = 5 * len(options) + 1, b"", b""
    for option, value in options.items():
        head += struct.pack(">BHH", option, offset + len(body), len(value))
        body += value
    return head + b"\xff" + body


def read_prelogin(data: bytes) -> Mapping[int, bytes]:
    """The options of a PRELOGIN message. Raises Unexpected when there is no encryption among them."""
    options: dict[int, bytes] = {}
    position = 0
    while position + 5 <= len(data) and data[position] != 0xFF:
        option, offset, length = struct.unpack_from(">BHH", data, position)
        options[option] = data[offset : offset + length]
        position += 5
    if len(options.get(ENCRYPTION, b"")) != 1 or len(options.get(VERSION, b"")) != 6:
        raise Unexpected("no PRELOGIN answer")
    return options


class Account(NamedTuple):
    """What a login says that an ODBC driver is not told."""

    username: str
    password: str
    database: str

    def __repr__(self) -> str:
        # Without the password.
        return f"Account({self.username!r} in {self.database!r})"

    @property
    def placeholder(self) -> Account:
        """Texts of the same lengths, for the driver to put into its LOGIN7."""
        lengths = [len(_utf16(text)) // 2 for text in (self.username, self.password, self.database)]
        return Account(*("x" * length for length in lengths))


def filled_in(login7: bytes, account: Account) -> bytes:
    """The LOGIN7 message of a driver that knows placeholders only, with the account in their places.

    (2.2.6.4) Offsets and lengths in characters stand at fixed positions. Raises Unexpected for another login.
    """
    data = bytearray(login7)
    for position, text, held, new in (
        (40, "username", account.placeholder.username, _utf16(account.username)),
        (44, "password", account.placeholder.password, scrambled(account.password)),
        (68, "database", account.placeholder.database, _utf16(account.database)),
    ):
        offset, length = struct.unpack_from("<HH", data, position)
        expected = scrambled(held) if text == "password" else _utf16(held)
        if data[offset : offset + 2 * length] != expected:
            raise Unexpected(f"the ODBC driver sent another {text} than it was given")
        data[offset : offset + 2 * length] = new
    return bytes(data)


def scrambled(password: str) -> bytes:
    """A password as LOGIN7 carries it: no secret is kept so, only an accident avoided."""
    return bytes(((byte << 4 | byte >> 4) & 0xFF) ^ 0xA5 for byte in _utf16(password))


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def route(reply: bytes) -> str | None:
    """`host:port` when the reply to a login sends the client on to another server, else None.

    (2.2.7) Every token that may come here says its length. Raises Unexpected for any other.
    """
    position = 0
    while position < len(reply):
        token = reply[position]
        if token == _DONE:
            position += _DONE_SIZE
        elif token == _FEATURES:
            position = _after_features(reply, position + 1)
        elif token in (_ERROR, _INFO, _LOGIN_ACKNOWLEDGED, _ENVIRONMENT, *_AUTHENTICATION):
            (length,) = struct.unpack_from("<H", reply, position + 1)
            body = reply[position + 3 : position + 3 + length]
            if token == _ENVIRONMENT and body[:1] == bytes((_ROUTING,)):
                port, characters = struct.unpack_from("<HH", body, 4)
                return f"{body[8 : 8 + 2 * characters].decode('utf-16-le', 'replace')}:{port}"
            position += 3 + length
        else:
            raise Unexpected(f"a reply to the login with token {token:#04x}")
    return None


def _after_features(reply: bytes, position: int) -> int:
    while reply[position] != 0xFF:
        (length,) = struct.unpack_from("<I", reply, position + 1)
        position += 5 + length
    return position + 1


def acknowledges_attention(end: bytes) -> bool:
    """Whether a reply that ends so says that it was cut short by a cancellation; `end`: its last bytes."""
    done = end[-_DONE_SIZE:]
    return len(done) == _DONE_SIZE and done[0] == _DONE and bool(done[1] & _ATTENTION)
