"""What SQL Server's values are as text. Pure.

As the server's own CONVERT(nvarchar(max), …) prints them, in the style that loses nothing: ISO 8601 dates and times
with a space between, binaries as 0x… (style 1), uniqueidentifier in capitals, decimal and money with all their places.
bit is `true` or `false`, as with the other engines. char(n) keeps its padding. Times are exact to the microsecond.
"""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal

_OFFSET = struct.Struct("<hHHHHHIhh")
"""SQL_SS_TIMESTAMPOFFSET_STRUCT: date, time, nanoseconds, offset in hours and minutes."""
_SQL_SS_TIMESTAMPOFFSET = -155


def _moment_with_offset(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    year, month, day, hour, minute, second, nanoseconds, *offset = _OFFSET.unpack(raw)
    zone = datetime.timezone(datetime.timedelta(hours=offset[0], minutes=offset[1]))
    moment = datetime.datetime(year, month, day, hour, minute, second, nanoseconds // 1000, zone)
    return moment.isoformat(sep=" ")


CONVERTERS: Mapping[int, Callable[[bytes | None], str | None]] = {_SQL_SS_TIMESTAMPOFFSET: _moment_with_offset}
"""ODBC types that pyodbc does not read by itself."""


def text(value: object) -> str | None:
    """A value that pyodbc has read; None is NULL."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case float():
            return repr(value).removesuffix(".0")
        case bytes() | bytearray():
            return "0x" + bytes(value).hex().upper()
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
    return str(value)
