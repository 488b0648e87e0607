"""Verdicts as tests read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.webhook.builders import WorldOf, review
from webhook.judgement import Judge
from webhook.review import Verdict, read_review

Json = dict[str, Any]


def judged(
    operation: str,
    manifest: Json,
    old: Json | None = None,
    *,
    world: WorldOf | None = None,
    user: str = "alice",
    dry_run: bool = False,
    allow_insecure: bool = False,
    groups: Sequence[str] = (),
) -> Verdict:
    """The verdict on one operation."""
    request = read_review(
        json.dumps(review(operation, manifest, old, user=user, dry_run=dry_run, groups=groups)).encode()
    )
    return Judge(world or WorldOf(), allow_insecure=allow_insecure).validate(request)


def faults(verdict: Verdict) -> dict[str, str]:
    """Sentences by path."""
    assert len({fault.path for fault in verdict.faults}) == len(verdict.faults)
    return {fault.path: fault.message for fault in verdict.faults}
