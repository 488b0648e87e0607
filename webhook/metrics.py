"""What Prometheus is told: reviews by verdict, how long they took, when the certificate ends.

With `PROMETHEUS_MULTIPROC_DIR` set before this is imported, every worker process answers for all of them.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds; the API server waits 5."""


class Metrics:
    """The webhook's own numbers, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._reviews = Counter(
            "dbaas_webhook_reviews",
            "Admission reviews answered.",
            ("webhook", "kind", "operation", "verdict"),
            registry=self._registry,
        )
        self._violations = Counter(
            "dbaas_webhook_policy_violations",
            "Demands of policies that a request did not meet, by what followed.",
            ("policy", "enforcement"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "dbaas_webhook_review_duration_seconds",
            "Time from a review's body to its answer.",
            ("webhook",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._expiry = Gauge(
            "dbaas_webhook_certificate_expiry_timestamp_seconds",
            "When the served certificate ends, in seconds since 1970; the earliest of all workers'.",
            registry=self._registry,
            multiprocess_mode="livemin",
        )

    def reviewed(self, webhook: str, kind: str, operation: str, verdict: str, seconds: float) -> None:
        """Count one review; every argument but `seconds` is one of a few words."""
        self._reviews.labels(webhook, kind, operation, verdict).inc()
        self._seconds.labels(webhook).observe(seconds)

    def violated(self, policy: str, enforcement: str) -> None:
        """Count one violation of a policy."""
        self._violations.labels(policy, enforcement).inc()

    def certificate_expires(self, timestamp: float) -> None:
        """Take down when the certificate that is served from now on ends."""
        self._expiry.set(timestamp)

    def exposition(self) -> bytes:
        """All numbers in Prometheus' text format, over all worker processes."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)
