"""What the README and the guides say is so: manifests, reasons, targets, paths, values, metrics, names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from api import labels
from api.classes import class_faults
from api.kinds import DatabaseClass
from api.reasons import ConditionReason, Reason
from api.resources import API_VERSION
from api.schemas import faults
from tests.docs.pages import ROOT, Page, page, pages

PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
REASONS = {str(reason) for reason in (*Reason, *ConditionReason)}


def _documents(page: Page) -> Iterator[dict[str, Any]]:
    for block in page.blocks("yaml"):
        yield from (document for document in yaml.safe_load_all(block) if document)


def _source(*folders: str) -> str:
    return "\n".join(path.read_text("utf-8") for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@PAGES
def test_every_manifest_is_one_that_the_api_server_takes(page: Page) -> None:
    wrong = [
        f"{document['kind']} {document['metadata']['name']}: {fault}"
        for document in _documents(page)
        if document.get("apiVersion") == API_VERSION
        for fault in [
            *faults(document["kind"], document),
            *(class_faults(DatabaseClass.parse(document)) if document["kind"] == "DatabaseClass" else []),
        ]
    ]

    assert not wrong


def test_the_readme_shows_the_examples_as_they_are() -> None:
    shown = [document for document in _documents(page("README.md")) if document.get("apiVersion") == API_VERSION]
    examples = [
        yaml.safe_load((ROOT / "examples/postgresql" / name).read_text("utf-8"))
        for name in ("class.yaml", "endpoint.yaml", "database.yaml")
    ]

    assert shown == examples


def test_every_reason_has_a_row_that_says_what_helps_and_no_other_has() -> None:
    rows = list(page("docs/end-user.md").first_column("reason"))

    assert sorted(rows) == sorted(REASONS)


def test_every_event_that_is_no_conditions_reason_is_explained() -> None:
    told = set(re.findall(r'News\(\s*"(\w+)"', _source("controller")))

    assert told
    assert set(page("docs/end-user.md").first_column("event")) == told


@PAGES
def test_a_word_that_looks_like_a_reason_in_a_table_of_errors_is_one(page: Page) -> None:
    errors = re.findall(
        r"^\| [^|]*\b(?:SQLSTATE|[0-9]{2}[0-9A-Z]{3}|class [0-9]{2})\b[^|]*\|([^|]*)\|", page.text, re.MULTILINE
    )
    named = {word for cell in errors for word in re.findall(r"`(\w+)`", cell)}

    assert named <= REASONS


@PAGES
def test_every_target_of_make_exists(page: Page) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    commands = [*page.spans(), *(line for block in page.blocks("console") for line in block.splitlines())]
    made = [command.split()[1:] for command in commands if command.split()[:1] == ["make"]]
    named = {word for words in made for word in words if re.fullmatch("[a-z0-9-]+", word)}

    assert named <= targets


def test_make_help_knows_every_target_that_a_person_types() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = {
        name for names in re.findall(r"^\.PHONY: ([a-z0-9 -]+)$", makefile, re.MULTILINE) for name in names.split()
    }
    explained = set(re.findall(r"^([a-z0-9-]+):[^#\n]*## .+$", makefile, re.MULTILINE))

    assert phony - explained == {"python", "postgresql", "mariadb", "odbc"}


@PAGES
def test_every_path_and_link_leads_somewhere(page: Page) -> None:
    folders = tuple(f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and path.name not in ("build", ".venv"))
    spans = [span for span in page.spans() if span.startswith(folders) and re.fullmatch(r"[\w./-]+", span)]
    links = [link for link in page.links() if "://" not in link and not link.startswith("#")]
    lost = [span for span in spans if not (ROOT / span).exists()]
    lost += [link for link in links if not _leads(page.path.parent, link)]

    assert not lost


def _leads(folder: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = folder / name
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE) if anchor else []
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return not anchor or anchor in anchors


@PAGES
def test_every_label_and_annotation_is_one_that_the_programs_know(page: Page) -> None:
    known = {value for value in vars(labels).values() if isinstance(value, str)} | {API_VERSION}
    named = set(re.findall(r"(?<![\w.])dbaas\.bedag\.ch/[a-z-]+[0-9]?", page.text))

    assert named <= known


def test_every_value_of_the_chart_that_is_explained_exists() -> None:
    values = yaml.safe_load((ROOT / "chart/values.yaml").read_text("utf-8"))
    named = [path for span in page("docs/sysadmin.md").first_column("value") for path in _expanded(span)]

    assert named
    assert not [path for path in named if not _has(values, path.split("."))]


def _expanded(span: str) -> list[str]:
    parts = re.split(r"\{([^}]*)\}", span)
    choices = [part.split(",") if number % 2 else [part] for number, part in enumerate(parts)]
    return ["".join(choice) for choice in product(*choices)]


def _has(values: Any, path: list[str]) -> bool:
    return not path or (isinstance(values, dict) and path[0] in values and _has(values[path[0]], path[1:]))


def test_every_metric_that_is_explained_exists_and_every_one_is_explained() -> None:
    source = _source("controller", "webhook")
    defined = set(re.findall(r'(?:Counter|Gauge|Histogram|GaugeMetricFamily)\(\s*"(dbaas_\w+)"', source))
    counters = set(re.findall(r'Counter\(\s*"(dbaas_\w+)"', source))
    exposed = {f"{name}_total" if name in counters else name for name in defined}

    assert set(page("docs/sysadmin.md").first_column("metric")) == exposed


def test_every_event_of_a_jobs_log_is_explained() -> None:
    written = set(re.findall(r'audit\.write\(\s*"([a-z-]+)"', _source("provisioner_job")))

    assert set(page("docs/auditor.md").first_column("event")) == written


def test_sample_lines_of_logs_are_json_with_a_time() -> None:
    lines = [line for block in page("docs/auditor.md").blocks("json") for line in block.splitlines()]

    assert lines
    assert all("time" in json.loads(line) for line in lines)


def test_every_variable_of_the_test_bed_that_is_explained_is_read() -> None:
    source = _source("tests/cluster", "tests/demo", "tests/servers")

    assert not [name for name in page("CONTRIBUTING.md").first_column("variable") if f'"{name}"' not in source]
