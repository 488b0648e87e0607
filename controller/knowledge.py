"""What was learnt of endpoints since the process began, from Operations and probes as the caches tell of them.

No more than a memory of what the API server holds, or held until the probes' Pods were taken away.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from api.kinds import parse_time
from api.probe import InvalidProbe, ProbeReport
from api.reasons import Reason
from controller.basis import endpoint_basis
from controller.observed import JobState, ProbePod
from controller.standing import Login

MOST_BASES = 4
"""Of one endpoint: Operations that began before it was changed report later."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe has found out."""

    job: str
    """Its name."""
    basis: str
    """`probe_basis` of what it was made with."""
    login: Login
    report: ProbeReport | None
    """None: it ended without a word."""


@dataclass(frozen=True, slots=True)
class Lore:
    """The latest of each at one basis."""

    login: Login | None = None
    probed: Probed | None = None


def probed_by(pod: ProbePod) -> Probed | None:
    """What the last words of a probe's container say; None while it runs."""
    if not pod.ended:
        return None
    try:
        report = ProbeReport.parse(pod.words)
        at = parse_time(report.at)
    except (InvalidProbe, ValueError) as error:
        message = f"probe {pod.metadata.name} ended without a report: {pod.reason or error}"
        return _lost(pod.job, pod.basis, message, pod)
    if at is None:
        return None
    return Probed(pod.job, pod.basis, Login(endpoint_basis(pod.basis), report.reason, report.message, at), report)


def lost_with(job: JobState, basis: str) -> Probed | None:
    """What a probe's Job says that is over, as long as no Pod of it has reported."""
    if not job.finished:
        return None
    message = f"probe {job.metadata.name} ended without a report ({job.reason or job.finished}): {job.message}"
    return _lost(job.metadata.name, basis, message, job)


def _lost(job: str, basis: str, message: str, object_: ProbePod | JobState) -> Probed | None:
    # As of its beginning, so that whatever was learnt meanwhile is later.
    at = object_.metadata.created_at
    if at is None:
        return None
    return Probed(job, basis, Login(endpoint_basis(basis), Reason.JOB_LOST, message[:500], at), None)


def heard_at(reported: datetime, now: datetime, *, live: bool) -> datetime:
    """When something became known: now if it was seen to happen, else when it is said to have been.

    Reports carry the clocks of their nodes. What comes later must count as later, whatever those say.
    """
    return now if live else min(reported, now)


class Knowledge:
    """The latest that was learnt of every endpoint, by basis."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endpoints: dict[str, OrderedDict[str, Lore]] = {}

    def of(self, endpoint: str, basis: str) -> Lore:
        """What is known of an endpoint at one basis."""
        with self._lock:
            return self._endpoints.get(endpoint, OrderedDict()).get(basis, Lore())

    def learn(self, endpoint: str, login: Login) -> None:
        """Take in what an Operation taught."""
        with self._lock:
            self._put(endpoint, login)

    def learn_probe(self, endpoint: str, probed: Probed) -> None:
        """Take in what a probe found out."""
        with self._lock:
            basis = probed.login.basis
            lore = self._endpoints.get(endpoint, OrderedDict()).get(basis, Lore())
            known = lore.probed
            if known is not None and known.job == probed.job:
                if known.report is not None:
                    # Said once; its Job's end says less, and its Pod nothing else.
                    return
                # It was not lost after all.
                self._endpoints[endpoint][basis] = Lore(None if lore.login == known.login else lore.login)
            lore = self._put(endpoint, probed.login)
            if lore.probed is None or lore.probed.login.at <= probed.login.at:
                self._endpoints[endpoint][basis] = Lore(lore.login, probed)

    def forget(self, endpoint: str) -> None:
        """The endpoint is gone."""
        with self._lock:
            self._endpoints.pop(endpoint, None)

    def _put(self, endpoint: str, login: Login) -> Lore:
        bases = self._endpoints.setdefault(endpoint, OrderedDict())
        lore = bases.get(login.basis, Lore())
        if lore.login is None or lore.login.at <= login.at:
            lore = Lore(login, lore.probed)
        bases[login.basis] = lore
        while len(bases) > MOST_BASES:
            bases.popitem(last=False)
        return lore
