"""What policies are held against: one request, and what surrounds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from api.durations import format_duration
from api.kinds import DatabaseClass, DatabaseEndpoint, Manifest, Metadata, ParameterRule
from api.labels import LAST_APPLIED


@dataclass(frozen=True, slots=True)
class Peer:
    """Another Database, or several alike, as far as a quota counts them."""

    labels: Mapping[str, str]
    """Of its namespace."""
    endpoint: str
    class_name: str
    count: int = 1


class Usage(Protocol):
    """The other Databases that take up room."""

    def in_namespace(self) -> Iterable[Peer]:
        """Those of the request's namespace."""

    def on_endpoint(self) -> Iterable[Peer]:
        """Those on the request's endpoint."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request about one Database."""

    operations: frozenset[str]
    """CREATE, UPDATE or DELETE; with an UPDATE also ROTATE, if it asks for a rotation."""
    name: str
    namespace: str
    user: str
    groups: tuple[str, ...]
    dry_run: bool
    object: Manifest
    """Empty for DELETE."""
    old: Manifest
    """Empty for CREATE."""
    labels: Mapping[str, str]
    """Of the namespace."""
    endpoint: DatabaseEndpoint | None
    cls: DatabaseClass | None
    usage: Usage

    @property
    def operation(self) -> str:
        """What the API server calls it."""
        (name,) = self.operations - {"ROTATE"}
        return name

    def variables(self, object_: Manifest, *, counted: bool) -> dict[str, Any]:
        """The values of CEL's variables, with `object_` for the object; `usage` is null unless `counted`."""
        return {
            "object": _lean(object_) or None,
            "oldObject": _lean(self.old) or None,
            "request": {
                "operation": self.operation,
                "name": self.name,
                "namespace": self.namespace,
                "dryRun": self.dry_run,
                "userInfo": {"username": self.user, "groups": list(self.groups)},
            },
            "namespaceObject": {"metadata": {"name": self.namespace, "labels": dict(self.labels)}},
            "class": None if self.cls is None else _class(self.cls),
            "endpoint": None if self.endpoint is None else _endpoint(self.endpoint),
            "usage": {
                "namespace": sum(peer.count for peer in self.usage.in_namespace()),
                "endpoint": sum(peer.count for peer in self.usage.on_endpoint()),
            }
            if counted
            else None,
        }


def _lean(manifest: Manifest) -> dict[str, Any]:
    """Without what says nothing of the Database and may be large."""
    if not manifest:
        return {}
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    annotations = metadata.get("annotations") or {}
    if LAST_APPLIED in annotations:
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return {**manifest, "metadata": metadata}


def _class(cls: DatabaseClass) -> dict[str, Any]:
    """A class without its templates, which may be large."""
    operations = {
        name: {"name": procedure.name, "timeout": format_duration(procedure.timeout)}
        for name, procedure in cls.operations.items()
    }
    params = None if cls.params is None else {name: _parameter(rule) for name, rule in cls.params.items()}
    return {
        "metadata": _metadata(cls.metadata),
        "spec": {
            "driver": cls.driver.value,
            "operations": operations,
            "credentials": list(cls.credentials),
            **_given(params=params, deletionPolicy=cls.deletion_policy),
        },
    }


def _parameter(rule: ParameterRule) -> dict[str, Any]:
    optional = {
        "default": rule.default,
        "enum": rule.enum or None,
        "pattern": rule.pattern,
        "maxLength": rule.max_length,
    }
    return {"required": rule.required, **_given(**optional)}


def _endpoint(endpoint: DatabaseEndpoint) -> dict[str, Any]:
    tls = endpoint.tls
    return {
        "metadata": _metadata(endpoint.metadata),
        "spec": {
            "className": endpoint.class_name,
            "host": endpoint.host,
            **_given(port=endpoint.port, database=endpoint.database),
            "credentialsSecretRef": {"name": endpoint.credentials_secret},
            "tls": {
                "mode": tls.mode,
                "minimumVersion": tls.minimum_version,
                **_given(serverName=tls.server_name),
            },
            "maxConcurrentJobs": endpoint.max_concurrent_jobs,
            "operationsPerMinute": endpoint.operations_per_minute,
        },
    }


def _metadata(metadata: Metadata) -> dict[str, Any]:
    annotations = {key: value for key, value in metadata.annotations.items() if key != LAST_APPLIED}
    return {"name": metadata.name, "labels": dict(metadata.labels), "annotations": annotations}


def _given(**fields: Any) -> dict[str, Any]:
    """What an optional field is, if it is anything: expressions ask `has()`."""
    return {name: value for name, value in fields.items() if value is not None}
