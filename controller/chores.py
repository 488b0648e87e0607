"""The leader's slow loop: certificate, declarations, endpoints' status, old Operations."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from api.labels import LABEL_DECLARED_BY, LABEL_ENDPOINT
from api.resources import OPERATIONS
from controller.care import EndpointCare
from controller.certificates import Certificates
from controller.declared import Declarations, DeclaredError
from controller.metrics import Metrics
from controller.observed import JobState, ProbePod
from controller.queue import Queue
from controller.retention import Retention
from controller.settings import Settings
from controller.world import World
from kube.cache import HasMetadata
from kube.client import Client
from kube.errors import KubeError, NotFound

log = logging.getLogger(__name__)

INTERVAL = 15.0
"""Seconds between looks when all is well."""
FIRST_RETRY, LONGEST_RETRY = 2.0, 60.0
"""When something is not: a value that is refused is refused until somebody changes it."""
RETENTION_INTERVAL = 3600.0


class Chores:
    """What the leader does besides Databases."""

    def __init__(self, client: Client, world: World, settings: Settings, metrics: Metrics) -> None:
        self._client = client
        self._world = world
        self._settings = settings
        self._metrics = metrics
        self._certificates = Certificates(client, settings, metrics)
        self._declarations = Declarations(client, settings)
        self._retention = Retention(settings.keep_operations, settings.keep_operations_least)
        self._care = EndpointCare(client, world, settings)
        self._endpoints: Queue[str] = Queue()
        self._wake = threading.Event()
        world.endpoints.on_change(lambda old, new: self._endpoints.add((new or old).metadata.name))  # type: ignore[union-attr]
        world.classes.on_change(lambda old, new: self._class_changed((new or old).metadata.name))  # type: ignore[union-attr]
        world.operations.on_change(lambda old, new: self._heard((new or old).endpoint))  # type: ignore[union-attr]
        world.jobs.on_change(self._probe_changed)
        world.probe_pods.on_change(self._probe_changed)
        world.secrets.on_change(lambda old, new: self._secret_changed((new or old).metadata.name))  # type: ignore[union-attr]
        for cache in (world.classes, world.endpoints, world.policies, world.secrets):
            cache.on_change(self._declared_changed)

    def run(self) -> None:
        """Start the loops. Returns at once."""
        threading.Thread(target=self._loop, name="chores", daemon=True).start()
        threading.Thread(target=self._endpoint_loop, name="endpoints", daemon=True).start()
        threading.Thread(target=self._retention_loop, name="retention", daemon=True).start()

    def _class_changed(self, name: str) -> None:
        for endpoint in self._world.endpoints.by("class", name):
            self._endpoints.add(endpoint.metadata.name)

    def _heard(self, endpoint: str) -> None:
        """An Operation or a probe may have something to tell of it."""
        if self._world.endpoints.get(endpoint) is not None:
            self._endpoints.add(endpoint)

    def _probe_changed(self, old: JobState | ProbePod | None, new: JobState | ProbePod | None) -> None:
        changed = new or old
        if changed is not None:
            self._heard(changed.metadata.labels.get(LABEL_ENDPOINT, ""))

    def _secret_changed(self, name: str) -> None:
        webhook = self._settings.webhook
        if name in (self._settings.declared_secret, webhook.ca_secret, webhook.tls_secret):
            self._wake.set()
        for endpoint in self._world.endpoints.by("secret", name):
            self._endpoints.add(endpoint.metadata.name)

    def _declared_changed(self, old: HasMetadata | None, new: HasMetadata | None) -> None:
        """Somebody may have edited or deleted what the values declare; the controller's own applying does no harm."""
        if old is None or LABEL_DECLARED_BY not in old.metadata.labels:
            return
        # A Secret has no generation.
        if new is None or not new.metadata.generation or new.metadata.generation != old.metadata.generation:
            self._declarations.touch()
            self._wake.set()

    def _loop(self) -> None:
        retry = FIRST_RETRY
        while True:
            self._wake.clear()
            # Both, whatever becomes of the first: declarations are judged by the webhook, which needs its certificate.
            certified = self._try("certificate", lambda: self._certificates.maintain(datetime.now(UTC)))
            declared = self._try("declarations", self._declarations.maintain)
            if certified and declared:
                retry = FIRST_RETRY
                self._wake.wait(INTERVAL)
            else:
                retry = FIRST_RETRY if self._wake.wait(retry) else min(retry * 2, LONGEST_RETRY)

    def _endpoint_loop(self) -> None:
        while (name := self._endpoints.take()) is not None:
            done = self._done("endpoint", lambda name=name: self._look_after(name))  # type: ignore[misc]
            (self._endpoints.done if done else self._endpoints.failed)(name)

    def _retention_loop(self) -> None:
        while True:
            self._try("retention", self._forget_operations)
            time.sleep(RETENTION_INTERVAL)

    def _try(self, chore: str, do: Callable[[], bool | None]) -> bool:
        """The same, where the chore is one and not one of many: told in a metric too."""
        done = self._done(chore, do)
        self._metrics.failing.labels(chore).set(not done)
        return done

    @staticmethod
    def _done(chore: str, do: Callable[[], bool | None]) -> bool:
        """Whether it is done; a chore that returns False is not."""
        try:
            done = do()
        except (KubeError, DeclaredError) as error:
            log.warning("chore put off", extra={"chore": chore, "error": str(error)})
            return False
        except Exception:
            # A broad catch, in a loop that tries again: one chore's defect must not end the others.
            log.exception("chore failed", extra={"chore": chore})
            return False
        return done is not False

    def _look_after(self, name: str) -> None:
        again = self._care.look_after(name, now := datetime.now(UTC))
        if again is not None:
            self._endpoints.add_after(name, max((again - now).total_seconds(), 0.0) + 0.05)

    def _forget_operations(self) -> None:
        for entry in self._retention.expired(self._world.operations.values(), datetime.now(UTC)):
            try:
                self._client.delete(OPERATIONS, entry.name, namespace=self._settings.namespace)
            except NotFound:
                continue
            log.info("operation forgotten", extra={"operation": entry.name, "database": "/".join(entry.database)})
