"""What checks may look up: other objects as of a moment ago. An interface, and the slim values that it gives."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from api.kinds import DatabaseClass, DatabaseEndpoint, Manifest, Metadata
from policy.rules import DatabasePolicy


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace: its labels, and whether it is going away."""

    metadata: Metadata

    @classmethod
    def parse(cls, manifest: Manifest) -> Namespace:
        """Read a Namespace manifest."""
        metadata = Metadata.parse(manifest)
        return cls(
            Metadata(
                name=metadata.name,
                resource_version=metadata.resource_version,
                deleted_at=metadata.deleted_at,
                labels=metadata.labels,
            )
        )


@dataclass(frozen=True, slots=True)
class Use:
    """A Database, as far as it keeps its endpoint in use. There may be tens of thousands."""

    metadata: Metadata
    endpoint: str

    @classmethod
    def parse(cls, manifest: Manifest) -> Use:
        """Read a Database manifest."""
        endpoint = manifest.get("spec", {}).get("endpoint", "")
        return cls(_slim(manifest), sys.intern(endpoint))

    def __str__(self) -> str:
        return f"Database {self.metadata.namespace}/{self.metadata.name}"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A DatabaseInstance, as far as it keeps its identity, its endpoint and its class in use."""

    metadata: Metadata
    endpoint: str
    class_name: str
    claim: tuple[str, str] | None
    """(namespace, name) of the Database that holds it; None once an administrator has released it."""

    @classmethod
    def parse(cls, manifest: Manifest) -> Claimed:
        """Read a DatabaseInstance manifest."""
        spec: dict[str, Any] = manifest.get("spec", {})
        claim = spec.get("claimRef")
        return cls(
            metadata=_slim(manifest),
            endpoint=sys.intern(spec.get("endpoint", "")),
            class_name=sys.intern(spec.get("className", "")),
            claim=None if claim is None else (sys.intern(claim["namespace"]), claim["name"]),
        )

    def __str__(self) -> str:
        holder = "" if self.claim is None else f" (claimed by {self.claim[0]}/{self.claim[1]})"
        return f"DatabaseInstance {self.metadata.name}{holder}"


class World(Protocol):
    """Reads only. A method raises `kube.errors.KubeError` when it had to ask the API server and got no answer."""

    def endpoint(self, name: str) -> DatabaseEndpoint | None:
        """The endpoint of this name; None when there is none, which was asked live."""

    def endpoints(self) -> Iterable[DatabaseEndpoint]:
        """All endpoints."""

    def database_class(self, name: str) -> DatabaseClass | None:
        """The class of this name; None when there is none, which was asked live."""

    def namespace(self, name: str) -> Namespace | None:
        """The namespace of this name; None when there is none, which was asked live."""

    def namespace_now(self, name: str) -> Namespace | None:
        """The namespace as it is at this moment: asked live."""

    def instance(self, name: str) -> Claimed | None:
        """The instance of this name, if there is one."""

    def policies(self) -> Sequence[DatabasePolicy]:
        """All policies."""

    def databases_in(self, namespace: str) -> Iterable[Use]:
        """The Databases of a namespace."""

    def databases_on(self, endpoint: str) -> Iterable[Use]:
        """The Databases on an endpoint."""

    def users_of_endpoint(self, name: str) -> Iterable[Use | Claimed]:
        """Databases and instances on this endpoint."""

    def users_of_class(self, name: str) -> Iterable[DatabaseEndpoint | Claimed]:
        """Endpoints and instances of this class."""


def _slim(manifest: Manifest) -> Metadata:
    metadata = manifest.get("metadata", {})
    return Metadata(
        name=metadata.get("name", ""),
        namespace=sys.intern(metadata.get("namespace", "")),
        resource_version=metadata.get("resourceVersion", ""),
    )
