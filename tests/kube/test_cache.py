"""What a cache shows while its watch lags, breaks off and begins anew."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import pytest

from api.kinds import Metadata
from api.resources import NAMESPACES, SECRETS
from kube.cache import Cache
from kube.client import Client, Object
from kube.errors import AlreadyExists
from tests.e2e.cluster import eventually
from tests.e2e.proxy import Asked, Fault, Gate, Proxy

pytestmark = pytest.mark.integration

NAMESPACE = "caches"


@dataclass(frozen=True)
class Thing:
    """An object, of which only the metadata counts."""

    metadata: Metadata

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Self:
        return cls(Metadata.parse(manifest))


class Turnstile(Gate):
    """Holds back what the API server has answered to a list, or what it would say to a watch, until it is let go."""

    def __init__(self) -> None:
        self.closed = False
        self.holds = threading.Event()
        self.opened = threading.Event()

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """The answer is there, and waits."""
        if self.closed and not asked.watches:
            self.holds.set()
            assert self.opened.wait(30)
        return None


def secret(client: Client, name: str) -> Object:
    return client.create(SECRETS, {"metadata": {"name": name, "namespace": NAMESPACE}})


@pytest.fixture
def changes() -> list[tuple[str, str]]:
    """What the cache has told: ("came" or "went", name)."""
    return []


@pytest.fixture
def cache(direct: Client, client: Client, changes: list[tuple[str, str]]) -> Cache[Thing]:
    try:
        direct.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
    except AlreadyExists:
        for each in direct.list(SECRETS, namespace=NAMESPACE)[0]:
            direct.delete(SECRETS, each["metadata"]["name"], namespace=NAMESPACE)
    cache = Cache(client, SECRETS, Thing.parse, namespace=NAMESPACE)

    def tell(old: Thing | None, new: Thing | None) -> None:
        if (old is None) is not (new is None):
            changes.append(("came" if new else "went", (new or old).metadata.name))  # type: ignore[union-attr]

    cache.on_change(tell)
    cache.start()
    assert cache.synced.wait(30)
    secret(direct, "first")
    eventually(lambda: cache.get("first", NAMESPACE), "the watch has begun")
    changes.clear()
    return cache


def test_a_list_that_was_answered_before_a_write_does_not_undo_it(
    direct: Client, cache: Cache[Thing], way: Proxy, changes: list[tuple[str, str]]
) -> None:
    """Who decided to write would believe that it never happened, and do what cannot be undone."""
    way.gate = turnstile = Turnstile()
    turnstile.closed = True
    way.cut()
    assert turnstile.holds.wait(30)
    cache.remember(secret(direct, "new"))
    secret(direct, "later")
    turnstile.closed = False
    turnstile.opened.set()
    eventually(lambda: cache.get("later", NAMESPACE), "the list and the watch after it have come")

    assert changes == [("came", "new"), ("came", "later")]


def test_the_end_of_an_object_is_not_the_end_of_the_next_of_its_name(
    direct: Client, cache: Cache[Thing], way: Proxy, changes: list[tuple[str, str]]
) -> None:
    """Deleted and made anew, and the first watch event about it comes after the write's own answer."""
    secret(direct, "same")
    eventually(lambda: cache.get("same", NAMESPACE), "it is known")
    way.gate = turnstile = Turnstile()
    turnstile.closed = True
    way.cut()
    assert turnstile.holds.wait(30)
    direct.delete(SECRETS, "same", namespace=NAMESPACE)
    again = cache.remember(secret(direct, "same"))
    secret(direct, "later")
    turnstile.closed = False
    turnstile.opened.set()
    eventually(lambda: cache.get("later", NAMESPACE), "the watch has brought all of it")

    assert changes == [("came", "same"), ("came", "later")]
    assert cache.get("same", NAMESPACE) == again


def test_what_went_while_the_watch_was_cut_is_gone_with_the_next_list(
    direct: Client, cache: Cache[Thing], way: Proxy, changes: list[tuple[str, str]]
) -> None:
    secret(direct, "old")
    eventually(lambda: cache.get("old", NAMESPACE), "it is known")
    way.gate = turnstile = Turnstile()
    turnstile.closed = True
    direct.delete(SECRETS, "old", namespace=NAMESPACE)
    turnstile.closed = False
    way.cut()
    eventually(lambda: cache.get("old", NAMESPACE) is None, "it is gone")

    assert changes == [("came", "old"), ("went", "old")]
