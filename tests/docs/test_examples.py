"""The classes, endpoints and databases in examples/: as a pipeline checks them, without a cluster."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT
from webhook import check

ENGINES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/class.yaml"))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engines_examples_are_accepted_without_a_warning(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ROOT / "examples" / engine

    status = check.main([str(folder / name) for name in ("class.yaml", "endpoint.yaml", "database.yaml")])
    said = capsys.readouterr().out

    assert status == 0, said
    assert "3 accepted, 0 refused, 0 warnings" in said, said


def test_there_are_examples_of_every_engine() -> None:
    assert ENGINES == ["mariadb", "mysql", "postgresql", "sqlserver"]
