"""The whole operator without a node: API server, Job controller, collector, controller and Jobs are real processes.

Only the kubelet is a stand-in, and the webhook is away.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.labels import LABEL_ENDPOINT_CREDENTIALS, ROTATE
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    INSTANCES,
    NAMESPACES,
    OPERATIONS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from kube.client import Client
from tests.chart.apiserver import ApiServer, render, running_api_server
from tests.cluster.images import ROOT
from tests.cluster.settings import Settings
from tests.e2e.cluster import OPERATOR, eventually
from tests.e2e.controllers import POD, Controller, environment_of, kubeconfig_of
from tests.e2e.order import Order
from tests.e2e.proxy import Gate, Proxy
from tests.matrix.engines import Engine, class_spec, running_engines
from tests.matrix.kubelet import Journey, Key, Kubelet, Line
from tests.servers.examples import ACCOUNT, OPERATOR_PASSWORD
from tests.servers.pki import Authority
from tests.servers.programs import free_port

NAMESPACE = "shop"
PATIENCE = 90
_LEFT_OUT = {
    "Deployment",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Pod",
    "Job",
}


@dataclass
class Estate:
    """What runs, and how to ask for Databases."""

    api: ApiServer
    client: Client
    kubelet: Kubelet
    controller: Controller
    way: Proxy
    """The controller's, to the API server; its `gate` may be another."""
    door: Proxy
    """The Jobs', likewise."""
    authority: Authority
    engines: list[Engine]
    stops: dict[Key, int] = field(default_factory=dict)
    """Where the next process of an Operation's type is to be killed; said once."""
    moments: dict[Key, dict[str, Callable[[], None]]] = field(default_factory=dict)
    """What happens at which event of an Operation's type; once."""
    journeys: dict[Key, list[Journey]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, key: Key) -> Journey:
        """The journey of a process that starts."""
        journey = Journey(self.stops.pop(key, None))
        journey.moments = self.moments.get(key, {})
        self.journeys.setdefault(key, []).append(journey)
        return journey

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """A controller that waits no longer for an answer than these Jobs do."""
        self.controller.restart(DBAAS_REQUEST_SECONDS="2")
        try:
            yield
        finally:
            self.controller.restart()

    def apply(self, engine: Engine) -> Applied:
        """A Database on an endpoint of its own."""
        applied = self.prepare(engine, engine.name)
        applied.again()
        return applied

    def prepare(self, engine: Engine, class_name: str) -> Applied:
        """The endpoint for a Database that is still to be applied."""
        name = f"{engine.name[0]}{next(self._numbers)}"
        line = Line(engine.server.port, lambda: self.kubelet.current.get((NAMESPACE, name)))
        example = yaml.safe_load(_example(engine, "endpoint"))["spec"]
        place = {"host": "127.0.0.1", "port": line.port}
        spec = {**example, **place, "className": class_name, "probe": {"every": "0s"}}
        self.client.create(ENDPOINTS, {"metadata": {"name": name}, "spec": spec})
        return Applied(self.client, NAMESPACE, name, self, engine, line)


@dataclass(frozen=True)
class Applied(Order):
    """A Database that a test applied."""

    estate: Estate
    engine: Engine
    line: Line

    @property
    def identity(self) -> str:
        """What it is called on its server."""
        return f"{self.namespace}_{self.name}"

    def key(self, kind: str) -> Key:
        """Of its Operations of one type."""
        return self.namespace, self.name, kind

    def again(self, endpoint: str = "") -> None:
        """Ask for it: the first time, or once more after it was deleted. `endpoint`: not its own."""
        metadata = {"name": self.name, "namespace": NAMESPACE}
        self.estate.client.create(DATABASES, {"metadata": metadata, "spec": {"endpoint": endpoint or self.name}})

    def rotate(self, value: str = "now") -> None:
        """Ask for a rotation; once for each value."""
        self.annotate(ROTATE, value)

    @property
    def ready(self) -> bool:
        """Whether it is Ready."""
        return self.condition().get("status") == "True"

    @property
    def rotated(self) -> bool:
        """Whether it was rotated, if that was asked for."""
        found = self.get() or {"metadata": {}}
        asked = (found["metadata"].get("annotations") or {}).get(ROTATE)
        return asked in (None, (found.get("status") or {}).get("rotateHandled"))

    def wait_settled(self, kind: str, seconds: float = PATIENCE) -> None:
        """Wait until it is Ready, what was asked for has been done, of this type last, and no Job's right is left."""

        def settled() -> bool:
            last = (self.operations() or [{"spec": {}}])[-1]
            # A create whose credentials were lost on their way is followed by a rotation.
            served = last["spec"].get("type") in (kind, "rotate")
            done = served and (last.get("status") or {}).get("outcome") == "Succeeded"
            assert self.ready, self.describe()
            assert done, self.describe()
            assert self.rotated, self.describe()
            left = sorted(line.split()[0] for line in self.remains())
            assert left == ["DatabaseInstance", "Role", "RoleBinding", "Secret"], left
            return True

        eventually(settled, f"{self.name} has settled after its {kind}", seconds)

    def wait_let_go(self, seconds: float = PATIENCE) -> None:
        """Wait until nobody is told of it any more."""

        def let_go() -> bool:
            assert self.get() is None, self.describe()
            return True

        eventually(let_go, f"{self.name} is let go", seconds)

    def wait_gone(self, seconds: float = PATIENCE) -> None:
        """Wait until nothing of it is left, here and on its server."""

        def gone() -> bool:
            assert self.get() is None, self.describe()
            left = [*self.remains(), *self.engine.present(self.identity)]
            assert left == [], left
            return True

        eventually(gone, f"{self.name} is gone without a trace", seconds)

    def describe(self) -> str:
        """What happened to it."""
        told = [
            (each["metadata"]["name"], each["spec"]["type"], each.get("status", {}).get("reason"))
            for each in self.operations()
        ]
        return f"{self.name}: {json.dumps(self.status.get('conditions'))} {told}"


