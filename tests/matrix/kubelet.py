"""A stand-in for the kubelet: runs each of the operator's Pods as a process of this machine, with what it mounts.

The Job's process, the API server and the Job controller are real. What a Pod's process does on the network passes
here, so that it can be killed between any two of its requests.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Self

from api.kinds import Metadata
from api.labels import LABEL_DATABASE, LABEL_DATABASE_NAMESPACE, LABEL_OPERATION_TYPE
from api.resources import PODS, SECRETS, SERVICE_ACCOUNTS
from kube.cache import Cache
from kube.client import Client
from kube.errors import KubeError, NotFound, Unavailable
from tests.chart.apiserver import ApiServer
from tests.cluster.images import ROOT
from tests.e2e.proxy import CUT, Asked, Fault, Gate
from tests.servers.pki import Authority

AT_A_TIME = threading.Semaphore(6)
"""More processes that start at once only wait for each other."""
Key = tuple[str, str, str]
"""(namespace, name) of the Database, type of the Operation."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod of a Job."""

    metadata: Metadata
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        """Read a manifest."""
        return cls(Metadata.parse(manifest), manifest)

    @property
    def key(self) -> Key:
        """What it is for."""
        labels = self.metadata.labels
        return labels[LABEL_DATABASE_NAMESPACE], labels[LABEL_DATABASE], labels[LABEL_OPERATION_TYPE]

    @property
    def operation(self) -> str:
        """The name of its Operation, its account and its Job."""
        return str(self.manifest["spec"]["serviceAccountName"])


class Journey:
    """The requests of one process in their order, API server and DBMS together; it may be killed at one of them."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.events: list[str] = []
        self.moments: dict[str, Callable[[], None]] = {}
        """What happens at an event, once; `asked 2`: see `moment`."""
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def passes(self, what: str) -> bool:
        """Note an event; whether the process has lived on. SIGKILL, as the kubelet does to a container."""
        with self._lock:
            moment = self.moment(what)
            self.events.append(what)
            if self.stop_at is not None and len(self.events) >= self.stop_at and self.process is not None:
                self.process.kill()
                self.process.wait()
                return False
            happens = self.moments.pop(moment, None)
        if happens is not None:
            happens()
        return True

    def moment(self, what: str) -> str:
        """What the next event is called: what is said to the DBMS is counted from where the process knows it is wanted.

        At `asked 2` the server has the second such request, and the process waits for its answer.
        """
        if what not in ("asked", "answered") or "wanted?" not in self.events:
            return what
        wanted = len(self.events) - self.events[::-1].index("wanted?")
        return f"{what} {self.events[wanted:].count(what) + 1}"


class Mishap(Enum):
    """What happens to what is said on a line."""

    REFUSED = "connection cut before the request"
    ASKED = "connection cut after the request"
    HALF = "connection cut amid the result"


class Door(Gate):
    """The Jobs' way to the API server: finds the journey by the token."""

    def __init__(self) -> None:
        self.journeys: dict[str, Journey] = {}

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """It was done; the process may not live to hear of it."""
        journey = self.journeys.get(asked.token)
        if journey is None or journey.passes(_step(asked, journey.events)):
            return None
        return Fault(CUT)


def _step(asked: Asked, before: list[str]) -> str:
    tried = "dryRun" in asked.target
    if "/operations/" in asked.target:
        return "reported" if not tried else "wanted?" if "read" in before else "read"
    return "secret read" if asked.method == "GET" else "secret tried" if tried else "secret written"


