"""What policies are held against: one request, and what surrounds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from api.durations import format_duration
from api.kinds import DatabaseClass, DatabaseEndpoint, Manifest


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


_BULK = "kubectl.kubernetes.io/last-applied-configuration"


def _lean(manifest: Manifest) -> dict[str, Any]:
    """Without what says nothing of the Database and may be large."""
    if not manifest:
        return {}
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    annotations = metadata.get("annotations") or {}
    if _BULK in annotations:
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != _BULK}
    return {**manifest, "metadata": metadata}


def _class(cls: DatabaseClass) -> dict[str, Any]:
    operations = {
        name: {"name": procedure.name, "timeout": format_duration(procedure.timeout)}
        for name, procedure in cls.operations.items()
    }
    policy = {"deletionPolicy": cls.deletion_policy} if cls.deletion_policy else {}
    return {
        "metadata": {"name": cls.metadata.name, "labels": dict(cls.metadata.labels)},
        "spec": {"driver": cls.driver.value, "operations": operations, **policy},
    }


def _endpoint(endpoint: DatabaseEndpoint) -> dict[str, Any]:
    return {
        "metadata": {"name": endpoint.metadata.name, "labels": dict(endpoint.metadata.labels)},
        "spec": {
            "className": endpoint.class_name,
            "host": endpoint.host,
            "tls": {"mode": endpoint.tls.mode, "minimumVersion": endpoint.tls.minimum_version},
            "maxConcurrentJobs": endpoint.max_concurrent_jobs,
        },
    }
