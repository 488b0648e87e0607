"""A world made of manifests, and what the webhook would say of them one by one, without an API server.

The verdicts are the webhook's own: each object goes through the same mutation and the same checks as in admission.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from api.defaults import defaulted
from api.faults import Fault
from api.kinds import Database, DatabaseClass, DatabaseEndpoint, Manifest
from api.rendering import instance_name_for, render_identity, template_values
from api.resources import (
    API_VERSION,
    CLASSES,
    DATABASES,
    ENDPOINTS,
    GROUP,
    INSTANCES,
    NAMESPACES,
    OPERATIONS,
    POLICIES,
    VERSION,
)
from api.schemas import faults as schema_faults
from api.templates import TemplateError
from policy.rules import DatabasePolicy
from webhook import policies
from webhook.arrival import completed, fresh, over, received
from webhook.documents import Document
from webhook.envelope import REVIEW_VERSION
from webhook.judgement import Judge
from webhook.metadata import metadata_faults
from webhook.patch import applied
from webhook.review import Request, read_review
from webhook.world import Claimed, Namespace, Use

JUDGED = (POLICIES.kind, CLASSES.kind, ENDPOINTS.kind, DATABASES.kind)
"""In this order, so that what is named is known."""
_RESOURCES = (POLICIES, CLASSES, ENDPOINTS, DATABASES, INSTANCES, OPERATIONS, NAMESPACES)
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"
Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is empty."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who would apply the manifests, and where what names no namespace would go."""

    user: str = "check"
    groups: tuple[str, ...] = ("system:authenticated",)
    namespace: str = "default"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the webhook would say of one object."""

    document: Document
    kind: str
    namespace: str
    name: str
    """With a star at its end where the API server would complete it."""
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether it would be stored."""
        return not self.faults


@dataclass
class FilesWorld:
    """A `World` of manifests."""

    assumed: set[str] = field(default_factory=set)
    """Namespaces that were asked for and that nobody described: taken to be there, with their name for a label."""
    _endpoints: dict[str, DatabaseEndpoint] = field(default_factory=dict)
    _classes: dict[str, DatabaseClass] = field(default_factory=dict)
    _namespaces: dict[str, Namespace] = field(default_factory=dict)
    _policies: dict[str, DatabasePolicy] = field(default_factory=dict)
    _databases: dict[Key, Use] = field(default_factory=dict)
    _instances: dict[str, Claimed] = field(default_factory=dict)

    def add(self, kind: str, manifest: Manifest) -> None:
        """Take in an object of the right shape."""
        name = manifest["metadata"].get("name", "")
        if kind == POLICIES.kind:
            self._policies[name] = DatabasePolicy.parse(manifest)
        elif kind == CLASSES.kind:
            self._classes[name] = DatabaseClass.parse(manifest)
        elif kind == ENDPOINTS.kind:
            self._endpoints[name] = DatabaseEndpoint.parse(manifest)
        elif kind == INSTANCES.kind:
            self._instances[name] = Claimed.parse(manifest)
        elif kind == NAMESPACES.kind:
            metadata = dict(manifest["metadata"])
            labels = {**(metadata.get("labels") or {}), _NAMESPACE_LABEL: name}
            self._namespaces[name] = Namespace.parse({**manifest, "metadata": {**metadata, "labels": labels}})
        elif kind == DATABASES.kind:
            use = Use.parse(manifest)
            self._databases[use.metadata.namespace, name] = use
            self._claim(Database.parse(manifest))

    def endpoint(self, name: str) -> DatabaseEndpoint | None:
        """See `World`."""
        return self._endpoints.get(name)

    def endpoints(self) -> Iterable[DatabaseEndpoint]:
        """See `World`."""
        return self._endpoints.values()

    def database_class(self, name: str) -> DatabaseClass | None:
        """See `World`."""
        return self._classes.get(name)

    def namespace(self, name: str) -> Namespace | None:
        """See `World`; a namespace that nobody described is there, and has no labels of its own."""
        if name not in self._namespaces:
            self.assumed.add(name)
            self.add(NAMESPACES.kind, {"metadata": {"name": name}})
        return self._namespaces[name]

    def namespace_now(self, name: str) -> Namespace | None:
        """See `World`."""
        return self.namespace(name)

    def instance(self, name: str) -> Claimed | None:
        """See `World`; what a Database of the files would claim counts as claimed."""
        return self._instances.get(name)

    def policies(self) -> Sequence[DatabasePolicy]:
        """See `World`."""
        return [*self._policies.values()]

    def databases_in(self, namespace: str) -> Iterable[Use]:
        """See `World`."""
        return (use for use in self._databases.values() if use.metadata.namespace == namespace)

    def databases_on(self, endpoint: str) -> Iterable[Use]:
        """See `World`."""
        return (use for use in self._databases.values() if use.endpoint == endpoint)

    def users_of_endpoint(self, name: str) -> Iterable[Use | Claimed]:
        """See `World`."""
        users = chain[Use | Claimed](self._databases.values(), self._instances.values())
        return (user for user in users if user.endpoint == name)

    def users_of_class(self, name: str) -> Iterable[DatabaseEndpoint | Claimed]:
        """See `World`."""
        users = chain[DatabaseEndpoint | Claimed](self._endpoints.values(), self._instances.values())
        return (user for user in users if user.class_name == name)

    def _claim(self, database: Database) -> None:
        endpoint = self._endpoints.get(database.endpoint)
        cls = self._classes.get(endpoint.class_name) if endpoint else None
        if endpoint is None or cls is None:
            return
        try:
            identity = render_identity(cls, template_values(database, cls, endpoint))
        except TemplateError:
            return
        name = instance_name_for(cls, endpoint, identity)
        claim = (database.metadata.namespace, database.metadata.name)
        claimed = Claimed(database.metadata, endpoint.metadata.name, cls.metadata.name, claim)
        self._instances.setdefault(name, claimed)


