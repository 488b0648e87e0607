"""The loop: take a name, observe, plan, write, until nothing is left to write; then tell the user, once."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from api.kinds import DatabaseInstance
from api.reasons import ConditionReason, Outcome
from api.resources import DATABASES
from controller.apply import Applier, NoSlot
from controller.events import Recorder
from controller.ledger import Entry
from controller.metrics import Metrics
from controller.news import news_of_status, news_of_step
from controller.observed import JobState, Observed
from controller.plan import Plan, plan
from controller.queue import Queue
from controller.settings import Settings
from controller.slots import Slots
from controller.status import Verdict, changed, desired_status, stalled, working
from controller.steps import DeletePassword, RevokeRights, RevokeStray, SetPhase, StartOperation
from controller.world import Key, World
from kube.client import Client
from kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound

log = logging.getLogger(__name__)
audit = logging.getLogger("audit")

WORKERS = 8
"""Passes at a time: they wait for the API server most of their time."""
MOST_STEPS = 12
"""Writes in one pass; a plan that wants more is a plan that does not converge."""


class Reconciler:
    """Brings every Database of the caches where it should be."""

    def __init__(self, client: Client, world: World, settings: Settings, metrics: Metrics) -> None:
        self._client = client
        self._world = world
        self._namespace = settings.namespace
        self._metrics = metrics
        self._slots = Slots()
        self._applier = Applier(client, world, settings, self._slots)
        self._recorder = Recorder(client, settings.pod)
        self.queue: Queue[Key] = Queue()
        self._leading = threading.Event()
        self._marking = threading.Lock()
        world.operations.on_change(self._operation_changed)
        world.jobs.on_change(self._job_changed)
        metrics.watch(world, self.queue, self._slots)

    def run(self) -> None:
        """Start to work; the caches are filled. Returns at once."""
        self._leading.set()
        for number in range(WORKERS):
            threading.Thread(target=self._work, name=f"reconcile-{number}", daemon=True).start()

    def stop(self) -> None:
        """Take no more keys."""
        self.queue.close()

    def _work(self) -> None:
        while (key := self.queue.take()) is not None:
            try:
                self._reconcile(key)
            except KubeError as error:
                self._metrics.errors.inc()
                level = logging.DEBUG if isinstance(error, Conflict | AlreadyExists) else logging.WARNING
                log.log(level, "put off", extra={"database": "/".join(key), "error": error.message})
                self.queue.failed(key)
            except Exception:
                # The one broad catch: a defect in one Database's pass must not stop the others.
                self._metrics.errors.inc()
                log.exception("pass failed", extra={"database": "/".join(key)})
                self.queue.failed(key)
            else:
                self.queue.done(key)

    def _reconcile(self, key: Key) -> None:
        try:
            for orphan in self._world.orphans(key):
                if orphan.phase != "Released" and self._is_gone(orphan):
                    self._pass(key, orphan)
            self._pass(key, None)
        finally:
            for next_key in self._slots.settle(key):
                self.queue.add(next_key)

    def _is_gone(self, instance: DatabaseInstance) -> bool:
        """Ask the API server itself: a cache that lags must not have a database deleted."""
        claim = instance.claim
        if claim is None:
            return False
        try:
            present = self._client.get(DATABASES, claim.name, namespace=claim.namespace)
        except NotFound:
            return True
        return bool(present["metadata"]["uid"] != claim.uid)

    def _observe(self, key: Key, orphan: DatabaseInstance | None) -> Observed:
        if orphan is None or orphan.claim is None:
            return self._world.observe(key)
        return self._world.observe_orphan(key, orphan.claim.uid)

    def _pass(self, key: Key, orphan: DatabaseInstance | None) -> None:
        observed = self._observe(key, orphan)
        told = False
        try:
            for _ in range(MOST_STEPS):
                now = datetime.now(UTC)
                decided = plan(observed, now)
                if not told and _can_wait(decided):
                    # What the user waits for comes before what is only tidy.
                    self._tell(observed, decided.verdict, now)
                    told = True
                if decided.step is None:
                    self._look_again(key, decided, now)
                    return
                self._applier.apply(key, decided.step)
                news = news_of_step(decided.step)
                if news is not None and observed.database is not None:
                    self._recorder.record(observed.database, DATABASES, news)
                observed = self._observe(key, orphan)
            raise RuntimeError(f"the plan does not converge in {MOST_STEPS} writes")
        except NoSlot as wait:
            self._tell(observed, _waiting(decided), datetime.now(UTC))
            self.queue.add_after(key, wait.seconds)
        except (Forbidden, Invalid) as error:
            self._tell(observed, stalled(ConditionReason.KUBERNETES_REFUSED, error.message), datetime.now(UTC))
            raise

    def _look_again(self, key: Key, decided: Plan, now: datetime) -> None:
        if decided.look_again is not None:
            self.queue.add_after(key, max((decided.look_again - now).total_seconds(), 0.0) + 0.05)

    def _tell(self, observed: Observed, verdict: Verdict | None, now: datetime) -> None:
        """Write the status if it says anything new; then, and only then, the Event."""
        database = observed.database
        if database is None or verdict is None:
            return
        status = desired_status(observed, database, verdict, now)
        if not changed(database.status, status):
            return
        metadata = database.metadata
        patch = {"status": status, "metadata": {"resourceVersion": metadata.resource_version}}
        try:
            answer = self._client.patch(
                DATABASES, metadata.name, patch, namespace=metadata.namespace, subresource="status"
            )
        except NotFound:
            return
        self._world.remember_database(answer)
        for news in news_of_status(database, verdict, status):
            self._recorder.record(database, DATABASES, news)

    def _operation_changed(self, old: Entry | None, new: Entry | None) -> None:
        entry = new or old
        if entry is None:
            return
        self._mark(entry.endpoint, entry.name)
        if new is not None and not new.running and old is not None and old.running and self._leading.is_set():
            self._metrics.ended(new)
            _audit(new)

    def _job_changed(self, old: JobState | None, new: JobState | None) -> None:
        job = new or old
        if job is None:
            return
        entry = self._world.operations.get(job.metadata.name, self._namespace)
        if entry is not None:
            self._mark(entry.endpoint, entry.name)

    def _mark(self, endpoint: str, operation: str) -> None:
        """A slot is taken while an Operation waits for its Job, and until Kubernetes calls that Job finished."""
        # Operations and Jobs have a watch each: who looked before the other's change must not have the last word.
        with self._marking:
            entry = self._world.operations.get(operation, self._namespace)
            job = self._world.jobs.get(operation, self._namespace)
            active = job is not None and not job.finished
            if entry is not None and (entry.running or active):
                self._slots.occupy(endpoint, operation)
                return
            next_key = self._slots.release(endpoint, operation)
        if next_key is not None:
            self.queue.add(next_key)


def _waiting(decided: Plan) -> Verdict:
    """What to tell of a request that got no slot."""
    if decided.verdict is not None and decided.verdict.ready:
        # A rotation that waits takes nothing away.
        return decided.verdict
    if isinstance(decided.step, StartOperation) and decided.step.alone:
        endpoint = decided.step.spec.server.endpoint
        message = f"nobody has logged in to endpoint {endpoint!r} as it is now; another request tries first"
        return working(ConditionReason.WAITING_FOR_ENDPOINT, message)
    message = "every slot of the endpoint is taken; maxConcurrentJobs and operationsPerMinute say how many it has"
    return working(ConditionReason.WAITING_FOR_SLOT, message)


def _can_wait(decided: Plan) -> bool:
    """Whether the user may be told before the step is done: it changes nothing for them."""
    if isinstance(decided.step, SetPhase):
        return decided.verdict is not None and decided.verdict.ready
    return decided.step is None or isinstance(decided.step, RevokeRights | RevokeStray | DeletePassword)


def _audit(entry: Entry) -> None:
    audit.log(
        logging.INFO if entry.outcome == Outcome.SUCCEEDED else logging.WARNING,
        "operation ended",
        extra={
            "database": "/".join(entry.database),
            "operation": entry.name,
            "type": entry.type,
            "endpoint": entry.endpoint,
            "requester": entry.requested_by,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "detail": entry.message,
        },
    )
