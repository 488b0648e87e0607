"""Names of procedures, what `information_schema` says about those that have them, and the statements of a call.

Pure: the driver sends the statements. What is sent as text is text of ours, identifiers quoted with backticks, and
values as `_utf8mb4 X'…'`: hexadecimal digits, which no sql_mode and no character set reads as anything but these bytes.
(PyMySQL would write values between quotes and escape them, which NO_BACKSLASH_ESCAPES and some character sets undo.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.drivers.mariadb_errors import Called
from provisioner_job.drivers.similar import there_is
from provisioner_job.errors import Failure

# MySQL manual, "Schema Object Names": unquoted names may begin with a digit, and not consist of digits only.
_PART = r"(?:`((?:[^`\x00]|``)+)`|(?!\d+(?:\.|$))([\w$]+))"
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")
_LONGEST = 64
"""MySQL manual, "Identifier Length Limits"."""
_SHORT_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})

_LOOK_UP = """
SELECT r.ROUTINE_SCHEMA, r.ROUTINE_NAME, r.ROUTINE_TYPE, p.PARAMETER_MODE, p.PARAMETER_NAME, p.DATA_TYPE,
       p.DTD_IDENTIFIER, p.CHARACTER_MAXIMUM_LENGTH, p.CHARACTER_OCTET_LENGTH, p.CHARACTER_SET_NAME, p.COLLATION_NAME,
       @@lower_case_table_names
  FROM information_schema.ROUTINES r
  LEFT JOIN information_schema.PARAMETERS p
    ON p.SPECIFIC_SCHEMA = r.ROUTINE_SCHEMA AND p.SPECIFIC_NAME = r.SPECIFIC_NAME
   AND p.ROUTINE_TYPE = r.ROUTINE_TYPE AND p.ORDINAL_POSITION > 0
 WHERE r.ROUTINE_SCHEMA = {schema} AND r.ROUTINE_NAME = {name}
 ORDER BY r.ROUTINE_SCHEMA, r.ROUTINE_TYPE, p.ORDINAL_POSITION
"""

LIST_ALL = """
SELECT ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES
 WHERE ROUTINE_TYPE = 'PROCEDURE' AND ROUTINE_SCHEMA NOT IN ('sys', 'mysql') LIMIT 1000
"""
"""(schema, name) of everything that this account could call, to say what was perhaps meant."""


def literal(value: str) -> str:
    """A value as SQL that every server reads back to the same characters."""
    return f"_utf8mb4 X'{value.encode().hex()}'"


def quoted(identifier: str) -> str:
    """An identifier as MariaDB and MySQL quote it, whatever the sql_mode."""
    return "`" + identifier.replace("`", "``") + "`"


class Name(NamedTuple):
    """A procedure's name as a class gives it; without a schema it is one of the endpoint's database."""

    schema: str | None
    procedure: str

    @classmethod
    def parse(cls, text: str) -> Name:
        """From `procedure`, `schema.procedure`, either part in backticks. Raises Failure(PROCEDURE_MISSING)."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise Failure(
                Reason.PROCEDURE_MISSING,
                f"{text!r} names no procedure: write procedure or schema.procedure, odd characters in backticks",
            )
        groups = [None if group is None else group.replace("``", "`") for group in match.groups()]
        schema, procedure = groups[0] or groups[1], groups[2] or groups[3] or ""
        if len(procedure) > _LONGEST or len(schema or "") > _LONGEST:
            raise Failure(Reason.PROCEDURE_MISSING, f"{text!r} is longer than a name can be ({_LONGEST} characters)")
        # MySQL manual, "Schema Object Names": the BMP, which is what MariaDB's catalogue can be asked for, too.
        if max(f"{schema or ''}{procedure}") > "\uffff":
            raise Failure(
                Reason.PROCEDURE_MISSING, f"{text!r} has characters beyond U+FFFF, which no name on the server has"
            )
        return cls(schema, procedure)

    @property
    def look_up(self) -> str:
        """The statement that asks for all routines of this name, with a row for each parameter."""
        schema = "DATABASE()" if self.schema is None else literal(self.schema)
        return _LOOK_UP.format(schema=schema, name=literal(self.procedure))


