"""Quotas: how many Databases there are where a policy allows so many. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from policy.question import Peer, Question
from policy.rules import DatabasePolicy


@dataclass(frozen=True, slots=True)
class Room:
    """A quota that leaves no room."""

    path: str
    limit: int
    where: str
    count: int

    @property
    def refusal(self) -> str:
        """What a new Database is told."""
        return self._sentence("there is 1" if self.count == 1 else f"there are {self.count}")

    @property
    def excess(self) -> str:
        """What one that exists is told."""
        return self._sentence("others came before it")

    def _sentence(self, why: str) -> str:
        if not self.limit:
            return f"allows no Database {self.where}; ask an administrator"
        databases = "1 Database" if self.limit == 1 else f"{self.limit} Databases"
        return f"allows {databases} {self.where}, and {why}; delete one, or ask an administrator"


def exceeded(policy: DatabasePolicy, question: Question) -> Iterator[Room]:
    """The quotas of a policy that leave no room beside the Databases that `question.usage` counts."""
    usage, namespace = question.usage, f'in namespace "{question.namespace}"'
    limits = (
        (policy.per_namespace, usage.in_namespace, "metadata.namespace", namespace),
        (policy.per_endpoint, usage.on_endpoint, "spec.endpoint", "on this endpoint"),
    )
    for limit, peers, path, where in limits:
        if limit is None:
            continue
        others = list(peers())
        # All of them are most often few enough, and selectors take their time.
        enough = sum(peer.count for peer in others) >= limit
        if enough and (count := room_taken(policy, others)) >= limit:
            yield Room(path, limit, where, count)


def room_taken(policy: DatabasePolicy, peers: Iterable[Peer]) -> int:
    """How many Databases among `peers` a quota of the policy counts: those that it is about, whoever asked."""
    return sum(peer.count for peer in peers if policy.match.scope(peer.labels, peer.endpoint, peer.class_name))
