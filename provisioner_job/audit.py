"""The audit log: one JSON line per step on standard output, with constant event names and redacted fields."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from provisioner_job.redaction import Redactor


def rfc3339(moment: datetime) -> str:
    """A UTC time as the API server and the log write it, in milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> datetime:
    """The one clock of dates in a Job."""
    return datetime.now(UTC)


class Audit:
    """Writes audit lines; every one carries what is known by then of the Operation."""

    def __init__(self, redactor: Redactor, *, output: int = 1, clock: Callable[[], datetime] = now) -> None:
        self._redactor = redactor
        self._output = output
        self._clock = clock
        self._context: dict[str, Any] = {}

    def know(self, **context: Any) -> None:
        """Add to what every further line carries."""
        self._context.update(context)

    def write(self, event: str, **fields: Any) -> None:
        """Write one line. A log that cannot be written stops no story: a result in hand must reach its Secret."""
        line = {"time": rfc3339(self._clock()), "event": event}
        line |= self._redactor.clean_value({**self._context, **fields})
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except OSError:
            return
