"""The path from a Database to its Secret, against bare Jobs on the same cluster and the same base image.

Each round measures all three, one after the other, so that whatever else the machine does hits them alike.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from api.resources import DATABASES, JOBS, Resource
from kube.client import Client
from kube.errors import NotFound

DEADLINE = 60.0
"""Seconds for any one measurement."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to measure: a cluster with the chart installed and an endpoint that works."""

    client: Client
    namespace: str
    endpoint: str
    base_image: str
    host: str
    """An address of this machine that Pods reach."""

    def database_ready(self, name: str) -> float:
        """Seconds from the request that creates a Database to its Ready, seen by a watch."""
        manifest = {"metadata": {"name": name, "namespace": self.namespace}, "spec": {"endpoint": self.endpoint}}
        seconds = self._until(DATABASES, manifest, _is_ready)
        self._delete(DATABASES, name)
        return seconds

    def job_complete(self, name: str) -> float:
        """Seconds from the request that creates a no-op Job to its Complete."""
        seconds = self._until(JOBS, self._job(name, ["true"]), _is_complete)
        self._delete(JOBS, name)
        return seconds

    def first_packet(self, name: str) -> float:
        """Seconds from the request that creates a Job to the first packet of its container."""
        with socket.create_server((self.host, 0)) as server:
            server.settimeout(DEADLINE)
            port = server.getsockname()[1]
            command = ["bash", "-c", f"exec 3<>/dev/tcp/{self.host}/{port}"]
            start = time.perf_counter()
            self.client.create(JOBS, self._job(name, command))
            server.accept()[0].close()
            seconds = time.perf_counter() - start
        self._wait(JOBS, name, _is_complete)
        self._delete(JOBS, name)
        return seconds

    def _job(self, name: str, command: list[str]) -> dict[str, Any]:
        container = {
            "name": "noop",
            "image": self.base_image,
            "command": command,
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        }
        pod = {"restartPolicy": "Never", "containers": [container]}
        return {
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"backoffLimit": 0, "template": {"spec": pod}},
        }

    def _until(self, resource: Resource, manifest: dict[str, Any], holds: Callable[[dict[str, Any]], bool]) -> float:
        """Seconds from the create request to `holds`; the watch is open before the request is sent."""
        name = manifest["metadata"]["name"]
        version = self.client.list(resource, namespace=self.namespace)[1]
        seen, end = threading.Event(), 0.0

        def watch() -> None:
            nonlocal end
            for _, found in self.client.watch(
                resource, version, namespace=self.namespace, fields=f"metadata.name={name}", seconds=int(DEADLINE)
            ):
                if holds(found):
                    end = time.perf_counter()
                    seen.set()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        start = time.perf_counter()
        self.client.create(resource, manifest)
        if not seen.wait(DEADLINE):
            raise TimeoutError(f"{resource.kind} {name} did not get there within {DEADLINE:.0f} s")
        return end - start

    def _wait(self, resource: Resource, name: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        for _ in _patience():
            if holds(self.client.get(resource, name, namespace=self.namespace)):
                return
        raise TimeoutError(f"{resource.kind} {name} did not get there within {DEADLINE:.0f} s")

    def _delete(self, resource: Resource, name: str) -> None:
        """Delete and wait until it is gone, so that a round does not disturb the next."""
        self.client.delete(resource, name, namespace=self.namespace)
        for _ in _patience():
            try:
                self.client.get(resource, name, namespace=self.namespace)
            except NotFound:
                return
        raise TimeoutError(f"{resource.kind} {name} did not go away within {DEADLINE:.0f} s")


def _patience() -> Iterator[None]:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def _condition(found: dict[str, Any], kind: str) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def _is_ready(found: dict[str, Any]) -> bool:
    return _condition(found, "Ready")


def _is_complete(found: dict[str, Any]) -> bool:
    return _condition(found, "Complete")
