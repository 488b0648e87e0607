"""Work that takes a while: side by side, with a line now and then, and a table at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.settings import ClusterError

EVERY = 10.0
"""Seconds between two lines about the same work."""


Argv = Sequence[str | Path]


def say(text: str) -> None:
    """Tell the person; standard output stays free for what a command answers."""
    print(text, file=sys.stderr, flush=True)


class Timings:
    """How long each part took, in the order in which they ended."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, float]] = []
        self._began = time.monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time one part; it counts even when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._parts.append((name, time.monotonic() - began))

    def side_by_side(self, parts: Mapping[str, Callable[[], object]]) -> None:
        """Run all, saying every few seconds what is still under way; the first failure is raised at the end."""
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=max(1, len(parts))) as pool:
            futures = {pool.submit(self._timed, name, work): name for name, work in parts.items()}
            pending: set[Future[None]] = set(futures)
            while pending:
                done, pending = wait(pending, timeout=EVERY, return_when=FIRST_COMPLETED)
                for future in done:
                    if future.exception():
                        say(f"  {time.monotonic() - began:4.0f} s  failed: {futures[future]}")
                if pending and not done:
                    names = ", ".join(sorted(futures[future] for future in pending))
                    say(f"  {time.monotonic() - began:4.0f} s  under way: {names}")
        for future in futures:
            future.result()

    def table(self) -> str:
        """Return every part of at least a tenth of a second, and the whole."""
        shown = [(name, took) for name, took in self._parts if took >= 0.1]
        rows = [*shown, ("all (parts overlap)", time.monotonic() - self._began)]
        return "\n".join(f"  {name:<36} {took:7.1f} s" for name, took in rows)

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        with self.part(name):
            work()


def run(argv: Argv, *, log: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a program with its output in a log; ClusterError with the log's last lines if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        try:
            code = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode
        except FileNotFoundError as exc:
            raise ClusterError(f"{argv[0]} is not installed; `python3 -m tests.cluster status` says how") from exc
    if code != 0:
        raise ClusterError(f"{argv[0]} failed with {code}; the end of {log}:\n{tail(log)}")


def output(argv: Argv, *, stdin: str | None = None) -> str:
    """Return what a quick program prints; ClusterError with its complaint if it fails."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)
    except FileNotFoundError as exc:
        raise ClusterError(f"{argv[0]} is not installed; `python3 -m tests.cluster status` says how") from exc
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(map(str, argv))} failed with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented; a note where there is none."""
    if not log.exists():
        return "  (no log)"
    return "\n".join(f"  | {line}" for line in log.read_text("utf-8", "replace").splitlines()[-lines:])


def wait_for(what: str, met: Callable[[], object], *, seconds: float = 60.0, hint: str = "") -> None:
    """Return as soon as the condition is met; ClusterError when its time is up."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:.0f} s in vain for {what}{hint and '; ' + hint}")
        time.sleep(0.05)
