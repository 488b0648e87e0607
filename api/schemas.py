"""What a user may write in a Database, or in its class, endpoint or policy: the CRDs' rules, without an API server.

Reports every fault with its path, for a check before anything is applied. Knows one manifest at a time: whether
what it names exists, whether its templates compile and whether it may change is the webhook's to judge.
`tests/api/test_schemas.py` holds these schemas and the CRDs in `chart/templates/crds` equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import wraps
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from api.durations import DURATION_PATTERN, format_duration, parse_duration
from api.engines import Driver
from api.faults import Fault
from api.resources import API_VERSION

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
OBJECT_NAME = rf"^{_LABEL}(\.{_LABEL})*$"
_HOST_LABEL = r"[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?"
SERVER_NAME = rf"^{_HOST_LABEL}(\.{_HOST_LABEL})*$"
HOST = rf"^({_HOST_LABEL}(\.{_HOST_LABEL})*|[0-9A-Fa-f]{{0,4}}(:[0-9A-Fa-f]{{0,4}}){{2,7}})$"
PARAMETER_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
# As PostgreSQL reads identifiers: what is not ASCII counts as a letter. Excluded, because \w is not the same to RE2.
_LETTER = r"[^\x00-\x40\x5b-\x5e\x60\x7b-\x7f]"
_LETTER_OR_DIGIT = r"[^\x00-\x22\x25-\x2f\x3a-\x3f\x5b-\x5e\x60\x7b-\x7f]"
INPUT_KEY = rf"^([0-9]{{1,4}}|{_LETTER}{_LETTER_OR_DIGIT}{{0,127}})$"
SECRET_KEY = r"^[-._A-Za-z0-9]{1,253}$"  # noqa: S105 - a pattern
FIELD_PATH = r"^(spec|metadata)[^\x00-\x20\x7f]*$"
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
CERTIFICATE = "-----BEGIN CERTIFICATE-----"

PARAMETERS_LIMIT = 65536
"""Characters of all values together: instances and Operations carry them several times over."""
_VALUE_LIMIT = 16384

Json = Mapping[str, Any]
AnyField = fields.Field[Any] | None


class Pattern(validate.Validator):
    """A regular expression that means the same to RE2 and to Python: `$` is the end, not a last newline."""

    def __init__(self, pattern: str, message: str):
        self.pattern = pattern
        self.message = message
        self._compiled = re.compile(re.sub(r"\$$", r"\\Z", pattern))

    def __call__(self, value: str) -> None:
        """Refuse what does not match."""
        if not self._compiled.search(value):
            raise ValidationError(self.message)


class Lasts(validate.Validator):
    """A Go duration within bounds; `or_never` allows 0 besides."""

    def __init__(self, least: timedelta, most: timedelta | None = None, *, or_never: bool = False):
        self.least = least
        self.most = most
        self.or_never = or_never
        self.pattern = f"^(0|{DURATION_PATTERN})$" if or_never else f"^{DURATION_PATTERN}$"

    def __call__(self, value: str) -> None:
        """Refuse what is no duration, and what is out of bounds."""
        try:
            duration = parse_duration(value) if self.or_never or value != "0" else None
        except ValueError:
            duration = None
        if duration is None or not self._within(duration):
            raise ValidationError(self._words())

    def _within(self, duration: timedelta) -> bool:
        if self.or_never and not duration:
            return True
        return duration >= self.least and (self.most is None or duration <= self.most)

    def _words(self) -> str:
        bounds = f"of at least {format_duration(self.least)}"
        if self.most is not None:
            bounds = f"from {format_duration(self.least)} to {format_duration(self.most)}"
        # An example that is not too short itself.
        short = "90s" if self.least <= timedelta(seconds=90) else "24h"
        return f"must be a duration {bounds}, such as {short} or 1h30m" + (", or 0" if self.or_never else "")


class Distinct(validate.Validator):
    """No element twice."""

    def __call__(self, value: list[str]) -> None:
        """Refuse a repetition, and name it."""
        repeated = sorted({element for element in value if value.count(element) > 1})
        if repeated:
            raise ValidationError(f"has {', '.join(repeated)} more than once")


class KeysAre(validate.Validator):
    """Every key of a map matches; one sentence for all of them, as the API server has it."""

    def __init__(self, pattern: str, message: str):
        self.pattern = pattern
        self._each = Pattern(pattern, message)

    def __call__(self, value: Mapping[str, Any]) -> None:
        """Refuse the map if a key does not match."""
        for key in value:
            self._each(key)


class Within(validate.Range):
    """A number within inclusive bounds."""

    def __init__(self, least: int, most: int):
        super().__init__(least, most, error="must be from {min} to {max}")


class Sized(validate.Length):
    """A text, list or map within inclusive bounds."""

    def __init__(self, least: int | None = None, most: int | None = None, *, unit: str = "characters"):
        bounds = [f"at least {least}"] if least else []
        bounds += [f"at most {most}"] if most is not None else []
        super().__init__(least, most, error=f"must have {' and '.join(bounds)} {unit}")


def _words(invalid: str) -> dict[str, str | list[Any] | dict[Any, Any]]:
    """What a field says of a value that is missing, null or of the wrong type."""
    return {"required": "is required", "null": "is required", "invalid": invalid}


class Text(fields.String):
    """A string."""

    def __init__(self, **settings: Any):
        super().__init__(error_messages=_words("must be a string; put numbers and yes/no in quotes"), **settings)


class Choice(Text):
    """One of a few strings."""

    def __init__(self, *choices: str, **settings: Any):
        one_of = validate.OneOf(choices, error=f"must be one of {', '.join(choices)}")
        super().__init__(validate=[one_of], **settings)


class Number(fields.Integer):
    """An integer; neither a text nor a truth value."""

    def __init__(self, **settings: Any):
        super().__init__(error_messages=_words("must be an integer, without quotes"), **settings)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Flag(fields.Boolean):
    """true or false, and nothing that looks like it."""

    def __init__(self, **settings: Any):
        super().__init__(error_messages=_words("must be true or false, without quotes"), **settings)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Items(fields.List[Any]):
    """A list."""

    def __init__(self, inner: fields.Field[Any], **settings: Any):
        super().__init__(inner, error_messages=_words("must be a list"), **settings)


class Map(fields.Dict):
    """A map from texts to `values`."""

    def __init__(self, values: fields.Field[Any], **settings: Any):
        super().__init__(keys=Text(), values=values, error_messages=_words("must be a map"), **settings)


class Part(fields.Nested):
    """An object within the object."""

    def __init__(self, shape: type[Shape] | Shape, **settings: Any):
        super().__init__(shape, error_messages=_words("must be a map"), **settings)


class Shape(Schema):
    """An object whose fields are all known."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.error_messages = {**self.error_messages, "type": "must be a map"}

    def handle_error(self, error: ValidationError, data: Any, **_: Any) -> None:
        """Say of an unknown field which ones are known."""
        known = ", ".join(sorted(field.data_key or name for name, field in self.fields.items()))
        if isinstance(error.messages, dict):
            for name, messages in error.messages.items():
                if messages == [self.error_messages["unknown"]]:
                    error.messages[name] = [f"is not known here; known are {known}"]