class Kubelet:
    """Runs what the Job controller asks for."""

    def __init__(self, api: ApiServer, client: Client, authority: Authority, folder: Path) -> None:
        self.door = Door()
        self.port = 0
        """Of the proxy behind `door`."""
        self.started: Callable[[Key], Journey] = lambda key: Journey()
        """Asked for the journey of each process that starts."""
        self.current: dict[tuple[str, str], Journey] = {}
        self.logs: dict[str, str] = {}
        self._api = api
        self._client = client
        self._authority = authority
        self._folder = folder
        self._pods = Cache(client, PODS, Pod.parse)
        self._pods.on_change(self._changed)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Begin to watch."""
        self._pods.start()

    def stop(self) -> None:
        """End every process."""
        for process in self._processes:
            with suppress(OSError):
                process.kill()
                process.wait()

    @property
    def running(self) -> int:
        """How many processes have not ended."""
        return sum(process.poll() is None for process in self._processes)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        if old is None and new is not None:
            threading.Thread(target=self._run, args=(new,), daemon=True).start()

    def _run(self, pod: Pod) -> None:
        if (pod.manifest.get("status") or {}).get("phase") not in (None, "Pending"):
            return
        try:
            files, account, token = self._mount(pod)
        except NotFound:
            return  # its account or a Secret is gone: it would wait until somebody deletes it
        with AT_A_TIME:
            self._journey(pod, files, account, token)

    def _journey(self, pod: Pod, files: Path, account: Path, token: str) -> None:
        journey = self.started(pod.key)
        [container] = pod.manifest["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}
        launch = ROOT / "tests" / "provisioner_job" / "launch.py"
        self.door.journeys[token] = self.current[pod.key[:2]] = journey
        process = subprocess.Popen(
            [sys.executable, str(launch), str(files), str(account), "22"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        journey.process = process
        journey.passes("started")
        output, _ = process.communicate()
        self.logs[pod.operation] = output.decode()
        code = process.returncode
        del self.door.journeys[token]
        # Whoever uses the same line from now on is not this process; perhaps the next, which has begun already.
        if self.current.get(pod.key[:2]) is journey:
            del self.current[pod.key[:2]]
        self._finish(pod, code)

    def _finish(self, pod: Pod, code: int) -> None:
        phase = "Succeeded" if code == 0 else "Failed"
        ended = {"terminated": {"exitCode": abs(code), "reason": phase}}
        container = {"name": "provisioner-job", "image": "x", "imageID": "x", "ready": False, "restartCount": 0}
        status = {"phase": phase, "containerStatuses": [{**container, "state": ended}]}
        with suppress(NotFound):
            self._patiently(
                lambda: self._client.patch(
                    PODS, pod.metadata.name, {"status": status}, namespace=pod.metadata.namespace, subresource="status"
                )
            )

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while True:
            try:
                return ask()
            except NotFound:
                raise
            except KubeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _mount(self, pod: Pod) -> tuple[Path, Path, str]:
        """Its files, its account's files, and the token among them."""
        folder = self._folder / pod.metadata.name
        namespace = pod.metadata.namespace
        [volume] = pod.manifest["spec"]["volumes"]
        for source in volume["projected"]["sources"]:
            name, items = source["secret"]["name"], source["secret"]["items"]
            secret = self._patiently(lambda name=name: self._client.get(SECRETS, name, namespace=namespace))  # type: ignore[misc]
            for item in items:
                path = folder / "files" / item["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(base64.b64decode(secret["data"][item["key"]]))
        account = folder / "account"
        account.mkdir(parents=True)
        token = self._patiently(lambda: self._token(pod))
        (account / "token").write_text(token)
        (account / "ca.crt").write_text(self._authority.pem)
        return folder / "files", account, token

    def _token(self, pod: Pod) -> str:
        path = SERVICE_ACCOUNTS.path(pod.operation, namespace=pod.metadata.namespace, subresource="token")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        try:
            answer = self._api.ask("POST", path, request)
        except OSError as error:
            raise Unavailable(str(error)) from error
        if not answer.accepted:
            raise NotFound(answer.message) if answer.status < 500 else Unavailable(answer.message)
        token: str = answer.body["status"]["token"]
        return token


class Line:
    """A way to a DBMS, one Database's own: each request and each answer is an event of the journey under way."""

    def __init__(self, target: int, journey: Callable[[], Journey | None]) -> None:
        self.mishap: Callable[[str], Mishap | None] = lambda what: None
        """Asked about each request and each answer; what it names happens."""
        self._target = target
        self._journey = journey
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def passes(self, what: str) -> bool:
        """Note an event of the journey under way; whether its process has lived on."""
        journey = self._journey()
        return journey is None or journey.passes(what)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                pair = _Pair(client, server, self)
                for asks in (True, False):
                    threading.Thread(target=pair.pump, args=(asks,), daemon=True).start()


class _Pair:
    """One connection through a line."""

    def __init__(self, client: socket.socket, server: socket.socket, line: Line) -> None:
        self._client = client
        self._server = server
        self._line = line
        self._asking = False
        self._open = 2
        self._lock = threading.Lock()

    def pump(self, asks: bool) -> None:  # noqa: FBT001
        """Bring what one side says to the other until either is gone."""
        source, sink = (self._client, self._server) if asks else (self._server, self._client)
        what = "asked" if asks else "answered"
        with suppress(OSError):
            while data := source.recv(65536):
                turns, self._asking = self._asking != asks, asks
                mishap = self._line.mishap(what) if turns else None
                if asks and mishap is Mishap.REFUSED:
                    break
                if not asks and mishap is Mishap.HALF:
                    sink.sendall(data[: len(data) // 2])
                    break
                # The server has what it was asked before the one who asked dies.
                if asks:
                    sink.sendall(data)
                if (turns and not self._line.passes(what)) or mishap is not None:
                    break
                if not asks:
                    sink.sendall(data)
        self._end()

    def _end(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= 1
            if not self._open:
                self._client.close()
                self._server.close()