def _example(engine: Engine, what: str) -> str:
    return (ROOT / "examples" / engine.name / f"{what}.yaml").read_text()


@contextlib.contextmanager
def running_estate(folder: Path) -> Iterator[Estate]:
    """Start everything; the controller is started by whoever needs it."""
    authority = Authority(folder / "ca")
    with contextlib.ExitStack() as stack:
        engines = stack.enter_context(running_engines(authority))
        api = stack.enter_context(running_api_server())
        client = _client(api)
        environment = _install(api, client)
        stack.enter_context(_controller_manager(api, folder))
        kubelet = Kubelet(api, client, authority, folder / "pods")
        stack.callback(kubelet.stop)
        certificate = authority.issue("door", ["127.0.0.1"])
        door = stack.enter_context(Proxy(api.url, api.trust, gate=kubelet.door, certificate=certificate))
        kubelet.port = door.port
        way = stack.enter_context(Proxy(api.url, api.trust, gate=Gate()))
        controller = Controller(_environment(api, folder, way, environment), folder / "controller.log")
        stack.callback(controller.stop)
        estate = Estate(api, client, kubelet, controller, way, door, authority, engines)
        kubelet.started = estate.begin
        for engine in engines:
            _offer(client, engine, authority)
        kubelet.start()
        controller.start()
        with _kept_running(controller):
            yield estate


@contextlib.contextmanager
def _kept_running(controller: Controller) -> Iterator[None]:
    """A busy machine costs a controller its lead; the kubelet would start it again."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            controller.revive()

    thread = threading.Thread(target=look, name="kept-running")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _client(api: ApiServer) -> Client:
    configuration = Configuration()
    config.load_kube_config(config_file=str(api.kubeconfig), client_configuration=configuration)
    return Client(configuration)


def _install(api: ApiServer, client: Client) -> dict[str, str]:
    """What the chart installs, programs and webhooks excepted; gives the controller's environment."""
    for name in (OPERATOR, NAMESPACE):
        client.create(NAMESPACES, {"metadata": {"name": name}})
    manifests = [m for m in yaml.safe_load_all(render("--no-hooks")) if m]
    kept = [m for m in manifests if m["kind"] not in _LEFT_OUT]
    kept.sort(key=lambda m: m["kind"] != "CustomResourceDefinition")
    api.kubectl("apply", "-n", OPERATOR, "-f", "-", text=yaml.safe_dump_all(kept))

    def served() -> bool:
        return all(client.list(resource)[1] for resource in (DATABASES, CLASSES, ENDPOINTS, INSTANCES, OPERATIONS))

    eventually(served, "the CRDs are served")
    [deployment] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == ("Deployment", "dbaas-controller")]
    return environment_of(deployment)


def _environment(api: ApiServer, folder: Path, way: Proxy, deployed: dict[str, str]) -> dict[str, str]:
    path = SERVICE_ACCOUNTS.path("dbaas-controller", namespace=OPERATOR, subresource="token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = api.ask("POST", path, request).body["status"]["token"]
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig_of(way.url, token)))
    return {
        **deployed,
        "DBAAS_NAMESPACE": OPERATOR,
        "KUBECONFIG": str(folder / "kubeconfig"),
        "DBAAS_POD_NAME": POD,
        "DBAAS_METRICS_PORT": str(free_port()),
    }


@contextlib.contextmanager
def _controller_manager(api: ApiServer, folder: Path) -> Iterator[None]:
    """Kubernetes' own controllers of Jobs, namespaces and what belongs to what."""
    argv = [
        "kube-controller-manager",
        f"--kubeconfig={api.kubeconfig}",
        "--controllers=job-controller,namespace-controller,garbage-collector-controller",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={free_port()}",
        "--use-service-account-credentials=false",
    ]
    with (folder / "controller-manager.log").open("wb") as log:
        executable = Settings.from_env(os.environ).bin / "kubectl"
        process = subprocess.Popen(argv, executable=executable, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _offer(client: Client, engine: Engine, authority: Authority) -> None:
    """The class of an engine, the operator's account and the CA."""
    client.create(CLASSES, {"metadata": {"name": engine.name}, "spec": class_spec(engine)})
    data: dict[str, dict[str, str]] = {
        "account": {"username": ACCOUNT, "password": OPERATOR_PASSWORD},
        "ca": {"ca.crt": authority.pem},
    }
    for what, values in data.items():
        labels = {LABEL_ENDPOINT_CREDENTIALS: "true"}
        metadata = {"name": f"{engine.name}-{what}", "namespace": OPERATOR, "labels": labels}
        client.create(SECRETS, {"metadata": metadata, "stringData": values})
