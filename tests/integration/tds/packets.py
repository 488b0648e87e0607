"""TDS packets and messages ([MS-TDS] 2.2.3), and the PRELOGIN message's options (2.2.6.5)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct(">BBHHBB")
"""Type, status, length with the header, process id, packet number, window."""
END_OF_MESSAGE = 0x01


class Kind(IntEnum):
    """Types of packets."""

    BATCH = 0x01
    RPC = 0x03
    REPLY = 0x04
    ATTENTION = 0x06
    BULK = 0x07
    TRANSACTION = 0x0E
    LOGIN7 = 0x10
    PRELOGIN = 0x12


class Encryption(IntEnum):
    """What a PRELOGIN says about encryption."""

    OFF = 0
    ON = 1
    NOT_SUPPORTED = 2
    REQUIRED = 3


@dataclass(frozen=True, slots=True)
class Message:
    """One request of a client, whole."""

    kind: int
    data: bytes


def read_message(read: Callable[[int], bytes]) -> Message:
    """A message of as many packets as it takes; `read(n)` gives exactly n bytes or raises ConnectionError."""
    data = b""
    while True:
        kind, status, length, *_ = HEADER.unpack(read(HEADER.size))
        data += read(length - HEADER.size)
        if status & END_OF_MESSAGE:
            return Message(kind, data)


def framed(kind: int, data: bytes, size: int = 4096, process: int = 51) -> bytes:
    """A message as packets of at most `size` bytes."""
    room = size - HEADER.size
    pieces = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
    return b"".join(
        HEADER.pack(kind, END_OF_MESSAGE if last else 0, HEADER.size + len(piece), process, number % 256, 0) + piece
        for number, (piece, last) in enumerate(((p, i == len(pieces)) for i, p in enumerate(pieces, 1)), 1)
    )


VERSION, ENCRYPTION, INSTANCE, THREAD, MARS = range(5)


def prelogin_options(data: bytes) -> dict[int, bytes]:
    """Token → value."""
    options, position = {}, 0
    while data[position] != 0xFF:
        token, offset, length = struct.unpack_from(">BHH", data, position)
        options[token] = data[offset : offset + length]
        position += 5
    return options


def prelogin(options: dict[int, bytes]) -> bytes:
    """The inverse of `prelogin_options`."""
    offset, head, body = 5 * len(options) + 1, b"", b""
    for token, value in options.items():
        head += struct.pack(">BHH", token, offset + len(body), len(value))
        body += value
    return head + b"\xff" + body
