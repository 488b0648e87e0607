"""A Database followed from moment to moment: what no single look would notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.resources import DATABASES
from kube.client import Object
from kube.errors import KubeError
from tests.e2e.scene import Applied


@dataclass
class Watched:
    """What a Database's Ready condition was, in its order; each once until it changes."""

    ready: list[str] = field(default_factory=list)
    """`status/reason`."""
    failure: BaseException | None = None

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
    client, seen, over = database.cluster.client, Watched(), threading.Event()
    first = client.get(DATABASES, database.name, namespace=database.namespace)
    seen.see(first)

    def follow() -> None:
        since = first["metadata"]["resourceVersion"]
        try:
            while not over.is_set():
                for kind, each in client.watch(DATABASES, since, namespace=database.namespace, seconds=2):
                    since = each["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK" and each["metadata"]["name"] == database.name:
                        seen.see(each)
        except KubeError as error:
            seen.failure = error

    thread = threading.Thread(target=follow, name="watch")
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    assert seen.failure is None, seen.failure
