"""`python -m policy.evaluator`: CEL in a process of its own, that may be ended when an expression takes too much.

A question is a line of JSON, `{"values": …, "rules": [[expression, message expression], …]}`; its answer is a line with
one item per rule: null where it holds, else `[text, error]`. The kernel ends the process that takes more processor time
than `SECONDS` over a question, or more memory than `MEMORY`: the engine itself cannot be interrupted.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from policy.expressions import ExpressionError, Inputs, expression_fault

SECONDS = 0.1
"""Of processor time for one question, so that a busy machine makes no expression fail. One takes microseconds."""
MEMORY = 128 * 1024 * 1024
"""Bytes of data, of which the interpreter and what it has compiled take a fifth."""
LONGEST_TEXT = 500
"""Characters of an answer."""


def main() -> None:
    """Answer until there is nobody left to ask."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        question = json.loads(line)
        for expression in (text for rule in question["rules"] for text in rule if text):
            # Not what it takes to evaluate, and needed once only.
            expression_fault(expression)
        # Its signal is left to the kernel, which ends the process in the midst of native code.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        inputs = Inputs(question["values"])
        answers = [_answer(inputs, *rule) for rule in question["rules"]]
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(answers).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(inputs: Inputs, expression: str, message_expression: str) -> Any:
    try:
        if inputs.holds(expression):
            return None
    except ExpressionError as error:
        return ["", str(error)]
    return [inputs.text(message_expression)[:LONGEST_TEXT] if message_expression else "", ""]


if __name__ == "__main__":
    main()
