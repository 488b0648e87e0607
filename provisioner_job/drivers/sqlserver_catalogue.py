"""Names of procedures, and what the catalogue says about those that have them.

Pure: the driver sends the queries. An unqualified name is looked for in every schema but the system's, as with
PostgreSQL: who can create a procedure in some schema can then stop a call, by making its name ambiguous, but never
divert it. SQL Server shows in its catalogue what an account may execute, so nothing that can be called is overlooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from api.engines import ENGINES, Driver
from api.identity import too_long
from api.reasons import Reason
from provisioner_job.errors import Failure

_PART = r'(?:\[((?:[^\]\x00]|\]\])+)\]|"((?:[^"\x00]|"")+)"|([^\W\d][\w@#$]*))'
_NAME = re.compile(rf"(?:{_PART}\.(?:{_PART})?\.|{_PART}\.)?{_PART}")

KINDS = {"P": "procedure", "PC": "procedure", "X": "procedure", "RF": "replication filter", "SN": "synonym"}
"""sys.objects.type of what can be called, and of two that are taken for it; all else is a function."""
_CALLABLE = ("P", "PC", "X")


def quoted(identifier: str) -> str:
    """An identifier as SQL Server quotes it."""
    return "[" + identifier.replace("]", "]]") + "]"


def _literal(text: str) -> str:
    return "N'" + text.replace("'", "''") + "'"


class Name(NamedTuple):
    """A procedure's name as a class gives it; "" for a part that it leaves out."""

    database: str
    schema: str
    procedure: str

    @classmethod
    def parse(cls, text: str) -> Name:
        """Read `create_database`, `dbaas.create_database`, `admin.dbaas.[Create it]`; raises Failure."""
        match = _NAME.fullmatch(text.strip())
        if match is not None:
            database, schema, schema_alone, procedure = (
                _part(match.groups()[start : start + 3]) for start in (0, 3, 6, 9)
            )
            name = cls(database, schema or schema_alone, procedure)
            if not any(too_long(part, ENGINES[Driver.SQLSERVER]) for part in name):
                return name
        raise Failure(
            Reason.PROCEDURE_MISSING,
            f"{text[:80]!r} is no procedure name of SQL Server; write name, schema.name or database.schema.name, "
            "in brackets what is not letters, digits and underscores",
        )

    @property
    def prefix(self) -> str:
        """Before `sys.…`, to ask another database's catalogue."""
        return quoted(self.database) + "." if self.database else ""

    def look_up(self) -> tuple[str, tuple[str, ...]]:
        """The query for what has this name, and the values of its `?`."""
        here = "DB_NAME()" if not self.database else _literal(self.database)
        place = "s.name = ?" if self.schema else "o.is_ms_shipped = 0"
        securable = f"{_literal(self.prefix)} + QUOTENAME(s.name) + N'.' + QUOTENAME(o.name)"
        text = (
            f"SELECT s.name, o.name, RTRIM(o.type), HAS_PERMS_BY_NAME({securable}, N'OBJECT', N'EXECUTE'),"  # noqa: S608 - all is quoted
            f" CONVERT(int, COLLATIONPROPERTY(CONVERT(sysname, DATABASEPROPERTYEX({here}, N'Collation')),"
            " N'CodePage')),"
            " p.name, t.name, p.max_length, p.precision, p.scale, p.is_output"
            f" FROM {self.prefix}sys.all_objects AS o"
            f" JOIN {self.prefix}sys.schemas AS s ON s.schema_id = o.schema_id"
            f" LEFT JOIN {self.prefix}sys.all_parameters AS p ON p.object_id = o.object_id AND p.parameter_id > 0"
            f" LEFT JOIN {self.prefix}sys.types AS t ON t.user_type_id = p.system_type_id"
            " WHERE o.type IN (N'P', N'PC', N'X', N'RF', N'SN', N'FN', N'FS', N'IF', N'TF', N'FT')"
            f" AND o.name = ? AND {place}"
            " ORDER BY s.name, o.object_id, p.parameter_id"
        )
        return text, (self.procedure, self.schema) if self.schema else (self.procedure,)

    def list_all(self) -> str:
        """The query for (schema, name) of all that this account could call, to say what was perhaps meant."""
        return (
            f"SELECT TOP (1000) s.name, o.name FROM {self.prefix}sys.procedures AS o"  # noqa: S608
            f" JOIN {self.prefix}sys.schemas AS s ON s.schema_id = o.schema_id"
        )


def _part(groups: Sequence[str | None]) -> str:
    bracketed, in_quotes, bare = groups
    if bracketed is not None:
        return bracketed.replace("]]", "]")
    return in_quotes.replace('""', '"') if in_quotes is not None else bare or ""


class Parameter(NamedTuple):
    """A declared parameter."""

    name: str
    """Without its `@`; "" for one of an extended procedure."""
    type_name: str
    """The system type; an alias type shows as what it stands for, a type that the catalogue cannot name as ""."""
    max_length: int
    """Bytes; -1 is max."""
    precision: int
    scale: int
    is_output: bool

    @property
    def declared(self) -> str:
        """The type as T-SQL declares it: `decimal(10, 2)`."""
        name = self.type_name
        if name in ("nvarchar", "varchar", "nchar", "char", "varbinary", "binary"):
            units = self.max_length // 2 if name[0] == "n" else self.max_length
            return f"{name}({'max' if self.max_length < 0 else units})"
        if name in ("decimal", "numeric"):
            return f"{name}({self.precision}, {self.scale})"
        return f"{name}({self.scale})" if name in ("datetime2", "datetimeoffset", "time") else name

    def __str__(self) -> str:
        return f"@{self.name} {self.declared or 'of a type of its own'}{' OUTPUT' if self.is_output else ''}"


class Candidate(NamedTuple):
    """What has the name."""

    schema: str
    name: str
    kind: str
    executable: bool
    code_page: int
    """Of the database's collation: what char and varchar can hold."""
    parameters: tuple[Parameter, ...]

    @property
    def is_callable(self) -> bool:
        """Whether it is a procedure."""
        return self.kind in _CALLABLE

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}({', '.join(str(parameter) for parameter in self.parameters)})"


def candidates(rows: Iterable[Sequence[str | None]]) -> list[Candidate]:
    """From the rows of `look_up`: one for each parameter, in order."""
    found: dict[tuple[str, str], Candidate] = {}
    for row in rows:
        schema, name, kind, executable, code_page, label, *shape = row
        key = (schema or "", name or "")
        parameters: tuple[Parameter, ...] = ()
        if label is not None:
            kind_of_value, length, precision, scale, is_output = shape
            parameters = (
                Parameter(
                    label.removeprefix("@"),
                    (kind_of_value or "").lower(),
                    int(length or 0),
                    int(precision or 0),
                    int(scale or 0),
                    is_output == "true",
                ),
            )
        before = found[key].parameters if key in found else ()
        # Unknown (NULL) is left to the server to decide.
        found[key] = Candidate(*key, kind or "", executable != "0", int(code_page or 0), before + parameters)
    return [*found.values()]
