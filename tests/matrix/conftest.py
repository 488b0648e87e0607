"""One estate for all matrices."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.estate import Estate, running_estate


@pytest.fixture(scope="session")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with running_estate(tmp_path_factory.mktemp("estate")) as running:
        yield running
