"""HTTP as API servers and what stands before them speak it, over real TLS; everything else is refused."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from provisioner_job.https import Answer, Https, NoHttp
from tests.servers.pki import Authority

Serve = Callable[..., Https]


@pytest.fixture
def serve(authority: Authority) -> Iterator[Serve]:
    """Start a server that reads one request per answer and gives these bytes; and a client of it."""
    pair = authority.issue("https", ["127.0.0.1"])
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(pair.certificate, pair.key)
    clients: list[Https] = []

    def start(*connections: tuple[bytes, ...], trusting: bool = True) -> Https:
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with listener, suppress(OSError):
                for answers in connections:
                    with here.wrap_socket(listener.accept()[0], server_side=True) as tls:
                        for answer in answers:
                            tls.recv(65536)
                            tls.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        context = ssl.create_default_context(cafile=str(authority.file) if trusting else None)
        clients.append(Https(("127.0.0.1", listener.getsockname()[1]), context, 5))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def get(client: Https) -> Answer:
    return client.request("GET", "/x", {"Accept": "application/json"}, None)


def test_one_connection_serves_several_requests(serve: Serve) -> None:
    client = serve(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    )

    assert (get(client), get(client)) == (Answer(200, b"{}"), Answer(404, b""))
    assert client.connected


def test_a_long_answer_comes_in_chunks(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = serve((head + b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",))

    assert get(client).body == b"abc0123456789"


def test_an_interim_answer_is_none(serve: Serve) -> None:
    client = serve((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",))

    assert get(client) == Answer(200, b"x")


def test_a_server_that_closes_is_connected_to_again(serve: Serve) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"
    client = serve((answer + b"a",), (answer + b"b",))

    assert get(client).body == b"a"
    assert not client.connected
    assert get(client).body == b"b"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n\r\nwithout a length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n",
    ],
)
def test_half_an_answer_is_no_answer(serve: Serve, answer: bytes) -> None:
    client = serve((answer,))

    with pytest.raises((NoHttp, OSError)):
        get(client)

    assert not client.connected


def test_a_stranger_gets_no_request(serve: Serve) -> None:
    client = serve((b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), trusting=False)

    with pytest.raises(ssl.SSLCertVerificationError):
        get(client)
