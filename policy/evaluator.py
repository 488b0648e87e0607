"""`python -m policy.evaluator`: CEL in a process of its own, that may be ended when an expression takes too much.

A question is a line of JSON, `{"values": …, "set": number, "rules": [[expression, message expression], …]}`. A set of
rules that it was told before needs only its number; with number 0 all are forgotten. The answer is a line with a list:
for each rule that does not hold `[place in the set, text, error]`. The kernel ends the process that takes more time of
the processor than `SECONDS` over a set, or more memory than `MEMORY`: the engine itself cannot be interrupted.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from policy.expressions import Conjunction, ExpressionError, Inputs, expression_fault

SECONDS = 0.1
"""Of processor time for a set of rules, so that a busy machine makes no expression fail. A rule takes microseconds."""
MEMORY = 128 * 1024 * 1024
"""Bytes of data, of which the interpreter and what it has compiled take a fifth."""
TOGETHER = 32
"""Rules that are asked about at once: to compile more of them takes more than its share of time."""
LONGEST_TEXT = 500
"""Characters of an answer."""


def main() -> None:
    """Answer until there is nobody left to ask."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sets: dict[int, RuleSet] = {}
    for line in sys.stdin.buffer:
        question = json.loads(line)
        number = question["set"]
        if "rules" in question:
            if number == 0:
                sets.clear()
            sets[number] = RuleSet(question["rules"])
        answer = sets[number].unmet(Inputs(question["values"]))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


class RuleSet:
    """Rules that are asked about together, compiled: what that takes is needed once."""

    def __init__(self, rules: Sequence[tuple[str, str]]) -> None:
        """`rules`: expressions, each with its message expression or ""."""
        self._parts = [
            (start, part, Conjunction(expression for expression, _ in part))
            for start in range(0, len(rules), TOGETHER)
            for part in [rules[start : start + TOGETHER]]
        ]
        for text in (text for rule in rules for text in rule if text):
            expression_fault(text)

    def unmet(self, inputs: Inputs) -> list[tuple[int, str, str]]:
        """Place, text and error of each rule that does not hold."""
        with _limited():
            doubtful = [(start, part) for start, part, together in self._parts if not inputs.all_hold(together)]
        with _limited():
            return [
                (place, *answer)
                for start, part in doubtful
                for place, rule in enumerate(part, start)
                if (answer := _answer(inputs, *rule))
            ]


@contextmanager
def _limited() -> Iterator[None]:
    """Have the kernel end this process, in the midst of native code, when what follows takes too long."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(inputs: Inputs, expression: str, message_expression: str) -> tuple[str, str] | None:
    try:
        if inputs.holds(expression):
            return None
    except ExpressionError as error:
        return "", str(error)
    return inputs.text(message_expression)[:LONGEST_TEXT] if message_expression else "", ""


if __name__ == "__main__":
    main()
