"""The Job's own Operation at the API server: read, asked for again, reported on.

A Job may do nothing with it but write its status; reading is a patch that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from api.operation import Report
from api.resources import OPERATIONS
from provisioner_job.kubernetes import ApiError, ApiServer, Json, Rights, patiently

READ_SECONDS = 30.0
"""Patience with an API server that is away when the Job starts, and with rights that are not there yet."""
REPORT_SECONDS = 240.0
"""Patience with the report."""
_TURNS = 5
"""How often it may change between reading and reporting."""


class Entry(NamedTuple):
    """An Operation as read."""

    uid: str
    resource_version: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    terminating: bool

    @classmethod
    def parse(cls, manifest: Json) -> Entry:
        """Read an Operation; its spec is not judged."""
        metadata = manifest["metadata"]
        return cls(
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            spec=manifest.get("spec") or {},
            status=manifest.get("status") or {},
            terminating="deletionTimestamp" in metadata,
        )

    @property
    def wanted(self) -> bool:
        """Whether nobody has deleted it or reported its outcome."""
        return not self.terminating and "outcome" not in self.status


class Delivery(Enum):
    """What became of a report."""

    WRITTEN = "written"
    GONE = "gone"
    """There is no such Operation any more."""
    PRECEDED = "preceded"
    """Somebody else had reported its outcome."""


def passes(error: ApiError) -> bool:
    """Whether reading may succeed a moment later.

    403: rights reach an API server's authorizer late. 409: a reading is a patch, and another write came between.
    """
    return error.transient or error.status in (403, 409)


class Ledger:
    """One Operation."""

    def __init__(self, api: ApiServer, namespace: str, name: str) -> None:
        self._api = api
        self._path = OPERATIONS.path(name, namespace=namespace, subresource="status")

    def read(self, seconds: float = READ_SECONDS) -> Entry | None:
        """The Operation; None when there is none. Raises ApiError."""
        try:
            manifest = patiently(
                lambda: self._api.merge_patch(self._path, {}, dry_run=True),
                seconds,
                passes,
            )
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return Entry.parse(manifest)

    def report(self, report: Report, entry: Entry, seconds: float = REPORT_SECONDS) -> Delivery:
        """Write the status of this very entry, once. Raises ApiError."""
        status = report.manifest()
        for _ in range(_TURNS):
            try:
                self._write(status, entry, seconds)
            except ApiError as error:
                if error.transient:
                    raise
                # It has changed, or is over: perhaps by this Job, whose answer got lost on the way.
                current = self.read(min(seconds, READ_SECONDS))
                if current is None or current.uid != entry.uid:
                    return Delivery.GONE
                if not current.wanted:
                    return Delivery.WRITTEN if current.status == status else Delivery.PRECEDED
                if error.status != 409:
                    raise
                entry = current
            else:
                return Delivery.WRITTEN
        raise ApiError(409, "Conflict", "the Operation keeps changing")

    def _write(self, status: Json, entry: Entry, seconds: float) -> None:
        # The version holds the uid: a uid alone is not compared when only a status is patched.
        patch = {"metadata": {"resourceVersion": entry.resource_version}, "status": status}
        patiently(lambda: self._api.merge_patch(self._path, patch), seconds, Rights().awaited)
