"""Which policies a request violates, and which defaults they give it.

An update is judged by what it changes: what the stored object violates already is not held against it. So a policy
that became stricter never blocks a label, a finalizer, a rotation, or the same manifest applied again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from api.durations import format_duration, parse_duration
from api.kinds import DatabaseClass, Manifest
from api.labels import ADOPT, CONFIRM_DELETE
from api.listing import quoted
from api.parameters import effective_params
from policy.patterns import matches
from policy.question import Question
from policy.quotas import exceeded
from policy.rules import DatabasePolicy, Enforcement, PolicyParameter, Validation


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One demand that is not met: where, in words with the cure, of which policy, and what follows."""

    path: str
    message: str
    policy: str
    enforcement: Enforcement
    quota: bool = False
    """Whether it is about room, which others may make."""
    unanswered: bool = False
    """Whether it is only that an expression has not answered: it took too much, or too many ask."""


def evaluate(policies: Iterable[DatabasePolicy], question: Question) -> list[Violation]:
    """Every violation of every policy that concerns the request, sorted."""
    matching = [policy for policy in policies if concerns(policy, question)]
    if not matching:
        return []
    if question.operation == "DELETE":
        found = {v for policy in matching for v in _confirmation(policy, question)}
        return sorted(found | _validated(matching, question))
    found = _unmet(matching, question)
    if question.operation == "CREATE":
        found |= {v for policy in matching if policy.limiting for v in _quota(policy, question)}
    return sorted(found | _validated(matching, question))


def reconsidered(policies: Iterable[DatabasePolicy], question: Question) -> list[Violation]:
    """What policies have against a Database as it stands, sorted: the controller's question, whoever asks.

    `question.operations` says as what it is judged: CREATE before it has a database, UPDATE afterwards. Expressions
    about the requester (`userInfo`) are left to admission, which alone is told everything of them.
    """
    matching = [policy for policy in policies if concerns(policy, question)]
    if not matching:
        return []
    defaults = default_params(matching, question.cls)
    found = {v for policy in matching for v in _demands(policy, question, question.object, defaults)}
    for policy in matching:
        for room in exceeded(policy, question):
            found.add(_violation(policy, room.path, room.excess, quota=True))
    impersonal = [_impersonal(policy) for policy in matching if policy.validations]
    if question.cls is not None and impersonal:
        found |= {violation for _, violation in _expressions(impersonal, question, question.object)}
    return sorted(found)


def _impersonal(policy: DatabasePolicy) -> DatabasePolicy:
    return _without(policy, lambda rule: "userInfo" in rule.expression)


_PLACE = re.compile(r"(?<![.\w])(class|endpoint|usage)\b")


def _placeless(policy: DatabasePolicy) -> DatabasePolicy:
    return _without(policy, lambda rule: _PLACE.search(f"{rule.expression} {rule.message_expression}") is not None)


def _without(policy: DatabasePolicy, left_out: Callable[[Validation], bool]) -> DatabasePolicy:
    kept = tuple(rule for rule in policy.validations if not left_out(rule))
    return policy if len(kept) == len(policy.validations) else replace(policy, validations=kept)


def _unmet(matching: Sequence[DatabasePolicy], question: Question) -> set[Violation]:
    """What policies that demand something of a Database in itself have against this one, and had not before."""
    demanding = [policy for policy in matching if policy.demanding]
    if not demanding:
        return set()
    defaults = default_params(matching, question.cls)
    found = {v for policy in demanding for v in _demands(policy, question, question.object, defaults)}
    if found and question.operation == "UPDATE":
        before = {v for policy in demanding for v in _demands(policy, question, question.old, defaults)}
        found -= {v for v in before if v.path != _ROTATION or not _rotates_later(question)}
    return found


_ROTATION = "spec.rotation.every"


def _rotates_later(question: Question) -> bool:
    """Whether an update makes a rotation rarer: what was too rare before is no reason to allow that."""
    new, old = ((m.get("spec") or {}).get("rotation") or {} for m in (question.object, question.old))
    if "every" not in old:
        return False
    return "every" not in new or parse_duration(new["every"]) > parse_duration(old["every"])


