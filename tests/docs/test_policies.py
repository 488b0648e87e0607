"""The policies in examples/policies/: each lets its accepted file through and has a word for each of its refused ones.

A pipeline's view, without a cluster; tests/integration/test_example_policies.py has a real API server's.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.docs.pages import ROOT
from webhook import check

FOLDER = ROOT / "examples/policies"
NAMES = sorted(file.stem.removesuffix("-accepted") for file in FOLDER.glob("*-accepted.yaml"))
POLICIES = [str(FOLDER / f"{name}.yaml") for name in NAMES]
LANDSCAPE = str(FOLDER / "landscape.yaml")


def verdicts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """What is said of each Database."""
    check.main([*arguments, "--output", "json"])
    return [found for found in json.loads(capsys.readouterr().out)["objects"] if found["kind"] == "Database"]


def test_every_policy_comes_with_what_it_accepts_and_what_it_refuses() -> None:
    files = {f"{name}{suffix}.yaml" for name in NAMES for suffix in ("", "-accepted", "-refused")}

    assert len(NAMES) >= 5
    assert {file.name for file in FOLDER.iterdir()} == files | {"landscape.yaml"}


def test_the_landscape_and_the_policies_are_sound_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    status = check.main([LANDSCAPE, *POLICIES])
    said = capsys.readouterr().out

    assert status == 0, said
    assert "0 refused, 0 warnings" in said


@pytest.mark.parametrize("name", NAMES)
def test_all_policies_together_accept_what_one_says_is_fine(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = verdicts(capsys, "--existing", LANDSCAPE, *POLICIES, str(FOLDER / f"{name}-accepted.yaml"))

    assert found
    assert [database["violations"] for database in found] == [[]] * len(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_refuses_each_of_its_refused_databases_and_no_other_policy_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--existing", LANDSCAPE, "--existing", str(FOLDER / f"{name}-accepted.yaml")]

    found = verdicts(capsys, *there, *POLICIES, str(FOLDER / f"{name}-refused.yaml"))
    sentences = [violation["message"] for database in found for violation in database["violations"]]

    assert [database["accepted"] for database in found] == [False] * len(found)
    assert all(sentence.startswith(f'DatabasePolicy "{name}') for sentence in sentences), sentences
