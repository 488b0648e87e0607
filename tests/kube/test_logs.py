"""Logs as JSON lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from kube import logs

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure("info", stream)
    yield stream
    root.handlers, root.level = before, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_with_its_fields_and_its_time_in_utc(stream: io.StringIO) -> None:
    logging.getLogger("webhook").info("reviewed\nhere", extra={"user": "älice", "faults": ["spec"], "at": WHEN})

    (line,) = lines(stream)
    assert datetime.fromisoformat(line.pop("time")).tzinfo == UTC
    assert line == {
        "level": "info",
        "logger": "webhook",
        "message": "reviewed\nhere",
        "user": "älice",
        "faults": ["spec"],
        "at": str(WHEN),
    }


def test_a_field_cannot_take_the_place_of_what_every_line_has(stream: io.StringIO) -> None:
    logging.getLogger("webhook").info("reviewed", extra={"time": "never", "level": "none"})

    (line,) = lines(stream)
    assert (line["time"] != "never", line["level"]) == (True, "info")


def test_an_exception_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        int("broken")
    except ValueError:
        logging.getLogger("webhook").exception("failed")

    (line,) = lines(stream)
    assert line["exception"].splitlines()[-1].startswith("ValueError: ")


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    logging.getLogger("webhook").debug("detail")

    assert lines(stream) == []
