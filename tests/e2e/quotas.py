"""Limits on what a namespace may hold: the way in which an administrator stops an operator without meaning to."""

from __future__ import annotations

from api.resources import Resource
from tests.e2e.cluster import eventually
from tests.e2e.scene import Scene

QUOTAS = Resource("", "v1", "ResourceQuota", "resourcequotas", namespaced=True)


def quota(scene: Scene, hard: dict[str, str], namespace: str = "") -> None:
    """Limit what a namespace (default: the scene's) may hold, and wait until that is in force."""
    namespace = namespace or scene.namespace
    metadata = {"name": "none", "namespace": namespace}
    scene.cluster.create(QUOTAS, {"metadata": metadata, "spec": {"hard": hard}})

    def counted() -> bool:
        found = scene.cluster.get(QUOTAS, "none", namespace) or {}
        return (found.get("status") or {}).get("hard") == hard

    eventually(counted, "the quota is in force")
