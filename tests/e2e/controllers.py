"""Controllers that a test runs itself, as processes on this machine with the deployed one's rights and settings.

Each reaches the API server through a proxy of its own, so that its end, or that of a connection, can be put exactly
after the write that a test means.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

from api.resources import SERVICE_ACCOUNTS
from controller.__main__ import LOST_LEADERSHIP
from kube.client import Object
from tests.cluster.images import ROOT
from tests.e2e.cluster import DEPLOYMENTS, OPERATOR, RELEASE, Cluster, eventually
from tests.e2e.proxy import Proxy, Write
from tests.servers.programs import free_port

CONTROLLER = f"{RELEASE}-controller"
POD = "controller-of-a-test"
"""Under which name these hold the Lease: one that is started again has it at once, as a restarted container has."""


@dataclass(frozen=True)
class Access:
    """Where the API server is, and how to trust it."""

    server: str
    trust: ssl.SSLContext

    @classmethod
    def of(cls, cluster: Cluster) -> Access:
        """As the administrator's kubeconfig has it."""
        config = yaml.safe_load(cluster.settings.kubeconfig.read_text())
        contexts = {entry["name"]: entry["context"] for entry in config["contexts"]}
        name = contexts[config["current-context"]]["cluster"]
        found = next(entry["cluster"] for entry in config["clusters"] if entry["name"] == name)
        if data := found.get("certificate-authority-data"):
            return cls(found["server"], ssl.create_default_context(cadata=b64decode(data).decode()))
        return cls(found["server"], ssl.create_default_context(cafile=found.get("certificate-authority")))


def token_of(cluster: Cluster, account: str, seconds: int = 3600) -> str:
    """A token of a ServiceAccount in the operator's namespace, as the kubelet would ask for it."""
    path = SERVICE_ACCOUNTS.path(account, namespace=OPERATOR, subresource="token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
    answer = json.loads(cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(request)).out)
    return str(answer["status"]["token"])


class Controller:
    """One process at a time; `start` after `kill` is what the kubelet does to a container."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._changes: Mapping[str, str] = {}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "controller"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment, **self._changes},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait: it gives the Lease up."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self.kill()

    def restart(self, **changes: str) -> None:
        """Stop it and start it again; changes: of its environment, until the next restart."""
        self.stop()
        self._changes = changes
        self.start()

    def revive(self) -> None:
        """Start it again if it has lost the lead and ended by itself, as the kubelet does."""
        if self._process is not None and self._process.poll() == LOST_LEADERSHIP:
            self.start()

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs; RuntimeError with its last words when it has ended by itself."""
        code = None if self._process is None else self._process.poll()
        if code not in (None, -signal.SIGKILL):
            raise RuntimeError(f"the controller ended with {code}: {self.log[-2000:]}")
        return self._process is not None and code is None

    def wait_leading(self) -> None:
        """Wait until it works."""

        def leads() -> bool:
            assert self.alive
            return "dbaas_leader 1.0" in self.metrics

        eventually(leads, "the test's own controller leads")

    @property
    def metrics(self) -> str:
        """What it tells Prometheus; nothing while it does not answer."""
        url = f"http://127.0.0.1:{self._environment['DBAAS_METRICS_PORT']}/metrics"
        with contextlib.suppress(OSError), urlopen(url, timeout=5) as answer:
            return str(answer.read(), "utf-8")
        return ""

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text()


Deliver = Callable[[Write], bool]


@contextlib.contextmanager
def controller(
    cluster: Cluster, folder: Path, deliver: Deliver = lambda write: True, **changes: str
) -> Iterator[tuple[Controller, Proxy]]:
    """A controller that is not started yet, and its proxy, which tells `deliver` of each write before its answer.

    changes: of its environment.
    """
    access = Access.of(cluster)
    with Proxy(access.server, access.trust, deliver) as proxy:
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(kubeconfig_of(proxy.url, token_of(cluster, CONTROLLER))))
        deployed = cluster.client.get(DEPLOYMENTS, CONTROLLER, namespace=OPERATOR)
        environment = {
            **environment_of(deployed),
            "DBAAS_NAMESPACE": OPERATOR,
            "KUBECONFIG": str(kubeconfig),
            "DBAAS_POD_NAME": POD,
            "DBAAS_METRICS_PORT": str(free_port()),
            **changes,
        }
        process = Controller(environment, folder / "controller.log")
        try:
            yield process, proxy
        finally:
            process.stop()


@contextlib.contextmanager
def nobody_leads(cluster: Cluster) -> Iterator[None]:
    """The deployed controller is away, and comes back in the end."""
    replicas = cluster.client.get(DEPLOYMENTS, CONTROLLER, namespace=OPERATOR)["spec"]["replicas"]
    cluster.scale("controller", 0)
    try:
        yield
    finally:
        cluster.scale("controller", replicas)


def environment_of(deployment: Object) -> dict[str, str]:
    """What the chart tells the deployed controller; what the kubelet would fill in is left out."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def kubeconfig_of(server: str, token: str) -> dict[str, Any]:
    """A kubeconfig for the bearer of a token, without TLS."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "controller", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "proxy", "user": "controller"}}],
        "current-context": "test",
    }
