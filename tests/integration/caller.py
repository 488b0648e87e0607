"""Calls of the procedures in one schema, as a Job makes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from provisioner_job.drivers.contract import Argument, Procedure, Session
from provisioner_job.errors import Failure


@dataclass(frozen=True)
class Caller:
    """Calls what is in one schema."""

    session: Session
    schema: Any
    """One of the engines' own; it has a `name`."""

    def __call__(
        self, name: str, /, *positional: str, timeout: Any = 10, returns: Any = True, silent: Any = False, **named: str
    ) -> Any:
        """Call `name` of the schema with text arguments; `timeout` is in seconds, the flags are Procedure's."""
        arguments = [Argument(str(number), value) for number, value in enumerate(positional)]
        arguments += [Argument(key, value) for key, value in named.items()]
        return self.given(name, tuple(arguments), timeout=timeout, returns=returns, silent=silent)

    def given(
        self,
        name: str,
        arguments: tuple[Argument, ...],
        *,
        timeout: float = 10,
        returns: bool = True,
        silent: bool = False,
    ) -> Any:
        """The same, with the arguments as they are."""
        qualified = name if "." in name else f"{self.schema.name}.{name}"
        return self.session.call(Procedure(qualified, arguments, timedelta(seconds=timeout), returns, silent))

    def refusal(self, name: str, /, *positional: str, **options: Any) -> Failure:
        """Why a call that must not work does not."""
        with pytest.raises(Failure) as caught:
            self(name, *positional, **options)
        return caught.value
