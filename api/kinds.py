"""The kinds as Python values, read from manifests that the API server has validated.

Parsing is tolerant of what is absent and never judges: `api/schemas.py` reports faults, the webhook decides.
Values are frozen and compact, because the controller holds tens of thousands of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from api.durations import parse_duration
from api.engines import Driver
from api.operation import Call

Manifest = Mapping[str, Any]
DeletionPolicy = Literal["Delete", "Retain"]
OperationType = Literal["create", "delete", "rotate"]
TlsMode = Literal["VerifyFull", "VerifyCA", "Disabled"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


def parse_time(text: str | None) -> datetime | None:
    """Read an RFC 3339 time as the API server writes it; None stays None."""
    return None if text is None else datetime.fromisoformat(text)


def conditions_of(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """An object's conditions by their type (Kubernetes API conventions: each type once)."""
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What every object has; a dry-run or generateName object may lack name and uid ("" then)."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    created_at: datetime | None = None
    deleted_at: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    owners: tuple[Manifest, ...] = ()
    """`ownerReferences`."""

    @classmethod
    def parse(cls, manifest: Manifest) -> Metadata:
        """Read `metadata` of any object."""
        metadata = manifest.get("metadata", NOTHING)
        return cls(
            name=metadata.get("name", ""),
            namespace=metadata.get("namespace", ""),
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 0),
            resource_version=metadata.get("resourceVersion", ""),
            created_at=parse_time(metadata.get("creationTimestamp")),
            deleted_at=parse_time(metadata.get("deletionTimestamp")),
            labels=metadata.get("labels") or NOTHING,
            annotations=metadata.get("annotations") or NOTHING,
            finalizers=tuple(metadata.get("finalizers") or ()),
            generate_name=metadata.get("generateName", ""),
            owners=tuple(metadata.get("ownerReferences") or ()),
        )

    @property
    def terminating(self) -> bool:
        """Whether its deletion was asked for."""
        return self.deleted_at is not None


@dataclass(frozen=True, slots=True)
class Database:
    """A request for a database: what a user writes."""

    metadata: Metadata
    endpoint: str
    params: Mapping[str, str]
    deletion_policy: DeletionPolicy | None
    deletion_protection: bool
    rotate_every: timedelta | None
    status: Manifest
    spec: Manifest
    """As it was written, which is what policies judge."""

    @classmethod
    def parse(cls, manifest: Manifest) -> Database:
        """Read a Database manifest."""
        spec = manifest.get("spec", NOTHING)
        every = (spec.get("rotation") or NOTHING).get("every")
        return cls(
            metadata=Metadata.parse(manifest),
            endpoint=spec.get("endpoint", ""),
            params=spec.get("params") or NOTHING,
            deletion_policy=spec.get("deletionPolicy"),
            deletion_protection=bool(spec.get("deletionProtection", False)),
            rotate_every=None if every is None else parse_duration(every),
            status=manifest.get("status") or NOTHING,
            spec=spec,
        )


