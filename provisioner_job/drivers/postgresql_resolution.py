"""Which of the candidates a call means, and the statement that calls exactly that one.

Pure. Argument names obey the engine: exactly as declared, else whatever their case. Nothing is guessed: what fits two
candidates is refused until somebody changes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from api.engines import ENGINES, Driver
from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.drivers.postgresql_catalogue import NAME, TEXT, Candidate, Name, Parameter
from provisioner_job.drivers.postgresql_wire import Bound
from provisioner_job.drivers.similar import there_is
from provisioner_job.errors import Failure

_MOST_SHOWN = 5


class Statement(NamedTuple):
    """A call that is ready to be sent; `labels` names the argument behind each value."""

    text: str
    values: tuple[Bound, ...]
    labels: tuple[str, ...]


class _Misfit(NamedTuple):
    """Why a candidate does not take the arguments."""

    message: str


def quoted(identifier: str) -> str:
    """An identifier as PostgreSQL quotes it; catalogue names hold no NUL."""
    return '"' + identifier.replace('"', '""') + '"'


def resolve(procedure: Procedure, candidates: Sequence[Candidate]) -> Statement:
    """The one statement that the name and the arguments mean; `candidates` is not empty.

    Raises Failure: PROCEDURE_MISSING, PROCEDURE_AMBIGUOUS, ARGUMENTS_INVALID, PERMISSION_DENIED, RESULT_INVALID.
    """
    _check_values(procedure.arguments)
    name = Name.parse(procedure.name)
    named = as_meant(name, candidates)
    callable_ones = [candidate for candidate in named if candidate.kind in ("f", "p")]
    if not callable_ones:
        raise Failure(Reason.PROCEDURE_MISSING, f"{named[0]} is an aggregate or window function, not a procedure")
    fits = [(candidate, _fit(candidate, procedure.arguments)) for candidate in callable_ones]
    fitting = [(candidate, fit) for candidate, fit in fits if isinstance(fit, Statement)]
    if not fitting:
        misfits = [fit.message for _, fit in fits if isinstance(fit, _Misfit)]
        raise Failure(Reason.ARGUMENTS_INVALID, "; ".join(misfits[:_MOST_SHOWN]))
    executable = [(candidate, statement) for candidate, statement in fitting if candidate.executable]
    if not executable:
        raise Failure(
            Reason.PERMISSION_DENIED,
            f"the endpoint's account may not call {fitting[0][0]}; "
            f"GRANT EXECUTE on it, and USAGE on schema {fitting[0][0].schema}, to that account",
        )
    if len(executable) > 1:
        several = ", ".join(str(candidate) for candidate, _ in executable[:_MOST_SHOWN])
        raise Failure(
            Reason.PROCEDURE_AMBIGUOUS, f"{procedure.name} could be any of {several}; name the schema, or drop one"
        )
    chosen, statement = executable[0]
    if (chosen.shapeless or chosen.cursor) and procedure.returns:
        what = "a cursor, which ends with the call" if chosen.cursor else "record without naming columns"
        raise Failure(
            Reason.RESULT_INVALID, f"{chosen} returns {what}; declare it RETURNS TABLE (key text, value text)"
        )
    return statement


def missing(name: str, known: Iterable[tuple[str, str]]) -> Failure:
    """The failure for a name that nothing has; `known` is (schema, name) of what the account could call."""
    hint = there_is(Name.parse(name).procedure.folded, known)
    return Failure(
        Reason.PROCEDURE_MISSING,
        f"{name} does not exist in this database, or is not visible to the endpoint's account{hint}",
    )


def _check_values(arguments: Sequence[Argument]) -> None:
    for argument in arguments:
        if "\0" in argument.value or any("\ud800" <= character <= "\udfff" for character in argument.value):
            raise Failure(
                Reason.ARGUMENTS_INVALID,
                f"argument {argument.name} holds a NUL or half a character, which PostgreSQL cannot store",
            )


def as_meant(name: Name, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those that PostgreSQL itself would read the name as; else those so written, created in quotes."""
    for schema in (name.schema and name.schema.folded, name.schema and name.schema.written):
        for procedure in (name.procedure.folded, name.procedure.written):
            found = [one for one in candidates if one.name == procedure and schema in (None, one.schema)]
            if found:
                return found
    return candidates


def _fit(candidate: Candidate, arguments: Sequence[Argument]) -> Statement | _Misfit:
    positions = [argument.name.isdecimal() for argument in arguments]
    if any(positions) and not all(positions):
        return _Misfit("arguments are either all named or all positional (0, 1, …), not both")
    try:
        if any(positions):
            return _positional(candidate, arguments)
        return _named(candidate, arguments)
    except _Unfit as unfit:
        return _Misfit(f"{candidate} {unfit}")


class _Unfit(Exception):
    """The rest of a sentence that begins with the candidate."""


