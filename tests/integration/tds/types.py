"""SQL Server's types: how a type and its values travel ([MS-TDS] 2.2.5.4-5), and how text is read as one of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from uuid import UUID
from xml.etree import ElementTree

COLLATION = b"\x09\x04\xd0\x00\x34"
"""SQL_Latin1_General_CP1_CI_AS."""
LATIN = "cp1252"
MAX = 0xFFFF
_PLP_NULL = b"\xff" * 8

INTN, BITN, FLTN, MONEYN, DATETIMN, GUID, DECIMALN, NUMERICN = 0x26, 0x68, 0x6D, 0x6E, 0x6F, 0x24, 0x6A, 0x6C
DATEN, TIMEN, DATETIME2N, DATETIMEOFFSETN = 0x28, 0x29, 0x2A, 0x2B
NVARCHAR, NCHAR, VARCHAR, CHAR, VARBINARY, BINARY, XML = 0xE7, 0xEF, 0xA7, 0xAF, 0xA5, 0xAD, 0xF1
NTEXT, TEXT, INT4, BIT, INT1, INT2, INT8, FLT8 = 0x63, 0x23, 0x38, 0x32, 0x30, 0x34, 0x7F, 0x3E

_SIZES = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}
_BYTES = {"nvarchar": 2, "nchar": 2, "varchar": 1, "char": 1, "varbinary": 1, "binary": 1}
_CODES = {
    "nvarchar": NVARCHAR,
    "nchar": NCHAR,
    "varchar": VARCHAR,
    "char": CHAR,
    "varbinary": VARBINARY,
    "binary": BINARY,
}
_DECLARED = re.compile(r"\[?(\w+)\]?(?:\s*\(\s*(max|\d+)(?:\s*,\s*(\d+))?\s*\))?", re.IGNORECASE)


class Unconvertible(Exception):
    """A text that the type cannot read."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type as a declaration names it: `Type.parse("decimal(10, 2)")`."""

    name: str
    length: int = 0
    """Bytes for characters and binaries (MAX: max), 0 where the type has its own."""
    precision: int = 0
    scale: int = 0

    @classmethod
    def parse(cls, declared: str) -> Type:
        """From T-SQL. Raises ValueError."""
        match = _DECLARED.fullmatch(declared.strip())
        if match is None:
            raise ValueError(f"no type: {declared!r}")
        name, first, second = match[1].lower(), match[2], match[3]
        name = {"sysname": "nvarchar", "numeric": "decimal", "integer": "int"}.get(name, name)
        if match[1].lower() == "sysname":
            return cls(name, 256)
        if name in _BYTES:
            return cls(name, MAX if (first or "").lower() == "max" else _BYTES[name] * int(first or 1))
        if name == "decimal":
            return cls(name, 0, int(first or 18), int(second or 0))
        if name in ("datetime2", "time", "datetimeoffset"):
            return cls(name, 0, 0, int(first) if first else 7)
        return cls(name)

    @property
    def info(self) -> bytes:  # noqa: PLR0911 - a table
        """TYPE_INFO."""
        if self.name in _SIZES:
            return bytes((INTN, _SIZES[self.name]))
        if self.name in _CODES:
            collation = b"" if "binary" in self.name else COLLATION
            return bytes((_CODES[self.name],)) + struct.pack("<H", self.length) + collation
        match self.name:
            case "bit":
                return bytes((BITN, 1))
            case "float" | "real":
                return bytes((FLTN, 8 if self.name == "float" else 4))
            case "money":
                return bytes((MONEYN, 8))
            case "datetime":
                return bytes((DATETIMN, 8))
            case "uniqueidentifier":
                return bytes((GUID, 16))
            case "decimal":
                return bytes((DECIMALN, 17, self.precision, self.scale))
            case "date":
                return bytes((DATEN,))
            case "time":
                return bytes((TIMEN, self.scale))
            case "datetime2":
                return bytes((DATETIME2N, self.scale))
            case "datetimeoffset":
                return bytes((DATETIMEOFFSETN, self.scale))
            case "xml":
                return bytes((XML, 0))
        raise ValueError(f"the double has no type {self.name}")

    def encode(self, value: object) -> bytes:
        """A value, TYPE_VARBYTE; None is NULL."""
        if self.name in _CODES or self.name == "xml":
            return self._encode_characters(value)
        if value is None:
            return b"\x00"
        data = self._encode_fixed(value)
        return bytes((len(data),)) + data

    def _encode_characters(self, value: object) -> bytes:
        if isinstance(value, str):
            data = value.encode("utf-16-le", "surrogatepass") if self.name[0] in "nx" else value.encode(LATIN)
        elif isinstance(value, bytes):
            data = value
        else:
            assert value is None, value
            return _PLP_NULL if self.length == MAX or self.name == "xml" else b"\xff\xff"
        if self.length != MAX and self.name != "xml":
            if self.name in ("char", "nchar", "binary"):
                filler = {"char": b" ", "nchar": b" \0", "binary": b"\0"}[self.name]
                data += filler * ((self.length - len(data)) // len(filler))
            return struct.pack("<H", len(data)) + data
        # In chunks, as a server sends what is longer than its packets.
        chunks = [data[start : start + 4000] for start in range(0, len(data), 4000)]
        packed = b"".join(struct.pack("<I", len(chunk)) + chunk for chunk in chunks)
        return struct.pack("<Q", len(data)) + packed + struct.pack("<I", 0)

    def _encode_fixed(self, value: object) -> bytes:
        match self.name, value:
            case ("bit", bool() | int()):
                return bytes((int(value),))
            case (name, int()) if name in _SIZES:
                return value.to_bytes(_SIZES[name], "little", signed=name != "tinyint")
            case ("float" | "real", float()):
                return struct.pack("<d" if self.name == "float" else "<f", value)
            case ("money", Decimal()):
                scaled = int(value * 10_000)
                return struct.pack("<iI", scaled >> 32, scaled & 0xFFFFFFFF)
            case ("decimal", Decimal()):
                scaled = abs(int(Context(prec=60).scaleb(value, self.scale)))
                return bytes((value >= 0,)) + scaled.to_bytes(16, "little")
            case ("uniqueidentifier", UUID()):
                return value.bytes_le
            case ("datetime2" | "datetime" | "datetimeoffset", datetime()):
                return self._encode_moment(value)
            case ("date", date()):
                day: int = value.toordinal() - 1
                return day.to_bytes(3, "little")
            case ("time", time()):
                return self._ticks(value)
        raise ValueError(f"{value!r} is no {self.name}")

    def _ticks(self, value: time) -> bytes:
        microseconds = ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
        ticks = microseconds * 10 // 10 ** (7 - self.scale)
        size = 3 if self.scale <= 2 else 4 if self.scale <= 4 else 5
        return int(ticks).to_bytes(size, "little")

    def _encode_moment(self, value: datetime) -> bytes:
        if self.name == "datetime":
            since = value - datetime(1900, 1, 1)  # noqa: DTZ001 - the type has none
            ticks = since.seconds * 300 + round(since.microseconds * 300 / 1_000_000)
            return struct.pack("<iI", since.days, ticks)
        offset = value.utcoffset()
        utc = value if offset is None else (value - offset).replace(tzinfo=None)
        day = (utc.toordinal() - 1).to_bytes(3, "little")
        minutes = b"" if offset is None else struct.pack("<h", offset // timedelta(minutes=1))
        return self._ticks(utc.time()) + day + minutes

    def read(self, text: str) -> object:
        """The text as SQL Server's implicit conversion reads it. Raises Unconvertible."""
        try:
            return _READERS.get(self.name, str)(text)
        except (ValueError, InvalidOperation, OverflowError, ElementTree.ParseError):
            raise Unconvertible from None

    @property
    def catalogue(self) -> tuple[str, int, int, int]:
        """Name, max_length, precision and scale, as sys.parameters has them."""
        return self.name, -1 if self.length == MAX else self.length, self.precision, self.scale


def _integer(text: str, size: int) -> int:
    number = int(text) if text.strip() else 0
    low = 0 if size == 1 else -(1 << (8 * size - 1))
    if not low <= number < low + (1 << (8 * size)) or "_" in text:
        raise ValueError
    return number


def _bit(text: str) -> bool:
    return {"true": True, "false": False}.get(text.strip().lower()) if text.strip().isalpha() else bool(int(text or 0))  # type: ignore[return-value]


def _xml(text: str) -> str:
    ElementTree.fromstring(f"<r>{text}</r>")
    return text


_READERS: dict[str, Callable[[str], object]] = {
    **{name: lambda text, size=size: _integer(text, size) for name, size in _SIZES.items()},  # type: ignore[misc]
    "bit": _bit,
    "float": float,
    "real": float,
    "money": Decimal,
    "decimal": Decimal,
    "uniqueidentifier": lambda text: UUID(text[:36]),
    "date": lambda text: date.fromisoformat(text or "1900-01-01"),
    "datetime": lambda text: datetime.fromisoformat(text or "1900-01-01"),
    "datetime2": lambda text: datetime.fromisoformat(text or "1900-01-01"),
    "datetimeoffset": datetime.fromisoformat,
    "time": time.fromisoformat,
    "xml": _xml,
    "varbinary": lambda text: bytes.fromhex(text.removeprefix("0x")),
    "binary": lambda text: bytes.fromhex(text.removeprefix("0x")),
}


class Reader:
    """Reads a request's bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("the request ends early")
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def value(self) -> tuple[str, object]:
        """A parameter's type and value: what drivers send for text, numbers and binaries."""
        code = self.number(1)
        match code:
            case 0x26 | 0x68 | 0x6D | 0x24:
                self.take(1)
                data = self.take(self.number(1))
                number = None if not data else int.from_bytes(data, "little", signed=True)
                return {0x26: "int", 0x68: "bit", 0x6D: "float", 0x24: "uniqueidentifier"}[code], number
            case 0x38 | 0x30 | 0x34 | 0x7F | 0x32:
                return "int", int.from_bytes(self.take({0x38: 4, 0x30: 1, 0x34: 2, 0x7F: 8, 0x32: 1}[code]), "little")
            case 0xE7 | 0xEF | 0xA7 | 0xAF | 0xA5 | 0xAD:
                name = {0xE7: "nvarchar", 0xEF: "nchar", 0xA7: "varchar", 0xAF: "char"}.get(code, "varbinary")
                size = self.number(2)
                self.take(0 if "binary" in name else 5)
                data = self._chunks() if size == MAX else self._short()  # type: ignore[assignment]
                suffix = "(max)" if size == MAX else ""
            case 0x63 | 0x23:
                name, suffix = ("ntext" if code == 0x63 else "text"), ""
                self.take(4 + 5)
                size = self.number(4)
                data = None if size == 0xFFFFFFFF else self.take(size)  # type: ignore[assignment]
            case _:
                raise ValueError(f"the double reads no parameter of type {code:#x}")
        if data is None or name == "varbinary":
            return name + suffix, data
        return name + suffix, data.decode(
            "utf-16-le" if name[0] == "n" else LATIN, "surrogatepass" if name[0] == "n" else "strict"
        )

    def _short(self) -> bytes | None:
        size = self.number(2)
        return None if size == MAX else self.take(size)

    def _chunks(self) -> bytes | None:
        if self.take(8) == _PLP_NULL:
            return None
        data = b""
        while size := self.number(4):
            data += self.take(size)
        return data
