"""What a Database makes of its class: the texts that an instance freezes, and the faults that prevent it.

Pure. What only the Job can know (`.Operation`, `.Generated`, `.Result`) stays open in what is rendered here.
"""

from __future__ import annotations

from collections.abc import Iterator

from api.classes import argument_name, class_faults, identity_inputs, sorted_inputs, template_places
from api.engines import ENGINES
from api.faults import Fault
from api.identity import cut, described_length, instance_name, normalise, too_long
from api.kinds import Database, DatabaseClass, DatabaseEndpoint, OperationType
from api.operation import Call, Text
from api.parameters import Matches, effective_params, parameter_faults
from api.references import available
from api.templates import (
    ALL_ROOTS,
    IDENTITY_ROOTS,
    INPUT_ROOTS,
    Reference,
    Template,
    TemplateError,
    Values,
)

__all__ = [
    "IdentityError",
    "class_faults",
    "database_faults",
    "effective_params",
    "identity_limit_applies",
    "identity_path",
    "instance_name_for",
    "parameter_faults",
    "reference_path",
    "render_call",
    "render_identity",
    "render_secret_format",
    "request_faults",
    "template_values",
]

SEPARATOR = "/"
"""Between the inputs of which a default identity is joined."""


class IdentityError(TemplateError):
    """An identity that cannot name a database: empty, or longer than the engine's identifiers."""


def template_values(database: Database, cls: DatabaseClass, endpoint: DatabaseEndpoint) -> Values:
    """What templates may refer to before an Operation exists; a name or uid not yet given has no value."""
    metadata = database.metadata
    engine = ENGINES[cls.driver]
    own = {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid}
    return {
        "Metadata": {
            **{key: value for key, value in own.items() if value},
            "labels": metadata.labels,
            "annotations": metadata.annotations,
        },
        "Params": effective_params(cls, database.params),
        "Endpoint": {
            "name": endpoint.metadata.name,
            "host": endpoint.host,
            "port": str(endpoint.port or engine.default_port),
            "database": endpoint.database or engine.default_database,
        },
    }


def render_call(cls: DatabaseClass, operation_type: OperationType, values: Values) -> Call:
    """One operation's call with `.Operation` and `.Generated` open.

    Raises TemplateError; KeyError when the class has no such operation.
    """
    procedure = cls.operations[operation_type]
    return Call(
        procedure=procedure.name,
        arguments=tuple(
            Text(argument_name(key), Template.parse(source, INPUT_ROOTS).bind(values))
            for key, source in sorted_inputs(procedure.inputs)
        ),
        timeout=procedure.timeout,
    )


def render_secret_format(cls: DatabaseClass, values: Values) -> tuple[Text, ...] | None:
    """The Secret's keys with `.Operation`, `.Generated` and `.Result` open; None: every result key passes.

    Raises TemplateError.
    """
    if cls.secret_format is None:
        return None
    return tuple(
        Text(key, Template.parse(source, ALL_ROOTS).bind(values)) for key, source in sorted(cls.secret_format.items())
    )


def render_identity(cls: DatabaseClass, values: Values) -> str:
    """What names the database on its server: the class's template, else the create inputs that are always the same.

    Those are joined after normalisation, so that no value can look like two. Raises TemplateError, and IdentityError
    for an identity that is empty or longer than the engine's identifiers.
    """
    if cls.identity is not None:
        identity = Template.parse(cls.identity, IDENTITY_ROOTS).render(values)
        _check_length(cls, "spec.identity", identity)
    else:
        parts: list[str] = []
        for key, template in identity_inputs(cls):
            value = template.render(values)
            if _names_by_metadata(template):
                _check_length(cls, f"spec.operations.create.inputs[{key}]", value)
            parts.append(_escaped(normalise(value)))
        identity = SEPARATOR.join(parts) if any(parts) else ""
    if not normalise(identity):
        raise IdentityError(
            f'the identity that DatabaseClass "{cls.metadata.name}" gives is empty; it must name the database'
        )
    return identity


