"""What no single look would notice: objects followed from moment to moment, a Database's Ready condition among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.resources import DATABASES, Resource
from kube.client import Client, Object
from kube.errors import KubeError, Unavailable
from tests.e2e.cluster import POLL
from tests.e2e.scene import Applied


@contextmanager
def followed(
    client: Client, resource: Resource, since: str, see: Callable[[str, Object], None], **where: str
) -> Iterator[None]:
    """Watch for as long as the block runs; `see` is told each change after the version `since`, to the last one.

    It is called from a thread, with the kind of change (ADDED, MODIFIED, DELETED) and the object. where: namespace,
    labels, fields.
    """
    over, failures = threading.Event(), list[KubeError]()

    def follow() -> None:
        version = since
        while not over.is_set():
            try:
                for kind, each in client.watch(resource, version, seconds=2, **where):
                    version = each["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        see(kind, each)
            except Unavailable:
                over.wait(POLL)
            except KubeError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=follow, name="watch")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert failures == []


@dataclass
class Watched:
    """What a Database's Ready condition was, in its order; each once until it changes."""

    ready: list[str] = field(default_factory=list)
    """`status/reason`."""

    def see(self, database: Object) -> None:
        """Take in one state of it."""
        conditions = (database.get("status") or {}).get("conditions") or ()
        for condition in conditions:
            if condition["type"] == "Ready":
                seen = f"{condition['status']}/{condition['reason']}"
                if self.ready[-1:] != [seen]:
                    self.ready.append(seen)


@contextmanager
def watched(database: Applied) -> Iterator[Watched]:
    """Watch it for as long as the block runs; afterwards the last state has been seen, too."""
    client, seen = database.cluster.client, Watched()
    first = client.get(DATABASES, database.name, namespace=database.namespace)
    seen.see(first)

    place = {"namespace": database.namespace, "fields": f"metadata.name={database.name}"}
    with followed(client, DATABASES, first["metadata"]["resourceVersion"], lambda _, each: seen.see(each), **place):
        yield seen
