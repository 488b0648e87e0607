"""How long the client waits for an API server that does not answer."""

from __future__ import annotations

import socket
import threading

import pytest
from kubernetes.client.configuration import Configuration

from api.resources import NAMESPACES
from kube.cache import Cache
from kube.client import Client
from kube.errors import Unavailable
from tests.e2e.cluster import eventually
from tests.e2e.proxy import SILENT, Asked, Fault, Gate, Proxy
from tests.kube.test_cache import Thing

pytestmark = pytest.mark.integration


class Hush(Gate):
    """The first request of a kind is never answered."""

    def __init__(self, *, watches: bool) -> None:
        self.happened = threading.Event()
        self._watches = watches

    def arrives(self, asked: Asked) -> Fault | None:
        """It goes no further."""
        if asked.watches is not self._watches or self.happened.is_set():
            return None
        self.happened.set()
        return Fault(SILENT)


def test_a_request_that_is_not_answered_is_given_up(hasty: Client, way: Proxy) -> None:
    way.gate = Hush(watches=False)

    with pytest.raises(Unavailable, match="ReadTimeoutError"):
        hasty.list(NAMESPACES)


def test_a_tls_handshake_that_breaks_is_no_answer() -> None:
    """As of an API server that is just being stopped, or a load balancer with nobody behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                connection.sendall(b"no TLS here")

        threading.Thread(target=hang_up).start()
        configuration = Configuration()
        configuration.host = f"https://127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(Unavailable, match="cannot be reached"):
            Client(configuration).list(NAMESPACES)


def test_a_watch_that_does_not_begin_is_begun_again(direct: Client, hasty: Client, way: Proxy) -> None:
    """Who waited as long as a watch may last would show an old world for minutes."""
    way.gate = hush = Hush(watches=True)
    cache = Cache(hasty, NAMESPACES, Thing.parse)
    cache.start()
    assert hush.happened.wait(30)
    direct.create(NAMESPACES, {"metadata": {"name": "watched"}})

    eventually(lambda: cache.get("watched"), "the watch has begun", 15)


def test_a_watch_that_has_nothing_to_tell_goes_on(hasty: Client) -> None:
    """It is silent for longer than a request may be, and ended by the API server."""
    version = hasty.list(NAMESPACES)[1]
    watch = hasty.watch(NAMESPACES, version, fields="metadata.name=nobody", seconds=5)

    assert [kind for kind, _ in watch if kind != "BOOKMARK"] == []
