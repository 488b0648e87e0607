"""What is wrong with a DatabasePolicy in itself: found when it is applied, not when it first refuses somebody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from api.faults import Fault
from policy.expressions import expression_fault
from policy.patterns import matches, pattern_fault
from policy.rules import DatabasePolicy, PolicyParameter
from policy.vocabulary import reads_unasked, unknown_fields


def policy_faults(policy: DatabasePolicy) -> Iterator[Fault]:
    """Faults of a policy of the right shape: expressions and patterns that do not compile, demands that contradict."""
    for index, rule in enumerate(policy.validations):
        path = f"spec.validations[{index}]"
        yield from _expression_faults(f"{path}.expression", rule.expression)
        if rule.message_expression:
            yield from _expression_faults(f"{path}.messageExpression", rule.message_expression, text=True)
    for name, parameter in policy.params.items():
        yield from _parameter_faults(f"spec.params[{name}]", parameter)
    yield from _idle_demands(policy)
    demands = (
        policy.allowed_endpoints,
        policy.params,
        policy.per_namespace is not None,
        policy.per_endpoint is not None,
        policy.deletion_protection,
        policy.maximum_age,
        policy.adoption,
        policy.validations,
    )
    if not any(demands):
        yield Fault("spec", "demands nothing; add one of allowedEndpoints, params, quota, validations and others")
    reachable = set(policy.match.endpoints) & set(policy.allowed_endpoints)
    if policy.match.endpoints and policy.allowed_endpoints and not reachable:
        yield Fault("spec.allowedEndpoints", "has none of spec.match.endpoints: every Database would be refused")


def policy_doubts(policy: DatabasePolicy) -> Iterator[Fault]:
    """What a policy may well say without meaning it: whom nobody is called, what refuses all of some operation."""
    yield from _subject_doubts("users", policy.match.users)
    yield from _subject_doubts("groups", policy.match.groups)
    operations = policy.match.operations or ("CREATE", "UPDATE")
    for index, rule in enumerate(policy.validations):
        for name, operation, instead in _ABSENT:
            if operation in operations and reads_unasked(rule.expression, name):
                message = f"reads {name}, which is null in a {operation}: every one is refused; {instead}"
                yield Fault(f"spec.validations[{index}].expression", message)


_ACCOUNT = "system:serviceaccount:"
_ACCOUNTS = "system:serviceaccounts"


def _subject_doubts(field: str, names: Iterable[str]) -> Iterator[Fault]:
    for name in names:
        if "*" in name:
            doubt = f"a star stands for itself; all ServiceAccounts of a namespace are the group {_ACCOUNTS}:NAMESPACE"
        elif field == "users" and name.startswith(_ACCOUNTS):
            doubt = "is a group; name it in groups"
        elif field == "groups" and name.startswith(_ACCOUNT):
            doubt = "is a user; name it in users"
        elif name.startswith(_ACCOUNT) and name.count(":") != _ACCOUNT.count(":") + 1:
            doubt = f"is no ServiceAccount; those are called {_ACCOUNT}NAMESPACE:NAME"
        else:
            continue
        yield Fault(f"spec.match.{field}", f"{name}: {doubt}")


_ABSENT = (
    ("object", "DELETE", "read oldObject, or ask for request.operation first"),
    ("oldObject", "CREATE", "ask for request.operation first, or leave CREATE out of match.operations"),
)
"""Variables, the operations in which they are null, and what to do."""


def _expression_faults(path: str, expression: str, *, text: bool = False) -> Iterator[Fault]:
    if fault := expression_fault(expression, text=text):
        yield Fault(path, fault)
    elif unknown := "; ".join(unknown_fields(expression)):
        yield Fault(path, unknown)


def _idle_demands(policy: DatabasePolicy) -> Iterator[Fault]:
    """Demands about operations that the policy does not match: they would never be made."""
    operations = frozenset(policy.match.operations)
    if not operations:
        return
    if not operations - {"DELETE", "ROTATE"}:
        demands = {
            "allowedEndpoints": bool(policy.allowed_endpoints),
            "params": bool(policy.params),
            "deletionProtection": policy.deletion_protection == "Required",
            "rotation": policy.maximum_age is not None,
            "adoption": bool(policy.adoption),
        }
        for field in (name for name, made in demands.items() if made):
            yield _idle(f"spec.{field}", "CREATE and UPDATE")
    if "CREATE" not in operations:
        if policy.limiting:
            yield _idle("spec.quota", "CREATE")
        for name, rule in policy.params.items():
            if rule.default is not None and operations - {"DELETE", "ROTATE"}:
                yield _idle(f"spec.params[{name}].default", "CREATE")
    if policy.deletion_protection == "RequireConfirmation" and "DELETE" not in operations:
        yield _idle("spec.deletionProtection", "DELETE", "RequireConfirmation ")


def _idle(path: str, operations: str, what: str = "") -> Fault:
    return Fault(path, f"{what}is about {operations}, which spec.match.operations leaves out; add it there")


def _parameter_faults(path: str, rule: PolicyParameter) -> Iterator[Fault]:
    if rule == PolicyParameter():
        yield Fault(path, "demands nothing; add one of enum, pattern, maxLength, required, forbidden, default")
    if rule.forbidden and (rule.required or rule.enum or rule.pattern or rule.max_length is not None):
        yield Fault(path, "is forbidden, and more is demanded of it; remove forbidden, or everything but default")
    if rule.pattern is not None and (fault := pattern_fault(rule.pattern)):
        yield Fault(f"{path}.pattern", fault)
        return
    if rule.enum and not any(_fits(rule, value) for value in rule.enum):
        yield Fault(f"{path}.enum", "has no value that pattern and maxLength allow: every Database would be refused")
    if rule.default is None:
        return
    if rule.enum and rule.default not in rule.enum:
        yield Fault(f"{path}.default", "is not among enum; add it there, or choose another default")
    if rule.max_length is not None and len(rule.default) > rule.max_length:
        yield Fault(f"{path}.default", "is longer than maxLength")
    if rule.pattern is not None and not matches(rule.pattern, rule.default):
        yield Fault(f"{path}.default", f"must match the pattern {rule.pattern}")


def _fits(rule: PolicyParameter, value: str) -> bool:
    short = rule.max_length is None or len(value) <= rule.max_length
    return short and (rule.pattern is None or matches(rule.pattern, value))
