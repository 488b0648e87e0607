"""Objects, reviews and a world for tests: what a test does not say is right."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from api.kinds import DatabaseClass, DatabaseEndpoint, Metadata
from api.resources import API_VERSION
from policy.rules import DatabasePolicy
from webhook.world import Claimed, Namespace, Use

Json = dict[str, Any]

CREATE = {"name": "dbaas.create", "inputs": {"name": "{{ .Metadata.name }}", "owner": "{{ .Metadata.namespace }}"}}
DELETE = {"name": "dbaas.delete", "inputs": {"name": "{{ .Metadata.name }}"}}


def database(name: str = "orders", namespace: str = "shop", **spec: Any) -> Json:
    """A Database of endpoint `pg`."""
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"}
    return _object("Database", metadata, {"endpoint": "pg", "params": {}, **spec})


def annotated(manifest: Json, annotations: Mapping[str, str]) -> Json:
    """`manifest` with these annotations and no others."""
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": dict(annotations)}}


def database_class(name: str = "standard", **spec: Any) -> Json:
    """A class whose databases are named by namespace and name."""
    operations = {"create": CREATE, "delete": DELETE}
    identity = "{{ .Metadata.namespace }}_{{ .Metadata.name }}"
    return _object(
        "DatabaseClass",
        {"name": name},
        {"driver": "postgres", "operations": operations, "identity": identity, **spec},
    )


def endpoint(name: str = "pg", **spec: Any) -> Json:
    """An endpoint of class `standard`."""
    required = {"className": "standard", "host": "pg.example.test", "credentialsSecretRef": {"name": "pg-admin"}}
    return _object("DatabaseEndpoint", {"name": name}, {**required, **spec})


def policy(name: str = "rules", **spec: Any) -> Json:
    """A policy that demands what `spec` says."""
    return _object("DatabasePolicy", {"name": name}, spec)


def _object(kind: str, metadata: Json, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def review(
    operation: str,
    manifest: Json,
    old: Json | None = None,
    *,
    user: str = "alice",
    dry_run: bool = False,
    groups: Sequence[str] = (),
) -> Json:
    """An AdmissionReview as the API server sends it; for DELETE, `manifest` is the stored object."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    request: Json = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "dbaas.bedag.ch", "version": "v1", "kind": kind},
        "resource": {"group": "dbaas.bedag.ch", "version": "v1", "resource": f"{kind.lower()}s"},
        "name": metadata.get("name", ""),
        "operation": operation,
        "userInfo": {"username": user, "groups": ["system:authenticated", *groups]},
        "object": None if operation == "DELETE" else manifest,
        "oldObject": manifest if operation == "DELETE" else old,
        "dryRun": dry_run,
        "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
    }
    if "namespace" in metadata:
        request["namespace"] = metadata["namespace"]
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


@dataclass
class WorldOf:
    """A world of a few objects."""

    _endpoints: Sequence[Json] = field(default_factory=lambda: [endpoint()])
    _classes: Sequence[Json] = field(default_factory=lambda: [database_class()])
    _namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"shop": {}, "other": {}})
    """Labels by name."""
    _terminating: frozenset[str] = frozenset()
    _instances: Sequence[Claimed] = ()
    _databases: Sequence[Json] = ()
    _policies: Sequence[Json] = ()

    def endpoint(self, name: str) -> DatabaseEndpoint | None:
        return next((e for e in self.endpoints() if e.metadata.name == name), None)

    def endpoints(self) -> Iterable[DatabaseEndpoint]:
        return map(DatabaseEndpoint.parse, self._endpoints)

    def database_class(self, name: str) -> DatabaseClass | None:
        found = (c for c in self._classes if c["metadata"]["name"] == name)
        return next(map(DatabaseClass.parse, found), None)

    def namespace(self, name: str) -> Namespace | None:
        if name not in self._namespaces:
            return None
        deleted_at = datetime(2026, 1, 1, tzinfo=UTC) if name in self._terminating else None
        return Namespace(Metadata(name=name, labels=self._namespaces[name], deleted_at=deleted_at))

    def namespace_now(self, name: str) -> Namespace | None:
        return self.namespace(name)

    def instance(self, name: str) -> Claimed | None:
        return next((i for i in self._instances if i.metadata.name == name), None)

    def policies(self) -> Sequence[DatabasePolicy]:
        return [DatabasePolicy.parse(policy) for policy in self._policies]

    def databases_in(self, namespace: str) -> Iterable[Use]:
        return (use for use in map(Use.parse, self._databases) if use.metadata.namespace == namespace)

    def databases_on(self, endpoint: str) -> Iterable[Use]:
        return (use for use in map(Use.parse, self._databases) if use.endpoint == endpoint)

    def users_of_endpoint(self, name: str) -> Iterable[Use | Claimed]:
        users: chain[Use | Claimed] = chain(map(Use.parse, self._databases), self._instances)
        return (user for user in users if user.endpoint == name)

    def users_of_class(self, name: str) -> Iterable[DatabaseEndpoint | Claimed]:
        users: chain[DatabaseEndpoint | Claimed] = chain(self.endpoints(), self._instances)
        return (user for user in users if user.class_name == name)


def claimed(name: str, namespace: str, database_name: str) -> Claimed:
    """An instance on `pg`, held by a Database."""
    return Claimed(Metadata(name=name), endpoint="pg", class_name="standard", claim=(namespace, database_name))


def patched(manifest: Json, response: Json) -> Json:
    """`manifest` after the patch of a response, as RFC 6902 has it."""
    if "patch" not in response:
        return manifest
    whole: Json = json.loads(json.dumps(manifest))
    for step in json.loads(b64decode(response["patch"])):
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        place: Any = whole
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            assert (step["op"], last) == ("add", "-")
            place.append(step["value"])
        elif step["op"] == "remove":
            del place[last]
        else:
            assert (step["op"] == "add") == (last not in place), step
            place[last] = step["value"]
    return whole
