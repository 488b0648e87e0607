"""How long Operations are kept: so many days, and always the last few of every Database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.ledger import Entry


@dataclass(frozen=True, slots=True)
class Retention:
    """`operations.keepDays` and `operations.keepAtLeast` of the chart."""

    age: timedelta
    least: int

    def expired(self, entries: Iterable[Entry], now: datetime) -> list[Entry]:
        """The Operations that may go: ended long ago, and not among the last of their Database."""
        by_database: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.finished_at is not None:
                by_database[entry.database].append(entry)
        gone: list[Entry] = []
        for ended in by_database.values():
            ended.sort(key=lambda entry: entry.finished_at or now)
            old = ended[: max(len(ended) - self.least, 0)]
            gone += [entry for entry in old if entry.finished_at is not None and now - entry.finished_at > self.age]
        return gone
