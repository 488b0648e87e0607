"""The webhook's life: when it takes reviews, how its certificate is renewed, how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.resources import SECRETS
from tests.chart.apiserver import ApiServer, running_api_server
from tests.servers.pki import Authority
from tests.webhook.builders import database, endpoint, review
from tests.webhook.running import HOME, SECRET, Webhook, eventually, install
from webhook.certificate import expiry_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with running_api_server() as server:
        install(server, "shop")
        yield server


@pytest.fixture
def webhook(server: ApiServer, tmp_path: Path) -> Iterator[Webhook]:
    """A webhook with its first certificate, not started; its API server does not call it."""
    webhook = Webhook(server, tmp_path)
    webhook.store_certificate(webhook.issue("first"))
    yield webhook
    webhook.kill()


def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """One review, answered to the end."""
    body = json.dumps(review("DELETE", database()))
    connection.request("POST", "/validate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    assert json.loads(response.read())["response"]["allowed"]
    return response


def metric(webhook: Webhook, name: str) -> float:
    """One number of those that Prometheus gets."""
    (line,) = (line for line in webhook.probe("/metrics")[1].splitlines() if line.startswith(f"{name} "))
    return float(line.rpartition(" ")[2])


class Client(threading.Thread):
    """An API server's manners: keeps its connection, makes another when told to close or when there is none."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(daemon=True)
        self._webhook = webhook
        self._enough = threading.Event()
        self.answered = 0
        self.connections = 0
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until told to end, or until nobody takes a new connection."""
        connection: http.client.HTTPSConnection | None = None
        while not self._enough.wait(0.005):
            if connection is None:
                connection = self._webhook.connect()
                try:
                    connection.connect()
                except OSError:
                    connection.close()
                    return
                self.connections += 1
            try:
                response = ask(connection)
                self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if response.getheader("Connection") == "close":
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def finish(self) -> None:
        """End it."""
        self._enough.set()
        self.join(10)


@contextmanager
def asking(webhook: Webhook, count: int = 4) -> Iterator[list[Client]]:
    """Clients that ask all the while."""
    clients = [Client(webhook) for _ in range(count)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: all(client.answered for client in clients), lambda: str([c.failures for c in clients]))
        yield clients
    finally:
        for client in clients:
            client.finish()


def test_it_waits_for_its_certificate(server: ApiServer, webhook: Webhook) -> None:
    server.ask("DELETE", SECRETS.path(SECRET, namespace=HOME))
    webhook.start()
    eventually(lambda: webhook.probe("/readyz") == (503, "waiting for the certificate's Secret\n"))
    alive = webhook.probe("/healthz")[0]

    webhook.store_certificate(webhook.issue("late"))
    webhook.wait_until_ready()

    assert alive == 200
    with asking(webhook, count=1):
        pass


def test_it_is_ready_while_api_servers_trust_what_it_serves(webhook: Webhook) -> None:
    webhook.register()
    webhook.start()
    webhook.wait_until_ready()
    eventually(lambda: webhook.probe("/readyz") == (200, "ok\n"), lambda: str(webhook.probe("/readyz")))
    webhook.authority = Authority(webhook.folder / "strange", "Nobody's CA")

    webhook.store_certificate(webhook.issue("strange"))
    eventually(lambda: webhook.probe("/readyz")[0] == 503)
    reason = webhook.probe("/readyz")[1]
    webhook.register()
    eventually(lambda: webhook.probe("/readyz") == (200, "ok\n"))

    assert reason == "the caBundle of MutatingWebhookConfiguration dbaas is not of the served certificate\n"


def test_a_renewed_certificate_is_served_without_a_restart_and_without_a_lost_review(webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    first = webhook.peer_certificate()

    with asking(webhook) as clients:
        renewed = webhook.issue("second")
        webhook.store_certificate(renewed)
        webhook.wait_for(lambda: webhook.log_lines("serving a certificate"), 4)
        served = {webhook.peer_certificate() for _ in range(20)}
        before = sum(client.answered for client in clients)
        eventually(lambda: sum(client.answered for client in clients) > before + 20)

    assert [client.failures for client in clients] == [[]] * len(clients)
    assert len(served) == 1
    assert first not in served
    expiry = metric(webhook, "dbaas_webhook_certificate_expiry_timestamp_seconds")
    assert expiry == expiry_of(renewed.certificate.read_bytes())
    assert webhook.process is not None
    assert webhook.process.poll() is None


def test_a_secret_that_is_no_certificate_changes_nothing(server: ApiServer, webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    first = webhook.peer_certificate()
    stranger = webhook.issue("stranger")
    mismatched = {"data": {"tls.key": ""}, "stringData": {"tls.key": stranger.key.read_text()}}

    server.merge(SECRETS.path(SECRET, namespace=HOME), mismatched)
    unusable = "the certificate's Secret cannot be used; the last certificate stays in use"
    webhook.wait_for(lambda: webhook.log_lines(unusable), 2)

    assert webhook.peer_certificate() == first
    assert stranger.key.read_text().splitlines()[1] not in webhook.log.read_text()


def test_when_told_to_end_it_fails_readiness_first_and_loses_no_review(webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    assert webhook.process is not None

    with asking(webhook) as clients:
        webhook.process.send_signal(signal.SIGTERM)
        eventually(lambda: webhook.probe("/readyz") == (503, "ending\n"))
        before = [(client.answered, client.connections) for client in clients]
        # Still answered, on connections that are closed politely.
        eventually(
            lambda: all(
                client.answered > answered and client.connections > connections
                for client, (answered, connections) in zip(clients, before, strict=True)
            )
        )
        status = webhook.process.wait(30)

    assert status == 0
    assert [client.failures for client in clients] == [[]] * len(clients)


def test_old_versions_of_tls_are_not_spoken(webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    old = ssl.create_default_context(cafile=webhook.authority.file)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, context=old, timeout=10)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        connection.connect()


def test_a_killed_worker_is_replaced_and_its_numbers_stay(webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    with asking(webhook) as clients:
        pass
    asked = sum(client.answered for client in clients)
    victim = webhook.log_lines("worker ready")[0]["pid"]

    os.kill(victim, signal.SIGKILL)
    webhook.wait_for(lambda: webhook.log_lines("worker ready"), 3)

    labels = '{kind="Database",operation="DELETE",verdict="allowed",webhook="validate"}'
    assert metric(webhook, f"dbaas_webhook_reviews_total{labels}") == asked
    with asking(webhook, count=1):
        pass


def test_a_wrong_environment_is_refused_with_what_is_wrong(webhook: Webhook) -> None:
    webhook.port = 0
    webhook.start()

    assert webhook.process is not None
    assert webhook.process.wait(30) == 1
    assert webhook.log.read_text() == "webhook: DBAAS_WEBHOOK_PORT: '0' is no TCP port\n"


def test_the_largest_object_passes_and_a_larger_body_is_not_even_read(webhook: Webhook) -> None:
    webhook.start()
    webhook.wait_until_ready()
    connection = webhook.connect()
    large = endpoint()
    large["metadata"]["annotations"] = {"note": "x" * 3_000_000}
    headers = {"Content-Type": "application/json"}

    connection.request("POST", "/validate", json.dumps(review("DELETE", large)), headers)
    answered = connection.getresponse()
    answered.read()
    connection.request("POST", "/validate", headers=headers | {"Content-Length": "9000000"})
    refused = connection.getresponse()
    connection.close()

    assert (answered.status, refused.status) == (200, 413)
