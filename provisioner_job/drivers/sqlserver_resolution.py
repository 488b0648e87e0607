"""Which of the candidates a call means, whether its values fit, and the batch that calls exactly that one.

Pure. SQL Server cuts a text that is longer than its parameter, writes `?` for a character that varchar lacks, and
reads an empty text as 0 or 1900-01-01, each without a word: such values are refused here, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.drivers.result import ResultSet
from provisioner_job.drivers.similar import there_is
from provisioner_job.drivers.sqlserver_catalogue import KINDS, Candidate, Name, Parameter, quoted
from provisioner_job.errors import Failure

if TYPE_CHECKING:
    from provisioner_job.drivers.sqlserver_odbc import Rows

_MOST_SHOWN = 5
_MIXED = "arguments are either all named or all positional (0, 1, …), not both"
_WIDE, _NARROW, _BINARY = (
    ("nvarchar", "nchar", "ntext", "sysname"),
    ("varchar", "char", "text"),
    ("varbinary", "binary"),
)
_UNREADABLE = (
    "",
    "sql_variant",
    "image",
    "timestamp",
    "rowversion",
    "table type",
    "hierarchyid",
    "geography",
    "geometry",
)
_VALUE_LIMIT = 512 * 1024 * 1024
_HEXADECIMAL = re.compile(r"0[xX](?:[0-9a-fA-F]{2})*")


_STATUS = "dbaas_status"
_PARAMETER_NAME = re.compile(r"[\w@#$]+")


class Statement(NamedTuple):
    """A batch that is ready to be sent; its last result set says the return status and the OUTPUT parameters."""

    text: str
    values: tuple[str, ...]
    check: str = ""
    """A query that gives 1 or 0 for each value that the server is to read as a type; "" when there is none."""
    checked: tuple[tuple[str, str, str], ...] = ()
    """(argument, type, value) of what `check` asks for, in its order."""
    unseen: bool = False
    """Whether the catalogue knows no such procedure."""

    def __repr__(self) -> str:
        # The values may be passwords.
        return f"Statement({self.text!r})"


def resolve(procedure: Procedure, found: Sequence[Candidate]) -> Statement:
    """The one batch that the name and the arguments mean; `found` is not empty.

    Raises Failure: PROCEDURE_MISSING, PROCEDURE_AMBIGUOUS, ARGUMENTS_INVALID, PERMISSION_DENIED.
    """
    procedures = [candidate for candidate in found if candidate.is_callable]
    if not procedures:
        kind = KINDS.get(found[0].kind, "function")
        raise Failure(Reason.PROCEDURE_MISSING, f"{found[0].schema}.{found[0].name} is a {kind}, not a procedure")
    executable = [candidate for candidate in procedures if candidate.executable]
    if not executable:
        raise Failure(
            Reason.PERMISSION_DENIED,
            f"the endpoint's account may not call {procedures[0]}; GRANT EXECUTE on it to that account",
        )
    if len(executable) > 1:
        several = ", ".join(str(candidate) for candidate in executable[:_MOST_SHOWN])
        raise Failure(
            Reason.PROCEDURE_AMBIGUOUS, f"{procedure.name} could be any of {several}; name the schema, or drop one"
        )
    given = _given(executable[0], procedure.arguments)
    for parameter, argument in given:
        _check(parameter, argument, executable[0])
    return _statement(Name.parse(procedure.name), executable[0], given)


def unseen(procedure: Procedure) -> Statement:
    """The batch for a procedure of which the catalogue says nothing: its values go as they are, and it says its rows.

    Raises Failure(ARGUMENTS_INVALID).
    """
    positions = [argument.name.isdecimal() for argument in procedure.arguments]
    if any(positions) and not all(positions):
        raise Failure(Reason.ARGUMENTS_INVALID, _MIXED)
    arguments = sorted(procedure.arguments, key=lambda one: int(one.name)) if any(positions) else procedure.arguments
    terms = []
    for argument in arguments:
        name = argument.name.removeprefix("@")
        if not _PARAMETER_NAME.fullmatch(name):
            raise Failure(Reason.ARGUMENTS_INVALID, f"{procedure.name} can have no argument {argument.name}")
        _check_storable(argument, f"argument {argument.name} of {procedure.name}")
        terms.append("?" if any(positions) else f"@{name} = ?")
    meant = Name.parse(procedure.name)
    schema = f"{quoted(meant.schema)}." if meant.schema else "." if meant.database else ""
    text = _call(f"{meant.prefix}{schema}{quoted(meant.procedure)}", terms, {})
    return Statement(text, tuple(argument.value for argument in arguments), unseen=True)


def _call(target: str, terms: Sequence[str], outputs: Mapping[str, str]) -> str:
    """outputs: name → variable."""
    told = "".join(f", {variable} AS {quoted(name)}" for name, variable in outputs.items())
    call = f"EXEC @{_STATUS} = {target} {', '.join(terms)}".rstrip()
    return f"DECLARE @{_STATUS} int; {call}; SELECT @{_STATUS} AS {_STATUS}{told}"


def tells(columns: Sequence[str]) -> bool:
    """Whether a result set is the one that every Statement ends with."""
    return list(columns[:1]) == [_STATUS]


def told(last: Rows) -> tuple[int, ResultSet | None]:
    """The return status and the OUTPUT parameters, if there are any, from the result set that `tells`."""
    [row] = last.values
    outputs = ResultSet(last.columns[1:], [row[1:]]) if len(row) > 1 else None
    return int(row[0] or 0), outputs


def missing(name: str, known: Iterable[tuple[str, str]]) -> Failure:
    """The failure for a name that nothing has; `known` is (schema, name) of what the account could call."""
    hint = there_is(Name.parse(name).procedure.lower(), known)
    return Failure(
        Reason.PROCEDURE_MISSING,
        f"{name} does not exist in this database, or the endpoint's account has no EXECUTE on it{hint}",
    )


def unreadable(procedure: str, argument: str, declared: str) -> Failure:
    """The failure for a value that its type does not read."""
    return Failure(Reason.ARGUMENTS_INVALID, f"argument {argument} of {procedure} holds no valid {declared}")


Given = list[tuple[Parameter, Argument]]


def _given(candidate: Candidate, arguments: Sequence[Argument]) -> Given:
    positions = [argument.name.isdecimal() for argument in arguments]
    if any(positions) and not all(positions):
        raise Failure(Reason.ARGUMENTS_INVALID, _MIXED)
    if any(positions):
        return _positional(candidate, arguments)
    given: dict[str, tuple[Parameter, Argument]] = {}
    for argument in arguments:
        parameter = _parameter_called(argument.name, candidate)
        if parameter.name in given:
            first = given[parameter.name][1].name
            raise _unfit(candidate, f"is given {parameter.name} twice: as {first} and {argument.name}")
        given[parameter.name] = (parameter, argument)
    return [*given.values()]


def _positional(candidate: Candidate, arguments: Sequence[Argument]) -> Given:
    ordered = sorted(arguments, key=lambda argument: int(argument.name))
    if [int(argument.name) for argument in ordered] != list(range(len(ordered))):
        raise _unfit(candidate, "is given positions with a gap or a repetition")
    if len(ordered) > len(candidate.parameters):
        raise _unfit(candidate, f"takes fewer than the {len(ordered)} arguments that are given")
    return [*zip(candidate.parameters, ordered, strict=False)]


def _parameter_called(name: str, candidate: Candidate) -> Parameter:
    wanted = name.removeprefix("@")
    exact = [parameter for parameter in candidate.parameters if parameter.name == wanted]
    folded = [parameter for parameter in candidate.parameters if parameter.name.casefold() == wanted.casefold()]
    if len(found := exact or folded) == 1:
        return found[0]
    takes = ", ".join(parameter.name for parameter in candidate.parameters) or "no argument"
    raise _unfit(candidate, f"has {'no' if not found else 'more than one'} argument {name}; it takes {takes}")


def _unfit(candidate: Candidate, message: str) -> Failure:
    return Failure(Reason.ARGUMENTS_INVALID, f"{candidate} {message}")


def _check(parameter: Parameter, argument: Argument, candidate: Candidate) -> None:
    """Refuse what the server would change silently, or cannot store."""
    value, kind, where = argument.value, parameter.type_name, f"argument {argument.name} of {candidate.name}"
    _check_storable(argument, where)
    if kind in _UNREADABLE:
        raise Failure(
            Reason.ARGUMENTS_INVALID, f"{where} is declared {kind or 'as a type of its own'}, which no text can be"
        )
    if kind in _WIDE:
        _check_length(where, len(value.encode("utf-16-le")), parameter)
    elif kind in _NARROW:
        _check_length(where, len(_narrow(value, candidate.code_page, where)), parameter)
    elif not value or (kind == "uniqueidentifier" and len(value) not in (36, 38)):
        raise unreadable(candidate.name, argument.name, kind)
    elif kind in _BINARY:
        if not _HEXADECIMAL.fullmatch(value):
            raise unreadable(candidate.name, argument.name, f"{kind}: write 0x and hexadecimal digits")
        _check_length(where, len(value) // 2 - 1, parameter)


def _check_storable(argument: Argument, where: str) -> None:
    value = argument.value
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value) or len(value) > _VALUE_LIMIT:
        raise Failure(Reason.ARGUMENTS_INVALID, f"{where} holds a NUL or half a character, or is too long")


def _check_length(where: str, size: int, parameter: Parameter) -> None:
    if parameter.max_length >= 0 and size > parameter.max_length and parameter.type_name not in ("ntext", "text"):
        raise Failure(Reason.ARGUMENTS_INVALID, f"{where} is longer than its declaration {parameter.declared} allows")


def _narrow(value: str, code_page: int, where: str) -> bytes:
    try:
        return value.encode("utf-8" if code_page == 65001 else f"cp{code_page}" if code_page else "ascii")
    except LookupError:
        return value.encode("ascii", "replace")
    except UnicodeEncodeError:
        raise Failure(
            Reason.ARGUMENTS_INVALID,
            f"{where} holds characters that varchar cannot store in this database; declare it nvarchar",
        ) from None


def _statement(name: Name, candidate: Candidate, given: Given) -> Statement:
    call = _Batch()
    for parameter, argument in given:
        call.give(parameter, argument)
    outputs = [parameter for parameter in candidate.parameters if parameter.is_output]
    for parameter in outputs:
        call.take(parameter)
    target = f"{name.prefix}{quoted(candidate.schema)}.{quoted(candidate.name)}"
    return call.statement(target, [parameter.name for parameter in outputs])


class _Batch:
    """A batch being written: variables of the declared types, the call, the OUTPUT parameters."""

    def __init__(self) -> None:
        self.declarations: list[str] = []
        self.terms: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.declared_values: list[str] = []
        self.values: list[str] = []
        self.checked: list[tuple[str, str, str]] = []
        self.checks: list[str] = []

    def give(self, parameter: Parameter, argument: Argument) -> None:
        """An argument. Characters are bound as they are; all else is read by the server as the declared type."""
        if parameter.type_name in _WIDE + _NARROW and not parameter.is_output:
            self.terms[parameter.name] = "?"
            self.values.append(argument.value)
            return
        style = ", 1" if parameter.type_name in _BINARY else ""
        if parameter.type_name in _WIDE + _NARROW:
            self._declare(parameter, "?", argument.value)
            return
        self._declare(parameter, f"CONVERT({parameter.declared}, ?{style})", argument.value)
        self.checks.append(f"CASE WHEN TRY_CONVERT({parameter.declared}, ?{style}) IS NULL THEN 0 ELSE 1 END")
        self.checked.append((argument.name, parameter.declared, argument.value))

    def take(self, parameter: Parameter) -> None:
        """An OUTPUT parameter."""
        if parameter.name not in self.variables:
            self._declare(parameter, "", "")
        self.terms[parameter.name] = f"{self.variables[parameter.name]} OUTPUT"

    def _declare(self, parameter: Parameter, expression: str, value: str) -> None:
        variable = self.variables[parameter.name] = f"@dbaas{len(self.variables)}"
        self.terms[parameter.name] = variable
        self.declarations.append(
            f"DECLARE {variable} {parameter.declared}" + (f" = {expression}" if expression else "")
        )
        if expression:
            self.declared_values.append(value)

    def statement(self, target: str, outputs: list[str]) -> Statement:
        """The whole of it."""
        terms = ", ".join(f"@{name} = {term}" if name else term for name, term in self.terms.items())
        variables = {name: self.variables[name] for name in outputs}
        return Statement(
            "; ".join((*self.declarations, _call(target, [terms] if terms else [], variables))),
            # In the order of the `?`: declarations come first.
            (*self.declared_values, *self.values),
            "SELECT " + ", ".join(self.checks) if self.checks else "",
            tuple(self.checked),
        )
