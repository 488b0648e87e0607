"""Whether users' Secrets are still there: each read by its name, one after the other, spread over an hour.

A Secret that somebody deleted, or whose values they took out, is written again by a create. Only what a Role beside
it allows is read: this one Secret.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from api.binding import secret_name
from api.kinds import Database
from api.labels import DATABASE_UID
from api.reasons import CONDITION_READY
from api.resources import SECRETS
from controller.world import Key, World
from kube.client import Client
from kube.errors import Forbidden, KubeError, NotFound

log = logging.getLogger(__name__)

LEAST_PAUSE = 0.05
"""Seconds between two reads, however many Databases there are."""


class Inspection:
    """One slow round after the other over all Databases that are Ready."""

    def __init__(self, client: Client, world: World, period: float, found_missing: Callable[[Key], None]) -> None:
        self._client = client
        self._world = world
        self._period = period
        self._found_missing = found_missing

    def run(self) -> None:
        """Start the rounds. Returns at once."""
        threading.Thread(target=self._loop, name="inspection", daemon=True).start()

    def _loop(self) -> None:
        pause = threading.Event()
        while True:
            ready = [d for cache in self._world.databases for d in cache.values() if _to_be_inspected(d)]
            for database in ready:
                try:
                    self._inspect(database)
                except KubeError as error:
                    log.debug("secret not inspected", extra={"error": error.message})
                pause.wait(max(self._period / len(ready), LEAST_PAUSE))
            if not ready:
                pause.wait(min(self._period, 10.0))

    def _inspect(self, database: Database) -> None:
        metadata = database.metadata
        key = (metadata.namespace, metadata.name)
        try:
            secret = self._client.get(SECRETS, secret_name(metadata.name), namespace=metadata.namespace)
        except NotFound:
            self._missing(key)
            return
        except Forbidden:
            # Its Role is not there: a create makes it.
            return
        ours = (secret["metadata"].get("annotations") or {}).get(DATABASE_UID) == metadata.uid
        if ours and not any((secret.get("data") or {}).values()):
            self._missing(key)

    def _missing(self, key: Key) -> None:
        self._world.missing_secrets[key] = datetime.now(UTC).replace(microsecond=0)
        log.info("secret is missing", extra={"database": "/".join(key)})
        self._found_missing(key)


def _to_be_inspected(database: Database) -> bool:
    conditions = database.status.get("conditions") or ()
    ready = any(c["type"] == CONDITION_READY and c["status"] == "True" for c in conditions)
    return ready and not database.metadata.terminating
