"""A Database as its API server tells of it: the object, its Secret, its record, and what was made for it.

Knows Kubernetes alone; what came of it on its server, others know.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from api.binding import secret_name
from api.labels import LABEL_DATABASE, LABEL_DATABASE_NAMESPACE
from api.resources import (
    DATABASES,
    INSTANCES,
    JOBS,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from kube.client import Client, Object
from kube.errors import NotFound
from tests.e2e.cluster import OPERATOR, PATIENCE, eventually


@dataclass(frozen=True)
class Order:
    """A Database that somebody applied, or will."""

    client: Client = field(repr=False)
    namespace: str
    name: str

    @property
    def secret_name(self) -> str:
        """Its Secret."""
        return secret_name(self.name)

    # What the API server says of it.

    def get(self) -> Object | None:
        """The object; None once it is gone."""
        return self._read(DATABASES, self.name)

    @property
    def status(self) -> dict[str, Any]:
        """Its status; empty before there is one, and once it is gone."""
        return (self.get() or {}).get("status") or {}

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        """One of its conditions; empty while it has none of that type."""
        return next((c for c in self.status.get("conditions") or () if c["type"] == kind), {})

    def secret(self) -> dict[str, str] | None:
        """Its Secret's data, decoded; None if there is none."""
        secret = self._read(SECRETS, self.secret_name)
        if secret is None:
            return None
        return {key: b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}

    def operations(self) -> list[Object]:
        """Its Operations, oldest first."""
        found = self._find(OPERATIONS, OPERATOR)
        return sorted(found, key=lambda each: (each["spec"]["sequence"], each["spec"]["attempt"]))

    def requests(self) -> list[Object]:
        """The last attempt of each request: a server that is slow for a moment makes more of one."""
        return [*{each["spec"]["sequence"]: each for each in self.operations()}.values()]

    def requested(self) -> list[str]:
        """The type of each request, oldest first."""
        return [each["spec"]["type"] for each in self.requests()]

    def outcomes(self) -> list[str]:
        """What came of its Operations, but for those that a slow moment cost and that were tried again."""
        found = [(each.get("status") or {}).get("outcome", "") for each in self.operations()]
        return [outcome for outcome in found if outcome != "Retry"]

    def instance(self) -> Object | None:
        """The DatabaseInstance that it claims."""
        found = self._find(INSTANCES, None)
        return found[0] if found else None

    def remains(self) -> list[str]:
        """Which of the objects that the operator made for it are there (its Operations and Jobs, the record, are not
        among them)."""
        places = (
            (INSTANCES, None),
            (ROLES, self.namespace),
            (ROLE_BINDINGS, self.namespace),
            (SERVICE_ACCOUNTS, OPERATOR),
            (SECRETS, OPERATOR),
        )
        found = [
            f"{resource.kind} {each['metadata']['name']}"
            for resource, namespace in places
            for each in self._find(resource, namespace)
        ]
        return found + ([f"Secret {self.secret_name}"] if self.secret() is not None else [])

    def jobs(self) -> list[Object]:
        """Its Jobs."""
        return self._find(JOBS, OPERATOR)

    # Acting.

    def delete(self) -> None:
        """Ask for its deletion; one that is gone is no fault."""
        with suppress(NotFound):
            self.client.delete(DATABASES, self.name, namespace=self.namespace)

    def patch(self, patch: Mapping[str, Any]) -> Object:
        """Merge-patch it; raises KubeError."""
        return self.client.patch(DATABASES, self.name, patch, namespace=self.namespace)

    def annotate(self, key: str, value: str | None) -> None:
        """Set an annotation; None takes it away."""
        self.patch({"metadata": {"annotations": {key: value}}})

    # Waiting.

    def wait_ready(self) -> dict[str, str]:
        """Wait until Ready is True at its present generation; gives its Secret's data."""

        def ready() -> bool:
            database = self.get()
            assert database is not None, "it is gone"
            condition = self.condition()
            assert condition.get("status") == "True", condition
            return bool(condition["observedGeneration"] == database["metadata"]["generation"])

        eventually(ready, f"Database {self.namespace}/{self.name} is Ready")
        secret = self.secret()
        assert secret is not None, "Ready, but there is no Secret"
        return secret

    def wait_reason(self, reason: str) -> dict[str, Any]:
        """Wait until its Ready condition has that reason; gives the condition."""

        def shown() -> dict[str, Any]:
            condition = self.condition()
            assert condition.get("reason") == reason, condition
            return condition

        return eventually(shown, f"Database {self.namespace}/{self.name} says {reason}")

    def wait_gone(self, seconds: float = PATIENCE) -> None:
        """Wait until the object is no more."""
        eventually(lambda: self.get() is None, f"Database {self.namespace}/{self.name} is gone", seconds)

    def delete_and_wait(self) -> None:
        """Delete it, and wait until it is no more."""
        self.delete()
        self.wait_gone()

    def _read(self, resource: Resource, name: str) -> Object | None:
        try:
            return self.client.get(resource, name, namespace=self.namespace)
        except NotFound:
            return None

    def _find(self, resource: Resource, namespace: str | None) -> list[Object]:
        return self.client.list(resource, namespace=namespace, labels=self._labels)[0]

    @property
    def _labels(self) -> str:
        return f"{LABEL_DATABASE}={self.name},{LABEL_DATABASE_NAMESPACE}={self.namespace}"