class Parameter(NamedTuple):
    """One declared parameter."""

    mode: str
    """IN, OUT or INOUT."""
    name: str
    data_type: str
    """`varchar`."""
    declared: str
    """`varchar(10)`."""
    characters: int | None
    octets: int | None
    charset: str
    collation: str

    def __str__(self) -> str:
        return f"{'' if self.mode == 'IN' else self.mode + ' '}{self.name} {self.declared}"

    def too_long(self, value: str) -> bool:
        """Whether the server would cut the value; it cuts trailing spaces in every sql_mode."""
        if self.characters is None or self.octets is None or self.data_type in ("enum", "set"):
            return False
        return len(value) > self.characters or (self._stores_utf8 and len(value.encode()) > self.octets)

    @property
    def _stores_utf8(self) -> bool:
        return self.charset in ("", "utf8mb4", "utf8mb3", "utf8")

    def takes(self, value: str) -> bool:
        """Whether a value that is not too long is certain to be one of this type."""
        if self.data_type in _SHORT_TEXTS:
            return self.charset == "utf8mb4" or value.isascii()
        return self.data_type.endswith(("binary", "blob"))

    def declaration(self, variable: str, value: str) -> str:
        """A variable of this type that is given the value, for a compound statement."""
        charset = f" CHARACTER SET {self.charset} COLLATE {self.collation}" if self.charset else ""
        return f"DECLARE {variable} {self.declared}{charset} DEFAULT {self.literal(value)};"

    def literal(self, value: str) -> str:
        """The value as SQL; bits are written and printed as a number, for as a text "1" they would be 0x31."""
        digits = self.data_type == "bit" and value.isascii() and value.isdecimal()
        return value if digits else literal(value)


class Statement(NamedTuple):
    """A call that is ready to be sent."""

    called: Called
    text: str
    assignments: tuple[str, ...]
    """For a SET before: what INOUT parameters come in with."""
    check: str
    """Raises an error that names one of `checked` when an argument is not of its type; "" needs no asking."""
    checked: Mapping[str, Parameter]
    """Variable → parameter."""
    outputs: str
    """A SELECT of the OUT and INOUT parameters, "" without any."""

    def __repr__(self) -> str:
        # The text and the assignments may hold passwords.
        return f"Statement({self.called!r})"


class Routine(NamedTuple):
    """A stored procedure, or a function of that name."""

    schema: str
    name: str
    kind: str
    parameters: tuple[Parameter, ...]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}({', '.join(map(str, self.parameters))})"


def read(rows: Sequence[Sequence[str | None]]) -> list[Routine]:
    """The routines in the answer to `Name.look_up`."""
    found: dict[tuple[str, str, str], list[Parameter]] = {}
    for row in rows:
        schema, name, kind, mode, parameter, data_type, declared, characters, octets, charset, collation = (
            value or "" for value in row[:11]
        )
        parameters = found.setdefault((schema, name, kind), [])
        if mode:
            lengths = (int(characters) if characters else None, int(octets) if octets else None)
            parameters.append(Parameter(mode, parameter, data_type.lower(), declared, *lengths, charset, collation))
    return [Routine(*key, tuple(parameters)) for key, parameters in found.items()]


def named(name: Name, rows: Sequence[Sequence[str | None]]) -> list[Routine]:
    """Those that the server itself would read the name as; rows: the answer to `Name.look_up`."""
    folding = bool(rows) and rows[0][11] != "0"
    return [
        one
        for one in read(rows)
        # information_schema compares without regard to case, the server only where it folds names.
        if name.schema is None or one.schema == name.schema or (folding and one.schema.lower() == name.schema.lower())
    ]


def resolve(procedure: Procedure, rows: Sequence[Sequence[str | None]]) -> Statement | None:
    """The one statement that the name and the arguments mean; None when there is no such procedure.

    rows: the answer to `Name.look_up`. Raises Failure(PROCEDURE_MISSING, ARGUMENTS_INVALID).
    """
    routines = named(Name.parse(procedure.name), rows)
    chosen = next((one for one in routines if one.kind == "PROCEDURE"), None)
    if chosen is not None:
        return _statement(chosen, _in_order(procedure.arguments))
    if routines:
        raise Failure(
            Reason.PROCEDURE_MISSING,
            f"{routines[0]} is a {routines[0].kind.lower()}, not a procedure; give it a procedure that CALL can take",
        )
    return None