def _together(rule: Callable[[Any, Json, Json], None]) -> Callable[..., None]:
    """Mark a rule on several fields; it gets those that are right in themselves, and all as they were written."""

    @wraps(rule)
    def judge(self: Schema, data: Json, written: Any, **_: Any) -> None:
        if isinstance(written, dict):
            rule(self, data, written)

    return validates_schema(judge, pass_original=True, skip_on_field_errors=False)


def _object_name(most: int = 253, **settings: Any) -> Text:
    words = "must be the name of an object: lower case letters, digits, '-' and '.'"
    return Text(validate=[Sized(1, most), Pattern(OBJECT_NAME, words)], **settings)


def _deletion_policy() -> Choice:
    return Choice("Delete", "Retain", data_key="deletionPolicy")


_PARAMETER_NAMES = KeysAre(
    PARAMETER_NAME,
    "names consist of letters, digits and underscores, begin with no digit, and have at most 63 characters",
)


class _Rotation(Shape):
    every = Text(required=True, validate=[Sized(most=32), Lasts(timedelta(hours=1))])


class _DatabaseSpec(Shape):
    endpoint = _object_name(63, required=True)
    params = Map(Text(validate=[Sized(most=_VALUE_LIMIT)]), validate=[Sized(most=64, unit="entries"), _PARAMETER_NAMES])
    deletion_policy = _deletion_policy()
    deletion_protection = Flag(data_key="deletionProtection")
    rotation = Part(_Rotation)

    @_together
    def _parameters_fit_together(self, data: Json, written: Json) -> None:
        if sum(map(len, data.get("params", {}).values())) > PARAMETERS_LIMIT:
            raise ValidationError(f"must have at most {PARAMETERS_LIMIT} characters together", "params")


