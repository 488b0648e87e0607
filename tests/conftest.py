"""For all tests: chance has a seed, which is printed; what takes minutes runs when it is asked for.

`SEED` (environment) chooses the seed. Without it chance is new on a developer's machine and the same in continuous
integration, and so is what hypothesis makes up.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import settings

from tests.suite import SEED, soaks

settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("developer", print_blob=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "developer")

_OF_CI = 20_261_121


def _seed() -> int:
    if text := os.environ.get(SEED):
        return int(text)
    return _OF_CI if os.environ.get("CI") == "true" else random.SystemRandom().randrange(1_000_000)


_CHOSEN = _seed()


def pytest_report_header() -> str:
    """Tell the seed before anything runs."""
    return f"{SEED}={_CHOSEN}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless markers ask for it or a test is named."""
    if soaks(config.option.markexpr) or any("::" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("soak")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A source of chance of the test's own, the same for the same seed."""
    return random.Random(f"{_CHOSEN} {request.node.name}")
