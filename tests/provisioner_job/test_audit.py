"""The audit log is one JSON line per step, and holds no known secret."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from provisioner_job.audit import Audit, rfc3339
from provisioner_job.crash import frames
from provisioner_job.redaction import MARK, Redactor

NOON = datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=UTC)


def written(path: Path, *secrets: str, **fields: object) -> dict[str, object]:
    """The line of one event."""
    redactor = Redactor()
    redactor.add(*secrets)
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        audit = Audit(redactor, output=output, clock=lambda: NOON)
        audit.know(database="shop/orders")
        audit.write("called", **fields)
    finally:
        os.close(output)
    [line, rest] = path.read_text(encoding="utf-8").split("\n")
    assert rest == ""
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_a_line_has_time_event_context_and_fields(tmp_path: Path) -> None:
    assert written(tmp_path / "log", milliseconds=3) == {
        "time": "2026-11-21T12:00:00.005Z",
        "event": "called",
        "database": "shop/orders",
        "milliseconds": 3,
    }


def test_secrets_are_replaced_wherever_they_stand(tmp_path: Path) -> None:
    line = written(tmp_path / "log", "it's", message="is 'it''s'", arguments={"p": "it's"})

    assert line["message"] == f"is '{MARK}'"
    assert line["arguments"] == {"p": MARK}


def test_newlines_and_broken_text_stay_one_line(tmp_path: Path) -> None:
    assert written(tmp_path / "log", message="a\nb\u2028c\ud800")["message"] == "a\nb\u2028c\ud800"


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    Audit(Redactor(), output=writer).write("called")
    os.close(writer)


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(timezone(timedelta(hours=5)))))  # noqa: DTZ001
def test_times_are_utc_and_can_be_read_again(moment: datetime) -> None:
    assert abs(datetime.fromisoformat(rfc3339(moment)) - moment) < timedelta(milliseconds=1)


def test_a_stack_shows_where_and_never_what() -> None:
    password = "hunter" + "2"
    try:
        try:
            os.environ[password]
        except KeyError as error:
            raise ValueError(f"wrong: {password}") from error
    except ValueError as error:
        stack = frames(error)

    assert "test_a_stack_shows_where_and_never_what" in stack
    assert "builtins.ValueError" in stack
    assert "builtins.KeyError" in stack
    assert password not in stack