def _named(candidate: Candidate, arguments: Sequence[Argument]) -> Statement:
    given: dict[str, Argument] = {}
    for argument in arguments:
        parameter = _parameter_called(argument.name, candidate)
        _check_name(parameter, argument)
        if parameter.name in given:
            raise _Unfit(f"is given {parameter.name} twice: as {given[parameter.name].name} and {argument.name}")
        given[parameter.name] = argument
    call = _Call(candidate)
    variadic = next((parameter for parameter in candidate.inputs if parameter.mode == "v"), None)
    for parameter, treatment in _treatments(candidate):
        if parameter.is_input and parameter.name in given:
            call.name(parameter, given[parameter.name])
        elif treatment == "default" and variadic is not None and variadic.name in given:
            raise _Unfit(f"needs {parameter.name}: PostgreSQL uses no default beside VARIADIC {variadic.name}")
        elif parameter is variadic and treatment == "default":
            return _without_variadic(candidate, given, parameter)
        elif treatment == "placeholder":
            call.name(parameter, None)
        elif treatment == "required":
            raise _Unfit(f"needs {parameter.name or 'arguments without names: give them as 0, 1, …'}")
    return call.statement()


def _without_variadic(candidate: Candidate, given: Mapping[str, Argument], variadic: Parameter) -> Statement:
    """By position: by names PostgreSQL finds no VARIADIC that its default stands in for (FuncnameGetCandidates)."""
    leading = candidate.inputs[: len(given)]
    if any(parameter.name not in given for parameter in leading):
        raise _Unfit(f"needs {variadic.name}, or all arguments before the last that is given")
    arguments = [Argument(str(number), given[parameter.name].value) for number, parameter in enumerate(leading)]
    labels = tuple(given[parameter.name].name for parameter in leading)
    return _positional(candidate, arguments)._replace(labels=labels)


def _check_name(parameter: Parameter, argument: Argument) -> None:
    """PostgreSQL cuts a longer text to a name without a word, and may so make two databases one."""
    limit = ENGINES[Driver.POSTGRES].identifier_limit
    if parameter.type == NAME and len(argument.value.encode()) > limit:
        raise _Unfit(f"is given more than the {limit} bytes of a name as {argument.name}")


def _parameter_called(name: str, candidate: Candidate) -> Parameter:
    inputs = [parameter for parameter in candidate.inputs if parameter.name]
    exact = [parameter for parameter in inputs if parameter.name == name]
    folded = [parameter for parameter in inputs if parameter.name.casefold() == name.casefold()]
    if len(found := exact or folded) == 1:
        return found[0]
    takes = ", ".join(parameter.name for parameter in inputs) or "no named argument"
    raise _Unfit(f"has {'no' if not found else 'more than one'} argument {name}; it takes {takes}")


def _positional(candidate: Candidate, arguments: Sequence[Argument]) -> Statement:
    rest = sorted(arguments, key=lambda argument: int(argument.name))
    if [int(argument.name) for argument in rest] != list(range(len(arguments))):
        raise _Unfit("is given positions with a gap or a repetition")
    call = _Call(candidate)
    for parameter, treatment in _treatments(candidate):
        if parameter.mode == "v" and rest:
            for argument in rest:
                call.append(Bound(argument.value, parameter.element or TEXT), argument.name)
            rest = []
        elif parameter.is_input and rest:
            argument = rest.pop(0)
            _check_name(parameter, argument)
            call.append(Bound(argument.value, parameter.bound_type), argument.name)
        elif treatment == "placeholder":
            call.append(Bound(None, parameter.bound_type), parameter.name)
        elif treatment == "required":
            raise _Unfit(f"takes more than the {len(arguments)} arguments that are given")
    if rest:
        raise _Unfit(f"takes fewer than the {len(arguments)} arguments that are given")
    return call.statement()


def _treatments(candidate: Candidate) -> Iterable[tuple[Parameter, str]]:
    """What to do about each parameter that is not given: `required`, `default`, `placeholder` or `output`."""
    inputs_left = len(candidate.inputs)
    for parameter in candidate.parameters:
        has_default = parameter.is_input and inputs_left <= candidate.defaults
        inputs_left -= parameter.is_input
        if has_default:
            yield parameter, "default"
        elif candidate.kind == "p" and parameter.mode in ("o", "b"):
            # CALL wants a placeholder for everything that it gives back.
            yield parameter, "placeholder"
        else:
            yield parameter, "required" if parameter.is_input else "output"


class _Call:
    """A statement being written."""

    def __init__(self, candidate: Candidate) -> None:
        self.target = f"{quoted(candidate.schema)}.{quoted(candidate.name)}"
        self.verb = "CALL" if candidate.kind == "p" else "SELECT * FROM"
        self.terms: list[str] = []
        self.values: list[Bound] = []
        self.labels: list[str] = []

    def append(self, value: Bound, label: str, prefix: str = "") -> None:
        self.values.append(value)
        self.labels.append(label)
        self.terms.append(f"{prefix}${len(self.values)}")

    def name(self, parameter: Parameter, argument: Argument | None) -> None:
        if not parameter.name:
            raise _Unfit("has an OUT parameter without a name: give its arguments as 0, 1, …")
        variadic = "VARIADIC " if parameter.mode == "v" else ""
        value = Bound(None if argument is None else argument.value, parameter.bound_type)
        label = parameter.name if argument is None else argument.name
        self.append(value, label, f"{variadic}{quoted(parameter.name)} => ")

    def statement(self) -> Statement:
        text = f"{self.verb} {self.target}({', '.join(self.terms)})"
        return Statement(text, tuple(self.values), tuple(self.labels))
