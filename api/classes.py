"""A DatabaseClass in itself: where its templates are, in which order inputs are arguments, and what is wrong with it.

Faults are found when a class is applied, not when a Database first uses it. Patterns are compiled elsewhere: their
engine is no part of the contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from api.engines import ENGINES, Driver
from api.faults import Fault
from api.identity import described_length, too_long
from api.kinds import DatabaseClass, ProcedureTemplate
from api.parameters import value_faults
from api.templates import ALL_ROOTS, IDENTITY_ROOTS, INPUT_ROOTS, Reference, Template, TemplateError

_INTEGER = re.compile(r"[+-]?[0-9]{1,6}")
_TRANSIENT_ROOTS = frozenset({"Operation", "Generated"})
_SECRET_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A quoted part may hold anything, its quote doubled; a bare one nothing that would need a quote to be understood.
_BARE = r"""[^\s.()\[\]"'`;,]+"""
_PARTS = {
    Driver.POSTGRES: (2, r'"(?:[^"]|"")+"'),
    Driver.MYSQL: (2, r"`(?:[^`]|``)+`"),
    Driver.MARIADB: (2, r"`(?:[^`]|``)+`"),
    Driver.SQLSERVER: (3, r'\[(?:[^\]]|\]\])+\]|"(?:[^"]|"")+"'),
}
"""How many parts a procedure's name may have, and how the engine quotes one."""


def template_places(cls: DatabaseClass) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Every template of a class: its path, its source, and the roots it may use."""
    for operation, procedure in cls.operations.items():
        for key, source in sorted_inputs(procedure.inputs):
            yield f"spec.operations.{operation}.inputs[{key}]", source, INPUT_ROOTS
    if cls.identity is not None:
        yield "spec.identity", cls.identity, IDENTITY_ROOTS
    for key, source in sorted((cls.secret_format or {}).items()):
        yield f"spec.secretFormat[{key}]", source, ALL_ROOTS


def sorted_inputs(inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Inputs in the order in which they are arguments: positional ones by number, named ones by name."""
    return sorted(inputs.items(), key=lambda item: (position(item[0]) or 0, item[0]))


def position(key: str) -> int | None:
    """The position that an input key gives, from 0; None for a name."""
    return int(key) if _INTEGER.fullmatch(key) else None


def argument_name(key: str) -> str:
    """An input key as a call carries it: `00` and `0` are one position."""
    number = position(key)
    return key if number is None else str(number)


def identity_inputs(cls: DatabaseClass) -> list[tuple[str, Template]]:
    """The create inputs that the default identity joins: neither operation-, uid- nor password-valued."""
    create = cls.operations.get("create")
    inputs = sorted_inputs(create.inputs) if create else []
    parsed = [(key, Template.parse(source, INPUT_ROOTS)) for key, source in inputs]
    return [(key, template) for key, template in parsed if not any(map(_transient, template.references))]


def class_faults(cls: DatabaseClass) -> list[Fault]:
    """Every fault of a class, by path."""
    checks = (_operation_faults, _template_faults, _identity_faults, _parameter_faults, _secret_faults)
    return [fault for check in checks for fault in check(cls)]


def _operation_faults(cls: DatabaseClass) -> Iterator[Fault]:
    if "create" not in cls.operations:
        yield Fault("spec.operations.create", "is required; name the procedure that creates a database")
    for kind, procedure in cls.operations.items():
        path = f"spec.operations.{kind}"
        yield from _procedure_faults(f"{path}.name", procedure.name, cls.driver)
        yield from _input_faults(f"{path}.inputs", procedure, cls.driver)


def _procedure_faults(path: str, name: str, driver: Driver) -> Iterator[Fault]:
    limit, quoted = _PARTS[driver]
    if not name.strip():
        yield Fault(path, "is empty; name a stored procedure")
        return
    if _CONTROL.search(name):
        yield Fault(path, "contains a control character; remove it")
        return
    part = f"(?:{quoted}|{_BARE})"
    if not re.fullmatch(rf"{part}(?:\.{part}){{0,{limit - 1}}}", name):
        form = "procedure, schema.procedure or database.schema.procedure"
        form = form if limit > 2 else "procedure or schema.procedure"
        yield Fault(path, f"is no procedure name of {driver.value}; write {form}, without arguments")
        return
    for text in re.findall(part, name):
        bare = text[1:-1].replace(2 * text[-1], text[-1]) if re.fullmatch(quoted, text) else text
        yield from _length_faults(path, bare, driver)


def _input_faults(path: str, procedure: ProcedureTemplate, driver: Driver) -> Iterator[Fault]:
    keys = sorted(procedure.inputs)
    positions = sorted(number for key in keys if (number := position(key)) is not None)
    names = [key for key in keys if position(key) is None]
    if positions and names:
        yield Fault(path, f"mixes positions and names ({', '.join(keys)}); use 0, 1, … for all or names for all")
    elif names and not ENGINES[driver].named_arguments:
        yield Fault(path, f"has names, and {driver.value} knows positions only; use 0, 1, … in the procedure's order")
    elif positions != list(range(len(positions))):
        duplicates = len(set(positions)) < len(positions)
        what = "the same position twice" if duplicates else "a gap"
        yield Fault(path, f"has {what} ({', '.join(keys)}); number the inputs 0, 1, … without gaps")
    for name in names:
        if not name.strip():
            yield Fault(f"{path}[{name}]", "is an empty name; name the procedure's argument")
        elif _CONTROL.search(name):
            yield Fault(path, "has a name with a control character; remove it")
        else:
            yield from _length_faults(f"{path}[{name}]", name, driver)


def _template_faults(cls: DatabaseClass) -> Iterator[Fault]:
    for path, source, roots in template_places(cls):
        try:
            template = Template.parse(source, roots)
        except TemplateError as error:
            yield Fault(path, str(error))
            continue
        if cls.params is None:
            continue
        known = ", ".join(sorted(cls.params)) or "none"
        used = dict.fromkeys(r.path[1] for r in template.references if r.root == "Params")
        for name in used:
            if name not in cls.params:
                yield Fault(path, f".Params.{name} is not declared in spec.params (declared: {known}); declare it")


def _transient(reference: Reference) -> bool:
    return reference.root in _TRANSIENT_ROOTS or reference.path == ("Metadata", "uid")


def _varies(template: Template) -> bool:
    return any(reference.root in {"Metadata", "Params"} for reference in template.references)


def _identity_faults(cls: DatabaseClass) -> Iterator[Fault]:
    cure = "write an identity that refers to what names the database, such as {{ .Metadata.name }}"
    try:
        if cls.identity is None:
            templates = [template for _, template in identity_inputs(cls)]
            if not any(map(_varies, templates)) and "create" in cls.operations:
                yield Fault("spec.identity", f"is needed, because no create input names the database; {cure}")
        elif not _varies(Template.parse(cls.identity, IDENTITY_ROOTS)):
            yield Fault("spec.identity", f"is the same for every Database; {cure}")
    except TemplateError:
        return  # reported with its template


def _parameter_faults(cls: DatabaseClass) -> Iterator[Fault]:
    for name, rule in (cls.params or {}).items():
        if rule.default is not None:
            # Only the rules that need no RE2 engine.
            for message in value_faults(rule, rule.default, lambda _pattern, _value: True):
                yield Fault(f"spec.params[{name}].default", message)


def _secret_faults(cls: DatabaseClass) -> Iterator[Fault]:
    for key in cls.secret_format or {}:
        if not _SECRET_KEY.fullmatch(key) or key in {".", ".."}:
            yield Fault(
                f"spec.secretFormat[{key}]",
                "is no key of a Secret; use at most 253 letters, digits, -, _ and .",
            )
    for index, name in enumerate(cls.credentials):
        if not name.strip():
            yield Fault(f"spec.credentials[{index}]", "is empty; name a key of the procedure's result")


def _length_faults(path: str, name: str, driver: Driver) -> Iterator[Fault]:
    engine = ENGINES[driver]
    if too_long(name, engine):
        limit = engine.identifier_limit
        yield Fault(path, f"is {described_length(name, engine)} long; {driver.value} allows {limit}")
