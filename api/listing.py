"""Names in a sentence: a few and how many more there are, or all of them in quotes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 5
"""How many of many names a sentence has room for."""


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """The first `most` of `names`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quoted(values: Sequence[str]) -> str:
    """All of `values`, each in quotes."""
    return ", ".join(f'"{value}"' for value in values)
