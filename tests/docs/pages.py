"""The project's pages as tests read them: fenced blocks, tables, code spans, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text("utf-8")

    @cached_property
    def prose(self) -> str:
        """What is outside of fenced blocks."""
        return _FENCE.sub("", self.text)

    @property
    def name(self) -> str:
        """Its path in the work tree."""
        return str(self.path.relative_to(ROOT))

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks in a language."""
        return [found["text"] for found in _FENCE.finditer(self.text) if found["language"] == language]

    def spans(self) -> list[str]:
        """What stands between back quotes."""
        return _SPAN.findall(self.prose)

    def links(self) -> list[str]:
        """Where its links lead."""
        return _LINK.findall(self.prose)

    def first_column(self, heading: str) -> Iterator[str]:
        """The code spans in the first column of the table whose first heading this is."""
        for first, *_ in self.rows(heading):
            yield from _SPAN.findall(first)

    def rows(self, heading: str) -> Iterator[list[str]]:
        """The cells of each row of that table."""
        rows = re.search(rf"^\| {heading} \|.*\n\|-.*\n((?:\|.*\n)+)", self.text, re.MULTILINE)
        assert rows, f"{self.name} has no table with the heading {heading}"
        for row in rows[1].splitlines():
            yield [cell.strip() for cell in row.strip("|").split("|")]


def pages() -> list[Page]:
    """Every page: those of the root, and the guides."""
    return [Page(path) for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])]


def page(name: str) -> Page:
    """One of them, by its path in the work tree."""
    return Page(ROOT / name)
