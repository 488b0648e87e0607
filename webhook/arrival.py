"""What the API server makes of an object before a webhook sees it, without an API server: for the offline check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from api.kinds import Manifest
from api.resources import API_VERSION
from api.schemas import SPECS, without_nulls
from webhook.documents import Document

_SYSTEM = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds"}
)
"""Of an object's metadata: the API server's own to write."""
_UID = "00000000-0000-0000-0000-000000000000"


def received(document: Document) -> Document:
    """As the API server reads it: a null in a spec is nothing, and in labels and annotations an empty text."""
    manifest, kind = document.manifest, document.manifest.get("kind")
    if manifest.get("apiVersion") == API_VERSION and isinstance(kind, str) and kind in SPECS:
        manifest = without_nulls(kind, manifest)
    metadata = manifest.get("metadata")
    if isinstance(metadata, Mapping):
        texts = {key: _texts(metadata[key]) for key in ("labels", "annotations") if key in metadata}
        manifest = {**manifest, "metadata": {**metadata, **texts}}
    return replace(document, manifest=manifest)


def _texts(found: Any) -> Any:
    return {k: "" if v is None else v for k, v in found.items()} if isinstance(found, Mapping) else found


def fresh(manifest: Manifest) -> Manifest:
    """What the API server takes of a new object: what is its own to write, it writes."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _SYSTEM}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}


def over(stored: Manifest, manifest: Manifest) -> Manifest:
    """What an object becomes when a manifest of it is applied."""
    applied = fresh(manifest)
    old, new = stored["metadata"], applied["metadata"]
    maps = {key: {**(old.get(key) or {}), **(new.get(key) or {})} for key in ("labels", "annotations")}
    return {**stored, **applied, "metadata": {**old, **new, **maps}}


def completed(manifest: Manifest, now: str) -> Manifest:
    """A new object as validation sees it: with uid, age (`now`, RFC 3339), and a name where one was to be generated."""
    metadata = manifest["metadata"]
    name = metadata.get("name") or f"{metadata['generateName']}xxxxx"
    system = {"uid": _UID, "generation": 1, "creationTimestamp": now}
    return {**manifest, "metadata": {**metadata, "name": name, **system}}
