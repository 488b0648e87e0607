"""Label selectors: keys and values that some label can have. What no label can have would silently select nothing,
or, with NotIn and DoesNotExist, everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from api.faults import Fault
from api.kinds import Manifest

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:(?P<prefix>{_DNS})/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_PREFIX_LIMIT = 253


def is_label_key(text: str) -> bool:
    """Whether a label can have this key (Kubernetes documentation, "Labels and Selectors")."""
    key = _KEY.fullmatch(text)
    return key is not None and len(key["prefix"] or "") <= _PREFIX_LIMIT


def is_label_value(text: str) -> bool:
    """Whether a label can have this value."""
    return _VALUE.fullmatch(text) is not None


def selector_faults(selector: Manifest, path: str) -> Iterator[Fault]:
    """What is wrong with a LabelSelector of the right shape that stands at `path`."""
    for key, value in sorted((selector.get("matchLabels") or {}).items()):
        yield from _faults(f"{path}.matchLabels[{key}]", key, [value])
    for index, term in enumerate(selector.get("matchExpressions") or ()):
        yield from _faults(f"{path}.matchExpressions[{index}]", term["key"], term.get("values") or [])


def _faults(path: str, key: str, values: list[Any]) -> Iterator[Fault]:
    if not is_label_key(key):
        yield Fault(path, "has a key that no label can have; write name or example.com/name, name of 63 characters")
    if not all(map(is_label_value, values)):
        message = "has a value that no label can have; use at most 63 letters, digits, '-', '_' and '.'"
        yield Fault(path, f"{message}, beginning and ending with a letter or digit")
