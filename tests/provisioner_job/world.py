"""A cluster's API server, a PostgreSQL, and Jobs as processes between them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from api.labels import LABEL_CREDENTIALS, MANAGED_BY, MANAGED_BY_VALUE
from api.operation import OperationSpec, Server, operation_name
from api.resources import (
    NAMESPACES,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from tests.chart.apiserver import ApiServer
from tests.provisioner_job.proxy import Proxy
from tests.servers.pki import Authority
from tests.servers.postgresql import PostgreSQL

HERE = Path(__file__).parent
OPERATOR = "dbaas-system"
PATIENCE = 90.0
ADMINISTRATOR = "operator"
ADMINISTRATOR_PASSWORD = "adm'in \"pass\\word"
GENERATED_PASSWORD = "gener'ated%pass\\word"
_numbers = itertools.count()


T = TypeVar("T")


def eventually(ask: Callable[[], T | None], what: str) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


@dataclass(frozen=True)
class Job:
    """A Job's process, running or not; its log lines are read while they come."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def until(self, event: str) -> dict[str, Any]:
        """Read the log up to this event."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"no {event} in {self.events}; {self.process.communicate()[1]}")

    def end(self) -> Ended:
        """Wait for its end."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        self.lines.extend(map(json.loads, output.splitlines()))
        return Ended(self.process.returncode, self.lines, errors)

    def kill(self) -> None:
        """As a node that loses its power; one that has ended is left alone."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def terminate(self) -> None:
        """As a node that is drained."""
        self.process.send_signal(signal.SIGTERM)

    @property
    def events(self) -> list[str]:
        """The events so far."""
        return [line["event"] for line in self.lines]


@dataclass(frozen=True)
class Ended:
    """What a Job has left."""

    code: int
    lines: list[dict[str, Any]]
    errors: str

    @property
    def events(self) -> list[str]:
        """The events in order."""
        return [line["event"] for line in self.lines]

    def line(self, event: str) -> dict[str, Any]:
        """The only line of this event."""
        [line] = [line for line in self.lines if line["event"] == event]
        return line


@dataclass(frozen=True)
class World:
    """One namespace of a user, and what a controller would set up for Jobs."""

    api: ApiServer
    proxy: Proxy
    database: PostgreSQL
    authority: Authority
    folder: Path
    namespace: str = field(default_factory=lambda: f"shop-{next(_numbers)}")
    jobs: list[Job] = field(default_factory=list)
    """Those that were started."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> dict[str, Any] | None:
        """An object, or None."""
        answer = self.api.ask("GET", resource.path(name, namespace=namespace or self.namespace))
        return answer.body if answer.accepted else None

    def create(self, resource: Resource, manifest: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object; one that is there already is fine."""
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        answer = self.api.ask("POST", resource.path(namespace=namespace or self.namespace), head | dict(manifest))
        assert answer.accepted or answer.status == 409, answer.message
        return answer.body

    def secret(self, name: str = "orders-credentials") -> dict[str, str] | None:
        """The data of a Secret in the user's namespace."""
        manifest = self.get(SECRETS, name)
        if manifest is None:
            return None
        return {key: base64.b64decode(value).decode() for key, value in manifest.get("data", {}).items()}

    def status(self, spec: OperationSpec) -> dict[str, Any]:
        """What was reported on an Operation."""
        manifest = self.get(OPERATIONS, operation_name(spec.instance, spec.sequence, spec.attempt), OPERATOR)
        assert manifest is not None
        status: dict[str, Any] = manifest.get("status", {})
        return status

    def calls(self) -> list[str]:
        """The calls that took effect, oldest first."""
        return [row[0] for row in self.database.execute("SELECT what FROM calls ORDER BY number")]

    def define(self, name: str, body: str, returns: str = "TABLE(key text, value text)") -> None:
        """Make a function of one text argument; it runs with the rights of a superuser."""
        self.database.execute(
            f"CREATE OR REPLACE FUNCTION {name}(name text) RETURNS {returns} LANGUAGE plpgsql SECURITY DEFINER "
            f"AS $body$ BEGIN {body} END $body$"
        )

    def operation(self, spec: OperationSpec) -> OperationSpec:
        """Set up what a controller does for this Operation: the object, the account, its rights."""
        server = Server("main", "127.0.0.1", self.database.port, "postgres")
        spec = spec._replace(server=server, database=spec.database._replace(namespace=self.namespace))
        name = operation_name(spec.instance, spec.sequence, spec.attempt)
        self.create(OPERATIONS, {"metadata": {"name": name}, "spec": spec.manifest()}, OPERATOR)
        self.create(SERVICE_ACCOUNTS, {"metadata": {"name": name}}, OPERATOR)
        if spec.secret is not None:
            labels = {MANAGED_BY: MANAGED_BY_VALUE}
            rule = {
                "apiGroups": [""],
                "resources": ["secrets"],
                "resourceNames": [spec.secret.name],
                "verbs": ["create", "get", "patch"],
            }
            self.create(ROLES, {"metadata": {"name": name, "labels": labels}, "rules": [rule]})
            binding = {
                "metadata": {"name": name, "labels": labels},
                "roleRef": {"apiGroup": ROLES.group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": OPERATOR}],
            }
            self.create(ROLE_BINDINGS, binding)
        return spec

    def start(self, spec: OperationSpec, *, stop_seconds: float = 22) -> Job:
        """Start the Job of an Operation that `operation` has set up, with files that are not there yet."""
        name = operation_name(spec.instance, spec.sequence, spec.attempt)
        command = [sys.executable, str(HERE / "launch.py"), self._files(spec), self._account(name), str(stop_seconds)]
        environment = {
            "DBAAS_OPERATION": name,
            "DBAAS_NAMESPACE": OPERATOR,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.proxy.port),
            "PYTHONPATH": str(HERE.parents[1]),
        }
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True)
        self.jobs.append(Job(process))
        return self.jobs[-1]

    def run(self, spec: OperationSpec) -> Ended:
        """Set an Operation up and run its Job to the end."""
        return self.start(self.operation(spec)).end()

    def foreign_secret(self, **changes: Any) -> dict[str, Any]:
        """A Secret of our name that is not ours."""
        return self.create(
            SECRETS,
            {"metadata": {"name": "orders-credentials"}, "type": "Opaque", "stringData": {"a": "b"}} | changes,
        )

    def our_secret(self, spec: OperationSpec, sequence: int, **changes: Any) -> dict[str, Any]:
        """The Secret of this Operation's Database, as an earlier request left it."""
        metadata = {
            "name": "orders-credentials",
            "labels": {LABEL_CREDENTIALS: "true"},
            "annotations": {
                "dbaas.bedag.ch/database-uid": spec.database.uid,
                "dbaas.bedag.ch/sequence": str(sequence),
            },
        }
        manifest = {"metadata": metadata, "type": "servicebinding.io/postgresql", "stringData": {"password": "kept"}}
        return self.create(SECRETS, manifest | changes)

    def _files(self, spec: OperationSpec) -> str:
        files = {
            "credentials/username": ADMINISTRATOR,
            "credentials/password": ADMINISTRATOR_PASSWORD + "\n",
            "ca/ca.crt": self.authority.pem,
            **({"generated/password": GENERATED_PASSWORD} if spec.generated else {}),
        }
        for name, content in files.items():
            path = self.folder / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(content)
        return str(self.folder / "files")

    def _account(self, name: str) -> str:
        path = SERVICE_ACCOUNTS.path(name, namespace=OPERATOR, subresource="token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.api.ask("POST", path, request)
        assert answer.accepted, answer.message
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(answer.body["status"]["token"])
        (folder / "ca.crt").write_bytes((self.api.folder / "pki" / "apiserver.crt").read_bytes())
        return str(folder)


def make_namespace(api: ApiServer, name: str) -> None:
    """Create a namespace, unless it is there."""
    api.ask("POST", NAMESPACES.path(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
