"""The HTTP side: two webhooks, two probes, the metrics.

Knows paths, status codes and what is logged and counted; decides nothing about an object.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from kube.errors import KubeError
from webhook.judgement import Judge
from webhook.metrics import CONTENT_TYPE, Metrics
from webhook.review import MalformedReview, Request, Verdict, read_review, write_review

log = logging.getLogger(__name__)

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes. The API server takes objects of 3 MiB, and an update brings two."""
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the app is made of, so that tests make it of other things."""

    judge: Judge
    metrics: Metrics
    unready: Callable[[], str]
    """Why no reviews should be sent here, in words; "" when they should."""


def create_app(dependencies: Dependencies) -> Flask:
    """The whole app, as it is served to the API server over TLS."""
    app = create_probes(dependencies)
    judge = dependencies.judge
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT

    @app.post("/mutate")
    def mutate() -> Response:
        return _reviewed("mutate", judge.mutate, dependencies.metrics)

    @app.post("/validate")
    def validate() -> Response:
        return _reviewed("validate", judge.validate, dependencies.metrics)

    return app


def create_probes(dependencies: Dependencies) -> Flask:
    """Probes and metrics alone, as they are served to kubelet and Prometheus in clear text."""
    app = Flask(__name__, static_folder=None)
    probes = Blueprint("probes", __name__)

    @probes.get("/healthz")
    def healthz() -> Response:
        return _plain("ok")

    @probes.get("/readyz")
    def readyz() -> Response:
        reason = dependencies.unready()
        return _plain(reason or "ok", 503 if reason else 200)

    @probes.get("/metrics")
    def metrics() -> Response:
        return Response(dependencies.metrics.exposition(), content_type=CONTENT_TYPE)

    app.register_blueprint(probes)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    return app


def _reviewed(webhook: str, decide: Callable[[Request], Verdict], metrics: Metrics) -> Response:
    """Answer the current HTTP request; one audit line for every decision."""
    began = time.perf_counter()
    # An attribute so that counting has words for a body that could not be read.
    kind = operation = _UNKNOWN
    outcome = "error"
    try:
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("an AdmissionReview comes as application/json")
        review = read_review(request.get_data(cache=False))
        verdict = _decided(decide, review)
        kind, operation = review.kind, review.operation
        outcome = "unavailable" if verdict.unavailable else "allowed" if verdict.allowed else "denied"
        for violation in verdict.violations:
            metrics.violated(violation.policy, violation.enforcement)
        _log(webhook, review, verdict)
        return jsonify(write_review(review, verdict))
    except MalformedReview as error:
        outcome = "malformed"
        log.warning("malformed review", extra={"webhook": webhook, "fault": str(error)})
        return _plain(str(error), 400)
    except HTTPException:
        outcome = "malformed"
        raise
    finally:
        metrics.reviewed(webhook, kind, operation, outcome, time.perf_counter() - began)


def _decided(decide: Callable[[Request], Verdict], review: Request) -> Verdict:
    try:
        return decide(review)
    except KubeError as error:
        log.warning("the world could not be asked", extra={"uid": review.uid, "error": error.message})
        return Verdict(unavailable="the webhook could not look up what this refers to; try again in a moment")


def _log(webhook: str, review: Request, verdict: Verdict) -> None:
    log.info(
        "reviewed",
        extra={
            "webhook": webhook,
            "uid": review.uid,
            "kind": review.kind,
            "namespace": review.namespace,
            "object": review.name,
            "operation": review.operation,
            "user": review.user,
            "dry_run": review.dry_run,
            "allowed": verdict.allowed,
            "faults": [fault.path for fault in verdict.faults],
            "patched": [step["path"] for step in verdict.patch],
        },
    )


def _refused(error: HTTPException) -> Response:
    return _plain(error.description or error.name, error.code or 500)


def _failed(error: Exception) -> Response:
    log.error("request failed", extra={"path": request.path}, exc_info=error)
    return _plain("the webhook failed; its log says how", 500)


def _plain(text: str, status: int = 200) -> Response:
    return Response(text + "\n", status=status, content_type="text/plain; charset=utf-8")
