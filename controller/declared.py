"""What the chart's values declare: classes, endpoints, policies, and the earlier operator's `dbms` list.

The chart cannot create objects of CRDs that it installs itself, so it leaves one Secret; the controller applies what is
in it, puts back what somebody changes or deletes of that, and deletes what it applied for the release before and no
longer finds there.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from api.dsn import DsnError, endpoint_manifests, parse_dsn
from api.kinds import DatabaseEndpoint
from api.labels import LABEL_DECLARED_BY, MANAGED_BY, MANAGED_BY_VALUE
from api.resources import CLASSES, ENDPOINTS, POLICIES, SECRETS, Resource
from controller.settings import Settings
from kube.client import Client, Object
from kube.errors import KubeError, NotFound

log = logging.getLogger(__name__)

DECLARED_KEY = "declared.json"

Declared = tuple[Resource, Object]


class DeclaredError(Exception):
    """What is declared is wrong, and nothing was applied; or some of it was refused, and everything else applied."""


def declared_objects(document: Mapping[str, Any], namespace: str) -> list[Declared]:
    """The objects of a `declared.json`, in the order in which they must be applied; raises DeclaredError."""
    try:
        objects = list(_declared(document, namespace))
    except DsnError as error:
        raise DeclaredError(str(error)) from None
    counts = Counter((resource.kind, manifest["metadata"]["name"]) for resource, manifest in objects)
    if twice := [f"{kind} {name!r}" for (kind, name), count in counts.items() if count > 1]:
        raise DeclaredError("; ".join(f"{what} is declared twice; keep one of them" for what in twice))
    return objects


def _declared(document: Mapping[str, Any], namespace: str) -> Iterator[Declared]:
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
        self._touched = threading.Event()

    def touch(self) -> None:
        """Somebody has changed or deleted what was applied: the next pass looks at all of it again."""
        self._touched.set()

    def maintain(self) -> None:
        """Apply what is declared if it, or what was applied, changed since the last full success.

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
        if version == self._applied_version and not self._touched.is_set():
            return
        self._touched.clear()
        self._applied_version = ""
        document = json.loads(base64.b64decode(secret["data"][DECLARED_KEY]))
        objects = [self._marked(declared) for declared in declared_objects(document, self._settings.namespace)]
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
            if resource is SECRETS:
                # An endpoint that could not go has databases yet, which are to be deleted with its account.
                wanted |= {(SECRETS.kind, name) for name in self._accounts()}
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

    def _accounts(self) -> Iterator[str]:
        """The Secrets that endpoints name by now."""
        for manifest in self._client.list(ENDPOINTS)[0]:
            yield from DatabaseEndpoint.parse(manifest).secret_names
