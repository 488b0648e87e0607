"""What a server answers with: the tokens of its reply ([MS-TDS] 2.2.7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.integration.tds.types import COLLATION, Type

DONE, DONEPROC, DONEINPROC = 0xFD, 0xFE, 0xFF
MORE, ERROR, COUNT, ATTENTION = 0x01, 0x02, 0x10, 0x20
"""Bits of a DONE's status."""

NAME = "TDS-DOUBLE"
VERSION = (16, 0, 4135)


def short(text: str) -> bytes:
    """B_VARCHAR."""
    return bytes((len(text),)) + text.encode("utf-16-le")


def done(token: int, status: int = 0, count: int = 0, command: int = 0xC1) -> bytes:
    """DONE, DONEPROC or DONEINPROC."""
    return struct.pack("<BHHQ", token, status, command, count)


def message(number: int, text: str, severity: int, *, state: int = 1, procedure: str = "", line: int = 1) -> bytes:
    """ERROR; INFO when the severity is 10 or lower."""
    said = text.encode("utf-16-le")
    body = struct.pack("<iBBH", number, state, severity, len(said) // 2) + said
    body += short(NAME) + short(procedure) + struct.pack("<i", line)
    return struct.pack("<BH", 0xAB if severity <= 10 else 0xAA, len(body)) + body


def columns(described: Sequence[tuple[str, Type]]) -> bytes:
    """COLMETADATA: nullable columns."""
    body = b"".join(struct.pack("<IH", 0, 0x09) + kind.info + short(name) for name, kind in described)
    return struct.pack("<BH", 0x81, len(described)) + body


def row(kinds: Sequence[Type], values: Sequence[object]) -> bytes:
    """ROW."""
    return b"\xd1" + b"".join(kind.encode(value) for kind, value in zip(kinds, values, strict=True))


def return_status(status: int) -> bytes:
    """RETURNSTATUS."""
    return struct.pack("<Bi", 0x79, status)


def return_value(name: str, kind: Type, value: object, ordinal: int = 0) -> bytes:
    """RETURNVALUE of an OUTPUT parameter."""
    head = struct.pack("<BH", 0xAC, ordinal) + short(name)
    return head + struct.pack("<BIH", 1, 0, 0) + kind.info + kind.encode(value)


def environment(kind: int, new: bytes, old: bytes = b"\x00") -> bytes:
    """ENVCHANGE; `new` and `old` with their own lengths."""
    return struct.pack("<BHB", 0xE3, 1 + len(new) + len(old), kind) + new + old


def routed(host: str, port: int) -> bytes:
    """ENVCHANGE 20: go to another server."""
    name = host.encode("utf-16-le")
    route = struct.pack("<BHH", 0, port, len(name) // 2) + name
    return environment(20, struct.pack("<H", len(route)) + route, b"\x00\x00")


def logged_in(database: str, packet_size: int, *, features: bool) -> bytes:
    """The whole reply to a LOGIN7 that was accepted."""
    program = "Microsoft SQL Server"
    acknowledged = b"\x01" + struct.pack(">I", 0x74000004) + short(program)
    acknowledged += struct.pack(">BBH", *VERSION)
    return b"".join(
        (
            environment(1, short(database), short("master")),
            message(5701, f"Changed database context to '{database}'.", 0, state=2),
            environment(7, bytes((len(COLLATION),)) + COLLATION),
            environment(2, short("us_english"), b"\x00"),
            message(5703, "Changed language setting to us_english.", 0),
            struct.pack("<BH", 0xAD, len(acknowledged)) + acknowledged,
            environment(4, short(str(packet_size)), short("4096")),
            b"\xae\xff" if features else b"",
            done(DONE, command=0),
        )
    )