def default_params(policies: Iterable[DatabasePolicy], cls: DatabaseClass | None) -> dict[str, str]:
    """The defaults of policies, the first one's by name, else the class's; only parameters that the class knows."""
    given: dict[str, str] = {}
    for policy in sorted(policies, key=lambda policy: policy.metadata.name):
        for name, rule in policy.params.items():
            known = cls is None or cls.params is None or name in cls.params
            if rule.default is not None and known:
                given.setdefault(name, rule.default)
    return {**(effective_params(cls, {}) if cls else {}), **given}


def defaults_for(policies: Iterable[DatabasePolicy], question: Question) -> dict[str, str]:
    """The defaults of a creation."""
    return default_params([policy for policy in policies if concerns(policy, question)], question.cls)


def concerns(policy: DatabasePolicy, question: Question) -> bool:
    """Whether a request is one that the policy is about."""
    match = policy.match
    if match.operations and question.operations.isdisjoint(match.operations):
        return False
    if match.users or match.groups:
        asks = question.user in match.users or not set(match.groups).isdisjoint(question.groups)
        if not asks:
            return False
    spec = (question.object or question.old).get("spec") or {}
    class_name = question.cls.metadata.name if question.cls else ""
    return match.scope(question.labels, spec.get("endpoint", ""), class_name)


def _violation(
    policy: DatabasePolicy, path: str, message: str, *, quota: bool = False, unanswered: bool = False
) -> Violation:
    name = policy.metadata.name
    return Violation(path, f'DatabasePolicy "{name}" {message}', name, policy.enforcement, quota, unanswered)


def _demands(
    policy: DatabasePolicy, question: Question, manifest: Manifest, defaults: Mapping[str, str]
) -> Iterator[Violation]:
    """What a policy has against a Database in itself."""
    spec = manifest.get("spec") or {}
    annotations = manifest["metadata"].get("annotations") or {}
    endpoint = spec.get("endpoint", "")
    if policy.allowed_endpoints and endpoint not in policy.allowed_endpoints:
        message = f"allows only {', '.join(policy.allowed_endpoints)}; choose one of them"
        yield _violation(policy, "spec.endpoint", message)
    given = spec.get("params") or {}
    if question.cls is not None:
        given = effective_params(question.cls, given)
    for name, rule in policy.params.items():
        for message in _parameter(rule, given.get(name), defaults.get(name), _knows(question, name)):
            yield _violation(policy, f"spec.params.{name}", message)
    if policy.deletion_protection == "Required" and not spec.get("deletionProtection"):
        # What is only being created has nothing to delete that could be confirmed.
        created = question.operation == "CREATE"
        if created or annotations.get(CONFIRM_DELETE) != question.name:
            cure = "" if created else f", or to delete, annotate {CONFIRM_DELETE} with the Database's name"
            yield _violation(policy, "spec.deletionProtection", f"requires it; set it to true{cure}")
    if policy.maximum_age is not None:
        every = (spec.get("rotation") or {}).get("every")
        demand = f"requires a rotation at least every {format_duration(policy.maximum_age)}"
        if question.cls is not None and "rotate" not in question.cls.operations:
            cure = "and its class has no rotate operation: choose an endpoint of another class"
            yield _violation(policy, _ROTATION, f"{demand}, {cure}")
        elif every is None or parse_duration(every) > policy.maximum_age:
            yield _violation(policy, _ROTATION, f"{demand}; set it to that or less")
    if policy.adoption == "Forbidden" and ADOPT in annotations:
        yield _violation(policy, f"metadata.annotations[{ADOPT}]", "forbids adoption; remove the annotation")


def _knows(question: Question, name: str) -> bool:
    return question.cls is None or question.cls.params is None or name in question.cls.params