def missing(name: str, database: str, known: Sequence[tuple[str, str]]) -> Failure:
    """The failure for a name that nothing has; `known` is (schema, name) of what the account could call."""
    wanted = Name.parse(name)
    hint = there_is(wanted.procedure.lower(), known)
    if wanted.schema is None and not database:
        return Failure(
            Reason.PROCEDURE_MISSING,
            f"{name} names no schema, and the endpoint no database: write schema.{name}, or set the endpoint's database"
            + hint,
        )
    target = f"{quoted(wanted.schema or database)}.{quoted(wanted.procedure)}"
    return Failure(
        Reason.PROCEDURE_MISSING,
        # The servers do not tell these two apart for an account that may not.
        f"{name} does not exist, or the endpoint's account may not execute it (GRANT EXECUTE ON PROCEDURE {target})"
        + hint,
    )


def _in_order(arguments: Sequence[Argument]) -> list[Argument]:
    """Arguments in the order of their positions, which must be 0, 1, …."""
    named = [argument.name for argument in arguments if not (argument.name.isascii() and argument.name.isdecimal())]
    if named:
        _invalid(f"MariaDB and MySQL take arguments by position alone: call them 0, 1, …, not {', '.join(named)}")
    ordered = sorted(arguments, key=lambda argument: int(argument.name))
    if [int(argument.name) for argument in ordered] != [*range(len(ordered))]:
        _invalid(f"positions are 0, 1, … without gaps, not {', '.join(argument.name for argument in ordered)}")
    for argument in ordered:
        if any("\ud800" <= character <= "\udfff" for character in argument.value):
            _invalid(f"argument {argument.name} holds half a character, which no server can store")
    return ordered


def _statement(routine: Routine, arguments: Sequence[Argument]) -> Statement:
    inputs = [parameter for parameter in routine.parameters if parameter.mode != "OUT"]
    if len(inputs) != len(arguments):
        wanted = f"{len(inputs)} argument{'' if len(inputs) == 1 else 's'}"
        _invalid(f"{routine} takes {wanted}, not {len(arguments)}")
    values = [argument.value for argument in arguments]
    for number, (parameter, value) in enumerate(zip(inputs, values, strict=True)):
        if parameter.too_long(value):
            _invalid(f"argument {number} of {routine.schema}.{routine.name} is too long for {parameter}")
    given = iter(values)
    terms, assignments, outputs = [], [], []
    for number, parameter in enumerate(routine.parameters):
        variable = f"@dbaas_{number}"
        if parameter.mode == "IN":
            terms.append(parameter.literal(next(given)))
            continue
        assignments.append(f"{variable} = {'NULL' if parameter.mode == 'OUT' else parameter.literal(next(given))}")
        terms.append(variable)
        outputs.append(f"{variable} AS {quoted(parameter.name)}")
    check, checked = _check(inputs, values)
    return Statement(
        called=Called(routine.schema, routine.name),
        text=f"CALL {quoted(routine.schema)}.{quoted(routine.name)}({', '.join(terms)})",
        assignments=tuple(assignments),
        check=check,
        checked=checked,
        outputs=f"SELECT {', '.join(outputs)}" if outputs else "",
    )


def _check(inputs: Sequence[Parameter], values: Sequence[str]) -> tuple[str, Mapping[str, Parameter]]:
    """The statement that converts the doubtful arguments, so that what fails here is no failure of the body."""
    checked = {
        f"dbaas_argument_{number}": (parameter, value)
        for number, (parameter, value) in enumerate(zip(inputs, values, strict=True))
        if not parameter.takes(value)
    }
    if not checked:
        return "", {}
    declarations = " ".join(parameter.declaration(variable, value) for variable, (parameter, value) in checked.items())
    return f"BEGIN NOT ATOMIC {declarations} END", {variable: parameter for variable, (parameter, _) in checked.items()}


def _invalid(message: str) -> NoReturn:
    raise Failure(Reason.ARGUMENTS_INVALID, message)
