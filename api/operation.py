"""What controller and Job say to each other: the Operation's spec one way, its report the other.

Both sides read and write it here and nowhere else; what does not have the agreed shape is refused with its path.
Kept on the standard library alone: every Job pays for this import.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from api.durations import format_duration, parse_duration
from api.reasons import Reason
from api.stamp import Stamp
from api.templates import Reference, Segment, Template, TemplateError

CONTRACT_VERSION = 1
"""`spec.version`: a Job refuses a version that it does not know."""

T = TypeVar("T")


class InvalidOperation(ValueError):
    """An Operation, or a part of one, that does not have the agreed shape; the message begins with its path."""


def _get(data: Any, key: str, kind: type[T], default: T | None = None) -> T:
    if not isinstance(data, Mapping):
        raise InvalidOperation(f"{key}: its parent is not an object")
    value = data.get(key, default)
    # bool is an int in Python, not in JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidOperation(f"{key}: expected {kind.__name__}, got {type(value).__name__}")
    return value


def _segment(data: Any) -> Segment:
    if not isinstance(data, Mapping) or "expression" not in data:
        return _get(data, "text", str)
    try:
        return Reference.parse(_get(data, "expression", str))
    except TemplateError as error:
        raise InvalidOperation(f"expression: {error}") from None


def _duration(data: Any, key: str) -> timedelta:
    try:
        return parse_duration(_get(data, key, str))
    except InvalidOperation:
        raise
    except ValueError as error:
        raise InvalidOperation(f"{key}: {error}") from None


class Text(NamedTuple):
    """A named text: an argument, or a key of the Secret. What only the Job can know is still a reference in it."""

    name: str
    template: Template

    def manifest(self) -> dict[str, Any]:
        """`{name, value}`, or `{name, segments}` while references are open."""
        literal = self.template.literal
        if literal is not None:
            return {"name": self.name, "value": literal}
        return {
            "name": self.name,
            "segments": [
                {"expression": str(segment)} if isinstance(segment, Reference) else {"text": segment}
                for segment in self.template.segments
            ],
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Text:
        """The inverse of `manifest`."""
        name = _get(data, "name", str)
        if "segments" not in data:
            return cls(name, Template((_get(data, "value", str),)))
        return cls(name, Template(tuple(_segment(segment) for segment in _get(data, "segments", list))))


class Call(NamedTuple):
    """One stored procedure call. Arguments named "0", "1", … are positional."""

    procedure: str
    arguments: tuple[Text, ...]
    timeout: timedelta

    def manifest(self) -> dict[str, Any]:
        """The form that instances and Operations carry."""
        return {
            "procedure": self.procedure,
            "arguments": [argument.manifest() for argument in self.arguments],
            "timeout": format_duration(self.timeout),
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Call:
        """The inverse of `manifest`."""
        return cls(
            procedure=_get(data, "procedure", str),
            arguments=tuple(Text.parse(argument) for argument in _get(data, "arguments", list, [])),
            timeout=_duration(data, "timeout"),
        )


class Server(NamedTuple):
    """Where to connect and what to demand of the connection; key material is mounted, never here."""

    endpoint: str
    host: str
    port: int
    database: str
    tls_mode: str = "VerifyFull"
    server_name: str = ""
    """The name that the certificate must carry when it is not `host`."""
    minimum_tls_version: str = "1.2"
    ca_bundle: str = ""
    """PEM; empty: the mounted CA file, else the image's public CAs."""

    def manifest(self) -> dict[str, Any]:
        """`spec.server` of an Operation."""
        tls = {"mode": self.tls_mode, "minimumVersion": self.minimum_tls_version}
        if self.server_name:
            tls["serverName"] = self.server_name
        if self.ca_bundle:
            tls["caBundle"] = self.ca_bundle
        return {
            "endpoint": self.endpoint,
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "tls": tls,
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Server:
        """The inverse of `manifest`."""
        tls = _get(data, "tls", dict)
        return cls(
            endpoint=_get(data, "endpoint", str),
            host=_get(data, "host", str),
            port=_get(data, "port", int),
            database=_get(data, "database", str, ""),
            tls_mode=_get(tls, "mode", str),
            server_name=_get(tls, "serverName", str, ""),
            minimum_tls_version=_get(tls, "minimumVersion", str),
            ca_bundle=_get(tls, "caBundle", str, ""),
        )


class Owner(NamedTuple):
    """The Role beside the Secret through which the controller looks after it; deleted, it takes the Secret along.

    Not the Database: whether a Secret outlives it is decided when it goes, and by then owner references cannot be
    changed without the right to delete the Secret.
    """

    name: str
    uid: str


class SecretTarget(NamedTuple):
    """The one Secret that a create or rotate writes, in the Database's namespace."""

    name: str
    type: str
    """`servicebinding.io/<engine>`."""
    format: tuple[Text, ...] | None
    """Key templates; None: every result key passes through."""
    credentials: tuple[str, ...]
    """Result keys that must not get lost."""
    owner: Owner
    """What the Secret goes away with."""
    former_uid: str = ""
    """The uid of the Database whose retained Secret may be taken over."""
    returned: tuple[str, ...] = ()
    """Those of `credentials` that procedures have returned for this claim before."""

    def manifest(self) -> dict[str, Any]:
        """`spec.secret` of an Operation."""
        manifest: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "credentials": list(self.credentials),
            "owner": {"name": self.owner.name, "uid": self.owner.uid},
        }
        if self.former_uid:
            manifest["formerUID"] = self.former_uid
        if self.returned:
            manifest["returned"] = list(self.returned)
        if self.format is not None:
            manifest["format"] = [text.manifest() for text in self.format]
        return manifest

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> SecretTarget:
        """The inverse of `manifest`."""
        owner = _get(data, "owner", dict)
        return cls(
            name=_get(data, "name", str),
            type=_get(data, "type", str),
            format=tuple(Text.parse(text) for text in _get(data, "format", list)) if "format" in data else None,
            credentials=tuple(_get(data, "credentials", list, [])),
            owner=Owner(_get(owner, "name", str), _get(owner, "uid", str)),
            former_uid=_get(data, "formerUID", str, ""),
            returned=tuple(_get(data, "returned", list, [])),
        )


