"""What controller and probe say to each other survives the way there, and fits where the kubelet takes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.operation import Connection, Server
from api.probe import LONGEST_WORDS, Inspection, InvalidProbe, ProbeReport, ProbeSpec
from api.reasons import Reason

SERVER = Server("main", "db.example.test", 5432, "postgres", "VerifyCA", "other.example.test", "1.3", "PEM")
known = st.none() | st.booleans()
sentences = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
inspections = st.builds(Inspection, found=known, callable=known, public=known, message=sentences)
reports = st.builds(
    ProbeReport,
    reason=st.sampled_from(Reason),
    message=sentences,
    at=st.just("2026-11-21T12:00:00.123Z"),
    milliseconds=st.integers(0, 60_000),
    connection=st.builds(lambda version: Connection(version, "TLSv1.3").manifest(), st.text(max_size=50)),
    procedures=st.dictionaries(st.sampled_from(["create", "rotate", "delete"]), inspections),
)


def test_a_probe_reads_what_the_controller_wrote() -> None:
    spec = ProbeSpec("postgres", SERVER, {"create": "dbaas.create_database", "delete": "dbaas.delete_database"})

    assert ProbeSpec.parse(spec.text()) == spec


@given(reports)
def test_the_controller_reads_what_a_probe_said(report: ProbeReport) -> None:
    assert ProbeReport.parse(report.words().decode()) == report


@given(reports, st.integers(0, 4000), st.sampled_from(["x", "ü", "🐘", '"', "\n", "\ud800"]))
def test_last_words_of_any_length_are_taken_whole(report: ProbeReport, length: int, character: str) -> None:
    """What is cut is sentences: reason, facts and findings stay."""
    long = character * length
    procedures = {kind: one._replace(message=long) for kind, one in report.procedures.items()}
    said = report._replace(message=long, procedures=procedures)
    words = said.words()
    read = ProbeReport.parse(words.decode())

    assert len(words) <= LONGEST_WORDS
    assert (read.reason, read.connection) == (report.reason, report.connection)
    assert {kind: one[:3] for kind, one in read.procedures.items()} == {
        kind: one[:3] for kind, one in report.procedures.items()
    }


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"version": 1}', '{"version": 2}', '{"version": 1, "reason": "NoSuch"}']
)
def test_what_is_no_report_says_so(text: str) -> None:
    for parse in (ProbeReport.parse, ProbeSpec.parse):
        with pytest.raises(InvalidProbe):
            parse(text)


def test_what_another_release_wrote_is_refused_with_the_cure() -> None:
    other = json.dumps({**json.loads(ProbeSpec("postgres", SERVER, {}).text()), "version": 2})

    with pytest.raises(InvalidProbe, match="must be of the same"):
        ProbeSpec.parse(other)