def _parameter(rule: PolicyParameter, value: str | None, default: str | None, known: bool) -> Iterator[str]:  # noqa: FBT001
    if value is None:
        if rule.required:
            choice = f"; allowed are {quoted(rule.enum)}" if rule.enum else ""
            cure = f"add it{choice}" if known else "its class does not know it: choose an endpoint of another class"
            yield f"requires it; {cure}"
        return
    if rule.forbidden and rule.default is not None:
        if value != rule.default:
            yield f'allows no value but its default, "{rule.default}"; give that'
    elif rule.forbidden and value != default:
        yield "forbids it; remove it"
    if rule.enum and value not in rule.enum:
        yield f"allows only {quoted(rule.enum)}; choose one of them"
    if rule.max_length is not None and len(value) > rule.max_length:
        yield f"allows at most {rule.max_length} characters, and it has {len(value)}; shorten it"
    if rule.pattern is not None and not matches(rule.pattern, value):
        yield f"asks for a value that matches the pattern {rule.pattern}; change it"


def _confirmation(policy: DatabasePolicy, question: Question) -> Iterator[Violation]:
    annotations = question.old["metadata"].get("annotations") or {}
    if policy.deletion_protection == "RequireConfirmation" and annotations.get(CONFIRM_DELETE) != question.name:
        command = f"kubectl annotate database {question.name} -n {question.namespace} {CONFIRM_DELETE}={question.name}"
        path = f"metadata.annotations[{CONFIRM_DELETE}]"
        yield _violation(policy, path, f"asks for a confirmation; {command}, then delete it again")


def _quota(policy: DatabasePolicy, question: Question) -> Iterator[Violation]:
    for room in exceeded(policy, question):
        yield _violation(policy, room.path, room.refusal, quota=True)


def _validated(policies: list[DatabasePolicy], question: Question) -> set[Violation]:
    """What CEL expressions have against the request; values are handed to the engine once for all of them."""
    if question.operation == "CREATE" and question.cls is None:
        # It is refused already, and expressions about its endpoint or class would only stumble over that.
        policies = [_placeless(policy) for policy in policies]
    judged = [p for p in policies if p.validations and (question.operation != "DELETE" or p.match.operations)]
    if not judged:
        return set()
    if question.operation == "UPDATE" and _judged_part(question.object) == _judged_part(question.old):
        return set()
    found = set(_expressions(judged, question, question.object))
    if not found or question.operation != "UPDATE":
        return {violation for _, violation in found}
    unchanged = {place for place, _ in _expressions(judged, question, question.old, decided=True)}
    # Who may rotate is a question about the request alone: no comparison with the stored object answers it.
    asks = {p.metadata.name for p in judged if "ROTATE" in p.match.operations and "ROTATE" in question.operations}
    return {violation for place, violation in found if place not in unchanged or violation.policy in asks}


_UNJUDGED = ("finalizers", "resourceVersion", "generation", "managedFields")


def _judged_part(manifest: Manifest) -> tuple[object, ...]:
    """What expressions may judge of a Database; finalizers come off whatever they say."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _UNJUDGED}
    return manifest.get("spec"), metadata


def _expressions(
    policies: list[DatabasePolicy], question: Question, object_: Manifest, *, decided: bool = False
) -> Iterator[tuple[int, Violation]]:
    """What expressions have against `object_`, each with its place among them; -1 where none could be evaluated.

    Several may say the same of different things, and one says it in other words as soon as a label is added.
    Only what they have really found with `decided`: whoever makes them fail for want of time or room must not pass as
    somebody whose object was so before.
    """
    # The engine is loaded where there is something to evaluate.
    from policy.expressions import ExpressionError
    from policy.isolation import EVALUATOR

    rules = [(policy, rule) for policy in policies for rule in policy.validations]
    values = question.variables(object_, counted=any(policy.mentions_usage for policy in policies))
    try:
        answers = EVALUATOR.judge(values, [rule for _, rule in rules], question.namespace)
    except ExpressionError as error:
        if decided:
            return
        yield from ((-1, _violation(policy, "spec", f"cannot be evaluated: {error}")) for policy in policies)
        return
    for number, ((policy, rule), answer) in enumerate(zip(rules, answers, strict=True)):
        if answer is None or (decided and answer.silent):
            continue
        # One line: the API server drops a warning that has more.
        expression = " ".join(rule.expression.split())
        message = answer.text or rule.message or f"asks for {expression}"
        if answer.error:
            reason = " ".join(answer.error.split())
            message = f"cannot be evaluated ({reason}); ask its author to mend it: {expression}"
        yield number, _violation(policy, rule.field_path, message, unanswered=answer.silent)