class Inspection:
    """All the manifests of one run, judged against each other and against those that are there already."""

    def __init__(self, requester: Requester, *, allow_insecure: bool = False) -> None:
        self.world = FilesWorld()
        self._requester = requester
        self._judge = Judge(self.world, allow_insecure=allow_insecure)
        self._now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stored: dict[tuple[str, Key], Manifest] = {}
        self._seen: dict[tuple[str, Key], Document] = {}

    def know(self, existing: Sequence[Document]) -> None:
        """Take in what is in the cluster already: it is looked up, and not judged."""
        for kind, document in _of(map(received, existing), (NAMESPACES.kind, INSTANCES.kind, *JUDGED)):
            if _readable(kind, document.manifest):
                manifest = self._placed(kind, document.manifest)
                self._stored[kind, _key(manifest)] = manifest
                self.world.add(kind, manifest)

    def judge(self, documents: Sequence[Document]) -> list[Finding]:
        """What the webhook would say of each of these objects, in their order; other kinds' are left out."""
        documents = [received(document) for document in documents]
        for kind, document in _of(documents, (NAMESPACES.kind, *JUDGED)):
            if _readable(kind, document.manifest) and kind != DATABASES.kind:
                self.world.add(kind, defaulted(kind, document.manifest) if kind in JUDGED else document.manifest)
        found = {id(document): self._finding(kind, document) for kind, document in _of(documents, JUDGED)}
        for document in documents:
            if fault := _outdated(document.manifest):
                found[id(document)] = _found(str(document.manifest.get("kind")), document, document.manifest, [fault])
        return [found[id(document)] for document in documents if id(document) in found]

    def _finding(self, kind: str, document: Document) -> Finding:
        manifest = document.manifest
        if faults := [*metadata_faults(manifest, namespaced=kind == DATABASES.kind)]:
            # The API server refuses these by itself, before it asks a webhook.
            shape = schema_faults(kind, {**manifest, "metadata": None})
            return _found(kind, document, manifest, [*document.twice, *faults, *shape])
        manifest = self._placed(kind, manifest)
        stored = self._stored.get((kind, _key(manifest)))
        wanted = fresh(manifest) if stored is None else over(stored, manifest)
        patch = self._judge.mutate(self._request(kind, wanted, stored)).patch
        wanted = applied(wanted, patch)
        if stored is None:
            wanted = completed(wanted, self._now)
        verdict = self._judge.validate(self._request(kind, wanted, stored))
        if verdict.allowed and kind == DATABASES.kind:
            self.world.add(kind, wanted)
        warnings = [*verdict.warnings, *self._again(kind, document)]
        return _found(kind, document, manifest, [*document.twice, *verdict.faults], warnings)

    def _again(self, kind: str, document: Document) -> Iterator[str]:
        """A warning for an object that another document of the run is, too."""
        key = _key(self._placed(kind, document.manifest))
        first = self._seen.setdefault((kind, key), document)
        if first is not document and key[1]:
            yield f"the same object is described at {first.file}:{first.line} too; the last one applied counts"

    def _placed(self, kind: str, manifest: Manifest) -> Manifest:
        """A manifest with what the API server would add: its namespace, and the defaults of its kind."""
        if kind == DATABASES.kind and not manifest["metadata"].get("namespace"):
            manifest = {**manifest, "metadata": {**manifest["metadata"], "namespace": self._requester.namespace}}
        return defaulted(kind, manifest) if kind in JUDGED else manifest

    def _request(self, kind: str, manifest: Manifest, stored: Manifest | None) -> Request:
        namespace, name = _key(manifest)
        request = {
            "uid": "offline",
            "kind": {"group": GROUP, "version": VERSION, "kind": kind},
            "operation": "CREATE" if stored is None else "UPDATE",
            "name": name,
            "namespace": namespace,
            "userInfo": {"username": self._requester.user, "groups": list(self._requester.groups)},
            "object": manifest,
            "oldObject": stored,
        }
        review = {"apiVersion": REVIEW_VERSION, "kind": "AdmissionReview", "request": request}
        return read_review(json.dumps(review).encode())


