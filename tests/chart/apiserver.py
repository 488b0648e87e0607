"""A private API server for what only a real one decides: CRDs, CEL rules, RBAC, admission policies.

etcd and kube-apiserver on free ports of the loopback, in a temporary folder; nothing else of a cluster, so that no
Pod ever runs and no controller collects anything.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.settings import KUBERNETES_VERSION, Settings
from tests.servers.programs import free_ports

CHART = Path(__file__).parents[2] / "chart"
TOKEN = "administrator"
PATIENCE = 60.0
"""Seconds that a server may take to start."""

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether it did what was asked."""
        return self.status < 300

    @property
    def message(self) -> str:
        """Its sentence, for a refusal."""
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> set[str]:
        """The paths of the fields that it complains of."""
        return {cause["field"] for cause in (self.body.get("details") or {}).get("causes") or ()}


class ApiServer:
    """A running API server and the ways to ask it."""

    def __init__(self, folder: Path, port: int, tools: Path) -> None:
        self.folder = folder
        self.port = port
        self._tools = tools
        self._trust = folder / "pki" / "apiserver.crt"
        self._process: subprocess.Popen[bytes] | None = None
        self._started: tuple[Sequence[str], Path]

    def start(self, argv: Sequence[str], executable: Path) -> None:
        """Start its process; returns at once."""
        with (self.folder / f"{argv[0]}.log").open("ab") as log:
            # One binary holds every server; the name it is called under chooses.
            self._process = subprocess.Popen(
                argv, executable=executable, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._started = (argv, executable)

    def kill(self) -> None:
        """End it. (It would drain for a minute when asked to end; nothing here is worth that.)"""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it and start it again; returns when it is ready. What it has stored stays."""
        self.kill()
        self.start(*self._started)
        _wait_until_ready(self)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        """How to trust it."""
        return ssl.create_default_context(cafile=self._trust)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    def ask(
        self, method: str, path: str, body: Manifest | None = None, user: str = "", content_type: str = ""
    ) -> Answer:
        """Make one request, as the administrator or as `user`; never raises for a refusal."""
        deadline = time.monotonic() + PATIENCE
        answer = self._ask(method, path, body, user, content_type)
        # "storage is (re)initializing": it has only just learnt of the kind.
        while answer.status == 429 and time.monotonic() < deadline:
            time.sleep(0.1)
            answer = self._ask(method, path, body, user, content_type)
        return answer

    def _ask(self, method: str, path: str, body: Manifest | None, user: str, content_type: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": content_type or "application/json",
            **({"Impersonate-User": user} if user else {}),
        }
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = "json" in (response.getheader("Content-Type") or "")
        return Answer(response.status, json.loads(text) if is_json else {"message": text.decode()})

    def apply(self, path: str, body: Manifest, user: str = "", *, force: bool = True) -> Answer:
        """Server-side apply one object."""
        query = f"?fieldManager=test&force={str(force).lower()}"
        return self.ask("PATCH", path + query, body, user, "application/apply-patch+yaml")

    def merge(self, path: str, body: Manifest, user: str = "") -> Answer:
        """Merge-patch one object."""
        return self.ask("PATCH", path, body, user, "application/merge-patch+json")

    def helm(self, *args: str, values: Manifest | None = None) -> str:
        """Run helm against it; raises ToolError with what it said."""
        argv = [str(self._tools / "helm"), "--kubeconfig", str(self.kubeconfig), *args]
        return _helm(argv, values, self.folder)

    def kubectl(self, *args: str, text: str = "") -> str:
        """Run kubectl against it; raises ToolError with what it said."""
        return _run([str(self._tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), *args], text, self.folder)


def render(*args: str, values: Manifest | None = None) -> str:
    """The chart as `helm template` renders it, for a release `dbaas` in the namespace `dbaas-system`."""
    settings = Settings.from_env(os.environ)
    argv = [str(settings.bin / "helm"), "template", "dbaas", str(CHART), "--namespace", "dbaas-system"]
    return _helm([*argv, "--kube-version", KUBERNETES_VERSION, *args], values)


def _helm(argv: Sequence[str], values: Manifest | None, home: Path | None = None) -> str:
    if values is None:
        return _run(argv, home=home)
    return _run([*argv, "--values", "-"], json.dumps(values), home)


def _run(argv: Sequence[str], text: str = "", home: Path | None = None) -> str:
    # Both tools keep what they learn of a server under HOME, by host and port: it must not outlive this server.
    env = {**os.environ, **({"HOME": str(home)} if home else {})}
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False, env=env)
    if done.returncode:
        raise ToolError(done.stderr)
    return done.stdout


class ToolError(Exception):
    """What helm or kubectl said when it refused."""


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """Start etcd and an API server, and end them."""
    tools = Settings.from_env(os.environ).bin
    kube = tools / "kubectl"
    if not kube.exists():
        raise RuntimeError(f"{kube} is missing; `python3 -m tests.cluster up` builds it")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbaas-apiserver-")))
        etcd, peers, port = free_ports(3)
        argv = _etcd(folder, etcd, peers)
        log = stack.enter_context((folder / "etcd.log").open("wb"))
        storage = subprocess.Popen(argv, executable=kube, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        stack.callback(storage.wait)
        stack.callback(storage.kill)
        server = ApiServer(folder, port, tools)
        server.start(_apiserver(folder, etcd, port), kube)
        stack.callback(server.kill)
        _write_kubeconfig(server)
        _wait_until_ready(server)
        yield server


def _etcd(folder: Path, port: int, peers: int) -> list[str]:
    client, peer = (f"http://127.0.0.1:{number}" for number in (port, peers))
    return [
        "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver(folder: Path, etcd: int, port: int) -> list[str]:
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-out", folder / "tokens.key"], check=True, capture_output=True
    )
    (folder / "users.csv").write_text(f'{TOKEN},administrator,administrator,"system:masters"\n')
    return [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'pki'}",
        f"--token-auth-file={folder / 'users.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={folder / 'tokens.key'}",
        f"--service-account-key-file={folder / 'tokens.key'}",
        "--service-cluster-ip-range=10.97.0.0/16",
        "--authorization-mode=RBAC",
        # As on OpenShift: an owner reference that blocks deletion needs a right.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        # No controller makes the default accounts that Pods would need.
        "--disable-admission-plugins=ServiceAccount",
    ]


def _write_kubeconfig(server: ApiServer) -> None:
    cluster = {
        "server": f"https://127.0.0.1:{server.port}",
        "certificate-authority": str(server.folder / "pki" / "apiserver.crt"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    server.kubeconfig.write_text(json.dumps(config))


def _wait_until_ready(server: ApiServer) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if server.ask("GET", "/readyz").status == 200:
                return
        except OSError:  # not there yet: neither its certificate nor its port
            pass
        time.sleep(0.1)
    log = (server.folder / "kube-apiserver.log").read_text()
    raise RuntimeError(f"the API server is not ready after {PATIENCE:.0f} s: {log[-2000:]}")