class DatabaseReference(NamedTuple):
    """The Database that an Operation serves."""

    namespace: str
    name: str
    uid: str


class OperationSpec(NamedTuple):
    """One request, one attempt: everything a Job may know, and no secret among it."""

    type: str
    """`create`, `rotate` or `delete`."""
    sequence: int
    """Counts the requests on one instance, from 1."""
    attempt: int
    """Counts the Jobs of one request, from 1."""
    database: DatabaseReference
    instance: str
    instance_uid: str
    identity: str
    """Names the database on its server; the Job locks it there."""
    class_name: str
    driver: str
    server: Server
    calls: tuple[Call, ...]
    """In order; a rotate calls `rotate`, then `create`. Results are merged, later and non-empty ones win."""
    secret: SecretTarget | None
    """None for a delete."""
    requested_by: str
    """The user of the stamp; "" when nobody could be stamped."""
    basis: str
    """A digest of what the request rests on (class, endpoint, Secrets): while it stays, a stalled request waits."""
    generated: bool = False
    """Whether a generated password is mounted."""
    request: str = ""
    """What asked for it beyond the Database's existence: see `api.requests`."""
    recoverable: bool = False
    """Whether credentials that the server does not tell again may be reset: the database is this claim's own."""
    stamp: Stamp = Stamp()
    """What admission took down of who asked, and when."""

    @property
    def id(self) -> str:
        """`{{ .Operation.id }}`: the same for every attempt, so that a procedure can recognise a repetition."""
        return f"{self.instance}-{self.sequence}"

    @property
    def timeout(self) -> timedelta:
        """What the calls may take together."""
        return sum((call.timeout for call in self.calls), timedelta())

    def manifest(self) -> dict[str, Any]:
        """`spec` of an Operation."""
        manifest: dict[str, Any] = {
            "version": CONTRACT_VERSION,
            "type": self.type,
            "sequence": self.sequence,
            "attempt": self.attempt,
            "databaseRef": {
                "namespace": self.database.namespace,
                "name": self.database.name,
                "uid": self.database.uid,
            },
            "instanceRef": {"name": self.instance, "uid": self.instance_uid},
            "identity": self.identity,
            "className": self.class_name,
            "driver": self.driver,
            "server": self.server.manifest(),
            "calls": [call.manifest() for call in self.calls],
            "requestedBy": self.requested_by,
            "basis": self.basis,
            "generated": self.generated,
            "request": self.request,
            "recoverable": self.recoverable,
        }
        if self.secret is not None:
            manifest["secret"] = self.secret.manifest()
        if stamp := self.stamp.manifest():
            manifest["stamp"] = stamp
        return manifest

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> OperationSpec:
        """Read `spec`; raises InvalidOperation for another version or shape."""
        version = _get(data, "version", int)
        if version != CONTRACT_VERSION:
            raise InvalidOperation(
                f"version: {version} is not {CONTRACT_VERSION}; controller and Job images are of different releases"
            )
        database = _get(data, "databaseRef", dict)
        instance = _get(data, "instanceRef", dict)
        return cls(
            type=_get(data, "type", str),
            sequence=_get(data, "sequence", int),
            attempt=_get(data, "attempt", int),
            database=DatabaseReference(
                _get(database, "namespace", str), _get(database, "name", str), _get(database, "uid", str)
            ),
            instance=_get(instance, "name", str),
            instance_uid=_get(instance, "uid", str),
            identity=_get(data, "identity", str),
            class_name=_get(data, "className", str),
            driver=_get(data, "driver", str),
            server=Server.parse(_get(data, "server", dict)),
            calls=tuple(Call.parse(call) for call in _get(data, "calls", list)),
            secret=SecretTarget.parse(_get(data, "secret", dict)) if "secret" in data else None,
            requested_by=_get(data, "requestedBy", str),
            basis=_get(data, "basis", str),
            generated=_get(data, "generated", bool, default=False),
            request=_get(data, "request", str, ""),
            recoverable=_get(data, "recoverable", bool, default=False),
            stamp=Stamp.parse(_get(data, "stamp", dict, {})),
        )


