"""What is wrong with a DatabasePolicy in itself: found when it is applied, not when it first refuses somebody."""

from __future__ import annotations

from collections.abc import Iterator

from api.faults import Fault
from policy.expressions import expression_fault
from policy.patterns import matches, pattern_fault
from policy.rules import DatabasePolicy, PolicyParameter


def policy_faults(policy: DatabasePolicy) -> Iterator[Fault]:
    """Faults of a policy of the right shape: expressions and patterns that do not compile, demands that contradict."""
    for index, rule in enumerate(policy.validations):
        path = f"spec.validations[{index}]"
        if fault := expression_fault(rule.expression):
            yield Fault(f"{path}.expression", fault)
        if rule.message_expression and (fault := expression_fault(rule.message_expression, text=True)):
            yield Fault(f"{path}.messageExpression", fault)
    for name, parameter in policy.params.items():
        yield from _parameter_faults(f"spec.params[{name}]", parameter)
    operations = policy.match.operations
    if policy.deletion_protection == "RequireConfirmation" and operations and "DELETE" not in operations:
        message = "RequireConfirmation is about DELETE, which spec.match.operations leaves out; add it there"
        yield Fault("spec.deletionProtection", message)
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


def _parameter_faults(path: str, rule: PolicyParameter) -> Iterator[Fault]:
    if rule.forbidden and (rule.required or rule.enum or rule.pattern or rule.max_length is not None):
        yield Fault(path, "is forbidden, and more is demanded of it; remove forbidden, or everything but default")
    if rule.pattern is not None and (fault := pattern_fault(rule.pattern)):
        yield Fault(f"{path}.pattern", fault)
        return
    if rule.default is None:
        return
    if rule.enum and rule.default not in rule.enum:
        yield Fault(f"{path}.default", "is not among enum; add it there, or choose another default")
    if rule.max_length is not None and len(rule.default) > rule.max_length:
        yield Fault(f"{path}.default", "is longer than maxLength")
    if rule.pattern is not None and not matches(rule.pattern, rule.default):
        yield Fault(f"{path}.default", f"must match the pattern {rule.pattern}")
