"""A real API server, and a client that reaches it through a way that can be disturbed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import config
from kubernetes.client.configuration import Configuration

from kube.client import REQUEST_TIMEOUT, Client
from tests.chart.apiserver import TOKEN, ApiServer, running_api_server
from tests.e2e.controllers import kubeconfig_of
from tests.e2e.proxy import Proxy


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with running_api_server() as server:
        yield server


@pytest.fixture
def direct(server: ApiServer) -> Client:
    """A client that nothing disturbs."""
    return _client(server.kubeconfig)


@pytest.fixture
def way(server: ApiServer) -> Iterator[Proxy]:
    """To the API server; a test gives it the gate that it needs."""
    with Proxy(server.url, server.trust) as proxy:
        yield proxy


@pytest.fixture
def client(way: Proxy, tmp_path: Path) -> Client:
    """A client that goes this way."""
    return _client(_kubeconfig(way, tmp_path))


@pytest.fixture
def hasty(way: Proxy, tmp_path: Path) -> Client:
    """One that goes this way, and waits no more than a second for an answer."""
    return _client(_kubeconfig(way, tmp_path), 1.0)


def _kubeconfig(way: Proxy, folder: Path) -> Path:
    kubeconfig = folder / "kubeconfig"
    # YAML contains JSON.
    kubeconfig.write_text(json.dumps(kubeconfig_of(way.url, TOKEN)))
    return kubeconfig


def _client(kubeconfig: Path, request_seconds: float = REQUEST_TIMEOUT) -> Client:
    configuration = Configuration()
    config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    return Client(configuration, request_seconds)