def operation_name(instance: str, sequence: int, attempt: int) -> str:
    """The name of an Operation, its Job and its ServiceAccount; creating it takes the turn."""
    return f"{instance}-{sequence}-{attempt}"


class Connection(NamedTuple):
    """What a connection turned out to be, for the auditor."""

    server_version: str = ""
    tls_version: str = ""
    """"" means that the connection was not encrypted."""
    cipher: str = ""
    peer_certificate_sha256: str = ""
    peer_certificate_not_after: str = ""
    """RFC 3339."""

    def manifest(self) -> dict[str, str]:
        """`status.connection`; unknown facts are absent."""
        facts = {
            "serverVersion": self.server_version,
            "tlsVersion": self.tls_version,
            "cipher": self.cipher,
            "peerCertificateSHA256": self.peer_certificate_sha256,
            "peerCertificateNotAfter": self.peer_certificate_not_after,
        }
        return {key: value for key, value in facts.items() if value}


class Report(NamedTuple):
    """`status` of an Operation: written once, by its Job, or by the controller for a Job that died without a word."""

    reason: Reason
    message: str
    started_at: str
    """RFC 3339, as is `finished_at`."""
    finished_at: str
    called: bool
    """Whether a procedure call had begun: its effect must be reckoned with."""
    reported_by: str
    """`Job` or `Controller`."""
    connection: Connection = Connection()
    result_keys: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        """`status` of an Operation."""
        manifest: dict[str, Any] = {
            "outcome": self.reason.outcome.value,
            "reason": self.reason.value,
            "message": self.message[:MESSAGE_LIMIT],
            "startedAt": self.started_at,
            "finishedAt": self.finished_at,
            "called": self.called,
            "reportedBy": self.reported_by,
        }
        if connection := self.connection.manifest():
            manifest["connection"] = connection
        if self.result_keys:
            manifest["resultKeys"] = list(self.result_keys)
        return manifest


MESSAGE_LIMIT = 2048
"""Characters of a report's message; the CRD holds the same bound."""
