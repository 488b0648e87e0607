"""The cluster as the tests see it: apply, read, wait with a deadline, run a pod, read logs.

Knows Kubernetes and the operator's release; what a test puts there is `tests/e2e/scene.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from api.resources import JOBS, NAMESPACES, SECRETS, Resource
from kube.client import Client, Object
from kube.errors import KubeError, NotFound
from tests.cluster.settings import Settings

T = TypeVar("T")

RELEASE = "dbaas"
OPERATOR = "dbaas-system"
"""Where the operator runs; endpoints' Secrets, Operations and Jobs are there."""
LABEL = "dbaas.test/e2e"
"""On everything outside the operator's namespace that a test makes."""
MARK = {LABEL: "true"}

PODS = Resource("", "v1", "Pod", "pods", namespaced=True)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments", namespaced=True)

POLL = 0.05
"""Seconds between two looks."""
PATIENCE = 180
"""Seconds after which what takes moments on a quiet machine will not come any more.

Less than what is wrong until somebody changes something waits for its next try (4 minutes): so much patience does not
take that try for the one that a change has brought at once.
"""


def eventually(look: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """Return the first true thing that `look` sees; AssertionError that says `what` did not come, and why not.

    A `look` that raises KubeError or AssertionError has seen nothing yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        last: object = None
        try:
            last = seen = look()
            if seen:
                return seen
        except (KubeError, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s, still not: {what} (last seen: {last!r})")
        time.sleep(POLL)


@dataclass(frozen=True)
class Answer:
    """What a command line tool said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


@dataclass(frozen=True)
class Cluster:
    """A cluster with the operator in it. The user is its administrator."""

    settings: Settings
    client: Client = field(repr=False)
    images: dict[str, str] = field(default_factory=dict)
    """Target of the Dockerfile → name of the image."""

    # Command line tools, where their output is the point.

    def run(self, *argv: str, stdin: str = "", check: bool = True, folder: Path | None = None) -> Answer:
        """Run kubectl, helm or kubectl-kuttl, in `folder`; `check` raises AssertionError with what it said."""
        path = f"{self.settings.bin}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "KUBECONFIG": str(self.settings.kubeconfig)}
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=env, timeout=300, cwd=folder)
        answer = Answer(done.returncode, done.stdout, done.stderr)
        if check and answer.code:
            raise AssertionError(f"{' '.join(argv[:6])}: exit code {answer.code}\n{answer.text}")
        return answer

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> Answer:
        """Run kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin, check=check)

    def helm(self, *arguments: str, check: bool = True) -> Answer:
        """Run helm in the operator's namespace."""
        return self.run("helm", "--namespace", OPERATOR, *arguments, check=check)

    def kubectl_apply(self, *manifests: Object, arguments: Sequence[str] = (), check: bool = True) -> Answer:
        """Apply manifests (with apiVersion and kind) as a user would, in one `kubectl apply -f -`."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.kubectl("apply", "-f", "-", *arguments, stdin=json.dumps(document), check=check)

    # The API.

    def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create an object; raises KubeError."""
        return self.client.create(resource, manifest)

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object | None:
        """Read an object; None if there is none."""
        try:
            return self.client.get(resource, name, namespace=namespace)
        except NotFound:
            return None

    def find(self, resource: Resource, namespace: str | None = None, labels: str = "") -> list[Object]:
        """Read a collection; `labels` is a selector."""
        return self.client.list(resource, namespace=namespace, labels=labels)[0]

    def patch(self, resource: Resource, name: str, patch: Mapping[str, Any], namespace: str | None = None) -> Object:
        """Merge-patch an object."""
        return self.client.patch(resource, name, patch, namespace=namespace)

    def delete(self, resource: Resource, name: str, namespace: str | None = None) -> None:
        """Ask for an object's deletion; one that is not there is no fault."""
        try:
            self.client.delete(resource, name, namespace=namespace)
        except NotFound:
            return

    def wait_gone(self, resource: Resource, name: str, namespace: str | None = None, seconds: float = PATIENCE) -> None:
        """Wait until an object is no more."""
        what = f"{resource.kind} {namespace or ''}/{name} is gone"
        eventually(lambda: self.get(resource, name, namespace) is None, what, seconds)

    def secret(self, name: str, namespace: str) -> dict[str, str] | None:
        """A Secret's data, decoded; None if there is none."""
        secret = self.get(SECRETS, name, namespace)
        if secret is None:
            return None
        return {key: b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}

    def namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Make a namespace of the tests."""
        self.create(NAMESPACES, {"metadata": {"name": name, "labels": {**MARK, **(labels or {})}}})
        return name

    # Pods, Jobs and logs.

    def pod(self, manifest: Mapping[str, Any]) -> Object:
        """Create a Pod."""
        return self.create(PODS, manifest)

    def python_pod(
        self, namespace: str, program: str, *, name: str = "client", env: Sequence[Any] = (), env_from: str = ""
    ) -> Object:
        """Manifest of a Pod that runs a Python program with psycopg at hand; `env_from` names a Secret."""
        container: dict[str, Any] = {
            "name": "client",
            "image": self.images["provisioner-job"],
            "imagePullPolicy": "IfNotPresent",
            "command": ["/opt/venv/bin/python", "-c", program],
            "env": list(env),
        }
        if env_from:
            container["envFrom"] = [{"secretRef": {"name": env_from}}]
        spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def wait_pod(self, name: str, namespace: str, seconds: float = PATIENCE) -> tuple[str, str]:
        """Wait for a Pod's end; gives (phase, log)."""

        def ended() -> str | None:
            pod = self.get(PODS, name, namespace)
            phase: str = ((pod or {}).get("status") or {}).get("phase", "")
            return phase if phase in ("Succeeded", "Failed") else None

        phase = eventually(ended, f"Pod {namespace}/{name} has ended", seconds)
        return phase, self.kubectl("logs", name, "-n", namespace).out

    def job_active(self, name: str) -> bool:
        """Whether a Job of the operator is there and has not ended."""
        job = self.get(JOBS, name, OPERATOR)
        conditions = ((job or {}).get("status") or {}).get("conditions") or ()
        ended = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        return job is not None and not ended

    def job_log(self, name: str) -> str:
        """What a Job of the operator has printed so far; "" while there is nothing."""
        return self.kubectl("logs", f"job/{name}", "-n", OPERATOR, check=False).out

    def component_log(self, component: str, tail: int = -1) -> str:
        """Logs of all pods of `controller` or `webhook`."""
        selector = f"app.kubernetes.io/component={component}"
        arguments = ("logs", "-n", OPERATOR, "-l", selector, "--prefix", "--tail", str(tail))
        return self.kubectl(*arguments, check=False).text

    def pods_of(self, component: str) -> list[Object]:
        """The pods of `controller` or `webhook` that are not going away."""
        pods = self.find(PODS, OPERATOR, f"app.kubernetes.io/component={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def wait_rollout(self, component: str, seconds: int = PATIENCE) -> None:
        """Wait until every pod of `controller` or `webhook` is of the latest form and ready."""
        deployment = f"deployment/{RELEASE}-{component}"
        self.kubectl("rollout", "status", deployment, "-n", OPERATOR, f"--timeout={seconds}s")

    def scale(self, component: str, replicas: int) -> None:
        """Run so many pods of `controller` or `webhook`, and wait until it is so, also for those that go away."""
        scale = ("scale", f"deployment/{RELEASE}-{component}", "-n", OPERATOR, f"--replicas={replicas}")
        eventually(lambda: self.kubectl(*scale), f"{component} is scaled")
        selector = f"app.kubernetes.io/component={component}"
        eventually(lambda: len(self.find(PODS, OPERATOR, selector)) == replicas, f"{replicas} pods of {component}")
        self.wait_rollout(component)
