"""One test's corner of the cluster: a namespace, a class, an endpoint, and the Databases that it applies."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from api.binding import secret_name
from api.labels import LABEL_DATABASE, LABEL_DATABASE_NAMESPACE, LABEL_ENDPOINT_CREDENTIALS, ROTATE
from api.resources import (
    API_VERSION,
    CLASSES,
    DATABASES,
    ENDPOINTS,
    EVENTS,
    INSTANCES,
    JOBS,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from kube.client import Object
from kube.errors import Invalid, NotFound, Unavailable
from tests.e2e.cluster import MARK, OPERATOR, PATIENCE, Cluster, eventually
from tests.e2e.dbms import Dbms, Effect

IDENTITY = "{{ .Metadata.namespace }}-{{ .Metadata.name }}"
"""What names a database on its server, in the class of every scene."""
ACCOUNT = "e2e-account"
"""The Secret with the operator's account on `Dbms`, in the operator's namespace."""
_CALL = {"inputs": {"k8sName": IDENTITY, "operation": "{{ .Operation.id }}"}, "timeout": "2m"}
CLASS: Mapping[str, Any] = {
    "driver": "postgres",
    "operations": {
        "create": {"name": "e2e.create_database", **_CALL},
        "delete": {"name": "e2e.delete_database", **_CALL},
    },
    "retry": {"limit": 5, "backoff": "1s"},
}
"""`spec` of a scene's class: the tests' own procedures, tried again quickly."""


@dataclass(frozen=True)
class Applied:
    """A Database that a test applied, by its name."""

    cluster: Cluster
    dbms: Dbms
    namespace: str
    name: str

    @property
    def identity(self) -> str:
        """What it is called on the server, when its class names it by `IDENTITY`."""
        return f"{self.namespace}-{self.name}"

    @property
    def secret_name(self) -> str:
        """Its Secret."""
        return secret_name(self.name)

    # What the API server says of it.

    def get(self) -> Object | None:
        """The object; None once it is gone."""
        return self.cluster.get(DATABASES, self.name, self.namespace)

    @property
    def status(self) -> dict[str, Any]:
        """Its status; empty before there is one, and once it is gone."""
        return (self.get() or {}).get("status") or {}

    def condition(self, kind: str = "Ready") -> dict[str, Any]:
        """One of its conditions; empty while it has none of that type."""
        return next((c for c in self.status.get("conditions") or () if c["type"] == kind), {})

    def secret(self) -> dict[str, str] | None:
        """Its Secret's data, decoded; None if there is none."""
        return self.cluster.secret(self.secret_name, self.namespace)

    def operations(self) -> list[Object]:
        """Its Operations, oldest first."""
        found = self.cluster.find(OPERATIONS, OPERATOR, self._labels)
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
        found = self.cluster.find(INSTANCES, labels=self._labels)
        return found[0] if found else None

    def events(self) -> list[Object]:
        """Events about it, oldest first."""
        events = self.cluster.find(EVENTS, self.namespace)
        own = [event for event in events if event["regarding"].get("name") == self.name]
        return sorted(own, key=lambda event: event["eventTime"] or "")

    def log(self, operation: str = "") -> list[dict[str, Any]]:
        """The audit lines of a reported Operation's Job (default: the latest), parsed, to the last one.

        The Database can be Ready before the kubelet has told that there is a log.
        """
        name = operation or self.operations()[-1]["metadata"]["name"]

        def whole() -> list[dict[str, Any]] | None:
            lines = [json.loads(line) for line in self.cluster.job_log(name).splitlines()]
            return lines if lines and lines[-1]["event"] in ("reported", "skipped", "unreported") else None

        return eventually(whole, f"the log of {name} is whole")

    @property
    def effects(self) -> list[Effect]:
        """What the procedures have done for it."""
        return self.dbms.effects(self.identity)

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
            for each in self.cluster.find(resource, namespace, self._labels)
        ]
        return found + ([f"Secret {self.secret_name}"] if self.secret() is not None else [])

    def jobs_rights(self) -> list[str]:
        """What is left of its Jobs' rights: all but the claim, the Secret, and the Role that looks after the Secret."""
        instances = self.cluster.find(INSTANCES, None, self._labels)
        kept = {*(instance["metadata"]["name"] for instance in instances), self.secret_name}
        return [line for line in self.remains() if line.split()[1] not in kept]

    def active_jobs(self) -> list[str]:
        """Names of its Jobs that have not ended."""
        names = [job["metadata"]["name"] for job in self.cluster.find(JOBS, OPERATOR, self._labels)]
        return [name for name in names if self.cluster.job_active(name)]

    @property
    def _labels(self) -> str:
        return f"{LABEL_DATABASE}={self.name},{LABEL_DATABASE_NAMESPACE}={self.namespace}"

    # Waiting.

    def wait_ready(self, seconds: float = PATIENCE) -> dict[str, str]:
        """Wait until Ready is True at its present generation; gives its Secret's data."""

        def ready() -> bool:
            database = self.get()
            assert database is not None, "it is gone"
            condition = self.condition()
            assert condition.get("status") == "True", condition
            return bool(condition["observedGeneration"] == database["metadata"]["generation"])

        eventually(ready, f"Database {self.namespace}/{self.name} is Ready", seconds)
        secret = self.secret()
        assert secret is not None, "Ready, but there is no Secret"
        return secret

    def wait_reason(self, reason: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until its Ready condition is not True for that reason; gives the condition."""

        def shown() -> dict[str, Any] | None:
            condition = self.condition()
            assert condition.get("reason") == reason, condition
            return condition if condition["status"] != "True" else None

        return eventually(shown, f"Database {self.namespace}/{self.name} says {reason}", seconds)

    def wait_called(self, seconds: float = PATIENCE) -> None:
        """Wait until a call for it is running on the server (held at its gate, see `Dbms.hold`)."""
        eventually(lambda: self.dbms.running(self.identity), f"a procedure runs for {self.identity}", seconds)

    def wait_gone(self, seconds: float = PATIENCE) -> None:
        """Wait until the object is no more."""
        self.cluster.wait_gone(DATABASES, self.name, self.namespace, seconds)

    def wait_nothing_remains(self) -> None:
        """Wait until nothing of it is left but the record."""
        eventually(lambda: self.remains() == [], f"nothing remains of {self.namespace}/{self.name}")

    def wait_no_rights(self) -> None:
        """Wait until none of its Jobs has rights any more."""
        eventually(lambda: self.jobs_rights() == [], f"Jobs of {self.namespace}/{self.name} have no rights any more")

    # Acting.

    def rotate(self) -> dict[str, str]:
        """Ask for a rotation, and wait until it is done; gives its Secret's data. Works once."""
        self.annotate(ROTATE, "")
        eventually(lambda: self.status.get("lastRotated"), f"{self.namespace}/{self.name} was rotated")
        return self.wait_ready()

    def delete(self) -> None:
        """Ask for its deletion."""
        self.cluster.delete(DATABASES, self.name, self.namespace)

    def delete_and_wait(self, seconds: float = PATIENCE) -> None:
        """Delete it, and wait until it is no more."""
        self.delete()
        self.wait_gone(seconds)

    def annotate(self, key: str, value: str | None) -> None:
        """Set an annotation; None takes it away."""
        self.patch({"metadata": {"annotations": {key: value}}})

    def patch(self, patch: Mapping[str, Any]) -> Object:
        """Merge-patch it; raises KubeError."""
        return self.cluster.patch(DATABASES, self.name, patch, self.namespace)

    def describe(self) -> str:
        """All that a person needs to see what happened to it."""
        kubectl, parts = self.cluster.kubectl, []
        parts.append(kubectl("describe", "database", self.name, "-n", self.namespace, check=False).text)
        for operation in self.operations():
            name = operation["metadata"]["name"]
            parts.append(f"Operation {name}: {json.dumps(operation.get('status'))}\n{self.cluster.job_log(name)}")
        parts.append(f"effects: {self.effects}")
        return "\n".join(parts)


@dataclass(frozen=True)
class Scene:
    """A namespace, a class and an endpoint of a name that nothing else has."""

    cluster: Cluster
    dbms: Dbms
    name: str
    """Of the class, of the endpoint, and of the first namespace."""
    databases: list[Applied] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)

    @classmethod
    def set_up(cls, cluster: Cluster, dbms: Dbms) -> Scene:
        """Make namespace, class and endpoint."""
        scene = cls(cluster, dbms, f"e2e-{secrets.token_hex(3)}")
        scene.add_namespace()
        scene.add_class()
        scene.add_endpoint()
        return scene

    @property
    def namespace(self) -> str:
        """The first namespace."""
        return self.namespaces[0]

    # Manifests, with apiVersion and kind: they serve kubectl and the API alike.

    def class_manifest(self, suffix: str = "", **changes: Any) -> Object:
        """A DatabaseClass `NAME[-suffix]`: `CLASS` with fields of spec replaced; None takes one away."""
        return self._manifest(CLASSES.kind, suffix, {**CLASS, **changes})

    def endpoint_manifest(self, suffix: str = "", **changes: Any) -> Object:
        """A DatabaseEndpoint `NAME[-suffix]` of the server, with fields of spec replaced; None takes one away.

        Nobody probes it: what a test sees is its own Operations' doing.
        """
        spec: dict[str, Any] = {
            "className": self.name,
            "host": self.dbms.host,
            "port": self.dbms.port,
            "database": "postgres",
            "credentialsSecretRef": {"name": ACCOUNT},
            "tls": {"caBundle": self.dbms.authority.pem},
            "probe": {"every": "0"},
        }
        return self._manifest(ENDPOINTS.kind, suffix, {**spec, **changes})

    def database_manifest(
        self, name: str, *, namespace: str = "", endpoint: str = "", annotations: Any = None, **spec: Any
    ) -> Object:
        """A Database in the first namespace, on the scene's endpoint, unless said otherwise."""
        metadata = {"name": name, "namespace": namespace or self.namespace}
        if annotations:
            metadata["annotations"] = annotations
        spec = {"endpoint": endpoint or self.name, **spec}
        return {"apiVersion": API_VERSION, "kind": DATABASES.kind, "metadata": metadata, "spec": spec}

    def _manifest(self, kind: str, suffix: str, spec: Mapping[str, Any]) -> Object:
        name = f"{self.name}-{suffix}" if suffix else self.name
        present = {key: value for key, value in spec.items() if value is not None}
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "labels": dict(MARK)},
            "spec": present,
        }

    # Putting things there. All of it goes away after the test.

    def add_namespace(self, suffix: str = "", labels: Mapping[str, str] | None = None) -> str:
        """Another namespace `NAME[-suffix]`; gives its name."""
        name = self.cluster.namespace(f"{self.name}-{suffix}" if suffix else self.name, labels)
        self.namespaces.append(name)
        return name

    def add_class(self, suffix: str = "", **changes: Any) -> str:
        """Create a DatabaseClass (see `class_manifest`); gives its name. Raises KubeError."""
        manifest = self.class_manifest(suffix, **changes)
        self.cluster.create(CLASSES, manifest)
        return str(manifest["metadata"]["name"])

    def add_endpoint(self, suffix: str = "", **changes: Any) -> str:
        """Create a DatabaseEndpoint (see `endpoint_manifest`); gives its name. Raises KubeError."""
        manifest = self.endpoint_manifest(suffix, **changes)
        self.cluster.create(ENDPOINTS, manifest)
        return str(manifest["metadata"]["name"])

    def change_class(self, suffix: str = "", **spec: Any) -> None:
        """Merge-patch a class's spec."""
        self.cluster.patch(CLASSES, f"{self.name}-{suffix}" if suffix else self.name, {"spec": spec})

    def change_endpoint(self, suffix: str = "", **spec: Any) -> None:
        """Merge-patch an endpoint's spec."""
        self.cluster.patch(ENDPOINTS, f"{self.name}-{suffix}" if suffix else self.name, {"spec": spec})

    def add_account(self, suffix: str, username: str, password: str) -> str:
        """A Secret `NAME-suffix` with an endpoint's account, in the operator's namespace; gives its name."""
        name = f"{self.name}-{suffix}"
        self.cluster.create(SECRETS, account_manifest(name, username, password))
        return name

    def apply(self, name: str = "shop", **options: Any) -> Applied:
        """Create a Database (see `database_manifest`). Raises KubeError."""
        manifest = self.database_manifest(name, **options)
        self.cluster.create(DATABASES, manifest)
        return self.applied(name, manifest["metadata"]["namespace"])

    def applied(self, name: str, namespace: str = "") -> Applied:
        """A Database that was, or is yet to be, applied by other means."""
        database = Applied(self.cluster, self.dbms, namespace or self.namespace, name)
        self.databases.append(database)
        return database

    def retry_quickly(self) -> None:
        """Have the class's procedures tried again as quickly as the API allows."""
        self.change_class(retry={"limit": 20, "backoff": "1s"})

    # The end.

    def describe(self) -> str:
        """All that a person needs who sees the test fail."""
        parts = [f"{database.namespace}/{database.name}\n{database.describe()}" for database in self.databases[:3]]
        return "\n\n".join([*parts, "controller:", self.cluster.component_log("controller", tail=40)])

    def tear_down(self) -> None:
        """Ask for the deletion of its Databases, gates open; nobody waits: `tests/e2e/release.py` sweeps later."""
        self.dbms.server.execute("DELETE FROM e2e.gates WHERE name LIKE %s", [f"%{self.name}%"])
        for namespace in self.namespaces:
            delete_databases(self.cluster, namespace)


def account_manifest(name: str, username: str, password: str) -> Object:
    """A Secret that an endpoint's credentialsSecretRef may name."""
    return {
        "metadata": {"name": name, "namespace": OPERATOR, "labels": {**MARK, LABEL_ENDPOINT_CREDENTIALS: "true"}},
        "stringData": {"username": username, "password": password},
    }


def delete_databases(cluster: Cluster, namespace: str) -> None:
    """Ask for the deletion of a namespace's Databases, those included that a test that failed has left protected."""
    for database in cluster.find(DATABASES, namespace):
        name = database["metadata"]["name"]
        with suppress(Invalid, NotFound, Unavailable):
            if database["spec"].get("deletionProtection"):
                cluster.patch(DATABASES, name, {"spec": {"deletionProtection": False}}, namespace)
            cluster.delete(DATABASES, name, namespace)
