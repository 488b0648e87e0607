"""Limits on what a namespace may hold: the way in which an administrator stops an operator without meaning to."""

from __future__ import annotations

from api.resources import Resource
from tests.e2e.cluster import eventually
from tests.e2e.scene import Scene

QUOTAS = Resource("", "v1", "ResourceQuota", "resourcequotas", namespaced=True)


def quota(scene: Scene, hard: dict[str, str]) -> None:
    """Limit what the scene's namespace may hold, and wait until that is in force."""
    metadata = {"name": "none", "namespace": scene.namespace}
    scene.cluster.create(QUOTAS, {"metadata": metadata, "spec": {"hard": hard}})

    def counted() -> bool:
        found = scene.cluster.get(QUOTAS, "none", scene.namespace) or {}
        return (found.get("status") or {}).get("hard") == hard

    eventually(counted, "the quota is in force")
