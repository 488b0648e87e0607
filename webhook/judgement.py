"""From a request to its verdict: which checks an operation on a kind goes through, and what they found together.

A check takes the request and the world and yields faults; a new rule is a new check in the table. On an update only
what changed is judged anew: a fault that the stored object has already is nobody's now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

from api.faults import Fault
from api.resources import CLASSES, DATABASES, ENDPOINTS, POLICIES
from api.schemas import faults as schema_faults
from policy.evaluation import Violation
from webhook import classes, databases, endpoints, policies
from webhook.mutation import mutated
from webhook.patch import difference
from webhook.review import LONGEST_MESSAGE, MalformedReview, Manifest, Request, Verdict, shortened
from webhook.world import World

Check = Callable[[Request, World], Iterable[Fault]]
Hint = Callable[[Request, World], Iterable[str]]

KINDS = (DATABASES.kind, CLASSES.kind, ENDPOINTS.kind, POLICIES.kind)
"""What is reviewed here."""


@dataclass(frozen=True, slots=True)
class Course:
    """What one operation on one kind goes through."""

    checks: tuple[Check, ...] = ()
    hints: tuple[Hint, ...] = ()


class Judge:
    """Decides on requests by looking at a world; raises `kube.errors.KubeError` when that could not be asked."""

    def __init__(
        self, world: World, *, allow_insecure: bool = False, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """`allow_insecure`: whether endpoints without TLS may be registered. `clock` dates the stamps."""
        self._world = world
        self._clock = clock
        self._courses = _courses(allow_insecure=allow_insecure)

    def mutate(self, request: Request) -> Verdict:
        """What is to be written into the object; never a refusal. Raises MalformedReview for an unknown kind."""
        _known(request)
        if request.kind != DATABASES.kind or request.operation not in ("CREATE", "UPDATE"):
            return Verdict()
        defaults = policies.defaults(request, self._world) if request.operation == "CREATE" else {}
        wanted = mutated(request, defaults, self._clock(), policies.groups_named(self._world))
        # The stamp names the review; this is how the API server's audit log does too.
        return Verdict(patch=tuple(difference(request.object, wanted)), audit={"review": request.uid})

    def validate(self, request: Request) -> Verdict:
        """Whether the operation may happen, with everything against it. Raises MalformedReview for an unknown kind."""
        _known(request)
        audit = {"user": request.user, "operation": request.operation.lower()}
        course = self._courses.get((request.kind, request.operation))
        if course is None or request.terminating:
            return Verdict(audit=audit)
        shape = _shape_faults(request)
        if shape is not None:
            # The checks cannot read an object of another shape.
            return Verdict(faults=_sorted(shape), audit=audit)
        violations = self._violations(request)
        denied = [Fault(v.path, v.message) for v in violations if v.enforcement == "Deny"]
        found = chain((fault for check in course.checks for fault in check(request, self._world)), denied)
        faults = _sorted(databases.explained(fault, request) for fault in found)
        hints = () if faults else tuple(hint for hints in course.hints for hint in hints(request, self._world))
        warned = tuple(f"{v.path}: {v.message}" for v in violations if v.enforcement == "Warn")
        return Verdict(faults, (*warned, *hints), audit=audit | _audited(violations), violations=violations)

    def _violations(self, request: Request) -> tuple[Violation, ...]:
        if request.kind != DATABASES.kind or (request.operation == "UPDATE" and not _parseable(request)):
            return ()
        return tuple(policies.violations(request, self._world))


def _audited(violations: Iterable[Violation]) -> dict[str, str]:
    """Audit annotations: `policy-deny`, `policy-warn` and `policy-audit`, each with all violations of its kind."""
    sentences: dict[str, list[str]] = {}
    for found in violations:
        key = f"policy-{found.enforcement.lower()}"
        sentences.setdefault(key, []).append(f"{found.path}: {shortened(found.message, LONGEST_MESSAGE)}")
    return {key: "; ".join(said) for key, said in sentences.items()}


def _courses(*, allow_insecure: bool) -> dict[tuple[str, str], Course]:
    class_change = Course((_anew(classes.faults),), (_anew_hints(classes.warnings),))
    policy_change = Course((_anew(policies.faults),), (_anew_hints(policies.warnings), policies.missing))

    def endpoint_faults(manifest: Manifest) -> Iterable[Fault]:
        return endpoints.faults(manifest, allow_insecure=allow_insecure)

    endpoint_change = Course(
        (_anew(endpoint_faults), endpoints.fitting),
        (_anew_hints(endpoints.warnings), endpoints.missing, endpoints.moved),
    )
    return {
        (DATABASES.kind, "CREATE"): Course((databases.creation,), (databases.plan, databases.without_effect)),
        (DATABASES.kind, "UPDATE"): Course((_of_readable(databases.change),), (databases.without_effect,)),
        (DATABASES.kind, "DELETE"): Course((databases.deletion,)),
        (POLICIES.kind, "CREATE"): policy_change,
        (POLICIES.kind, "UPDATE"): policy_change,
        (CLASSES.kind, "CREATE"): class_change,
        (CLASSES.kind, "UPDATE"): Course((*class_change.checks, classes.change), class_change.hints),
        (CLASSES.kind, "DELETE"): Course((classes.deletion,)),
        (ENDPOINTS.kind, "CREATE"): endpoint_change,
        (ENDPOINTS.kind, "UPDATE"): endpoint_change,
        (ENDPOINTS.kind, "DELETE"): Course((endpoints.deletion,)),
    }


def _of_readable(check: Check) -> Check:
    """A check of a change that leaves the mending of a stored object of the wrong shape alone."""
    return lambda request, world: check(request, world) if _parseable(request) else ()


def _anew(faults: Callable[[Manifest], Iterable[Fault]]) -> Check:
    """A check of an object in itself, without what the stored object has already."""

    def check(request: Request, world: World) -> Iterable[Fault]:
        before = set(faults(request.old)) if _parseable(request) else set()
        return (fault for fault in faults(request.object) if fault not in before)

    return check


def _anew_hints(warnings: Callable[[Manifest], Iterable[str]]) -> Hint:
    def hints(request: Request, world: World) -> Iterable[str]:
        before = set(warnings(request.old)) if _parseable(request) else set()
        return (warning for warning in warnings(request.object) if warning not in before)

    return hints


def _parseable(request: Request) -> bool:
    """Whether there is a stored object, and it has the shape that reading it takes."""
    return bool(request.old) and not schema_faults(request.kind, request.old)


def _shape_faults(request: Request) -> list[Fault] | None:
    """What the schema has against the object; None when nothing, [] when nothing that was not stored already."""
    if request.operation == "DELETE" or not (shape := schema_faults(request.kind, request.object)):
        return None
    before = set(schema_faults(request.kind, request.old)) if request.old else set()
    return [fault for fault in shape if fault not in before]


def _sorted(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(set(faults)))


def _known(request: Request) -> None:
    if request.kind not in KINDS:
        raise MalformedReview(f"request.kind.kind: is none of {', '.join(KINDS)}")
