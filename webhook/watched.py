"""The world as list/watch caches hold it; what an endpoint, class or namespace cache misses is asked live, once.

Objects of one `kubectl apply -f` reach the webhook sooner than the caches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

from api.kinds import DatabaseClass, DatabaseEndpoint
from api.labels import LAST_APPLIED
from api.resources import CLASSES, DATABASES, ENDPOINTS, INSTANCES, NAMESPACES, POLICIES, Resource
from kube.cache import Cache, HasMetadata
from kube.client import Client, Object
from kube.errors import NotFound
from policy.rules import DatabasePolicy
from webhook.world import Claimed, Namespace, Use

T = TypeVar("T", bound=HasMetadata)

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class WatchedWorld:
    """A `World` over one API server; `start` it once."""

    def __init__(self, client: Client, watch_namespaces: Iterable[str] = ()) -> None:
        self._client = client
        self._endpoints = Cache(client, ENDPOINTS, _endpoint, indexes={"class": lambda endpoint: [endpoint.class_name]})
        self._classes = Cache(client, CLASSES, _class)
        self._namespaces = Cache(client, NAMESPACES, Namespace.parse)
        self._instances = Cache(
            client,
            INSTANCES,
            Claimed.parse,
            indexes={"endpoint": lambda instance: [instance.endpoint], "class": lambda instance: [instance.class_name]},
        )
        self._policies = Cache(client, POLICIES, DatabasePolicy.parse)
        by_place: dict[str, Callable[[Use], Iterable[str]]] = {
            "endpoint": lambda use: [use.endpoint],
            "namespace": lambda use: [use.metadata.namespace],
        }
        self._databases = [
            Cache(client, DATABASES, Use.parse, namespace=namespace, indexes=by_place)
            for namespace in tuple(watch_namespaces) or (None,)
        ]

    def start(self) -> None:
        """Begin to watch, on threads of this process."""
        for cache in self._caches():
            cache.start()

    def waiting_for(self) -> list[str]:
        """The resources whose first list has not arrived, by their plural."""
        return sorted({cache.resource.plural for cache in self._caches() if not cache.synced.is_set()})

    def endpoint(self, name: str) -> DatabaseEndpoint | None:
        """See `World`."""
        return self._endpoints.get(name) or self._live(ENDPOINTS, name, self._endpoints.remember)

    def endpoints(self) -> Iterable[DatabaseEndpoint]:
        """See `World`."""
        return self._endpoints.values()

    def database_class(self, name: str) -> DatabaseClass | None:
        """See `World`."""
        return self._classes.get(name) or self._live(CLASSES, name, self._classes.remember)

    def namespace(self, name: str) -> Namespace | None:
        """See `World`."""
        return self._namespaces.get(name) or self.namespace_now(name)

    def namespace_now(self, name: str) -> Namespace | None:
        """See `World`."""
        return self._live(NAMESPACES, name, self._namespaces.remember)

    def instance(self, name: str) -> Claimed | None:
        """See `World`."""
        return self._instances.get(name)

    def policies(self) -> Sequence[DatabasePolicy]:
        """See `World`."""
        return list(self._policies.values())

    def databases_in(self, namespace: str) -> Iterable[Use]:
        """See `World`."""
        return chain.from_iterable(cache.by("namespace", namespace) for cache in self._databases)

    def databases_on(self, endpoint: str) -> Iterable[Use]:
        """See `World`."""
        return chain.from_iterable(cache.by("endpoint", endpoint) for cache in self._databases)

    def users_of_endpoint(self, name: str) -> Iterable[Use | Claimed]:
        """See `World`."""
        databases = chain.from_iterable(cache.by("endpoint", name) for cache in self._databases)
        return chain(databases, self._instances.by("endpoint", name))

    def users_of_class(self, name: str) -> Iterable[DatabaseEndpoint | Claimed]:
        """See `World`."""
        return chain(self._endpoints.by("class", name), self._instances.by("class", name))

    def _caches(self) -> list[Cache[Any]]:
        return [self._endpoints, self._classes, self._namespaces, self._instances, self._policies, *self._databases]

    def _live(self, resource: Resource, name: str, remember: Callable[[Object], T]) -> T | None:
        # In mutation, nobody has checked the name yet that the user wrote, and it becomes part of a URL.
        if not _NAME.fullmatch(name):
            return None
        try:
            return remember(self._client.get(resource, name))
        except NotFound:
            return None


def _endpoint(manifest: Object) -> DatabaseEndpoint:
    return DatabaseEndpoint.parse({**manifest, "metadata": _lean(manifest), "status": None})


def _class(manifest: Object) -> DatabaseClass:
    return DatabaseClass.parse({**manifest, "metadata": _lean(manifest)})


def _lean(manifest: Object) -> dict[str, Any]:
    """An object's metadata without what neither checks nor expressions read: managed fields, and the like."""
    metadata = manifest.get("metadata", {})
    kept = ("name", "uid", "resourceVersion", "labels", "annotations")
    lean = {key: metadata[key] for key in kept if key in metadata}
    if LAST_APPLIED in (annotations := lean.get("annotations") or {}):
        lean["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return lean
