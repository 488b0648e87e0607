"""Commands as a person would type them: each is printed, run by a shell, and followed by what it says."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

SECONDS = 300.0
"""What a command may take at most, unless it says otherwise."""
PROMPT = "\n$ "


class CommandFailed(Exception):
    """A command that did not do what it was to do; its output has been shown."""


class Terminal:
    """Prints and runs; keeps how long each step took."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment}
        self._steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A part of the demo: its title above, its duration in the table at the end."""
        print(f"\n=== {title}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self._steps.append((title, time.monotonic() - began))

    def run(self, command: str, *, seconds: float = SECONDS) -> None:
        """Show and run a command; its output goes to the screen as it comes. Raises CommandFailed."""
        self._show(command)
        if self._shell(command, seconds, capture=False).returncode != 0:
            raise CommandFailed(command)

    def ask(self, command: str, *, seconds: float = SECONDS) -> str:
        """What a command prints, without showing either; raises CommandFailed with its complaint."""
        done = self._shell(command, seconds, capture=True)
        if done.returncode != 0:
            raise CommandFailed(f"{command}\n{done.stderr.strip()}")
        return str(done.stdout)

    def succeeds(self, command: str) -> bool:
        """Whether a command, not shown, says yes."""
        return self._shell(command, SECONDS, capture=True).returncode == 0

    def follow(self, command: str, until: Callable[[str], bool], *, seconds: float) -> None:
        """Show what a command that watches prints, each line with its second, until a line is the one waited for.

        Raises CommandFailed when the time is over, or the command ends, before that line came.
        """
        self._show(command)
        began = time.monotonic()
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], env=self._environment, stdout=subprocess.PIPE, text=True
        )
        limit = threading.Timer(seconds, process.kill)
        limit.start()
        try:
            for line in process.stdout or ():
                print(f"{time.monotonic() - began:6.2f} s  {line}", end="", flush=True)
                if until(line):
                    return
        finally:
            limit.cancel()
            process.kill()
            process.wait()
        raise CommandFailed(command)

    def say(self, text: str) -> None:
        """A sentence of the demo's own."""
        print(text, flush=True)

    def table(self) -> str:
        """How long each step took, and all of them."""
        width = max(len(title) for title, _ in self._steps)
        rows = [*self._steps, ("all", sum(took for _, took in self._steps))]
        return "\n".join(f"  {title:<{width}} {took:7.1f} s" for title, took in rows)

    def _show(self, command: str) -> None:
        print(f"{PROMPT}{command}", flush=True)

    def _shell(self, command: str, seconds: float, *, capture: bool) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=capture,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{command}\nhas not ended after {seconds:.0f} s") from None