class _Procedure(Shape):
    name = Text(required=True, validate=[Sized(1, 512), Pattern(PRINTABLE, "must have no control characters")])
    inputs = Map(
        Text(validate=[Sized(most=_VALUE_LIMIT)]),
        validate=[
            Sized(most=100, unit="entries"),
            KeysAre(INPUT_KEY, 'keys are argument names, of at most 128 characters, or positions ("0", "1", …)'),
        ],
    )
    timeout = Text(validate=[Sized(most=32), Lasts(timedelta(seconds=1), timedelta(hours=1))])


class _Operations(Shape):
    create = Part(_Procedure, required=True)
    rotate = Part(_Procedure)
    delete = Part(_Procedure)


class _ParameterRule(Shape):
    description = Text(validate=[Sized(most=4096)])
    required = Flag()
    default = Text(validate=[Sized(most=_VALUE_LIMIT)])
    enum = Items(Text(validate=[Sized(most=_VALUE_LIMIT)]), validate=[Sized(1, 256, unit="elements"), Distinct()])
    pattern = Text(validate=[Sized(1, 1024)])
    max_length = Number(data_key="maxLength", validate=[Within(0, _VALUE_LIMIT)])

    @_together
    def _default_is_allowed(self, data: Json, written: Json) -> None:
        default = data.get("default")
        if default is None:
            return
        if "enum" in data and default not in data["enum"]:
            raise ValidationError("is not among enum; add it there, or choose another default", "default")
        if len(default) > data.get("max_length", len(default)):
            raise ValidationError("is longer than maxLength", "default")


class _Retry(Shape):
    limit = Number(validate=[Within(0, 100)])
    backoff = Text(validate=[Sized(most=32), Lasts(timedelta(milliseconds=100), timedelta(hours=1))])


class _ClassSpec(Shape):
    driver = Choice(*Driver, required=True)
    operations = Part(_Operations, required=True)
    identity = Text(validate=[Sized(1, 4096)])
    secret_format = Map(
        Text(validate=[Sized(most=_VALUE_LIMIT)]),
        data_key="secretFormat",
        validate=[
            Sized(1, 64, unit="entries"),
            KeysAre(SECRET_KEY, "keys consist of letters, digits, '-', '_' and '.', and have at most 253 characters"),
        ],
    )
    credentials = Items(Text(validate=[Sized(1, 253)]), validate=[Sized(most=64, unit="elements"), Distinct()])
    params = Map(Part(_ParameterRule), validate=[Sized(most=64, unit="entries"), _PARAMETER_NAMES])
    deletion_policy = _deletion_policy()
    retry = Part(_Retry)

    @_together
    def _what_is_deleted_has_a_procedure(self, data: Json, written: Json) -> None:
        operations = written.get("operations")
        if data.get("deletion_policy") == "Delete" and isinstance(operations, Mapping) and "delete" not in operations:
            raise ValidationError("Delete needs spec.operations.delete; add it, or write Retain", "deletionPolicy")


class _SecretReference(Shape):
    name = _object_name(required=True)


class _Tls(Shape):
    mode = Choice("VerifyFull", "VerifyCA", "Disabled")
    ca_secret_ref = Part(_SecretReference, data_key="caSecretRef")
    ca_bundle = Text(
        data_key="caBundle",
        validate=[Sized(1, 131072), Pattern(CERTIFICATE, "must be certificates in PEM, not base64 of them")],
    )
    client_certificate_secret_ref = Part(_SecretReference, data_key="clientCertificateSecretRef")
    server_name = Text(data_key="serverName", validate=[Sized(1, 253), Pattern(SERVER_NAME, "must be a DNS name")])
    minimum_version = Choice("1.2", "1.3", data_key="minimumVersion")

    @_together
    def _one_authority(self, data: Json, written: Json) -> None:
        if "ca_secret_ref" in data and "ca_bundle" in data:
            raise ValidationError("set one of caSecretRef and caBundle, not both")


