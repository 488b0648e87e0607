"""What the webhook costs: reviews with 0, 50 and 500 policies, what it adds to a create through a real API server, its
memory, and an expression's price.

The webhook is a process of its own, with its two workers; who asks runs on the same cores.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    POLICIES,
    VALIDATING_WEBHOOKS,
)
from policy.expressions import Inputs
from policy.isolation import Evaluator
from policy.rules import Validation
from tests.bench.bare import bare_webhook
from tests.bench.figures import Row, p50, p99
from tests.chart.apiserver import ApiServer, running_api_server
from tests.webhook.builders import database, database_class, endpoint, policy, review
from tests.webhook.running import HOME, Webhook, eventually, running_webhook

POLICY_COUNTS = (0, 50, 500)
CLIENTS = 8
SECONDS = 5.0
"""For which each number of policies is asked about."""
CREATES = 200
EVALUATIONS = 200
RULE = "object.metadata.name.size() <= 40 && object.spec.endpoint != 'policy-{}'"
WATCHED, UNWATCHED, BARE = "watched", "unwatched", "bare"
"""Namespaces: where the webhook is asked, where nobody is, and where one is that decides nothing."""


@dataclass(frozen=True)
class Load:
    """What came of asking for a while."""

    rate: float
    """Reviews a second."""
    latencies: Sequence[float]
    """Seconds."""


def rows() -> list[Row]:
    """Measure everything."""
    with running_api_server() as server, tempfile.TemporaryDirectory() as folder:
        for name in (HOME, WATCHED, UNWATCHED, BARE):
            _applied(
                server, NAMESPACES.path(name), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        server.helm("install", "dbaas", "chart", "-n", HOME, values={"watchNamespaces": [WATCHED]})
        with running_webhook(server, Path(folder), watched=WATCHED) as webhook:
            for resource, manifest in ((CLASSES, database_class()), (ENDPOINTS, endpoint())):
                _applied_eventually(server, resource.path(manifest["metadata"]["name"]), manifest)
            # Before there are policies: what they cost is said of reviews.
            with bare_webhook(webhook.issue("bare")) as url:
                _registered(server, webhook, url)
                created = [*_creates(server)]
            return [*_reviews(server, webhook), *created, *_memory(webhook), *_expressions()]


def _reviews(server: ApiServer, webhook: Webhook) -> Iterator[Row]:
    loads: dict[int, Load] = {}
    there = 0
    for count in POLICY_COUNTS:
        for number in range(there, count):
            name = f"bench-{number:03}"
            _applied(server, POLICIES.path(name), policy(name, validations=[{"expression": RULE.format(number)}]))
        there = count
        if count:
            _wait_until_known(server, webhook, f"last-{count}")
        loads[count] = _asked(webhook)
    target, bare = loads[50].rate, loads[0]
    yield Row("reviews a second with 50 policies : 1000", "/s", target, 1000, target / 1000, 1.0, "≥")
    for count in POLICY_COUNTS:
        load = loads[count]
        yield Row(f"reviews a second, {count} policies : none", "/s", load.rate, bare.rate, load.rate / bare.rate)
        for label, at in (("p50", p50), ("p99", p99)):
            figure, reference = at(load.latencies) * 1000, at(bare.latencies) * 1000
            yield Row(f"a review with {count} policies : none, {label}", "ms", figure, reference, figure / reference)


def _wait_until_known(server: ApiServer, webhook: Webhook, name: str) -> None:
    """Until both workers know the last policy: a refusal that only it gives, from many connections."""
    refusing = policy(name, match={"users": [name]}, validations=[{"expression": "false"}])
    _applied(server, POLICIES.path(name), refusing)
    body = json.dumps(review("CREATE", _database(), user=name)).encode()

    def known() -> bool:
        return not any(_ask(webhook, body)["allowed"] for _ in range(12))

    eventually(known)


def _asked(webhook: Webhook) -> Load:
    """Ask for a while, over connections that are kept."""
    body = json.dumps(review("CREATE", _database())).encode()
    head = f"POST /validate HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
    start = time.perf_counter()

    def ask(taken: list[float]) -> None:
        with contextlib.closing(webhook.connect()) as connection:
            connection.connect()
            while (began := time.perf_counter()) < start + SECONDS:
                connection.sock.sendall(f"{head}\r\n\r\n".encode() + body)
                _allowed(connection.sock)
                taken.append(time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=(taken,)) for taken in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [latency for taken in latencies for latency in taken]
    return Load(len(every) / (time.perf_counter() - start), every)


def _allowed(connection: socket.socket) -> None:
    """Read an answer that allows; http.client would take as long to read it as the webhook to give it."""
    received = b""
    while not received.endswith(b"}}\n"):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("the webhook hung up")
        received += piece
    if b'"allowed":true' not in received:
        raise RuntimeError("the webhook did not allow what it is to allow")


def _creates(server: ApiServer) -> Iterator[Row]:
    """The same create where the webhook is asked, where nobody is and where the bare one is, one after the other."""
    taken: dict[str, list[float]] = {WATCHED: [], UNWATCHED: [], BARE: []}
    for number in range(CREATES):
        for namespace in taken:
            manifest = database(f"bench-{number}", namespace)
            began = time.perf_counter()
            answer = server.ask("POST", DATABASES.path(namespace=namespace), manifest)
            taken[namespace].append(time.perf_counter() - began)
            if not answer.accepted:
                raise RuntimeError(answer.message)
    for label, at, target in (("p50", p50, 3.0), ("p99", p99, 15.0)):
        added, bare = ((at(taken[where]) - at(taken[UNWATCHED])) * 1000 for where in (WATCHED, BARE))
        name = "what the webhook adds to a create"
        yield Row(f"{name} : {target:g} ms, {label}", "ms", added, target, added / target, 1.0)
        yield Row(f"{name} : what one adds that decides nothing, {label}", "ms", added, bare, added / bare)


def _registered(server: ApiServer, webhook: Webhook, url: str) -> None:
    """Have the bare webhook asked as the installed one is, in its own namespace."""
    bundle = base64.b64encode(webhook.authority.file.read_bytes()).decode()
    for resource, path in ((MUTATING_WEBHOOKS, "/mutate"), (VALIDATING_WEBHOOKS, "/validate")):
        installed = server.ask("GET", resource.path("dbaas")).body
        asked, kind = installed["webhooks"][0], {key: installed[key] for key in ("apiVersion", "kind")}
        told = {
            "clientConfig": {"url": f"{url}{path}", "caBundle": bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": BARE}},
            # What has no namespace would meet it too, when it is there no more.
            "rules": [rule for rule in asked["rules"] if rule["resources"] == [DATABASES.plural]],
        }
        manifest = {**kind, "metadata": {"name": "bare"}, "webhooks": [{**asked, **told}]}
        _applied(server, resource.path("bare"), manifest)


def _memory(webhook: Webhook) -> Iterator[Row]:
    assert webhook.process is not None
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as bare:
        cast("IO[bytes]", bare.stdout).readline()
        reference = _megabytes(bare.pid)
        bare.communicate(b"\n")
    workers = _children(webhook.process.pid)
    evaluators = [child for worker in workers for child in _children(worker)]
    for what, processes in (("a gunicorn worker", workers), ("its evaluator of CEL", evaluators)):
        figure = sum(map(_megabytes, processes)) / len(processes)
        yield Row(f"memory of {what} : a bare Python", "MB", figure, reference, figure / reference)


def _expressions() -> Iterator[Row]:
    values = {"object": _database()}
    rules = [Validation(RULE.format(number)) for number in range(50)]
    evaluator, inputs = Evaluator(), Inputs(values)
    for asked in (evaluator.judge(values, rules, ""), [inputs.holds(rule.expression) for rule in rules]):
        if len(asked) != len(rules):
            raise RuntimeError("not every expression was answered")
    began = time.perf_counter()
    for _ in range(EVALUATIONS):
        evaluator.judge(values, rules, "")
    isolated = time.perf_counter() - began
    evaluator.close()
    began = time.perf_counter()
    for _ in range(EVALUATIONS):
        inputs = Inputs(values)
        for rule in rules:
            inputs.holds(rule.expression)
    direct = time.perf_counter() - began
    each = 1_000_000 / EVALUATIONS / len(rules)
    yield Row(
        "an expression, of 50, in the evaluator : directly", "µs", isolated * each, direct * each, isolated / direct
    )


def _database() -> dict[str, Any]:
    return database(namespace=WATCHED)


def _ask(webhook: Webhook, body: bytes) -> dict[str, Any]:
    with contextlib.closing(webhook.connect()) as connection:
        return _answer(connection, body)


def _answer(connection: http.client.HTTPSConnection, body: bytes) -> dict[str, Any]:
    connection.request("POST", "/validate", body, {"Content-Type": "application/json"})
    response: dict[str, Any] = json.loads(connection.getresponse().read())["response"]
    return response


def _applied(server: ApiServer, path: str, manifest: dict[str, Any]) -> None:
    answer = server.apply(path, manifest)
    if not answer.accepted:
        raise RuntimeError(answer.message)


def _applied_eventually(server: ApiServer, path: str, manifest: dict[str, Any]) -> None:
    """The API server hears of a registered webhook a moment later."""
    eventually(lambda: server.apply(path, manifest).accepted, lambda: server.apply(path, manifest).message)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _megabytes(pid: int) -> float:
    """The share of memory that is this process's: what it has alone, and its part of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
