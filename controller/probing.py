"""Probes: when an endpoint's turn has come, a Job that logs in and looks around. What it finds, the caches tell."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any

from api.kinds import DatabaseClass, DatabaseEndpoint
from api.labels import (
    LABEL_ENDPOINT,
    LABEL_OPERATION_TYPE,
    LABEL_PROBE_BASIS,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    PROBE_FILE,
    PROBE_SPEC,
    PROBE_TYPE,
)
from api.probe import LAST_WORDS, ProbeSpec
from api.resources import API_VERSION, ENDPOINTS
from controller.pods import account_sources, pod_metadata, pod_spec
from controller.request import server_of
from controller.settings import JobTemplate
from controller.standing import Turn

DEADLINE = timedelta(minutes=2)
"""For the image, the login and the catalogue; then Kubernetes ends the Job, with its Pod."""
SHORTEST_KEPT, LONGEST_KEPT = timedelta(minutes=2), timedelta(minutes=30)
"""A Job's name is its turn: as long as it is kept, a controller that starts anew does not take the turn again."""
_HASH_LENGTH = 26


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at one endpoint."""

    endpoint: DatabaseEndpoint
    cls: DatabaseClass
    basis: str
    turn: Turn

    @property
    def name(self) -> str:
        """Of its Job: creating it takes the turn, whoever leads."""
        text = "\0".join((self.endpoint.metadata.uid, self.basis, self.turn.slot))
        return "probe-" + b32encode(sha256(text.encode()).digest()).decode("ascii")[:_HASH_LENGTH].lower()

    @property
    def spec(self) -> ProbeSpec:
        """What it is told."""
        procedures = {kind: operation.name for kind, operation in self.cls.operations.items()}
        return ProbeSpec(self.cls.driver.value, server_of(self.endpoint, self.cls.driver), procedures)


def probe_manifest(probe: Probe, namespace: str, template: JobTemplate) -> dict[str, Any]:
    """The Job. Its Pod has no token: its instructions are an annotation, its answer is its last words."""
    endpoint = probe.endpoint
    metadata = pod_metadata(template, _labels(probe))
    metadata["annotations"][PROBE_SPEC] = probe.spec.text()
    owner = {
        "apiVersion": API_VERSION,
        "kind": ENDPOINTS.kind,
        "name": endpoint.metadata.name,
        "uid": endpoint.metadata.uid,
    }
    told = {"path": PROBE_FILE, "fieldRef": {"fieldPath": f"metadata.annotations['{PROBE_SPEC}']"}}
    sources = [*account_sources(endpoint), {"downwardAPI": {"items": [told]}}]
    container = {
        "args": [PROBE_TYPE],
        "terminationMessagePath": LAST_WORDS,
        "terminationMessagePolicy": "File",
    }
    pod = pod_spec(template, endpoint, sources, container)
    kept = min(max(probe.turn.lasts, SHORTEST_KEPT), LONGEST_KEPT)
    return {
        "metadata": {
            "name": probe.name,
            "namespace": namespace,
            "labels": _labels(probe),
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(DEADLINE.total_seconds()),
            "ttlSecondsAfterFinished": int(kept.total_seconds()),
            "template": {"metadata": metadata, "spec": {**pod, "automountServiceAccountToken": False}},
        },
    }


def _labels(probe: Probe) -> Mapping[str, str]:
    return {
        MANAGED_BY: MANAGED_BY_VALUE,
        LABEL_ENDPOINT: probe.endpoint.metadata.name,
        LABEL_OPERATION_TYPE: PROBE_TYPE,
        LABEL_PROBE_BASIS: probe.basis,
    }