def _of(documents: Iterable[Document], kinds: Sequence[str]) -> Iterator[tuple[str, Document]]:
    """The documents of these kinds, in the order of the kinds."""
    versions = {resource.kind: resource.api_version for resource in _RESOURCES}
    found = list(documents)
    for kind in kinds:
        wanted = (versions[kind], kind)
        yield from ((kind, d) for d in found if (d.manifest.get("apiVersion"), d.manifest.get("kind")) == wanted)


def _readable(kind: str, manifest: Manifest) -> bool:
    """Whether an object has the shape that looking it up takes."""
    if any(metadata_faults(manifest, namespaced=kind == DATABASES.kind)):
        return False
    if kind in JUDGED and schema_faults(kind, manifest):
        return False
    if kind == INSTANCES.kind:
        return _is_claim(manifest.get("spec"))
    # A policy that does not compile is refused, and can refuse nothing.
    return kind != POLICIES.kind or not any(policies.faults(manifest))


def _is_claim(spec: Any) -> bool:
    """Whether a DatabaseInstance's spec says what is looked up of it, as in a cluster every one does."""
    if not isinstance(spec, Mapping):
        return False
    claim = spec.get("claimRef")
    texts = [spec.get("endpoint"), spec.get("className")]
    if claim is not None:
        texts += [claim.get("namespace"), claim.get("name")] if isinstance(claim, Mapping) else [None]
    return all(isinstance(text, str) for text in texts)


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return metadata.get("namespace") or "", metadata.get("name") or ""


def _outdated(manifest: Manifest) -> Fault | None:
    """What is wrong with an object of a group or version like this operator's, which no cluster would take."""
    version, kind = str(manifest.get("apiVersion")), manifest.get("kind")
    group = version.rpartition("/")[0]
    if group != GROUP and not group.endswith(f".{GROUP}"):
        return None
    if version != API_VERSION:
        return Fault("apiVersion", f"must be {API_VERSION}")
    if kind not in [resource.kind for resource in _RESOURCES]:
        return Fault("kind", f"is none of {', '.join(JUDGED)}")
    return None


def _found(
    kind: str, document: Document, manifest: Manifest, faults: Iterable[Fault], warnings: Iterable[str] = ()
) -> Finding:
    metadata = manifest.get("metadata")
    named: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    name = str(named.get("name") or f"{named.get('generateName') or ''}*")
    namespace = str(named.get("namespace") or "")
    return Finding(document, kind, namespace, name, tuple(sorted(set(faults))), tuple(warnings))
