"""What the chart's values declare: classes, endpoints, policies, and the earlier operator's `dbms` list.

The chart cannot create objects of CRDs that it installs itself, so it leaves one Secret; the controller applies what is
in it, and deletes what it applied for the release before and no longer finds there.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from api.dsn import DsnError, endpoint_manifests, parse_dsn
from api.labels import LABEL_DECLARED_BY, MANAGED_BY, MANAGED_BY_VALUE
from api.resources import CLASSES, ENDPOINTS, POLICIES, SECRETS, Resource
from controller.settings import Settings
from kube.client import Client, Object
from kube.errors import KubeError, NotFound

log = logging.getLogger(__name__)

DECLARED_KEY = "declared.json"

Declared = tuple[Resource, Object]


class DeclaredError(Exception):
    """Some of what is declared could not be applied; everything else was."""


def declared_objects(document: Mapping[str, Any], namespace: str) -> Iterator[Declared]:
    """The objects of a `declared.json`, in the order in which they must be applied; raises DsnError."""
    for name, spec in (document.get("classes") or {}).items():
        yield CLASSES, {"metadata": {"name": name}, "spec": spec}
    for server in document.get("dbms") or ():
        for entry in server["endpoints"]:
            try:
                dsn = parse_dsn(entry["dsn"])
            except DsnError as error:
                raise DsnError(f"dbms: endpoint {entry['name']!r}: {error}") from None
            endpoint, secret = endpoint_manifests(entry["name"], server["databaseClassName"], dsn, namespace)
            yield SECRETS, secret
            yield ENDPOINTS, endpoint
    for name, spec in (document.get("endpoints") or {}).items():
        yield ENDPOINTS, {"metadata": {"name": name}, "spec": spec}
    for name, spec in (document.get("policies") or {}).items():
        yield POLICIES, {"metadata": {"name": name}, "spec": spec}


class Declarations:
    """Applies one release's declarations."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._applied_version = ""

    def maintain(self) -> None:
        """Apply what is declared if it changed since the last full success.

        Raises KubeError when the API server is away, DeclaredError when it refused something: try again later.
        """
        name = self._settings.declared_secret
        if not name:
            return
        try:
            secret = self._client.get(SECRETS, name, namespace=self._settings.namespace)
        except NotFound:
            return
        version = secret["metadata"]["resourceVersion"]
        if version == self._applied_version:
            return
        document = json.loads(base64.b64decode(secret["data"][DECLARED_KEY]))
        try:
            objects = [self._marked(declared) for declared in declared_objects(document, self._settings.namespace)]
        except DsnError as error:
            raise DeclaredError(str(error)) from None
        refused = [*self._apply(objects), *self._prune(objects)]
        if refused:
            raise DeclaredError("; ".join(refused))
        self._applied_version = version
        log.info("declared objects applied", extra={"objects": len(objects)})

    def _marked(self, declared: Declared) -> Declared:
        resource, manifest = declared
        metadata = manifest["metadata"]
        labels = {
            **(metadata.get("labels") or {}),
            MANAGED_BY: MANAGED_BY_VALUE,
            LABEL_DECLARED_BY: self._settings.release,
        }
        return resource, {**manifest, "metadata": {**metadata, "labels": labels}}

    def _apply(self, objects: list[Declared]) -> Iterator[str]:
        for resource, manifest in objects:
            try:
                self._client.apply(resource, manifest)
            except KubeError as error:
                yield f"{resource.kind} {manifest['metadata']['name']!r}: {error.message}"

    def _prune(self, objects: list[Declared]) -> Iterator[str]:
        """Delete what was declared before; the webhook refuses it for what is still in use."""
        wanted = {(resource.kind, manifest["metadata"]["name"]) for resource, manifest in objects}
        for resource in (POLICIES, ENDPOINTS, CLASSES, SECRETS):
            namespace = self._settings.namespace if resource.namespaced else None
            selector = f"{LABEL_DECLARED_BY}={self._settings.release}"
            for found in self._client.list(resource, namespace=namespace, labels=selector)[0]:
                name = found["metadata"]["name"]
                if (resource.kind, name) in wanted:
                    continue
                try:
                    self._client.delete(resource, name, namespace=namespace)
                except NotFound:
                    continue
                except KubeError as error:
                    yield f"{resource.kind} {name!r} is declared no more, but cannot be deleted: {error.message}"
