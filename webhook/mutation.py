"""What the webhook writes into a Database: defaults, the finalizer, and who asked.

Pure. What was written at creation is carried over updates, so that applying or replacing the same manifest changes
nothing, and so that nobody can write it themselves. Shapes are not judged here: the API server checks them afterwards,
and what does not have the right one is left alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any

from api.labels import (
    ADOPT,
    ADOPT_REQUESTED_BY,
    DEFAULTED_PARAMS,
    FINALIZER,
    REQUESTED_BY,
    RETRY,
    RETRY_REQUESTED_BY,
    ROTATE,
    ROTATE_REQUESTED_BY,
)
from api.stamp import Stamp
from webhook.review import Manifest, Request

_STAMP_OF = {ROTATE: ROTATE_REQUESTED_BY, RETRY: RETRY_REQUESTED_BY, ADOPT: ADOPT_REQUESTED_BY}


def mutated(request: Request, defaults: Mapping[str, str], now: datetime, named: Container[str] = ()) -> Manifest:
    """The Database of a CREATE or UPDATE as it should be stored; `defaults` are its class's, by parameter.

    `named` are the groups that policies ask for: of somebody with many groups, the stamp has these in any case.

    Idempotent: an object that went through it once comes out as it is.
    """
    if request.terminating or not _well_formed(request.object):
        return request.object
    stamp = Stamp.of(request.user, request.groups, now.strftime("%Y-%m-%dT%H:%M:%SZ"), request.uid, named).text()
    if request.operation == "CREATE":
        return _created(request, defaults, stamp)
    return _updated(request, stamp) if _well_formed(request.old) else request.object


def _created(request: Request, defaults: Mapping[str, str], stamp: str) -> Manifest:
    params = _map(_map(request.object, "spec"), "params")
    annotations = _map(_map(request.object, "metadata"), "annotations")
    added = {name: value for name, value in defaults.items() if name not in params}
    # Those of an earlier pass over the same object, which the API server makes when another webhook changed it.
    before = {name for name in _names(annotations) if name in params and params[name] == defaults.get(name)}
    stamps = {
        REQUESTED_BY: stamp,
        DEFAULTED_PARAMS: ",".join(sorted(before | added.keys())) or None,
        **{key: stamp if asked in annotations else None for asked, key in _STAMP_OF.items()},
    }
    return _with(_unexported(request.object), stamps, added, finalizer=True)


def _unexported(manifest: Manifest) -> Manifest:
    """A new object without the version that the one it was exported from had, with which no API server creates any."""
    metadata = _map(manifest, "metadata")
    if "resourceVersion" not in metadata:
        return manifest
    return {**manifest, "metadata": {key: value for key, value in metadata.items() if key != "resourceVersion"}}


def _updated(request: Request, stamp: str) -> Manifest:
    old, new = (_map(_map(m, "metadata"), "annotations") for m in (request.old, request.object))
    old_params, params = (_map(_map(m, "spec"), "params") for m in (request.old, request.object))
    stamps = {REQUESTED_BY: old.get(REQUESTED_BY), DEFAULTED_PARAMS: old.get(DEFAULTED_PARAMS)}
    for asked, key in _STAMP_OF.items():
        stamps[key] = None
        if asked in new:
            stamps[key] = old.get(key) if new[asked] == old.get(asked) else stamp
    carried = {n: old_params[n] for n in _names(old) if n in old_params and n not in params}
    held = FINALIZER in (_map(request.old, "metadata").get("finalizers") or ())
    return _with(request.object, stamps, carried, finalizer=held)


def _with(
    manifest: Manifest, stamps: Mapping[str, str | None], params: Mapping[str, str], *, finalizer: bool
) -> Manifest:
    """`manifest` with annotations set, or removed where None, with parameters added, and the finalizer if wanted."""
    metadata, spec = _map(manifest, "metadata"), _map(manifest, "spec")
    wanted = {**_map(metadata, "annotations"), **stamps}
    annotations = {key: value for key, value in wanted.items() if value is not None}
    if annotations != _map(metadata, "annotations"):
        metadata = {**metadata, "annotations": annotations}
    finalizers = list(metadata.get("finalizers") or ())
    if finalizer and FINALIZER not in finalizers:
        metadata = {**metadata, "finalizers": [*finalizers, FINALIZER]}
    if params:
        spec = {**spec, "params": {**_map(spec, "params"), **params}}
    return {**manifest, "metadata": metadata, "spec": spec}


def _well_formed(manifest: Manifest) -> bool:
    """Whether the few fields that are read here have the types that the API demands."""
    metadata, spec = manifest.get("metadata"), manifest.get("spec")
    if not isinstance(metadata, dict) or not isinstance(spec, dict):
        return False
    maps = (metadata.get("annotations"), spec.get("params"))
    finalizers = metadata.get("finalizers")
    return all(m is None or isinstance(m, dict) for m in maps) and (finalizers is None or isinstance(finalizers, list))


def _map(manifest: Mapping[str, Any], key: str) -> dict[str, Any]:
    return manifest.get(key) or {}


def _names(annotations: Mapping[str, Any]) -> set[str]:
    names = annotations.get(DEFAULTED_PARAMS)
    return set(names.split(",")) if isinstance(names, str) else set()
