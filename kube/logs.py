"""Logs as JSON lines on standard output: a constant message, its fields beside it, times in UTC.

Knows the form only; that no secret is among the fields is up to whoever logs.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
"""What `DBAAS_LOG_LEVEL` may say."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What a log record has without anybody's `extra`."""


class JsonFormatter(logging.Formatter):
    """One record, one line: time, level, logger, message, then the fields of `extra` by name."""

    def format(self, record: logging.LogRecord) -> str:
        """Write `record` as a JSON object; a field that JSON cannot hold becomes its text."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((key, value) for key, value in sorted(vars(record).items()) if key not in _OWN and key not in line)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send all logs of the process, as JSON lines, to `stream` (standard output); `level` is one of `LEVELS`."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its warnings about a full or cut connection pool say nothing that the caches and the client do not say better.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
