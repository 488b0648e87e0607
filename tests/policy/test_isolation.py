"""Expressions that take too much: they become errors, and nobody else notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy.expressions import ExpressionError
from policy.isolation import Answer, Evaluator
from policy.rules import Validation

LARGE = {"object": {"params": {f"p{number}": "a" * 1900 for number in range(64)}}}
SMALL = {"object": {"params": {"p0": "b"}}}
FINE, UNMET = Validation("size(object.params) > 0"), Validation("size(object.params) > 99")
LONG = Validation(
    "object.params.all(a, object.params.all(b, !object.params[a].matches('((x?){500}){2}y|' + b + '(x?[a-z]*){200}$')))"
)
LARGE_LISTS = Validation("[object.params.p0]" + ".map(a, a + a)" * 26 + ".all(a, size(a) > 0)")
LARGE_TEXTS = Validation("object.params.p0" + ".replace('a', 'aaaaaaaaaa')" * 9 + " != ''")
ENDLESS = [LONG, LARGE_LISTS, LARGE_TEXTS]


@pytest.fixture
def evaluator() -> Iterator[Evaluator]:
    # A busy machine takes its time to start the process anew.
    evaluator = Evaluator(patience=60)
    yield evaluator
    evaluator.close()


def errors(answers: list[Answer | None]) -> list[str]:
    return ["" if answer is None else answer.error for answer in answers]


@pytest.mark.parametrize("greedy", ENDLESS, ids=["time", "lists", "texts"])
def test_what_takes_too_much_is_an_error_and_the_others_are_answered(evaluator: Evaluator, greedy: Validation) -> None:
    before, found, after = evaluator.judge(LARGE, [FINE, greedy, UNMET], "shop")

    assert before is None
    assert found is not None
    assert "it took more than" in found.error
    assert after == Answer()


def test_who_provokes_it_holds_up_nobody_elsewhere(evaluator: Evaluator) -> None:
    first = errors(evaluator.judge(LARGE, [LONG], "shop"))
    again = errors(evaluator.judge(SMALL, [LONG], "shop"))
    elsewhere = errors(evaluator.judge(SMALL, [LONG], "other"))

    assert first == again
    assert "not tried again here" in first[0]
    assert elsewhere == [""]


def test_a_message_that_takes_too_much_is_an_error_too(evaluator: Evaluator) -> None:
    (found,) = evaluator.judge(
        LARGE, [Validation("false", message_expression=LARGE_LISTS.expression + " ? '' : 'a'")], ""
    )

    assert found is not None
    assert "it took more than" in found.error


@pytest.mark.parametrize(
    "text", ["", "   ", "two\\nlines", "a\\rb", "\\u001b[31mred", "\\u0085", "abc\\u202edef", "a\\u2028b"]
)
def test_a_message_that_is_no_line_of_text_is_none(evaluator: Evaluator, text: str) -> None:
    """Users' own values may be in it, and it is printed on others' terminals."""
    (found,) = evaluator.judge(SMALL, [Validation("false", message_expression=f"'{text}'")], "shop")

    assert found == Answer()


def test_a_thousand_expressions_are_answered_at_once(evaluator: Evaluator) -> None:
    rules = [Validation(f"object.params.p0 == 'b' || {number} < 0") for number in range(1000)]

    assert evaluator.judge(SMALL, rules, "shop") == [None] * 1000


def test_an_evaluator_that_was_killed_is_replaced(evaluator: Evaluator) -> None:
    evaluator.judge(SMALL, [FINE], "shop")
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1:]
    os.kill(int(child), signal.SIGKILL)

    assert evaluator.judge(SMALL, [FINE, UNMET], "shop")[-1] is not None
    assert evaluator.judge(SMALL, [FINE], "shop") == [None]


@pytest.mark.parametrize(
    ("values", "why"),
    [({"object": "a" * 131073}, "shorten"), ({"object": {"a\0": 1}}, "NUL"), ({"object": 2**63}, "64 bits")],
)
def test_what_no_expression_can_be_shown_is_said(evaluator: Evaluator, values: dict[str, Any], why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        evaluator.judge(values, [FINE], "shop")
