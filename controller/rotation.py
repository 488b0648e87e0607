"""When credentials are to be rotated: asked for by annotation, by schedule, or because they were lost. Pure.

The annotation `dbaas.bedag.ch/rotate` is served once per value and stays; an empty one is removed when it is served, so
that GitOps, which would put a value back, does not rotate for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from api.kinds import Database, parse_time
from api.labels import ROTATE
from api.requests import SCHEDULE, annotation_value, by_annotation
from controller.ledger import Entry, Ledger
from controller.observed import Observed


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for now: the request of the rotation (None: none), and when the schedule asks next."""

    request: str | None = None
    next_at: datetime | None = None
    clear: bool = False
    """Whether an empty annotation has been served and is to be removed."""


def wish_of(observed: Observed, database: Database, now: datetime) -> Wish:
    """What `database` asks for, given what its ledger and its status say was done."""
    served = _last_annotated(observed.ledger, database)
    asked = database.metadata.annotations.get(ROTATE)
    if asked is not None and not _handled(asked, served, database):
        return Wish(by_annotation(asked))
    clear = asked == ""
    due = next_rotation(observed, database)
    if due is not None and due <= now:
        return Wish(SCHEDULE, clear=clear)
    return Wish(next_at=due, clear=clear)


def next_rotation(observed: Observed, database: Database) -> datetime | None:
    """When the schedule asks next; None without one."""
    if database.rotate_every is None:
        return None
    since = last_rotated(observed, database) or _first_success(observed.ledger)
    if since is None and observed.instance is not None:
        since = observed.instance.metadata.created_at
    return None if since is None else since + database.rotate_every


def last_rotated(observed: Observed, database: Database) -> datetime | None:
    """The end of the latest rotation: from the ledger, else from the status, which outlives it."""
    told = parse_time(database.status.get("lastRotated"))
    entry = _last_rotation(observed.ledger)
    if entry is None or entry.finished_at is None:
        return told
    return max(entry.finished_at, told) if told is not None else entry.finished_at


def rotate_handled(observed: Observed, database: Database) -> str | None:
    """`status.rotateHandled`: the value last served, or the Operation that served an empty one.

    Of the latter only once the annotation is gone: told before, it would count as asked for again.
    """
    served = _last_annotated(observed.ledger, database)
    uncleared = (
        served is not None and annotation_value(served.request) == database.metadata.annotations.get(ROTATE) == ""
    )
    if served is None or uncleared:
        told: str | None = database.status.get("rotateHandled")
        return told
    return annotation_value(served.request) or served.name


def _handled(asked: str, served: Entry | None, database: Database) -> bool:
    told = database.status.get("rotateHandled")
    if asked:
        return asked == told or (served is not None and annotation_value(served.request) == asked)
    # An empty annotation that is still there after its Operation was told of in the status is a new one.
    return served is not None and annotation_value(served.request) == "" and served.name != told


def _last_rotation(ledger: Ledger) -> Entry | None:
    return next((e for e in reversed(ledger.own) if e.type == "rotate" and e.succeeded), None)


def _last_annotated(ledger: Ledger, database: Database) -> Entry | None:
    """The latest rotation that an annotation of this very Database asked for, not of one that had the claim before."""
    uid = database.metadata.uid
    rotations = (e for e in reversed(ledger.own) if e.type == "rotate" and e.succeeded and e.database_uid == uid)
    return next((e for e in rotations if annotation_value(e.request) is not None), None)


def _first_success(ledger: Ledger) -> datetime | None:
    return next((e.finished_at for e in ledger.own if e.succeeded), None)
