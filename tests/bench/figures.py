"""Figures as rows: what was measured, against what, and what it should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

FIGURE = 12
"""Characters of a number with its unit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `figure` and `reference` are in `unit`; `ratio` counts against any `target`."""

    row: str
    unit: str
    figure: float
    reference: float
    ratio: float
    target: float | None = None
    bound: str = "≤"
    """On which side of the target the ratio should be."""


def p50(values: Sequence[float]) -> float:
    """The median."""
    return median(values)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile, interpolated."""
    return quantiles(values, n=20, method="inclusive")[-1]


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, interpolated."""
    return quantiles(values, n=100, method="inclusive")[-1]


def compared(name: str, figures: Sequence[float], references: Sequence[float], target: float) -> list[Row]:
    """p50 and p95 of `figures` over those of `references`; the target is for the p50."""
    return [
        Row(f"{name}, {label}", "s", at(figures), at(references), at(figures) / at(references), target)
        for label, at in (("p50", p50), ("p95", p95))
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    width = max(len(row.row) for row in rows)
    lines = [f"{'':{width}}  {'figure':>{FIGURE}}  {'reference':>{FIGURE}}  {'ratio':>6}  {'target':>7}"]
    for row in rows:
        figure, reference = f"{row.figure:.3f} {row.unit}", f"{row.reference:.3f} {row.unit}"
        target = "" if row.target is None else f"{row.bound} {row.target:5.2f}"
        lines.append(
            f"{row.row:{width}}  {figure:>{FIGURE}}  {reference:>{FIGURE}}  {row.ratio:6.2f}  {target}".rstrip()
        )
    return "\n".join(lines)


def write(rows: Sequence[Row], file: Path) -> None:
    """The rows for a program."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
