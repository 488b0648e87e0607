"""Leader election on a Lease (coordination.k8s.io/v1), as client-go does it.

The kubernetes package has one too, but it compares wall clocks, and a refused connection escapes it without a word to
the leader. Here time is monotonic, any failure to renew in time ends leadership, and a clean exit gives the Lease up.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from api.resources import LEASES, PODS
from kube.client import Client
from kube.errors import AlreadyExists, Conflict, KubeError, NotFound

log = logging.getLogger(__name__)

LEASE_SECONDS = 15
"""How long others wait after the last renewal that they saw."""
RENEW_SECONDS = 10
"""How long the holder goes on without a successful renewal: less than a lease, so that two never overlap."""
RETRY_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""How often the holder looks at the clock, whatever its requests wait for."""


@dataclass(frozen=True, slots=True)
class LeaseName:
    """Which Lease, and under which name to hold it."""

    namespace: str
    name: str
    identity: str
    """The candidate's Pod."""


class Lease:
    """One candidate's view of a Lease."""

    def __init__(self, client: Client, name: LeaseName) -> None:
        self._client = client
        self._name = name
        self._observed: tuple[str, str] | None = None
        self._observed_at = 0.0
        self._renewed = 0.0
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Return once this candidate holds the Lease; failed requests count as somebody else's turn."""
        while not self._renew() or self._is_over():
            time.sleep(RETRY_SECONDS)

    def hold(self) -> bool:
        """Renew until the Lease is lost (True) or `release` is called (False).

        The clock decides, not the requests: one that hangs for longer than a lease must not keep its holder going.
        """
        threading.Thread(target=self._keep_renewing, name="lease-renewal", daemon=True).start()
        while not self._stop.wait(LOOK_SECONDS):
            if self._is_over():
                log.error("leadership lost", extra={"lease": self._name.name})
                return True
        return False

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RETRY_SECONDS):
            self._renew()

    def _renew(self) -> bool:
        # Others count from when the API server did it, which is after this moment, however late its answer comes.
        begun = time.monotonic()
        renewed = self._try()
        if renewed:
            self._renewed = begun
        return renewed

    def _is_over(self) -> bool:
        return time.monotonic() - self._renewed > RENEW_SECONDS

    def release(self) -> None:
        """Give the Lease up, so that the next candidate need not wait for it to run out."""
        self._stop.set()
        try:
            lease = self._client.get(LEASES, self._name.name, namespace=self._name.namespace)
            if lease["spec"].get("holderIdentity") == self._name.identity:
                self._write(lease, holder="", seconds=1)
        except KubeError as error:
            log.warning("lease not released", extra={"error": error.message})

    def _try(self) -> bool:
        try:
            lease = self._client.get(LEASES, self._name.name, namespace=self._name.namespace)
        except NotFound:
            return self._create()
        except KubeError as error:
            log.warning("lease not read", extra={"error": error.message})
            return False
        spec = lease["spec"]
        holder, seen = spec.get("holderIdentity", ""), (spec.get("holderIdentity", ""), spec.get("renewTime", ""))
        if seen != self._observed:
            self._observed, self._observed_at = seen, time.monotonic()
        waited = time.monotonic() - self._observed_at
        lasting = waited < spec.get("leaseDurationSeconds", LEASE_SECONDS)
        if holder not in ("", self._name.identity) and lasting and not self._is_gone(holder):
            return False
        if self._stop.is_set():
            # It is being given up: what was read may be that already, and would be taken back.
            return False
        try:
            self._write(lease, holder=self._name.identity, seconds=LEASE_SECONDS)
        except KubeError as error:
            if not isinstance(error, Conflict):
                log.warning("lease not renewed", extra={"error": error.message})
            return False
        return True

    def _is_gone(self, holder: str) -> bool:
        """Whether the Pod of this name is no more: nobody will renew, and nothing is left to wait for.

        A holder whose rights went before it did (an uninstallation) could not give the Lease up.
        """
        try:
            self._client.get(PODS, holder, namespace=self._name.namespace)
        except NotFound:
            return True
        except KubeError:
            return False
        return False

    def _create(self) -> bool:
        now = _now()
        spec = {
            "holderIdentity": self._name.identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        metadata = {"name": self._name.name, "namespace": self._name.namespace}
        try:
            self._client.create(LEASES, {"metadata": metadata, "spec": spec})
        except AlreadyExists:
            return False
        except KubeError as error:
            log.warning("lease not created", extra={"error": error.message})
            return False
        return True

    def _write(self, lease: dict[str, Any], *, holder: str, seconds: int) -> None:
        now = _now()
        spec: dict[str, Any] = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now}
        if lease["spec"].get("holderIdentity") != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = lease["spec"].get("leaseTransitions", 0) + 1
        patch = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
        self._client.patch(LEASES, self._name.name, patch, namespace=self._name.namespace)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
