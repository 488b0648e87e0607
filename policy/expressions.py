"""CEL: compiled once per text, evaluated over values that are shared by all expressions.

The engine ends an evaluation after 10,000 iterations and refuses what nests deeper than 32. Within that, a hundred
characters can take it many seconds and any amount of memory, and it cannot be interrupted: requests are judged in a
process of its own (`policy/isolation.py`), and only compiling is done anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

VARIABLES = ("object", "oldObject", "request", "namespaceObject", "class", "endpoint", "usage")
_ENVIRONMENT = cel.NewEnv(
    variables=dict.fromkeys(VARIABLES, cel.Type.DYN),
    extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional()],
)
_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What would move a terminal's cursor, change its colours, end a line or turn the direction of writing."""
_BOOLEAN = (cel.Type.BOOL, cel.Type.DYN)
_TEXT = (cel.Type.STRING, cel.Type.DYN)


_UNDECLARED = "undeclared reference"
_THERE_ARE = f"; there are {', '.join(VARIABLES)}, and CEL's functions for texts and optional values"


class ExpressionError(ValueError):
    """An expression without an answer; the message says why."""


class Conjunction:
    """Expressions that are asked about at once, which takes a third of the time."""

    def __init__(self, expressions: Iterable[str]) -> None:
        # The line break ends a comment that an expression may end in.
        text = " && ".join(f"({expression}\n)" for expression in expressions)
        try:
            # Not by way of the cache: such a text is large, and its set's own.
            self._program = None if "\0" in text else _ENVIRONMENT.compile(text)
        except RuntimeError:
            self._program = None

    def holds(self, activation: Any) -> bool:
        """Whether all are known to hold: false if one does not, has no answer, or they are too much at once."""
        try:
            return self._program is not None and self._program.eval(activation).value() is True
        except RuntimeError:
            return False


class Inputs:
    """The values of the variables, made for the engine once."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._activation = _ENVIRONMENT.Activation(data=dict(values))

    def holds(self, expression: str) -> bool:
        """Whether `expression` is true of them; raises ExpressionError when it is neither true nor false."""
        answer = self._evaluated(expression)
        if answer.type() == cel.Type.ERROR:
            raise ExpressionError(str(answer.value())[:200])
        if answer.type() != cel.Type.BOOL:
            raise ExpressionError(f"it gives {answer.type().name()}, and true or false is needed")
        return answer.value() is True

    def all_hold(self, conjunction: Conjunction) -> bool:
        """Whether `conjunction` is known to be true of them."""
        return conjunction.holds(self._activation)

    def text(self, expression: str) -> str:
        """What `expression` gives, if that is one line of text that can be printed; "" otherwise."""
        try:
            value = _compiled(expression).eval(self._activation)
        except (ExpressionError, RuntimeError):
            return ""
        text = str(value.value()).strip() if value.type() == cel.Type.STRING else ""
        return "" if _UNPRINTABLE.search(text) else text

    def _evaluated(self, expression: str) -> Any:
        try:
            return _compiled(expression).eval(self._activation)
        except RuntimeError as error:
            raise ExpressionError(str(error)[:200]) from None


def expression_fault(expression: str, *, text: bool = False) -> str | None:
    """What keeps an expression from compiling to a truth value (or a text), with line and column; else None."""
    try:
        kind = _compiled(expression).return_type()
    except ExpressionError as error:
        return str(error)
    if kind in (_TEXT if text else _BOOLEAN):
        return None
    return f"gives {kind.name()}, and {'a text' if text else 'true or false'} is needed"


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    if "\0" in expression:
        raise ExpressionError("contains a NUL character; remove it")
    try:
        return _ENVIRONMENT.compile(expression)
    except RuntimeError as error:
        faults = [f"line {line}, column {column}: {what}" for line, column, what in _FAULT.findall(str(error))]
        said = ("; ".join(faults) or str(error))[:400]
        raise ExpressionError(f"does not compile: {said}{_THERE_ARE if _UNDECLARED in said else ''}") from None
