"""One test's corner of the cluster: a namespace, a class, an endpoint, and the Databases that it applies."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from api.labels import LABEL_ENDPOINT_CREDENTIALS, ROTATE
from api.resources import (
    API_VERSION,
    CLASSES,
    DATABASES,
    ENDPOINTS,
    EVENTS,
    SECRETS,
)
from kube.client import Object
from kube.errors import Invalid, NotFound, Unavailable
from tests.e2e.cluster import MARK, OPERATOR, Cluster, eventually
from tests.e2e.dbms import Dbms, Effect
from tests.e2e.order import Order

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
class Applied(Order):
    """A Database that a test applied, and what it is on its server."""

    cluster: Cluster
    dbms: Dbms

    @property
    def identity(self) -> str:
        """What it is called on the server, when its class names it by `IDENTITY`."""
        return f"{self.namespace}-{self.name}"

    @property
    def effects(self) -> list[Effect]:
        """What the procedures have done for it."""
        return self.dbms.effects(self.identity)

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

    def jobs_rights(self) -> list[str]:
        """What is left of its Jobs' rights: all but the claim, the Secret, and the Role that looks after the Secret."""
        instance = self.instance()
        kept = {self.secret_name, *([instance["metadata"]["name"]] if instance else [])}
        return [line for line in self.remains() if line.split()[1] not in kept]

    def active_jobs(self) -> list[str]:
        """Names of its Jobs that have not ended."""
        names = [each["metadata"]["name"] for each in self.jobs()]
        return [name for name in names if self.cluster.job_active(name)]

    # Waiting.

    def wait_called(self) -> None:
        """Wait until a call for it is running on the server (held at its gate, see `Dbms.hold`)."""
        eventually(lambda: self.dbms.running(self.identity), f"a procedure runs for {self.identity}")

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
        database = Applied(self.cluster.client, namespace or self.namespace, name, self.cluster, self.dbms)
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
            eventually(lambda each=namespace: ask_for_deletion(self.cluster, each), f"{namespace} is emptied")  # type: ignore[misc]


def account_manifest(name: str, username: str, password: str) -> Object:
    """A Secret that an endpoint's credentialsSecretRef may name."""
    return {
        "metadata": {"name": name, "namespace": OPERATOR, "labels": {**MARK, LABEL_ENDPOINT_CREDENTIALS: "true"}},
        "stringData": {"username": username, "password": password},
    }


def ask_for_deletion(cluster: Cluster, namespace: str) -> bool:
    """Ask for the deletion of a namespace's Databases, those included that a test that failed has left protected."""
    for database in cluster.find(DATABASES, namespace):
        name = database["metadata"]["name"]
        with suppress(Invalid, NotFound, Unavailable):
            if database["spec"].get("deletionProtection"):
                cluster.patch(DATABASES, name, {"spec": {"deletionProtection": False}}, namespace)
            cluster.delete(DATABASES, name, namespace)
    return True
