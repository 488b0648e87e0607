"""The webhook as it runs: its own process, its own account's token, called by a real API server."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from api.resources import MUTATING_WEBHOOKS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS, VALIDATING_WEBHOOKS
from tests.chart.apiserver import CHART, ApiServer
from tests.servers.pki import Authority, KeyPair
from tests.servers.programs import free_ports

HOME = "dbaas-system"
ACCOUNT = "dbaas-webhook"
SECRET = "dbaas-webhook-tls"
ROOT = Path(__file__).parents[2]
PATIENCE = 90.0
"""Seconds."""


class Webhook:
    """A webhook process and the ways to ask it."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.authority = Authority(folder / "pki")
        self.port, self.metrics_port = free_ports(2)
        self.log = folder / "webhook.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        """Start the process, with these environment variables besides; it is not ready yet."""
        environment = {
            "PATH": os.environ["PATH"],
            # What it leaves behind when it is killed goes away with the folder.
            "TMPDIR": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "KUBECONFIG": str(self._kubeconfig()),
            "DBAAS_NAMESPACE": HOME,
            "DBAAS_RELEASE": "dbaas",
            "DBAAS_WEBHOOK_TLS_SECRET": SECRET,
            "DBAAS_WEBHOOK_PORT": str(self.port),
            "DBAAS_METRICS_PORT": str(self.metrics_port),
            **settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "webhook"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End the process and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it whatever state it is in, workers too."""
        if self.process is not None and self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in (self.process.pid, *map(int, children)):
                os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def store_certificate(self, pair: KeyPair) -> None:
        """Make or renew the Secret with the certificate."""
        data = {"tls.crt": pair.certificate, "tls.key": pair.key}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET},
            "type": "kubernetes.io/tls",
            "data": {key: base64.b64encode(path.read_bytes()).decode() for key, path in data.items()},
        }
        answer = self.server.apply(SECRETS.path(SECRET, namespace=HOME), secret)
        assert answer.accepted, answer.message

    def issue(self, stem: str) -> KeyPair:
        """A certificate for the address at which it is called."""
        return self.authority.issue(stem, ["127.0.0.1"])

    def connect(self) -> http.client.HTTPSConnection:
        """A connection of its own, as the API server would make it."""
        trust = ssl.create_default_context(cafile=self.authority.file)
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=trust, timeout=PATIENCE)

    def ask(self, review: dict[str, Any]) -> dict[str, Any]:
        """What it answers to one review."""
        connection = self.connect()
        try:
            connection.request("POST", "/validate", json.dumps(review), {"Content-Type": "application/json"})
            response: dict[str, Any] = json.loads(connection.getresponse().read())["response"]
            return response
        finally:
            connection.close()

    def peer_certificate(self) -> bytes:
        """What a new connection is served, DER."""
        connection = self.connect()
        connection.connect()
        try:
            assert isinstance(connection.sock, ssl.SSLSocket)
            return connection.sock.getpeercert(binary_form=True) or b""
        finally:
            connection.close()

    def probe(self, path: str) -> tuple[int, str]:
        """What kubelet or Prometheus gets; (0, "") while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Wait until every worker says that it can answer."""
        self.wait_for(lambda: self.log_lines("worker ready"), 2)

    def wait_for(self, found: Callable[[], list[Any]], count: int) -> None:
        """Wait until `found` has at least `count` elements."""
        eventually(lambda: len(found()) >= count, lambda: self.log.read_text()[-3000:])

    def log_lines(self, message: str) -> list[dict[str, Any]]:
        """Its log records with this message."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        return [line for line in lines if line["message"] == message]

    def register(self) -> None:
        """Have the API server call it, and wait until it does."""
        bundle = base64.b64encode(self.authority.file.read_bytes()).decode()
        for resource, path in ((MUTATING_WEBHOOKS, "/mutate"), (VALIDATING_WEBHOOKS, "/validate")):
            client = {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": bundle}
            webhooks = self.server.ask("GET", resource.path("dbaas")).body["webhooks"]
            patch: Any = [
                {"op": "replace", "path": f"/webhooks/{index}/clientConfig", "value": client}
                for index in range(len(webhooks))
            ]
            answer = self.server.ask("PATCH", resource.path("dbaas"), patch, content_type="application/json-patch+json")
            assert answer.accepted, answer.message

    def _kubeconfig(self) -> Path:
        """The chart's own account, with no more rights than the chart gives it."""
        path = SERVICE_ACCOUNTS.path(ACCOUNT, namespace=HOME, subresource="token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.server.ask("POST", path, request)
        assert answer.accepted, answer.message
        config = json.loads(self.server.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": answer.body["status"]["token"]}
        file = self.folder / "webhook.kubeconfig"
        file.write_text(json.dumps(config))
        return file


def install(server: ApiServer, *namespaces: str) -> None:
    """Install the chart and make some namespaces."""
    for namespace in (HOME, *namespaces):
        answer = server.ask("POST", NAMESPACES.path(), {"metadata": {"name": namespace}})
        assert answer.accepted, answer.message
    server.helm("install", "dbaas", str(CHART), "--namespace", HOME)


@contextmanager
def running_webhook(server: ApiServer, folder: Path, watched: str = "") -> Iterator[Webhook]:
    """A webhook that is ready and called by the API server; `watched`: the only namespaces that it serves."""
    webhook = Webhook(server, folder)
    with ExitStack() as stack:
        stack.callback(webhook.kill)
        webhook.store_certificate(webhook.issue("first"))
        webhook.start(DBAAS_WATCH_NAMESPACES=watched)
        webhook.wait_until_ready()
        webhook.register()
        yield webhook


def eventually(happened: Callable[[], bool], explain: Callable[[], str] = str) -> None:
    """Wait until something happens; AssertionError with an explanation when it does not."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
