"""What a client asks: LOGIN7 ([MS-TDS] 2.2.6.4), SQL batches (2.2.6.7) and remote procedure calls (2.2.6.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.integration.tds.types import Reader

WELL_KNOWN = {
    10: "sp_executesql",
    11: "sp_prepare",
    12: "sp_execute",
    13: "sp_prepexec",
    14: "sp_prepexecrpc",
    15: "sp_unprepare",
}


@dataclass(frozen=True, slots=True)
class Login7:
    """What a client says of itself."""

    version: int
    host: str
    username: str
    password: str = field(repr=False)
    application: str
    server: str
    database: str
    packet_size: int
    features: bool
    """Whether it asks for extensions, which must then be answered."""

    @classmethod
    def parse(cls, data: bytes) -> Login7:
        """From the bytes of the message."""
        version, size = struct.unpack_from("<II", data, 4)

        def text(position: int, *, scrambled: bool = False) -> str:
            offset, length = struct.unpack_from("<HH", data, position)
            raw = data[offset : offset + 2 * length]
            if scrambled:
                raw = bytes(((byte ^ 0xA5) >> 4 | (byte ^ 0xA5) << 4) & 0xFF for byte in raw)
            return raw.decode("utf-16-le")

        return cls(
            version=version,
            host=text(36),
            username=text(40),
            password=text(44, scrambled=True),
            application=text(48),
            server=text(52),
            database=text(68),
            packet_size=size or 4096,
            features=bool(data[27] & 0x10),
        )


def scrambled(password: str) -> bytes:
    """A password as LOGIN7 carries it, to look for in what was received."""
    return bytes((byte << 4 | byte >> 4) & 0xFF ^ 0xA5 for byte in password.encode("utf-16-le"))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a remote procedure call."""

    name: str
    output: bool
    type: str
    value: object


@dataclass(frozen=True, slots=True)
class Rpc:
    """One remote procedure call."""

    name: str
    parameters: tuple[Parameter, ...]


def _without_headers(data: bytes) -> bytes:
    (length,) = struct.unpack_from("<I", data)
    return data[length:] if length < 256 else data


def batch_text(data: bytes) -> str:
    """The text of a batch."""
    return _without_headers(data).decode("utf-16-le", "surrogatepass")


def calls(data: bytes) -> list[Rpc]:
    """The calls of an RPC message. Raises ValueError for what no client should send."""
    reader, found = Reader(_without_headers(data)), []
    while reader.left:
        length = reader.number(2)
        known = length == 0xFFFF
        name = WELL_KNOWN.get(reader.number(2), "?") if known else reader.take(2 * length).decode("utf-16-le")
        reader.take(2)
        parameters = []
        while reader.left and reader.data[reader.position] not in (0x80, 0xFF, 0xFE):
            label = reader.take(2 * reader.number(1)).decode("utf-16-le")
            flags = reader.number(1)
            parameters.append(Parameter(label, bool(flags & 1), *reader.value()))
        if reader.left:
            reader.take(1)
        found.append(Rpc(name, tuple(parameters)))
    return found