@dataclass(frozen=True, slots=True)
class ProcedureTemplate:
    """One of a class's operations: a stored procedure, its input templates by key, and its time limit."""

    name: str
    inputs: Mapping[str, str]
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class ParameterRule:
    """What a class demands of one parameter."""

    description: str = ""
    required: bool = True
    default: str | None = None
    enum: tuple[str, ...] = ()
    pattern: str | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How a failing procedure is tried again: `limit` times with growing `backoff`, then slowly."""

    limit: int = 5
    backoff: timedelta = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class DatabaseClass:
    """How databases of one sort are made: which procedures with which inputs."""

    metadata: Metadata
    driver: Driver
    operations: Mapping[str, ProcedureTemplate]
    identity: str | None
    secret_format: Mapping[str, str] | None
    credentials: tuple[str, ...]
    params: Mapping[str, ParameterRule] | None
    deletion_policy: DeletionPolicy | None
    retry: RetryRule

    @classmethod
    def parse(cls, manifest: Manifest) -> DatabaseClass:
        """Read a DatabaseClass manifest."""
        spec = manifest["spec"]
        retry = spec.get("retry") or NOTHING
        params = spec.get("params")
        return cls(
            metadata=Metadata.parse(manifest),
            driver=Driver(spec["driver"]),
            operations={
                name: ProcedureTemplate(
                    name=operation["name"],
                    inputs=operation.get("inputs") or NOTHING,
                    timeout=parse_duration(operation.get("timeout", "60s")),
                )
                for name, operation in spec["operations"].items()
            },
            identity=spec.get("identity"),
            secret_format=spec.get("secretFormat"),
            credentials=tuple(spec.get("credentials", ("password",))),
            params=None
            if params is None
            else {
                name: ParameterRule(
                    description=rule.get("description", ""),
                    required=rule.get("required", True),
                    default=rule.get("default"),
                    enum=tuple(rule.get("enum", ())),
                    pattern=rule.get("pattern"),
                    max_length=rule.get("maxLength"),
                )
                for name, rule in params.items()
            },
            deletion_policy=spec.get("deletionPolicy"),
            retry=RetryRule(limit=retry.get("limit", 5), backoff=parse_duration(retry.get("backoff", "5s"))),
        )

    def effective_deletion_policy(self, database: Database) -> DeletionPolicy:
        """The database's policy, else the class's, else Delete where the class can delete."""
        own = database.deletion_policy or self.deletion_policy
        return own or ("Delete" if "delete" in self.operations else "Retain")


@dataclass(frozen=True, slots=True)
class Tls:
    """An endpoint's transport security; Secret references are names in the operator's namespace."""

    mode: TlsMode = "VerifyFull"
    ca_secret: str | None = None
    ca_bundle: str | None = None
    """PEM."""
    client_certificate_secret: str | None = None
    server_name: str | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    @classmethod
    def parse(cls, tls: Manifest) -> Tls:
        """Read `spec.tls` of an endpoint."""
        return cls(
            mode=tls.get("mode", "VerifyFull"),
            ca_secret=(tls.get("caSecretRef") or NOTHING).get("name"),
            ca_bundle=tls.get("caBundle"),
            client_certificate_secret=(tls.get("clientCertificateSecretRef") or NOTHING).get("name"),
            server_name=tls.get("serverName"),
            minimum_version=tls.get("minimumVersion", "1.2"),
        )


@dataclass(frozen=True, slots=True)
class LabelSelectorRequirement:
    """One of `matchExpressions`; operator In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` satisfy it (apimachinery's semantics: NotIn holds where the key is absent)."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels
        return False


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A Kubernetes label selector; the empty one matches everything."""

    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()

    @classmethod
    def parse(cls, selector: Manifest) -> LabelSelector:
        """Read a `LabelSelector`."""
        return cls(
            match_labels=selector.get("matchLabels") or NOTHING,
            match_expressions=tuple(
                LabelSelectorRequirement(e["key"], e["operator"], tuple(e.get("values") or ()))
                for e in selector.get("matchExpressions") or ()
            ),
        )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether every term holds for `labels`."""
        labelled = self.match_labels.items() <= labels.items()
        return labelled and all(requirement.matches(labels) for requirement in self.match_expressions)


@dataclass(frozen=True, slots=True)
class DatabaseEndpoint:
    """One database server as the operator may use it."""

    metadata: Metadata
    class_name: str
    host: str
    port: int | None
    database: str | None
    credentials_secret: str
    tls: Tls
    allowed_namespaces: LabelSelector
    max_concurrent_jobs: int
    operations_per_minute: int
    probe_every: timedelta
    status: Manifest

    @classmethod
    def parse(cls, manifest: Manifest) -> DatabaseEndpoint:
        """Read a DatabaseEndpoint manifest."""
        spec = manifest["spec"]
        allowed = spec.get("allowedNamespaces") or NOTHING
        return cls(
            metadata=Metadata.parse(manifest),
            class_name=spec["className"],
            host=spec["host"],
            port=spec.get("port"),
            database=spec.get("database"),
            credentials_secret=spec["credentialsSecretRef"]["name"],
            tls=Tls.parse(spec.get("tls") or NOTHING),
            allowed_namespaces=LabelSelector.parse(
                allowed.get("selector") or NOTHING if allowed.get("from") == "Selector" else NOTHING
            ),
            max_concurrent_jobs=spec.get("maxConcurrentJobs", 5),
            operations_per_minute=spec.get("operationsPerMinute", 0),
            probe_every=parse_duration((spec.get("probe") or NOTHING).get("every", "10m")),
            status=manifest.get("status") or NOTHING,
        )

    @property
    def secret_names(self) -> tuple[str, ...]:
        """Every Secret of the operator's namespace that a connection needs."""
        names = (self.credentials_secret, self.tls.ca_secret, self.tls.client_certificate_secret)
        return tuple(name for name in names if name)


@dataclass(frozen=True, slots=True)
class Claim:
    """Which Database holds an instance."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DatabaseInstance:
    """The durable claim on one database of one server, with every operation's inputs as first rendered."""

    metadata: Metadata
    endpoint: str
    class_name: str
    class_generation: int
    driver: Driver
    claim: Claim | None
    identity: str
    deletion_policy: DeletionPolicy
    calls: Mapping[str, Call]
    """By operation type; what was rendered when the claim was made."""
    phase: str

    @classmethod
    def parse(cls, manifest: Manifest) -> DatabaseInstance:
        """Read a DatabaseInstance manifest."""
        spec = manifest["spec"]
        claim = spec.get("claimRef")
        return cls(
            metadata=Metadata.parse(manifest),
            endpoint=spec["endpoint"],
            class_name=spec["className"],
            class_generation=spec.get("classGeneration", 0),
            driver=Driver(spec["driver"]),
            claim=None if claim is None else Claim(claim["namespace"], claim["name"], claim["uid"]),
            identity=spec["identity"],
            deletion_policy=spec["deletionPolicy"],
            calls={kind: Call.parse(call) for kind, call in spec["operations"].items()},
            phase=(manifest.get("status") or NOTHING).get("phase", "Pending"),
        )
