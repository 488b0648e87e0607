"""The pass over one endpoint: write what is known of it, and probe it when its turn has come."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from api.kinds import NOTHING, DatabaseEndpoint
from api.labels import LABEL_PROBE_BASIS
from api.resources import ENDPOINTS, JOBS
from controller.basis import endpoint_digest, probe_basis
from controller.endpoints import Findings, endpoint_faults, endpoint_status
from controller.events import Recorder
from controller.news import news_of_endpoint
from controller.probing import Probe, probe_manifest
from controller.settings import Settings
from controller.standing import Standing, probe_turn, standing_of
from controller.world import World
from kube.client import Client
from kube.errors import AlreadyExists, NotFound

log = logging.getLogger(__name__)

NEXT_LOOK = timedelta(minutes=1)
"""After a probe that nothing is known of: it may have been made, and forgotten, long ago."""


class EndpointCare:
    """Looks after one endpoint at a time."""

    def __init__(self, client: Client, world: World, settings: Settings) -> None:
        self._client = client
        self._world = world
        self._settings = settings
        self._recorder = Recorder(client, settings.pod)

    def look_after(self, name: str, now: datetime) -> datetime | None:
        """Do what is due; gives the time of the next look, None: when something changes. Raises KubeError."""
        endpoint = self._world.endpoints.get(name)
        if endpoint is None or endpoint.metadata.terminating:
            return None
        findings = self._findings(endpoint)
        self._tell(endpoint, findings, now)
        if findings.faults:
            return None
        return self._probe(endpoint, findings, now)

    def _findings(self, endpoint: DatabaseEndpoint) -> Findings:
        world, name = self._world, endpoint.metadata.name
        secrets, cls = world.endpoint_secrets(endpoint), world.classes.get(endpoint.class_name)
        login, basis = endpoint_digest(endpoint, secrets), probe_basis(cls, endpoint, secrets)
        faults = endpoint_faults(endpoint, cls, secrets, allow_insecure=self._settings.allow_insecure_endpoints)
        lore = world.knowledge.of(name, login)
        probed = lore.probed if lore.probed is not None and lore.probed.basis == basis else None
        return Findings(tuple(faults), standing_of(endpoint, login, lore.login), basis, probed)

    def _tell(self, endpoint: DatabaseEndpoint, findings: Findings, now: datetime) -> None:
        """Write the status if it says anything new; then, and only then, the Events."""
        status = endpoint_status(endpoint, findings, now)
        if status is None:
            return
        metadata = endpoint.metadata
        patch = {"status": status, "metadata": {"resourceVersion": metadata.resource_version}}
        try:
            answer = self._client.patch(ENDPOINTS, metadata.name, patch, subresource="status")
        except NotFound:
            return
        self._world.endpoints.remember(answer)
        for news in news_of_endpoint(endpoint, status):
            self._recorder.record(endpoint, ENDPOINTS, news)

    def _probe(self, endpoint: DatabaseEndpoint, findings: Findings, now: datetime) -> datetime | None:
        cls = self._world.classes.get(endpoint.class_name)
        turn = probe_turn(endpoint, findings.standing, _probed_at(endpoint, findings), now)
        if turn is None or cls is None:
            return None
        if turn.due > now:
            return turn.due
        jobs = self._world.jobs.by("probe", endpoint.metadata.name)
        if any(not job.finished and job.metadata.labels[LABEL_PROBE_BASIS] == findings.basis for job in jobs):
            # Its end is told by its Pod, or else by itself.
            return None
        self._start(Probe(endpoint, cls, findings.basis, turn))
        return now + (turn.lasts or NEXT_LOOK)

    def _start(self, probe: Probe) -> None:
        namespace = self._settings.namespace
        try:
            answer = self._client.create(JOBS, probe_manifest(probe, namespace, self._settings.job))
        except AlreadyExists:
            answer = self._client.get(JOBS, probe.name, namespace=namespace)
        else:
            log.info("probe started", extra={"endpoint": probe.endpoint.metadata.name, "job": probe.name})
        self._world.jobs.remember(answer)


def _probed_at(endpoint: DatabaseEndpoint, findings: Findings) -> datetime | None:
    """When the last probe of just this was made: as seen, else at least when the status began to say so."""
    if findings.probed is not None:
        return findings.probed.login.at
    told = (endpoint.status.get("basis") or NOTHING).get("probe")
    standing: Standing | None = findings.standing
    return standing.since if standing is not None and told == findings.basis else None
