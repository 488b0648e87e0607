"""A DatabasePolicy as a value, read from a manifest of the right shape. Never judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from api.durations import parse_duration
from api.kinds import NOTHING, LabelSelector, Manifest, Metadata

Enforcement = Literal["Deny", "Warn", "Audit"]


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a policy concerns; what is empty is no criterion."""

    namespaces: LabelSelector = field(default_factory=LabelSelector)
    endpoints: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def parse(cls, match: Manifest) -> Match:
        """Read `spec.match`."""
        return cls(
            LabelSelector.parse(match.get("namespaceSelector") or NOTHING),
            *(tuple(match.get(name) or ()) for name in ("endpoints", "classes", "operations", "users", "groups")),
        )

    def scope(self, labels: Mapping[str, str], endpoint: str, class_name: str) -> bool:
        """Whether a Database there is concerned, whoever asks for it."""
        return (
            (not self.endpoints or endpoint in self.endpoints)
            and (not self.classes or class_name in self.classes)
            and self.namespaces.matches(labels)
        )


@dataclass(frozen=True, slots=True)
class PolicyParameter:
    """What a policy demands of one parameter."""

    enum: tuple[str, ...] = ()
    pattern: str | None = None
    max_length: int | None = None
    required: bool = False
    forbidden: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """One demand in CEL."""

    expression: str
    message: str = ""
    message_expression: str = ""
    field_path: str = "spec"


@dataclass(frozen=True, slots=True)
class DatabasePolicy:
    """What an administrator demands of requests for Databases."""

    metadata: Metadata
    enforcement: Enforcement = "Deny"
    match: Match = field(default_factory=Match)
    allowed_endpoints: tuple[str, ...] = ()
    params: Mapping[str, PolicyParameter] = field(default_factory=dict)
    per_namespace: int | None = None
    per_endpoint: int | None = None
    deletion_protection: str = ""
    maximum_age: timedelta | None = None
    adoption: str = ""
    validations: tuple[Validation, ...] = ()

    @property
    def mentions_usage(self) -> bool:
        """Whether an expression may ask how many Databases there are."""
        return any("usage" in rule.expression + rule.message_expression for rule in self.validations)

    @property
    def limiting(self) -> bool:
        """Whether it has a quota."""
        return self.per_namespace is not None or self.per_endpoint is not None

    @property
    def counts(self) -> bool:
        """Whether its verdict on one Database may depend on how many others there are."""
        return self.limiting or self.mentions_usage

    @property
    def demanding(self) -> bool:
        """Whether it demands something of a Database in itself, besides its validations and its quota."""
        single = self.deletion_protection or self.adoption or self.maximum_age is not None
        return bool(self.allowed_endpoints or self.params or single)

    @classmethod
    def parse(cls, manifest: Manifest) -> DatabasePolicy:
        """Read a DatabasePolicy manifest."""
        spec = manifest["spec"]
        quota = spec.get("quota") or NOTHING
        age = (spec.get("rotation") or NOTHING).get("maxAge")
        return cls(
            metadata=Metadata.parse(manifest),
            enforcement=spec.get("enforcement", "Deny"),
            match=Match.parse(spec.get("match") or NOTHING),
            allowed_endpoints=tuple(spec.get("allowedEndpoints") or ()),
            params={
                name: PolicyParameter(
                    enum=tuple(rule.get("enum") or ()),
                    pattern=rule.get("pattern"),
                    max_length=rule.get("maxLength"),
                    required=bool(rule.get("required")),
                    forbidden=bool(rule.get("forbidden")),
                    default=rule.get("default"),
                )
                for name, rule in sorted((spec.get("params") or NOTHING).items())
            },
            per_namespace=quota.get("perNamespace"),
            per_endpoint=quota.get("perEndpoint"),
            deletion_protection=spec.get("deletionProtection", ""),
            maximum_age=None if age is None else parse_duration(age),
            adoption=spec.get("adoption", ""),
            validations=tuple(
                Validation(
                    rule["expression"],
                    rule.get("message", ""),
                    rule.get("messageExpression", ""),
                    rule.get("fieldPath", "spec"),
                )
                for rule in spec.get("validations") or ()
            ),
        )
