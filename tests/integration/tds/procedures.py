"""Stored procedures for the double: what T-SQL would do, scripted in Python as a sequence of events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.integration.tds.types import Type


@dataclass(frozen=True, slots=True)
class Rows:
    """A result set. columns: `{"key": "nvarchar(max)"}`; a list of pairs where names repeat."""

    columns: Mapping[str, str] | Sequence[tuple[str, str]]
    rows: Sequence[Sequence[object]]

    @property
    def described(self) -> list[tuple[str, Type]]:
        """Names and types."""
        pairs = self.columns.items() if isinstance(self.columns, Mapping) else self.columns
        return [(name, Type.parse(declared)) for name, declared in pairs]


@dataclass(frozen=True, slots=True)
class Counted:
    """`(n rows affected)`."""

    rows: int = 1


@dataclass(frozen=True, slots=True)
class Printed:
    """PRINT."""

    text: str


@dataclass(frozen=True, slots=True)
class Raised:
    """An error; what follows in the script is what the body does in spite of it."""

    number: int
    message: str
    severity: int = 16
    line: int = 3
    procedure: str = ""
    """Empty: the one that raises it."""


@dataclass(frozen=True, slots=True)
class Waits:
    """WAITFOR DELAY. deaf: an attention does not end it."""

    seconds: float
    deaf: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """Touches what others may have locked: waits for them, as long as SET LOCK_TIMEOUT lets it."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The connection ends here."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """SET @name = value, of an OUTPUT parameter."""

    name: str
    value: object


@dataclass(frozen=True, slots=True)
class Returned:
    """RETURN n; the last event of a script."""

    status: int


Event: TypeAlias = Rows | Counted | Printed | Raised | Waits | Blocked | Gone | Assigned | Returned
Script: TypeAlias = Callable[[Mapping[str, Any]], Iterator[Event]]


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared parameter."""

    name: str
    type: Type
    output: bool = False
    default: object = ...
    """`...` is none."""


_DECLARATION = re.compile(
    r"\s*@(?P<name>[\w@#$]+)\s+(?P<type>\w+(?:\s*\([^)]*\))?)(?:\s*=\s*(?P<default>N?'[^']*'|\w+))?(?P<output>\s+OUTPUT)?\s*",
    re.IGNORECASE,
)


def _default(text: str | None) -> object:
    if text is None:
        return ...
    return None if text.upper() == "NULL" else text.removeprefix("N").strip("'")


def declared(signature: str) -> tuple[Declared, ...]:
    """From T-SQL: `@a nvarchar(max), @b int = 3, @c int OUTPUT`."""
    if not signature:
        return ()
    found = []
    for part in re.split(r",(?![^(]*\))", signature):
        match = _DECLARATION.fullmatch(part)
        assert match is not None, part
        kind, default = Type.parse(match["type"]), _default(match["default"])
        value = kind.read(default) if isinstance(default, str) else default
        found.append(Declared("@" + match["name"], kind, match["output"] is not None, value))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Procedure:
    """A stored procedure of the double."""

    schema: str
    name: str
    parameters: tuple[Declared, ...]
    script: Script
    kind: str = "P"
    """sys.objects.type."""
    executable: bool = True
    """Whether the account may call it; it sees it all the same."""
    public: tuple[str, ...] = ()
    """By which classes of sys.database_permissions everybody may."""
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    """The arguments of every call that entered it."""
