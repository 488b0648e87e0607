"""An endpoint's pass against a real API server: probes are made once a turn, and what they report is told.

Nothing runs the Jobs; their Pods' last words are the tests' own.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.labels import LABEL_ENDPOINT, LABEL_ENDPOINT_CREDENTIALS, PROBE_SPEC
from api.probe import Inspection, ProbeReport, ProbeSpec
from api.reasons import Reason
from api.resources import (
    CLASSES,
    ENDPOINTS,
    EVENTS,
    JOBS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    PODS,
    SECRETS,
    VALIDATING_WEBHOOKS,
)
from controller.care import EndpointCare
from controller.settings import Settings
from controller.world import World
from kube.client import Client, Object
from tests.chart.apiserver import CHART, ApiServer, running_api_server
from tests.controller.test_parts import ENVIRONMENT
from tests.e2e.cluster import eventually

pytestmark = pytest.mark.integration

HOME = "dbaas-system"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of an API server with the chart's kinds, whose webhooks are out of the way."""
    with running_api_server() as server:
        server.ask("POST", NAMESPACES.path(), {"metadata": {"name": HOME}})
        server.helm("install", "dbaas", str(CHART), "--namespace", HOME)
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            server.ask("DELETE", resource.path("dbaas"))
        yield administrator(server)


def administrator(server: ApiServer) -> Client:
    configuration = Configuration()
    config.load_kube_config(config_file=str(server.kubeconfig), client_configuration=configuration)
    client = Client(configuration)
    operations = {
        kind: {"name": f"{kind}_db", "inputs": {"n": "{{ .Metadata.name }}"}} for kind in ("create", "delete")
    }
    spec = {"driver": "postgres", "identity": "{{ .Metadata.name }}", "operations": operations}
    eventually(lambda: client.create(CLASSES, {"metadata": {"name": "postgres"}, "spec": spec}), "the kinds are served")
    return client


