"""Asks a process of its own what expressions are worth, so that none can hold up or bring down who asks.

What an expression takes too much for is an error of that expression; in the same namespace it is not tried again for a
while, so that whoever provokes it holds up nobody else. Safe from any thread; the process is started when first asked.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, cast

from policy.evaluator import MEMORY, SECONDS
from policy.expressions import ExpressionError
from policy.rules import Validation

PATIENCE = 3.0
"""Seconds for all expressions of one request, waiting included; the API server waits 5 for the whole answer."""
PAUSE = 60.0
"""Seconds for which an expression that took too much is not tried again in its namespace."""
INPUT_LIMIT = 131072
"""Characters of all texts that an expression may see."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a rule that does not hold: a text of its own, or why there is no answer; "" for none."""

    text: str = ""
    error: str = ""
    silent: bool = False
    """Whether no answer came: another time there may be one."""


TOO_LONG = Answer(error=f"it took more than {SECONDS:g} s, and is not tried again here for {PAUSE:.0f} s", silent=True)
TOO_LARGE = Answer(
    error=f"it took more than {MEMORY // 1024 // 1024} MiB, and is not tried again here for {PAUSE:.0f} s", silent=True
)
TOO_LATE = Answer(error=f"all expressions together took more than {PATIENCE:g} s; try again", silent=True)


class Evaluator:
    """One process, and whom it waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._paused: dict[tuple[str, Validation], tuple[float, Answer]] = {}

    def judge(self, values: Mapping[str, Any], rules: Sequence[Validation], namespace: str) -> list[Answer | None]:
        """What becomes of each of `rules` with these values of the variables: None where it holds.

        Raises ExpressionError when nothing can be evaluated over such values.
        """
        if _characters(values) > INPUT_LIMIT:
            raise ExpressionError(f"the object has more than {INPUT_LIMIT} characters; shorten it")
        deadline = time.monotonic() + PATIENCE
        answers: dict[int, Answer | None] = {
            number: answer for number, rule in enumerate(rules) if (answer := self._pause(namespace, rule))
        }
        rest = [number for number in range(len(rules)) if number not in answers]
        together = self._ask(values, [rules[number] for number in rest], deadline)
        if isinstance(together, list):
            answers |= dict(zip(rest, together, strict=True))
            return [answers[number] for number in range(len(rules))]
        for number in rest:
            # One of them took too much: each by itself tells which.
            alone = self._ask(values, [rules[number]], deadline)
            if isinstance(alone, list):
                answers[number] = alone[0]
            else:
                answers[number] = alone
                if alone is not TOO_LATE:
                    self._paused[namespace, rules[number]] = (time.monotonic() + PAUSE, alone)
        return [answers[number] for number in range(len(rules))]

    def _pause(self, namespace: str, rule: Validation) -> Answer | None:
        if not self._paused:
            return None
        until, answer = self._paused.get((namespace, rule), (0.0, None))
        if until > time.monotonic():
            return answer
        self._paused.pop((namespace, rule), None)
        return None

    def _ask(
        self, values: Mapping[str, Any], rules: Sequence[Validation], deadline: float
    ) -> list[Answer | None] | Answer:
        """The answers, or what the process died of."""
        if not rules:
            return []
        question = {"values": values, "rules": [(rule.expression, rule.message_expression) for rule in rules]}
        line = json.dumps(question).encode() + b"\n"
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return TOO_LATE
        try:
            answer = self._exchange(line, deadline)
        finally:
            self._lock.release()
        if isinstance(answer, Answer):
            return answer
        return [None if item is None else Answer(*item) for item in json.loads(answer)]

    def _exchange(self, line: bytes, deadline: float) -> bytes | Answer:
        process = self._process = self._process or _started()
        received = b""
        with suppress(BrokenPipeError):
            _write(process, line)
            while not received.endswith(b"\n") and (piece := _read(process, deadline)):
                received += piece
        if received.endswith(b"\n"):
            return received
        code = _ended(process)
        # The next one gets ready meanwhile.
        self._process = _started()
        return {-signal.SIGPROF: TOO_LONG, -signal.SIGKILL: TOO_LATE}.get(code, TOO_LARGE)

    def close(self) -> None:
        """End the process; another question starts another."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                _ended(self._process)
            self._process = None


EVALUATOR = Evaluator()
"""This process's own."""
atexit.register(EVALUATOR.close)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-P", "-m", "policy.evaluator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        # An interrupt at a terminal is not for it; it ends with who asks.
        start_new_session=True,
    )


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    pipe = cast("IO[bytes]", process.stdin)
    pipe.write(line)
    pipe.flush()


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What has come of an answer; nothing when no more will, for which the process is killed at the deadline."""
    pipe = cast("IO[bytes]", process.stdout)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
        process.kill()
        return b""
    return os.read(pipe.fileno(), 65536)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that ends now."""
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            cast("IO[bytes]", pipe).close()
    return process.wait()


def _characters(value: Any) -> int:
    if isinstance(value, str):
        # The engine hands texts on as C strings, which end at a NUL.
        if "\0" in value:
            raise ExpressionError("the object contains a NUL character; remove it")
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(key) + _characters(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_characters, value))
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ExpressionError("the object contains a number of more than 64 bits")
    return 1
