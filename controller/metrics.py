"""What Prometheus is told. Labels name endpoints, outcomes and reasons, never a Database: there are too many."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.kinds import NOTHING, conditions_of, parse_time
from api.reasons import CONDITION_POLICY_COMPLIANT, CONDITION_REACHABLE, CONDITION_READY, ConditionReason
from controller.ledger import Entry
from controller.queue import Queue
from controller.slots import Slots
from controller.world import Key, World

DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
"""Seconds."""
_VERDICTS = (
    ConditionReason.COMPLIANT,
    ConditionReason.POLICY_WARNED,
    ConditionReason.POLICY_VIOLATED,
    ConditionReason.QUOTA_EXCEEDED,
)


class Metrics:
    """The controller's own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.operations = Counter(
            "dbaas_operations",
            "Operations that ended, by endpoint, type, outcome and reason",
            ("endpoint", "type", "outcome", "reason"),
            registry=self.registry,
        )
        self.durations = Histogram(
            "dbaas_operation_duration_seconds",
            "From the start of a Job's work to its report",
            ("endpoint", "type"),
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter("dbaas_reconcile_errors", "Passes that failed and were put off", registry=self.registry)
        self.leader = Gauge("dbaas_leader", "1 on the replica that leads", registry=self.registry)
        self.failing = Gauge(
            "dbaas_chore_failing",
            "1 while what the leader does besides Databases cannot be done",
            ("chore",),
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "dbaas_webhook_certificate_expiry_timestamp_seconds",
            "When the webhook's certificate runs out (Unix time)",
            registry=self.registry,
        )

    def ended(self, entry: Entry) -> None:
        """Count an Operation that has just been reported."""
        self.operations.labels(entry.endpoint, entry.type, entry.outcome, entry.reason).inc()
        if entry.started_at is not None and entry.finished_at is not None:
            seconds = (entry.finished_at - entry.started_at).total_seconds()
            self.durations.labels(entry.endpoint, entry.type).observe(seconds)

    def watch(self, world: World, queue: Queue[Key], slots: Slots) -> None:
        """Let what the caches, the queue and the slots hold be read at every scrape."""
        self.registry.register(_Gauges(lambda: _gauges(world, queue, slots)))


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from self._read()


def _gauges(world: World, queue: Queue[Key], slots: Slots) -> Iterator[Metric]:
    ready = GaugeMetricFamily("dbaas_databases", "Databases by the status of Ready", labels=["ready"])
    tally: Tally[str] = Tally()
    verdicts: Tally[str] = Tally()
    for cache in world.databases:
        for database in cache.values():
            conditions = database.status.get("conditions") or ()
            tally[next((c["status"] for c in conditions if c["type"] == CONDITION_READY), "Unknown")] += 1
            verdicts.update(c["reason"] for c in conditions if c["type"] == CONDITION_POLICY_COMPLIANT)
    for status in ("True", "False", "Unknown"):
        ready.add_metric([status], tally[status])
    yield ready
    judged = GaugeMetricFamily(
        "dbaas_databases_by_policy", "Databases by the reason of PolicyCompliant", labels=["reason"]
    )
    for reason in _VERDICTS:
        judged.add_metric([reason], verdicts[reason])
    yield judged
    yield GaugeMetricFamily("dbaas_queue_depth", "Databases waiting to be looked at", value=queue.depth())
    yield GaugeMetricFamily("dbaas_queue_age_seconds", "How long the oldest has waited", value=queue.oldest())
    occupied = GaugeMetricFamily("dbaas_jobs_active", "Running Jobs by endpoint", labels=["endpoint"])
    for endpoint, count in slots.occupied().items():
        occupied.add_metric([endpoint], count)
    yield occupied
    yield from _endpoint_gauges(world)


def _endpoint_gauges(world: World) -> Iterator[Metric]:
    reachable = GaugeMetricFamily(
        "dbaas_endpoint_reachable", "1 where the last login succeeded, 0 where it did not", labels=["endpoint"]
    )
    expiry = GaugeMetricFamily(
        "dbaas_endpoint_certificate_expiry_timestamp_seconds",
        "When the server's certificate runs out (Unix time)",
        labels=["endpoint"],
    )
    login = GaugeMetricFamily("dbaas_endpoint_login_seconds", "What the last probe's login took", labels=["endpoint"])
    for endpoint in world.endpoints.values():
        name, status = endpoint.metadata.name, endpoint.status
        condition = conditions_of(status).get(CONDITION_REACHABLE)
        if condition is not None and condition["status"] != "Unknown":
            reachable.add_metric([name], float(condition["status"] == "True"))
        expires = parse_time((status.get("connection") or NOTHING).get("peerCertificateNotAfter"))
        if expires is not None:
            expiry.add_metric([name], expires.timestamp())
        probed = world.knowledge.of(name, (status.get("basis") or NOTHING).get("login", "")).probed
        if probed is not None and probed.report is not None and probed.report.connection:
            login.add_metric([name], probed.report.milliseconds / 1000)
    yield from (reachable, expiry, login)