@dataclass
class Bench:
    """One endpoint, and a controller that looks after it when it is told to."""

    client: Client
    name: str = field(default_factory=lambda: f"endpoint-{next(_numbers)}")

    def __post_init__(self) -> None:
        labels = {LABEL_ENDPOINT_CREDENTIALS: "true"}
        account = {"metadata": {"name": self.name, "namespace": HOME, "labels": labels}}
        self.client.create(SECRETS, {**account, "stringData": {"username": "u", "password": "p"}})
        spec = {"className": "postgres", "host": "db.example.test", "credentialsSecretRef": {"name": self.name}}
        self.client.create(ENDPOINTS, {"metadata": {"name": self.name}, "spec": spec})
        self.start_anew()

    def start_anew(self) -> None:
        """A controller that knows what the API server knows."""
        self.world = World(self.client, HOME)
        self.world.start()
        self.world.wait(threading.Event())
        self.care = EndpointCare(self.client, self.world, Settings.from_env(ENVIRONMENT))

    def look(self, now: datetime) -> list[Object]:
        """One pass; gives the probes that are there."""
        self.care.look_after(self.name, now)
        return self.client.list(JOBS, namespace=HOME, labels=f"{LABEL_ENDPOINT}={self.name}")[0]

    def condition(self, kind: str = "Reachable") -> dict[str, Any]:
        endpoint = self.client.get(ENDPOINTS, self.name)
        return next((c for c in endpoint["status"].get("conditions") or () if c["type"] == kind), {})

    def say(self, job: Object, reason: Reason, clock: timedelta = timedelta()) -> None:
        """Have the Job's Pod end with a report, and the Job with it; `clock` is how fast its node's is."""
        stamp = (datetime.now(UTC) + clock).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        connection = {"serverVersion": "PostgreSQL 15.3"} if reason is Reason.SUCCEEDED else {}
        procedures = {"create": Inspection(found=True, callable=True, public=False)} if connection else {}
        report = ProbeReport(reason, f"it says {reason}", stamp, 7, connection, procedures)
        ended = {"exitCode": 0, "message": report.words().decode(), "reason": "Completed"}
        name = f"{job['metadata']['name']}-pod"
        labels = job["spec"]["template"]["metadata"]["labels"]
        container = {"name": "c", "image": "i"}
        pod = {"metadata": {"name": name, "namespace": HOME, "labels": labels}, "spec": {"containers": [container]}}
        self.client.create(PODS, pod)
        statuses = [
            {
                "name": "c",
                "image": "i",
                "imageID": "i",
                "restartCount": 0,
                "ready": False,
                "state": {"terminated": ended},
            }
        ]
        status = {"phase": "Succeeded", "containerStatuses": statuses}
        self.client.patch(PODS, name, {"status": status}, namespace=HOME, subresource="status")
        self.end(job, "Complete")

    def end(self, job: Object, how: str, reason: str = "") -> None:
        """Have Kubernetes call the Job finished."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kinds = {"Complete": ["SuccessCriteriaMet", "Complete"], "Failed": ["FailureTarget", "Failed"]}[how]
        conditions = [{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now} for kind in kinds]
        status: dict[str, Any] = {"conditions": conditions, "startTime": now}
        if how == "Complete":
            status |= {"completionTime": now, "succeeded": 1}
        name = job["metadata"]["name"]
        self.client.patch(JOBS, name, {"status": status}, namespace=HOME, subresource="status")

        def seen() -> bool:
            job = self.world.jobs.get(name, HOME)
            pod = self.world.probe_pods.get(f"{name}-pod", HOME)
            return job is not None and bool(job.finished) and (how == "Failed" or (pod is not None and pod.ended))

        eventually(seen, "the caches know")


@pytest.fixture
def bench(client: Client) -> Bench:
    return Bench(client)


MINUTE = timedelta(minutes=1)


def after(wait: timedelta = timedelta()) -> datetime:
    """So long from now."""
    return datetime.now(UTC) + wait


@pytest.mark.parametrize("clock", [-10 * MINUTE, timedelta(), 10 * MINUTE], ids=["slow", "right", "fast"])
def test_an_endpoint_is_probed_once_and_told_of_once(client: Client, bench: Bench, clock: timedelta) -> None:
    """Whatever time it is where the probe runs."""
    [job] = bench.look(after())
    [again] = bench.look(after(timedelta(seconds=1)))
    bench.say(job, Reason.SUCCEEDED, clock)
    jobs = bench.look(after(timedelta(seconds=2)))
    told = client.get(ENDPOINTS, bench.name)
    bench.look(after(timedelta(seconds=3)))
    spec = ProbeSpec.parse(job["spec"]["template"]["metadata"]["annotations"][PROBE_SPEC])

    assert again["metadata"]["uid"] == job["metadata"]["uid"]
    assert [one["metadata"]["name"] for one in jobs] == [job["metadata"]["name"]]
    assert bench.condition()["status"] == "True"
    assert bench.condition("ProceduresPrivate")["reason"] == "GrantedToFew"
    assert told["status"]["connection"] == {"serverVersion": "PostgreSQL 15.3"}
    assert client.get(ENDPOINTS, bench.name)["metadata"]["resourceVersion"] == told["metadata"]["resourceVersion"]
    assert (spec.server.host, spec.server.port) == ("db.example.test", 5432)
    assert spec.procedures == {"create": "create_db", "delete": "delete_db"}
    assert len(bench.look(after(11 * MINUTE))) == 2


def test_an_account_that_was_refused_is_not_tried_again_by_who_starts_anew(bench: Bench) -> None:
    """Neither right away nor twice in a turn, whatever is left of the probes before."""
    [first] = bench.look(after())
    bench.say(first, Reason.CREDENTIALS_REFUSED)
    bench.look(after(timedelta(seconds=1)))

    assert bench.condition()["reason"] == "CredentialsRefused"

    bench.client.delete(PODS, f"{first['metadata']['name']}-pod", namespace=HOME)
    bench.client.delete(JOBS, first["metadata"]["name"], namespace=HOME)
    bench.start_anew()

    assert bench.look(after(4 * MINUTE)) == []

    [second] = bench.look(after(6 * MINUTE))
    bench.start_anew()
    [same] = bench.look(after(8 * MINUTE))

    assert same["metadata"]["uid"] == second["metadata"]["uid"]
    assert second["spec"]["ttlSecondsAfterFinished"] == 600


def test_a_changed_account_is_tried_at_once(client: Client, bench: Bench) -> None:
    [first] = bench.look(after())
    bench.say(first, Reason.CREDENTIALS_REFUSED)
    bench.look(after(timedelta(seconds=1)))
    before = bench.world.secrets.get(bench.name, HOME)
    client.patch(SECRETS, bench.name, {"stringData": {"password": "better"}}, namespace=HOME)
    eventually(lambda: bench.world.secrets.get(bench.name, HOME) != before, "the cache knows")
    second = next(
        job for job in bench.look(after(timedelta(seconds=2))) if job["metadata"]["uid"] != first["metadata"]["uid"]
    )
    bench.say(second, Reason.SUCCEEDED)
    bench.look(after(timedelta(seconds=4)))
    notes = [
        event["reason"]
        for event in client.list(EVENTS, namespace="default")[0]
        if event["regarding"]["name"] == bench.name
    ]

    assert bench.condition()["reason"] == "Reached"
    assert sorted(notes) == ["CredentialsRefused", "Reached"]


def test_a_probe_that_ends_without_a_word_says_nothing_of_the_server(bench: Bench) -> None:
    """And is followed by another, soon."""
    [first] = bench.look(after())
    made = datetime.fromisoformat(first["metadata"]["creationTimestamp"])
    bench.end(first, "Failed", "DeadlineExceeded")
    bench.look(made + timedelta(seconds=1))

    assert (bench.condition()["status"], bench.condition()["reason"]) == ("Unknown", "JobLost")
    assert "DeadlineExceeded" in bench.condition()["message"]
    assert len(bench.look(made + timedelta(seconds=3))) == 2


def test_what_lacks_its_secret_is_not_probed(client: Client, bench: Bench) -> None:
    client.delete(SECRETS, bench.name, namespace=HOME)
    eventually(lambda: bench.world.secrets.get(bench.name, HOME) is None, "the cache knows")

    assert bench.look(after()) == []
    assert bench.condition("Ready")["status"] == "False"
    assert json.dumps(bench.condition()) == "{}"