class _LabelRequirement(Shape):
    key = Text(required=True, validate=[Sized(1, 317)])
    operator = Choice("In", "NotIn", "Exists", "DoesNotExist", required=True)
    values = Items(Text(validate=[Sized(most=63)]), validate=[Sized(most=64, unit="elements")])

    @_together
    def _values_where_they_mean_something(self, data: Json, written: Json) -> None:
        if "operator" in data and (data["operator"] in ("In", "NotIn")) != bool(written.get("values")):
            raise ValidationError("values are needed with the operators In and NotIn, and only then")


class _LabelSelector(Shape):
    match_labels = Map(
        Text(validate=[Sized(most=63)]), data_key="matchLabels", validate=[Sized(most=64, unit="entries")]
    )
    match_expressions = Items(
        Part(_LabelRequirement), data_key="matchExpressions", validate=[Sized(most=64, unit="elements")]
    )


class _AllowedNamespaces(Shape):
    from_ = Choice("All", "Selector", data_key="from")
    selector = Part(_LabelSelector)

    @_together
    def _selector_where_it_selects(self, data: Json, written: Json) -> None:
        if (data.get("from_") == "Selector") != ("selector" in written):
            raise ValidationError("selector is needed with from Selector, and only then")


class _Probe(Shape):
    every = Text(validate=[Sized(most=32), Lasts(timedelta(seconds=1), or_never=True)])


class _EndpointSpec(Shape):
    class_name = _object_name(required=True, data_key="className")
    host = Text(
        required=True,
        validate=[
            Sized(1, 253),
            Pattern(HOST, "must be a DNS name or IP address, without scheme, port or path; the port goes to spec.port"),
        ],
    )
    port = Number(validate=[Within(1, 65535)])
    database = Text(validate=[Sized(1, 128), Pattern(PRINTABLE, "must have no control characters")])
    credentials_secret_ref = Part(_SecretReference, required=True, data_key="credentialsSecretRef")
    tls = Part(_Tls)
    allowed_namespaces = Part(_AllowedNamespaces, data_key="allowedNamespaces")
    max_concurrent_jobs = Number(data_key="maxConcurrentJobs", validate=[Within(1, 1000)])
    operations_per_minute = Number(data_key="operationsPerMinute", validate=[Within(0, 100000)])
    probe = Part(_Probe)


def _names(longest: int) -> Items:
    return Items(_object_name(longest), validate=[Sized(1, 64, unit="elements"), Distinct()])


def _subjects() -> Items:
    return Items(Text(validate=[Sized(1, 253)]), validate=[Sized(1, 64, unit="elements"), Distinct()])


class _Match(Shape):
    namespace_selector = Part(_LabelSelector, data_key="namespaceSelector")
    endpoints = _names(63)
    classes = _names(253)
    operations = Items(
        Choice("CREATE", "UPDATE", "ROTATE", "DELETE"), validate=[Sized(1, 4, unit="elements"), Distinct()]
    )
    users = _subjects()
    groups = _subjects()


class _PolicyParameter(Shape):
    enum = Items(Text(validate=[Sized(most=_VALUE_LIMIT)]), validate=[Sized(1, 256, unit="elements"), Distinct()])
    pattern = Text(validate=[Sized(1, 1024)])
    max_length = Number(data_key="maxLength", validate=[Within(0, _VALUE_LIMIT)])
    required = Flag()
    forbidden = Flag()
    default = Text(validate=[Sized(most=_VALUE_LIMIT)])


class _Quota(Shape):
    per_namespace = Number(data_key="perNamespace", validate=[Within(0, 1000000)])
    per_endpoint = Number(data_key="perEndpoint", validate=[Within(0, 1000000)])


class _MaximumAge(Shape):
    max_age = Text(required=True, data_key="maxAge", validate=[Sized(most=32), Lasts(timedelta(hours=1))])


class _Validation(Shape):
    expression = Text(required=True, validate=[Sized(1, 4096)])
    message = Text(validate=[Sized(1, 500), Pattern(PRINTABLE, "must be one line")])
    message_expression = Text(data_key="messageExpression", validate=[Sized(1, 4096)])
    field_path = Text(
        data_key="fieldPath",
        validate=[Sized(1, 253), Pattern(FIELD_PATH, "must begin with spec or metadata, such as spec.params.size")],
    )


