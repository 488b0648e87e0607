"""What could keep the webhook from answering, and does not: clients that stop halfway, expressions that never end."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from api.resources import CLASSES, ENDPOINTS, POLICIES
from tests.chart.apiserver import ApiServer, running_api_server
from tests.integration.test_webhook_admission import wait_until_called
from tests.webhook.builders import database, database_class, endpoint, policy, review
from tests.webhook.running import Webhook, eventually, install, running_webhook
from webhook.server import THREADS, WORKERS

pytestmark = pytest.mark.integration

CROWD = WORKERS * THREADS + 36
"""Clients: more than there are threads to hold."""
PATIENCE = 5
"""Seconds that an API server waits for a verdict."""
REQUEST = b"POST /validate HTTP/1.1\r\nHost: webhook\r\nContent-Type: application/json\r\n"
STALLED = {
    "TLS not begun": (False, b""),
    "handshake begun": (False, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "nothing after the handshake": (True, b""),
    "headers dripping": (True, REQUEST + b"X-Note: "),
    "body dripping": (True, REQUEST + b"Content-Length: 5000000\r\n\r\n{"),
}
"""How far clients get: whether over TLS, and what they send."""


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with running_api_server() as server:
        install(server, "shop")
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            yield webhook


def ask(webhook: Webhook, body: bytes) -> dict[str, object]:
    """One review over a connection of its own, with an API server's patience."""
    trust = ssl.create_default_context(cafile=webhook.authority.file)
    connection = http.client.HTTPSConnection("127.0.0.1", webhook.port, context=trust, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/validate", body, {"Content-Type": "application/json"})
        answer: dict[str, object] = json.loads(connection.getresponse().read())["response"]
        return answer


@contextmanager
def stalled(webhook: Webhook, how: str) -> Iterator[list[socket.socket]]:
    """A crowd of clients that got so far, and send a byte now and then."""
    over_tls, begun = STALLED[how]
    trust = ssl.create_default_context(cafile=webhook.authority.file)
    over = threading.Event()
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(CROWD):
            client = socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE)
            if over_tls:
                client = trust.wrap_socket(client, server_hostname="127.0.0.1")
            stack.callback(client.close)
            client.sendall(begun)
            clients.append(client)

        def drip() -> None:
            while not over.wait(0.2):
                for client in clients:
                    with contextlib.suppress(OSError):
                        client.send(b"x")

        if how.endswith("dripping"):
            dripping = threading.Thread(target=drip, daemon=True)
            dripping.start()
            stack.callback(dripping.join, 10)
        stack.callback(over.set)
        yield clients


def gone(client: socket.socket) -> bool:
    """Whether the webhook has closed the connection, after what it may have sent."""
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize("how", STALLED)
def test_clients_that_stop_halfway_take_no_thread_and_are_left(webhook: Webhook, how: str) -> None:
    body = json.dumps(review("DELETE", database())).encode()
    with stalled(webhook, how) as clients:
        answers = [ask(webhook, body)["allowed"] for _ in range(10)]

        assert answers == [True] * 10
        eventually(lambda: all(gone(client) for client in clients))


NO_REQUESTS = {
    "no HTTP": b"hello webhook\r\n\r\n",
    "a version that there is not": b"GET /healthz HTTP/9.9\r\nHost: webhook\r\n\r\n",
    "two lengths": REQUEST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a negative length": REQUEST + b"Content-Length: -2\r\n\r\n{}",
    "too many headers": REQUEST + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n",
}


@pytest.mark.parametrize("what", NO_REQUESTS)
def test_what_is_no_request_is_told_so_and_left(webhook: Webhook, what: str) -> None:
    trust = ssl.create_default_context(cafile=webhook.authority.file)
    plain = socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE)
    with contextlib.closing(trust.wrap_socket(plain, server_hostname="127.0.0.1")) as client:
        client.sendall(NO_REQUESTS[what])
        answer = client.recv(4096)

        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert gone(client)


def test_large_bodies_that_never_come_leave_room_for_reviews(webhook: Webhook) -> None:
    """Memory is promised to few of them."""
    trust = ssl.create_default_context(cafile=webhook.authority.file)
    body = json.dumps(review("DELETE", database())).encode()
    with ExitStack() as stack:
        for _ in range(CROWD):
            plain = socket.create_connection(("127.0.0.1", webhook.port), timeout=PATIENCE)
            client = stack.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1"))
            client.sendall(REQUEST + b"Content-Length: 8000000\r\n\r\n")
        answers = [ask(webhook, body)["allowed"] for _ in range(10)]

    assert answers == [True] * 10


def test_chunked_bodies_are_refused_with_the_word_for_it(webhook: Webhook) -> None:
    connection = webhook.connect()
    connection.request("POST", "/validate", iter([b"{}"]), {"Content-Type": "application/json"}, encode_chunked=True)
    answer = connection.getresponse()
    connection.close()

    assert answer.status == 411


def put(server: ApiServer) -> None:
    """An endpoint, its class, and a policy with an expression that would take hours."""
    names = ", ".join(str(number) for number in range(100))
    pattern = "'((x?){500}){2}y|' + string(a * b) + '(x?[a-z]*){200}$'"
    endless = f"[{names}].all(a, [{names}].all(b, !object.metadata.uid.matches({pattern})))"
    match = {"users": ["mallory"]}
    hungry = policy("hungry", match=match, validations=[{"expression": endless}])
    for resource, manifest in ((CLASSES, database_class()), (ENDPOINTS, endpoint()), (POLICIES, hungry)):
        answer = server.apply(resource.path(manifest["metadata"]["name"]), manifest)
        assert answer.accepted, answer.message


def test_an_endless_expression_refuses_whom_it_concerns_and_holds_up_nobody(webhook: Webhook) -> None:
    put(webhook.server)
    wanted = database()
    wanted["metadata"]["uid"] = "x" * 2000
    hers = json.dumps(review("CREATE", wanted, user="mallory")).encode()
    others = json.dumps(review("CREATE", database(), user="alice")).encode()
    eventually(lambda: not ask(webhook, hers)["allowed"])
    over = threading.Event()

    def insist() -> None:
        while not over.is_set():
            ask(webhook, hers)

    insisting = [threading.Thread(target=insist, daemon=True) for _ in range(4)]
    for thread in insisting:
        thread.start()
    allowed = [ask(webhook, others)["allowed"] for _ in range(20)]
    over.set()
    for thread in insisting:
        thread.join(30)

    assert allowed == [True] * 20
    assert 'DatabasePolicy \\"hungry\\" cannot be evaluated (it took more than' in json.dumps(ask(webhook, hers))
