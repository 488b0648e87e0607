"""Events: what changed for an object, told once, after its status was written (events.k8s.io/v1)."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from api.kinds import Database, DatabaseEndpoint
from api.resources import API_VERSION, EVENTS, Resource
from controller.news import News
from kube.client import FIELD_MANAGER, Client
from kube.errors import KubeError

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024
"""Characters: validation of events.k8s.io/v1."""


NOWHERE = "default"
"""Where Kubernetes keeps Events of what has no namespace."""


class Recorder:
    """Writes Events; one that cannot be written is logged and forgotten."""

    def __init__(self, client: Client, pod: str) -> None:
        self._client = client
        self._pod = pod

    def record(self, object_: Database | DatabaseEndpoint, resource: Resource, news: News) -> None:
        """Tell `news` of an object of that resource."""
        metadata = object_.metadata
        manifest: dict[str, Any] = {
            "metadata": {"name": f"{metadata.name}.{secrets.token_hex(8)}", "namespace": metadata.namespace or NOWHERE},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._pod,
            "action": "Reconcile",
            "type": "Normal" if news.normal else "Warning",
            "reason": news.reason,
            "note": news.note[:NOTE_LIMIT],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": resource.kind,
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
            },
        }
        try:
            self._client.create(EVENTS, manifest)
        except KubeError as error:
            # A terminating namespace takes no new objects; that is no fault.
            log.debug("event not written", extra={"reason": news.reason, "error": error.message})
