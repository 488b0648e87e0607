"""What can be wrong with a DatabaseClass: created, changed or deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from api.classes import class_faults, template_places
from api.engines import ENGINES
from api.faults import Fault
from api.kinds import DatabaseClass
from api.listing import listed
from api.parameters import value_faults
from api.resources import CLASSES
from api.schemas import faults as schema_faults
from api.templates import Reference, Template, TemplateError
from policy.patterns import covers_whole, matches, pattern_fault
from webhook.review import Manifest, Request
from webhook.world import Claimed, World


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


def change(request: Request, world: World) -> Iterator[Fault]:
    """An update: a class that databases were made with stays one for their engine."""
    if schema_faults(CLASSES.kind, request.old):
        return
    old, new = DatabaseClass.parse(request.old), DatabaseClass.parse(request.object)
    if ENGINES[old.driver].family == ENGINES[new.driver].family:
        return
    users = sorted(str(user) for user in world.users_of_class(request.name) if isinstance(user, Claimed))
    if users:
        message = (
            f"cannot be changed from {old.driver.value} to {new.driver.value} while {listed(users)} exist; "
            "make a class of another name for the other engine"
        )
        yield Fault("spec.driver", message)


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
    yield from _parameter_warnings(cls)
    yield from _credential_warnings(cls)


def _credential_warnings(cls: DatabaseClass) -> Iterator[str]:
    used = {reference.path[1] for reference in _references(cls, "Result")}
    generated = any(_references(cls, "Generated"))
    if used and cls.credentials and not generated and used.isdisjoint(cls.credentials):
        yield f"spec.credentials[{listed([*cls.credentials])}]: spec.secretFormat uses none; lost ones go unnoticed"


def _parameter_warnings(cls: DatabaseClass) -> Iterator[str]:
    rules = cls.params or {}
    references = list(_references(cls, "Params"))
    used = {reference.path[1] for reference in references}
    # A default pipe stands in for what is missing.
    needed = {r.path[1] for r in references if not any(pipe.name == "default" for pipe in r.pipes)}
    loose = [n for n, rule in rules.items() if rule.pattern is not None and not covers_whole(rule.pattern)]
    dead = [n for n, rule in rules.items() if any(any(value_faults(rule, v, matches)) for v in rule.enum)]
    optional = [n for n, rule in rules.items() if not rule.required and rule.default is None and n in needed]
    yield from _of(loose, ".pattern: may be found in a part of the value; begin it with ^ and end it with $")
    yield from _of(dead, ".enum: has a value that pattern or maxLength refuses")
    yield from _of(optional, " is optional, has no default, and a template cannot do without it")
    yield from _of([name for name in rules if name not in used], " is used by no template")


def _of(names: Iterable[str], sentence: str) -> Iterator[str]:
    """One warning for all parameters of which a sentence is true."""
    if named := sorted(names):
        yield f"spec.params[{listed(named)}]{sentence}"


def _references(cls: DatabaseClass, root: str) -> Iterator[Reference]:
    for _, source, roots in template_places(cls):
        try:
            references = Template.parse(source, roots).references
        except TemplateError:
            continue  # a fault, not a warning
        yield from (reference for reference in references if reference.root == root)
