"""Whether users' Secrets are still whole: each read by its name, one after the other, spread over an hour.

A Secret that somebody deleted, or of whose values they took some out, is written again by a create. Only what a Role
beside it allows is read: this one Secret. Who sets the annotation `retry` has it looked at at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from api.binding import keys_told, secret_name
from api.kinds import Database, conditions_of
from api.labels import DATABASE_UID, KEYS, RETRY
from api.reasons import CONDITION_READY
from api.resources import ROLE_BINDINGS, ROLES, SECRETS
from controller.queue import Queue
from controller.world import Key, World
from kube.client import Client, Object
from kube.errors import Forbidden, KubeError, NotFound

log = logging.getLogger(__name__)

LEAST_PAUSE = 0.05
"""Seconds between two reads, however many Databases there are."""


class Inspection:
    """One slow round after the other over all Databases that are Ready, and beside it those that somebody asks for."""

    def __init__(self, client: Client, world: World, period: float, found_missing: Callable[[Key], None]) -> None:
        self._client = client
        self._world = world
        self._period = period
        self._found_missing = found_missing
        self._asked: Queue[Key] = Queue()
        for databases in world.databases:
            databases.on_change(self._database_changed)

    def run(self) -> None:
        """Start to look. Returns at once."""
        threading.Thread(target=self._rounds, name="inspection", daemon=True).start()
        threading.Thread(target=self._serve, name="inspection-asked", daemon=True).start()

    def _database_changed(self, old: Database | None, new: Database | None) -> None:
        # A controller that has just started does not know which requests another one had served.
        if new is not None and _retry(new) not in (None, _retry(old) if old is not None else None):
            self._asked.add(_key(new))

    def _rounds(self) -> None:
        pause = threading.Event()
        while True:
            ready = [_key(d) for cache in self._world.databases for d in cache.values() if _to_be_inspected(d)]
            for key in ready:
                self._tried(key)
                pause.wait(max(self._period / len(ready), LEAST_PAUSE))
            if not ready:
                pause.wait(min(self._period, 10.0))

    def _serve(self) -> None:
        while (key := self._asked.take()) is not None:
            (self._asked.done if self._tried(key) else self._asked.failed)(key)

    def _tried(self, key: Key) -> bool:
        """Whether it could be inspected."""
        try:
            self._inspect(key)
        except KubeError as error:
            log.debug("secret not inspected", extra={"error": error.message})
            return False
        except Exception:
            # A broad catch, in loops that go on: without their threads no Secret would ever be missed again.
            log.exception("inspection failed", extra={"database": "/".join(key)})
            return False
        return True

    def _inspect(self, key: Key) -> None:
        database = self._world.database(key)
        if database is None or not _to_be_inspected(database):
            return
        namespace, name = key
        # Before the look: what an Operation writes from now on cannot be missed by it.
        success = self._world.observe(key).ledger.last_success
        try:
            lacking = lacks(self._client.get(SECRETS, secret_name(name), namespace=namespace), database.metadata.uid)
        except NotFound:
            lacking = ("the whole",)
        except Forbidden:
            # It is gone with the Role that it belongs to, if somebody took that away; a create makes both.
            lacking = () if self._may_look(database) else ("its Role",)
        if lacking:
            self._world.missing_secrets[key] = 0 if success is None else success.sequence
            log.info("secret is not whole", extra={"database": "/".join(key), "lacks": ", ".join(lacking)})
            self._found_missing(key)

    def _may_look(self, database: Database) -> bool:
        """Whether the Role that lets the controller look, and its binding, are there."""
        try:
            for resource in (ROLES, ROLE_BINDINGS):
                self._client.get(resource, database.status["instance"], namespace=database.metadata.namespace)
        except NotFound:
            return False
        return True


def lacks(secret: Object, uid: str) -> tuple[str, ...]:
    """What the Secret of the Database of this uid has lost: keys that its Job wrote with a value and that have none.

    Never the values. A key that the Job wrote without a value is not missed, nor anything in somebody else's Secret.
    """
    annotations = secret["metadata"].get("annotations") or {}
    if annotations.get(DATABASE_UID) != uid:
        return ()
    with_value = {key for key, value in (secret.get("data") or {}).items() if value}
    if told := keys_told(annotations.get(KEYS, "")):
        return tuple(sorted(told - with_value))
    # Nobody noted its keys: an earlier release, or somebody took that out too.
    return () if with_value else ("every key",)


def _to_be_inspected(database: Database) -> bool:
    ready = conditions_of(database.status).get(CONDITION_READY)
    return ready is not None and ready["status"] == "True" and not database.metadata.terminating


def _retry(database: Database) -> str | None:
    return database.metadata.annotations.get(RETRY)


def _key(database: Database) -> Key:
    return database.metadata.namespace, database.metadata.name
