"""The world as caches and single requests see it; what a real API server makes of it is an integration test."""

from __future__ import annotations

import pytest
from kubernetes.client.configuration import Configuration

from kube.client import Client
from kube.errors import Unavailable
from webhook.watched import WatchedWorld


@pytest.fixture
def world() -> WatchedWorld:
    """A world whose caches are empty and whose API server is not there."""
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:1"
    return WatchedWorld(Client(configuration))


def test_what_no_cache_has_is_asked_live(world: WatchedWorld) -> None:
    with pytest.raises(Unavailable):
        world.endpoint("pg")
    with pytest.raises(Unavailable):
        world.namespace("shop")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../v1/secrets", "pg?watch=true", "pg#", "pg%2f", "Pg", "pg\n"])
def test_what_cannot_be_a_name_never_becomes_a_url(world: WatchedWorld, name: str) -> None:
    assert world.endpoint(name) is None
    assert world.database_class(name) is None


def test_nothing_is_ready_before_its_first_list(world: WatchedWorld) -> None:
    expected = [
        "databaseclasses",
        "databaseendpoints",
        "databaseinstances",
        "databasepolicies",
        "databases",
        "namespaces",
    ]

    assert world.waiting_for() == expected
