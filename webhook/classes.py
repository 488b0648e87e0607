"""What can be wrong with a DatabaseClass: created, changed or deleted."""

from __future__ import annotations

from collections.abc import Iterator

from api.classes import class_faults
from api.faults import Fault
from api.kinds import DatabaseClass
from webhook.patterns import matches, pattern_fault
from webhook.review import Manifest, Request
from webhook.world import Claimed, World

USERS_NAMED = 5
"""How many objects a refused deletion names."""


def faults(manifest: Manifest) -> Iterator[Fault]:
    """What is wrong with a class in itself: templates, input keys, names, patterns."""
    cls = DatabaseClass.parse(manifest)
    yield from class_faults(cls)
    for name, rule in (cls.params or {}).items():
        if rule.pattern is None:
            continue
        path = f"spec.params[{name}]"
        if fault := pattern_fault(rule.pattern):
            yield Fault(f"{path}.pattern", fault)
        elif rule.default is not None and not matches(rule.pattern, rule.default):
            yield Fault(f"{path}.default", f"must match the pattern {rule.pattern}")


def deletion(request: Request, world: World) -> Iterator[Fault]:
    """A deletion: refused while an endpoint or an instance is of this class."""
    users = sorted(
        str(user) if isinstance(user, Claimed) else f"DatabaseEndpoint {user.metadata.name}"
        for user in world.users_of_class(request.name)
    )
    if users:
        yield Fault("metadata.name", f"is in use by {listed(users)}; delete what uses it first")


def warnings(manifest: Manifest) -> Iterator[str]:
    """What is allowed, and may be meant otherwise."""
    cls = DatabaseClass.parse(manifest)
    if cls.identity is None:
        yield "spec.identity is not set: what tells databases apart is all the inputs of create"
    if "delete" not in cls.operations:
        yield "spec.operations.delete is not set: a deleted Database leaves its database on the server"


def listed(users: list[str]) -> str:
    """A few of `users`, and how many more there are."""
    more = f" and {len(users) - USERS_NAMED} more" if len(users) > USERS_NAMED else ""
    return ", ".join(users[:USERS_NAMED]) + more
