"""What the API server itself would refuse in an object's metadata: names, labels, fields that there are none of.

For manifests that no API server has seen yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from api.faults import Fault
from api.kinds import Manifest
from api.schemas import OBJECT_NAME
from webhook.selectors import is_label_key, is_label_value

_NAME = re.compile(OBJECT_NAME.rstrip("$") + r"\Z")
_NAME_LIMIT = 253
_NAMESPACE_LIMIT = 63
_ANNOTATIONS_LIMIT = 262144
"""Bytes of all keys and values."""
_OWNER_NAMES = ("apiVersion", "kind", "name", "uid")
_OWNER_FLAGS = ("controller", "blockOwnerDeletion")
_FIELDS = frozenset(
    {"name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers", "selfLink", "uid"}
    | {"resourceVersion", "generation", "managedFields"}
    | {"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"}
)


def metadata_faults(manifest: Manifest, *, namespaced: bool) -> Iterator[Fault]:
    """What is wrong with the metadata of one object."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        yield Fault("metadata", "is required; give at least metadata.name")
        return
    for name in sorted(metadata.keys() - _FIELDS):
        yield Fault(f"metadata.{name}", "is no field of metadata; is it misspelt, or meant for spec?")
    yield from _name_faults(metadata)
    namespace = metadata.get("namespace")
    if namespace is not None and not namespaced:
        yield Fault("metadata.namespace", "has no meaning, because objects of this kind are in no namespace; remove it")
    elif namespace is not None and not (_is_name(namespace) and len(namespace) <= _NAMESPACE_LIMIT):
        yield Fault("metadata.namespace", "is no name of a namespace")
    for field in ("labels", "annotations"):
        yield from _map_faults(field, metadata.get(field))
    owners, finalizers = (
        [] if metadata.get(field) is None else metadata[field] for field in ("ownerReferences", "finalizers")
    )
    yield from _owner_faults(owners)
    if not isinstance(finalizers, list) or not all(isinstance(each, str) and is_label_key(each) for each in finalizers):
        yield Fault("metadata.finalizers", "must be a list of names such as example.com/backup")


def _owner_faults(owners: Any) -> Iterator[Fault]:
    field = "metadata.ownerReferences"
    if not isinstance(owners, list):
        yield Fault(field, "must be a list")
        return
    for index, owner in enumerate(owners):
        path = f"{field}[{index}]"
        if not isinstance(owner, Mapping):
            yield Fault(path, f"must be a map with {', '.join(_OWNER_NAMES)}")
            continue
        for name in sorted(owner.keys() - {*_OWNER_NAMES, *_OWNER_FLAGS}):
            yield Fault(f"{path}.{name}", f"is not known here; known are {', '.join((*_OWNER_NAMES, *_OWNER_FLAGS))}")
        for name in _OWNER_NAMES:
            if not (isinstance(owner.get(name), str) and owner[name]):
                yield Fault(f"{path}.{name}", "is required, as a text")
        for name in _OWNER_FLAGS:
            if not isinstance(owner.get(name, False), bool | None):
                yield Fault(f"{path}.{name}", "must be true or false, without quotes")


def _name_faults(metadata: Mapping[str, Any]) -> Iterator[Fault]:
    field = "name" if metadata.get("name") is not None else "generateName"
    name = metadata.get(field)
    if name is None:
        yield Fault("metadata.name", "is required")
    elif field == "name" and not _is_name(name):
        message = "is no name of an object; use lower case letters, digits, '-' and '.', between letters or digits"
        yield Fault("metadata.name", message)
    elif field == "generateName" and not (isinstance(name, str) and _is_name(f"{name}x")):
        yield Fault("metadata.generateName", "must be the beginning of a name: lower case letters, digits, '-' and '.'")


def _map_faults(field: str, found: Any) -> Iterator[Fault]:
    if found is None:
        return
    if not isinstance(found, Mapping):
        yield Fault(f"metadata.{field}", "must be a map")
        return
    for key, value in found.items():
        path = f"metadata.{field}[{key}]"
        if not is_label_key(key):
            yield Fault(path, "has a key that is none; write name or example.com/name, name of at most 63 characters")
        if not isinstance(value, str):
            yield Fault(path, "must be a string; put numbers and yes/no in quotes")
        elif field == "labels" and not is_label_value(value):
            yield Fault(path, "is no value of a label; use at most 63 letters, digits, '-', '_' and '.'")
    if field == "annotations" and sum(len(f"{k}{v}".encode()) for k, v in found.items()) > _ANNOTATIONS_LIMIT:
        yield Fault("metadata.annotations", "are more than 256 KiB together")


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= _NAME_LIMIT and _NAME.match(name) is not None
