"""A Database's parameters under the rules of its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from api.faults import Fault
from api.kinds import DatabaseClass, ParameterRule
from api.listing import quoted

Matches = Callable[[str, str], bool]
"""Whether an RE2 pattern (first) is found in a value (second); passed in, its engine is no part of the contract."""


def effective_params(cls: DatabaseClass, params: Mapping[str, str]) -> dict[str, str]:
    """`params` with the class's defaults for those that are not given."""
    rules = cls.params or {}
    defaults = {name: rule.default for name, rule in rules.items() if rule.default is not None}
    return {**defaults, **params}


def parameter_faults(cls: DatabaseClass, params: Mapping[str, str], matches: Matches) -> list[Fault]:
    """What the class's `params` have against a Database's; nothing when the class declares none."""
    if cls.params is None:
        return []
    given = effective_params(cls, params)
    faults: list[Fault] = []
    for name in sorted(given.keys() | cls.params.keys()):
        rule = cls.params.get(name)
        if rule is None:
            known = ", ".join(sorted(cls.params)) or "none"
            message = f'DatabaseClass "{cls.metadata.name}" does not know it; the parameters it knows: {known}'
            faults.append(Fault(f"spec.params.{name}", message))
        elif name in given:
            faults += (Fault(f"spec.params.{name}", m) for m in value_faults(rule, given[name], matches))
        elif rule.required:
            meaning = f" ({rule.description})" if rule.description else ""
            choice = f"; allowed are {quoted(rule.enum)}" if rule.enum else ""
            message = f'DatabaseClass "{cls.metadata.name}" requires it{meaning}; add it{choice}'
            faults.append(Fault(f"spec.params.{name}", message))
    return faults


def value_faults(rule: ParameterRule, value: str, matches: Matches) -> Iterator[str]:
    """What `rule` has against `value`, a sentence each; the value itself is never quoted."""
    if rule.enum and value not in rule.enum:
        yield f"is not an allowed value; allowed are {quoted(rule.enum)}"
    if rule.max_length is not None and len(value) > rule.max_length:
        yield f"is {len(value)} characters long; at most {rule.max_length} are allowed"
    if rule.pattern is not None and not matches(rule.pattern, value):
        yield f"must match the pattern {rule.pattern}"
