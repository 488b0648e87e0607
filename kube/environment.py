"""What the environment tells a program: read once, every fault named, nothing guessed.

Knows the forms of values; what they are for is the settings' business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_SWITCH = {"": False, "false": False, "true": True}


class SettingsError(Exception):
    """Environment variables that are missing or wrong; the message names every one."""


class Environment:
    """Reads variables, each by its form, and collects faults instead of stopping at the first."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._faults: list[str] = []

    def text(self, variable: str, default: str | None = None) -> str:
        """Whatever it says; required where there is no default."""
        value = self._variables.get(variable) or default
        if value is None:
            self.fault(variable, "must be set")
        return value or ""

    def name(self, variable: str, default: str | None = None) -> str:
        """The name of an object; required where there is no default, which may be empty."""
        value = self.text(variable, default)
        if value and not _NAME.fullmatch(value):
            self.fault(variable, f"{value!r} is no name of an object")
        return value

    def namespaces(self, variable: str) -> tuple[str, ...]:
        """Names between commas, each once, in order."""
        names = tuple(sorted({name.strip() for name in self.text(variable, "").split(",") if name.strip()}))
        for name in names:
            if not _NAME.fullmatch(name):
                self.fault(variable, f"{name!r} is no name of a namespace")
        return names

    def number(self, variable: str, default: int) -> int:
        """A whole number from 0 on."""
        text = self.text(variable, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", text):
            self.fault(variable, f"{text!r} is no number")
            return default
        return int(text)

    def port(self, variable: str, default: int) -> int:
        """A TCP port."""
        text = self.text(variable, str(default))
        if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
            self.fault(variable, f"{text!r} is no TCP port")
            return default
        return int(text)

    def choice(self, variable: str, choices: Sequence[str], default: str) -> str:
        """One of a few words, in any case."""
        value = self.text(variable, default).lower()
        if value not in choices:
            self.fault(variable, f"{value!r} is none of {', '.join(choices)}")
            return default
        return value

    def switch(self, variable: str) -> bool:
        """`true` or `false`, in any case; false where nothing is said."""
        value = self.text(variable, "").lower()
        if value not in _SWITCH:
            self.fault(variable, f"{value!r} is neither true nor false")
        return _SWITCH.get(value, False)

    def json(self, variable: str) -> Mapping[str, Any]:
        """A JSON object; empty where nothing is said."""
        try:
            value = json.loads(self.text(variable, "{}"))
        except ValueError as error:
            self.fault(variable, f"is not JSON: {error}")
            return {}
        if not isinstance(value, dict):
            self.fault(variable, "is no JSON object")
            return {}
        return value

    def fault(self, variable: str, what: str) -> None:
        """Take down that something is wrong with a variable."""
        self._faults.append(f"{variable}: {what}")

    def finish(self) -> None:
        """Raise SettingsError if anything was wrong."""
        if self._faults:
            raise SettingsError("; ".join(self._faults))