def identity_limit_applies(cls: DatabaseClass) -> bool:
    """Whether the identity is one identifier; a joined one is longer, because it is several values."""
    return cls.identity is not None


def instance_name_for(cls: DatabaseClass, endpoint: DatabaseEndpoint, identity: str) -> str:
    """The name of the DatabaseInstance that claims `identity` on the endpoint's server."""
    engine = ENGINES[cls.driver]
    named = normalise(identity)
    if identity_limit_applies(cls):
        named = cut(named, engine)
    return instance_name(engine.family, endpoint.host, endpoint.port or engine.default_port, named)


def request_faults(database: Database, cls: DatabaseClass, endpoint: DatabaseEndpoint) -> list[Fault]:
    """Everything that keeps the class's templates from being rendered for `database`, one fault a path."""
    values = template_values(database, cls, endpoint)
    wanted: dict[str, list[str]] = {}
    hints: dict[str, str] = {}
    faults: list[Fault] = []
    for place, source, roots in template_places(cls):
        try:
            template = Template.parse(source, roots)
        except TemplateError as error:
            faults.append(_class_fault(cls, f"{place}: {error}"))
            continue
        for reference in template.missing(values):
            path = reference_path(reference)
            wanted.setdefault(path, []).append(place.removeprefix("spec."))
            hints[path] = available(reference, values)
    for path, places in wanted.items():
        uses = ", ".join(dict.fromkeys(places))
        message = f'DatabaseClass "{cls.metadata.name}" needs it for {uses}; add it ({hints[path]})'
        faults.append(Fault(path, message))
    if not faults:
        faults += _identity_faults(cls, values)
    return sorted(faults)


def database_faults(
    database: Database, cls: DatabaseClass, endpoint: DatabaseEndpoint, matches: Matches
) -> list[Fault]:
    """`parameter_faults` and `request_faults`, without saying twice that a parameter is missing."""
    declared = parameter_faults(cls, database.params, matches)
    paths = {fault.path for fault in declared}
    return declared + [f for f in request_faults(database, cls, endpoint) if f.path not in paths]


def reference_path(reference: Reference) -> str:
    """Where in a Database's manifest a reference gets its value: `spec.params.size`, `metadata.labels[team]`."""
    match reference.path:
        case ("Params", name):
            return f"spec.params.{name}"
        case ("Metadata", kind, key):
            return f"metadata.{kind}[{key}]"
        case ("Metadata", key):
            return f"metadata.{key}"
    return "spec.endpoint"


def _identity_faults(cls: DatabaseClass, values: Values) -> Iterator[Fault]:
    try:
        render_identity(cls, values)
    except TemplateError as error:
        yield Fault(identity_path(cls), str(error))


def identity_path(cls: DatabaseClass) -> str:
    """The field that a user would change to change the identity."""
    if cls.identity is not None:
        templates = [Template.parse(cls.identity, IDENTITY_ROOTS)]
    else:
        templates = [template for _, template in identity_inputs(cls)]
    paths = [reference_path(r) for t in templates for r in t.references if r.root != "Endpoint"]
    return "metadata.name" if "metadata.name" in paths or not paths else paths[0]


def _check_length(cls: DatabaseClass, place: str, name: str) -> None:
    engine = ENGINES[cls.driver]
    if too_long(name, engine):
        raise IdentityError(
            f'{place} of DatabaseClass "{cls.metadata.name}" gives a name of {described_length(name, engine)}, '
            f"and {cls.driver.value} allows {engine.identifier_limit}; use a shorter one"
        )


def _names_by_metadata(template: Template) -> bool:
    """Whether an input most likely names the database: made of its metadata alone.

    Annotations and parameters may hold any text, and an endpoint's values name the server.
    """
    references = template.references
    return any(r.root == "Metadata" for r in references) and all(
        r.root == "Endpoint" or (r.root == "Metadata" and r.path[1] != "annotations") for r in references
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(SEPARATOR, "\\" + SEPARATOR)


def _class_fault(cls: DatabaseClass, message: str) -> Fault:
    return Fault("spec.endpoint", f'its DatabaseClass "{cls.metadata.name}" is wrong: {message}')