class _PolicySpec(Shape):
    enforcement = Choice("Deny", "Warn", "Audit")
    match = Part(_Match)
    allowed_endpoints = Items(
        _object_name(63), data_key="allowedEndpoints", validate=[Sized(1, 256, unit="elements"), Distinct()]
    )
    params = Map(Part(_PolicyParameter), validate=[Sized(1, 64, unit="entries"), _PARAMETER_NAMES])
    quota = Part(_Quota)
    deletion_protection = Choice("Required", "RequireConfirmation", data_key="deletionProtection")
    rotation = Part(_MaximumAge)
    adoption = Choice("Forbidden", "Allowed")
    validations = Items(Part(_Validation), validate=[Sized(1, 32, unit="elements")])


SPECS: Mapping[str, type[Shape]] = {
    "Database": _DatabaseSpec,
    "DatabaseClass": _ClassSpec,
    "DatabaseEndpoint": _EndpointSpec,
    "DatabasePolicy": _PolicySpec,
}
"""The schema of each kind's `spec`."""

# Making a schema costs a millisecond, using it a few microseconds.
_PARTS = {kind: Part(shape()) for kind, shape in SPECS.items()}
_NAME_LIMITS = {"Database": 63, "DatabaseEndpoint": 63, "DatabasePolicy": 63, "DatabaseClass": 253}
"""The first two become values of labels."""
_BESIDE = {"apiVersion", "kind", "metadata"}
_WITH_STATUS = {"Database", "DatabaseEndpoint"}


def faults(kind: str, manifest: Json) -> list[Fault]:
    """Everything that the API server would refuse in a new object of `kind`, sorted by path; empty if it would not.

    What is in `status` and in the rest of `metadata` is not looked at. Raises ValueError for a kind that users do not
    write.
    """
    if kind not in SPECS:
        raise ValueError(f"{kind} is not a kind that users write; those are {', '.join(SPECS)}")
    found = []
    if manifest.get("apiVersion", API_VERSION) != API_VERSION:
        found.append(Fault("apiVersion", f"must be {API_VERSION}"))
    if manifest.get("kind", kind) != kind:
        found.append(Fault("kind", f"must be {kind}"))
    known = _BESIDE | {"spec"} | ({"status"} if kind in _WITH_STATUS else set())
    for field in sorted(manifest.keys() - known):
        found.append(Fault(field, f"is not known here; known are {', '.join(sorted(known))}"))
    name = (manifest.get("metadata") or {}).get("name") or ""
    if len(name) > _NAME_LIMITS[kind]:
        found.append(Fault("metadata.name", f"must have at most {_NAME_LIMITS[kind]} characters"))
    if manifest.get("spec") is None:
        found.append(Fault("spec", "is required"))
    else:
        part = _PARTS[kind]
        found += _flat("spec", part, part.schema.validate(_without_nulls(part, manifest["spec"])))
    return sorted(found)


def without_nulls(kind: str, manifest: Json) -> Json:
    """`manifest` without the nulls in its spec that the API server drops before anybody else sees it."""
    spec = manifest.get("spec")
    return manifest if spec is None else {**manifest, "spec": _without_nulls(_PARTS[kind], spec)}


def _without_nulls(field: AnyField, value: Any) -> Any:
    # The API server drops the nulls of fields that it knows, before it looks at anything else.
    if isinstance(field, Part) and isinstance(value, Mapping):
        known = _children(field)
        return {k: _without_nulls(known.get(k), v) for k, v in value.items() if v is not None or k not in known}
    if isinstance(field, Map) and isinstance(value, Mapping):
        return {k: _without_nulls(field.value_field, v) for k, v in value.items() if v is not None}
    if isinstance(field, Items) and isinstance(value, list):
        return [_without_nulls(field.inner, element) for element in value]
    return value


def _flat(path: str, field: AnyField, messages: Any) -> Iterator[Fault]:
    """One fault per message of marshmallow's tree, each with its path."""
    if not isinstance(messages, Mapping):
        for message in messages if isinstance(messages, list) else [messages]:
            yield Fault(path, str(message))
        return
    for key, inner in messages.items():
        if key == "_schema":
            yield from _flat(path, None, inner)
        elif isinstance(field, Map):
            yield from _flat(f"{path}.{key}", field.value_field, inner.get("value", inner.get("key")))
        elif isinstance(field, Items):
            yield from _flat(f"{path}[{key}]", field.inner, inner)
        else:
            child = _children(field).get(key) if isinstance(field, Part) else None
            yield from _flat(f"{path}.{key}", child, inner)


def _children(part: Part) -> dict[str, fields.Field[Any]]:
    return {child.data_key or name: child for name, child in part.schema.fields.items()}
