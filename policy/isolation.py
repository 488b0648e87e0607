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
KEPT = 2000
"""Rules that the process remembers, in the sets in which they were asked about: 10 KB each."""
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

    def __init__(self, patience: float = PATIENCE) -> None:
        """`patience`: seconds for all expressions of one request, waiting included."""
        self._patience = patience
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._paused: dict[tuple[str, Validation], tuple[float, Answer]] = {}

    def judge(self, values: Mapping[str, Any], rules: Sequence[Validation], namespace: str) -> list[Answer | None]:
        """What becomes of each of `rules` with these values of the variables: None where it holds.

        Raises ExpressionError when nothing can be evaluated over such values.
        """
        # An update brings the object twice, and may make it shorter.
        if _characters(values) - _characters(values.get("oldObject")) > INPUT_LIMIT:
            raise ExpressionError(f"the object has more than {INPUT_LIMIT} characters; shorten it")
        deadline = time.monotonic() + self._patience
        answers = self._pauses(namespace, rules)
        rest = [number for number in range(len(rules)) if number not in answers]
        together = self._ask(values, tuple(rules[number] for number in rest), deadline)
        if isinstance(together, Answer):
            # One of them took too much: each by itself tells which.
            for number in rest:
                alone = self._ask(values, (rules[number],), deadline)
                if isinstance(alone, Answer):
                    answers[number] = alone
                    if alone is not TOO_LATE:
                        self._paused[namespace, rules[number]] = (time.monotonic() + PAUSE, alone)
                elif alone:
                    answers[number] = alone[0]
        else:
            answers |= {rest[place]: answer for place, answer in together.items()}
        return [answers.get(number) for number in range(len(rules))]

    def _pauses(self, namespace: str, rules: Sequence[Validation]) -> dict[int, Answer]:
        """The answers, by place, of rules that are not tried now."""
        now, paused = time.monotonic(), {}
        for number, rule in enumerate(rules if self._paused else ()):
            until, answer = self._paused.get((namespace, rule), (0.0, TOO_LATE))
            if until > now:
                paused[number] = answer
            else:
                self._paused.pop((namespace, rule), None)
        return paused

    def _ask(
        self, values: Mapping[str, Any], rules: tuple[Validation, ...], deadline: float
    ) -> dict[int, Answer] | Answer:
        """The answers of what does not hold, by place; or what the process died of."""
        if not rules:
            return {}
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return TOO_LATE
        try:
            process = self._process = self._process or _Process()
            answer = process.asked(values, rules, deadline)
            if isinstance(answer, Answer):
                # The next one gets ready meanwhile.
                self._process = _Process()
        finally:
            self._lock.release()
        if isinstance(answer, Answer):
            return answer
        return {place: Answer(text, error) for place, text, error in json.loads(answer)}

    def close(self) -> None:
        """End the process; another question starts another."""
        with self._lock:
            if self._process is not None:
                self._process.end()
            self._process = None


EVALUATOR = Evaluator()
"""This process's own."""
atexit.register(EVALUATOR.close)


class _Process:
    """`python -m policy.evaluator`, and which sets of rules it was told."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Validation, ...], int] = {}
        self._popen = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "policy.evaluator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            # An interrupt at a terminal is not for it; it ends with who asks.
            start_new_session=True,
        )
        self._questions = cast("IO[bytes]", self._popen.stdin)
        self._answers = cast("IO[bytes]", self._popen.stdout)

    def asked(self, values: Mapping[str, Any], rules: tuple[Validation, ...], deadline: float) -> bytes | Answer:
        """The line that it answers, or what it died of."""
        received = b""
        with suppress(BrokenPipeError):
            self._questions.write(self._question(values, rules))
            self._questions.flush()
            while not received.endswith(b"\n") and (piece := self._read(deadline)):
                received += piece
        if received.endswith(b"\n"):
            return received
        return {-signal.SIGPROF: TOO_LONG, -signal.SIGKILL: TOO_LATE}.get(self._ended(), TOO_LARGE)

    def end(self) -> None:
        """End it whatever it is at."""
        self._popen.kill()
        self._ended()

    def _question(self, values: Mapping[str, Any], rules: tuple[Validation, ...]) -> bytes:
        question: dict[str, Any] = {"values": values}
        if rules not in self._numbers:
            if sum(map(len, self._numbers)) + len(rules) > KEPT:
                self._numbers.clear()
            self._numbers[rules] = len(self._numbers)
            question["rules"] = [(rule.expression, rule.message_expression) for rule in rules]
        question["set"] = self._numbers[rules]
        return json.dumps(question).encode() + b"\n"

    def _read(self, deadline: float) -> bytes:
        """What has come of an answer; nothing when no more will, for which the process is killed at the deadline."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            self._popen.kill()
            return b""
        return os.read(self._answers.fileno(), 65536)

    def _ended(self) -> int:
        """The exit code of a process that ends now."""
        for pipe in (self._questions, self._answers):
            with suppress(OSError):
                pipe.close()
        return self._popen.wait()


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
