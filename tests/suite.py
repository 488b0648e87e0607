"""The parts of the test suite, one after another, and how long each took: `python -m tests.suite PART… [-- PYTEST…]`.

A part that fails does not keep the others from running. What needs a cluster has it brought up first, and left up.
`soak` is what takes minutes, of all kinds; its chance has a seed, which it says first and which `SEED` sets.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.cluster.settings import ClusterError, Settings

PARTS = {
    "unit": "not integration and not e2e and not soak",
    "integration": "integration and not e2e and not soak",
    "e2e": "e2e and not soak",
    "soak": "soak",
}
"""Name of a part → pytest's expression of markers."""
ON_A_CLUSTER = ("integration", "e2e", "soak")
"""The first of them takes the API server's and helm's binaries from it."""
SLOW = ("e2e", "soak")
"""Each of their tests runs for long: it is named as it ends."""
SEED = "SEED"
"""The environment's variable for the seed of all chance in the tests."""
REPORTS = Path("build/tests")
NOTHING_RUN = 5
"""pytest's exit code when no test was chosen."""


@dataclass(frozen=True)
class Ended:
    """What came of one step of the run."""

    name: str
    seconds: float
    code: int
    passed: int = 0
    failed: int = 0
    """Errors in fixtures count as failures."""


def main(arguments: Sequence[str]) -> int:
    """Run the named parts; 0 only if every step ended well."""
    names, pytest_arguments = _split(arguments)
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        print(f"usage: python -m tests.suite {' | '.join(PARTS)} … [-- pytest's arguments]", file=sys.stderr)
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    ended: list[Ended] = []
    up = False
    for name in names:
        if name in ON_A_CLUSTER and not up:
            ended.append(_cluster())
            up = True
        ended.append(_part(name, pytest_arguments))
    _summarise(ended, left_up=up)
    return 1 if any(step.code for step in ended) else 0


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:at]], [*arguments[at + 1 :]]


def _cluster() -> Ended:
    _headline("cluster")
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "tests.cluster", "up"]).returncode
    return Ended("cluster", time.monotonic() - began, code)


def _part(name: str, arguments: Sequence[str]) -> Ended:
    _headline(name)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", PARTS[name], f"--junit-xml={report}", "-o", "junit_family=xunit2"]
    if name == "soak":
        # Printed by the tests themselves, so that a report that was cut still says how to repeat it.
        seed = os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1_000_000)))
        command += [f"--hypothesis-seed={seed}", "-s"]
    command += [*(["-v"] if name in SLOW else []), *arguments]
    began = time.monotonic()
    code = subprocess.run(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
    if code == NOTHING_RUN and arguments:
        code = 0  # they chose tests of another part
    passed, failed = _counts(report)
    return Ended(name, time.monotonic() - began, code, passed, failed)


def soaks(markers: str) -> bool:
    """Whether pytest's expression of markers asks for what takes minutes."""
    return re.search(r"(?<!not )\bsoak\b", markers) is not None


def _counts(report: Path) -> tuple[int, int]:
    if not report.exists():
        return 0, 0
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    counts = [{key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")} for suite in suites]
    failed = sum(count["failures"] + count["errors"] for count in counts)
    return sum(count["tests"] - count["skipped"] for count in counts) - failed, failed


def _headline(name: str) -> None:
    print(f"\n=== {name}", flush=True)


def _summarise(ended: Sequence[Ended], *, left_up: bool) -> None:
    print(f"\n{'part':<14} {'seconds':>8} {'passed':>7} {'failed':>7}")
    for step in ended:
        counts = f"{step.passed:7} {step.failed:7}" if step.name in PARTS else " " * 15
        print(f"{step.name:<14} {step.seconds:8.1f} {counts}{'' if not step.code else '   FAILED'}")
    print(f"{'all':<14} {sum(step.seconds for step in ended):8.1f}")
    if left_up:
        _say_what_is_left()
    print(f"\n{sum(step.passed for step in ended)} passed, {sum(step.failed for step in ended)} failed", flush=True)


def _say_what_is_left() -> None:
    try:
        existing = Settings.from_env(os.environ).existing
    except ClusterError:
        return
    if not existing:
        print("\nthe node is left up, so that the next run begins at once; `make cluster-down` ends it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
