"""A list/watch cache of one resource: what the API server holds, parsed, a moment ago.

List, watch from there, list again when told that history is gone; back off with jitter when the server is away.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from api.resources import Resource
from kube.client import Client, Object
from kube.errors import Gone, KubeError

log = logging.getLogger(__name__)

FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
"""Seconds between failed lists or watches."""


class HasMetadata(Protocol):
    """Anything parsed that kept its `Metadata`."""

    @property
    def metadata(self) -> Any:
        """Its `api.kinds.Metadata`."""


T = TypeVar("T", bound=HasMetadata)
Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is empty."""
Listener = Callable[[T | None, T | None], None]
"""Called with (old, new) on each change; None stands for absence."""


class Cache(Generic[T]):
    """The objects of one resource, by name and by index. Reads are safe from any thread."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        parse: Callable[[Object], T],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        indexes: Mapping[str, Callable[[T], Iterable[Hashable]]] | None = None,
    ) -> None:
        self.resource = resource
        self.synced = threading.Event()
        """Set once the first list has arrived."""
        self._client = client
        self._parse = parse
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._lock = threading.Lock()
        self._objects: dict[Key, T] = {}
        self._index_keys = dict(indexes or {})
        self._indexes: dict[str, dict[Hashable, dict[Key, T]]] = {name: {} for name in self._index_keys}
        self._listeners: list[Listener[T]] = []
        self._seen = 0

    def on_change(self, listener: Listener[T]) -> None:
        """Have `listener` called, on the watching thread, for every change. Register before `start`."""
        self._listeners.append(listener)

    def start(self) -> threading.Thread:
        """Begin to watch on a daemon thread."""
        thread = threading.Thread(target=self._run, name=f"watch-{self.resource.plural}", daemon=True)
        thread.start()
        return thread

    def watches(self, namespace: str) -> bool:
        """Whether objects of `namespace` belong in it."""
        return self._namespace is None or self._namespace == namespace

    def get(self, name: str, namespace: str = "") -> T | None:
        """One object, or None."""
        return self._objects.get((namespace, name))

    def values(self) -> list[T]:
        """All objects, as of now."""
        with self._lock:
            return list(self._objects.values())

    def by(self, index: str, key: Hashable) -> list[T]:
        """The objects that index `index` files under `key`."""
        with self._lock:
            return list(self._indexes[index].get(key, {}).values())

    def __len__(self) -> int:
        return len(self._objects)

    def remember(self, manifest: Object) -> T:
        """Take in an object that a write has just returned, so that the next decision does not miss it."""
        parsed = self._parse(manifest)
        self._put(parsed, own_write=True)
        return parsed

    def forget(self, gone: T) -> None:
        """Drop an object whose deletion has just been answered, unless its name has another holder by now."""
        key = _key(gone)
        with self._lock:
            known = self._objects.get(key)
            if known is None or known.metadata.uid != gone.metadata.uid:
                return
        self._remove(key)

    def _run(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            try:
                version = self._relist()
                backoff = FIRST_BACKOFF
                self._follow(version)
            except Gone as error:
                # Listed anew after a moment: an API server that never stops saying so is not to be run down.
                log.debug("watch is too old", extra={"resource": self.resource.plural, "error": error.message})
            except KubeError as error:
                log.warning("watch failed", extra={"resource": self.resource.plural, "error": error.message})
            except Exception:
                # The one broad catch: a thread that ended would leave its process blind, and nobody would notice.
                log.exception("watch failed", extra={"resource": self.resource.plural})
            threading.Event().wait(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _relist(self) -> str:
        listed: dict[Key, T] = {}
        version = ""
        for page, version in self._client.pages(  # noqa: B007
            self.resource, namespace=self._namespace, labels=self._labels, fields=self._fields
        ):
            listed |= {_key(parsed): parsed for parsed in map(self._parse, page)}
        for key in set(self._objects) - set(listed):
            self._remove(key, int(version))
        for parsed in listed.values():
            self._put(parsed)
        with self._lock:
            self._seen = max(self._seen, int(version))
        self.synced.set()
        return version

    def _follow(self, version: str) -> None:
        while True:
            for kind, manifest in self._client.watch(
                self.resource, version, namespace=self._namespace, labels=self._labels, fields=self._fields
            ):
                version = manifest["metadata"]["resourceVersion"]
                if kind == "BOOKMARK":
                    continue
                parsed = self._parse(manifest)
                if kind == "DELETED":
                    self._remove(_key(parsed), int(version))
                else:
                    self._put(parsed)

    def _put(self, new: T, *, own_write: bool = False) -> None:
        key, version = _key(new), _version(new)
        with self._lock:
            old = self._objects.get(key)
            # What the watch has passed it has brought, or deleted since: an answer that comes late is not news.
            if (old is not None and _version(old) >= version) or (own_write and version <= self._seen):
                return
            if not own_write:
                self._seen = max(self._seen, version)
            self._objects[key] = new
            self._reindex(key, old, new)
        self._notify(old, new)

    def _remove(self, key: Key, version: int = 0) -> None:
        """Drop what is known of `key`, unless a write has brought something newer than `version` (0: whatever)."""
        with self._lock:
            self._seen = max(self._seen, version)
            old = self._objects.get(key)
            if old is None or 0 < version < _version(old):
                return
            del self._objects[key]
            self._reindex(key, old, None)
        self._notify(old, None)

    def _reindex(self, key: Key, old: T | None, new: T | None) -> None:
        for name, keys_of in self._index_keys.items():
            index = self._indexes[name]
            for entry in keys_of(old) if old is not None else ():
                filed = index.get(entry, {})
                filed.pop(key, None)
                if not filed:
                    index.pop(entry, None)
            for entry in keys_of(new) if new is not None else ():
                index.setdefault(entry, {})[key] = new  # type: ignore[assignment]

    def _notify(self, old: T | None, new: T | None) -> None:
        for listener in self._listeners:
            listener(old, new)


def _key(parsed: HasMetadata) -> Key:
    return parsed.metadata.namespace, parsed.metadata.name


def _version(parsed: HasMetadata) -> int:
    # KEP-5504 made resource versions comparable as numbers, which etcd's always were.
    version = parsed.metadata.resource_version
    return int(version) if version else 0
