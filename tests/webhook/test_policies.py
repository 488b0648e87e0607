"""What DatabasePolicies do to requests, and what can be wrong with one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.labels import ADOPT, CONFIRM_DELETE, DEFAULTED_PARAMS, ROTATE
from tests.webhook.builders import (
    CREATE,
    DELETE,
    WorldOf,
    annotated,
    database,
    database_class,
    endpoint,
    policy,
    review,
)
from tests.webhook.verdicts import faults, judged
from webhook.judgement import Judge
from webhook.review import read_review, write_review

Json = dict[str, Any]
SMALL = {"params": {"size": {"enum": ["small"]}}}


ROTATING = {"create": CREATE, "rotate": CREATE, "delete": DELETE}


def world(*policies: Json, **others: Any) -> WorldOf:
    """With a second endpoint, whose class cannot rotate."""
    classes = [database_class(operations=ROTATING), database_class("fixed")]
    endpoints = [endpoint(), endpoint("fixed", className="fixed")]
    return WorldOf(**{"_policies": policies, "_classes": classes, "_endpoints": endpoints, **others})


def rule(expression: str, **more: str) -> list[Json]:
    return [{"expression": expression, **more}]


@pytest.mark.parametrize(
    ("demands", "asked", "path", "cure"),
    [
        ({"allowedEndpoints": ["other"]}, {}, "spec.endpoint", "allows only other; choose one of them"),
        (SMALL, {"params": {"size": "huge"}}, "spec.params.size", 'allows only "small"; choose one of them'),
        ({"params": {"a": {"pattern": "^x$"}}}, {"params": {"a": "x\n"}}, "spec.params.a", "pattern ^x$; change it"),
        ({"params": {"a": {"maxLength": 1}}}, {"params": {"a": "xy"}}, "spec.params.a", "at most 1 characters"),
        ({"params": {"a": {"required": True}}}, {}, "spec.params.a", "requires it; add it"),
        ({"params": {"a": {"forbidden": True}}}, {"params": {"a": ""}}, "spec.params.a", "forbids it; remove it"),
        ({"deletionProtection": "Required"}, {}, "spec.deletionProtection", "requires it; set it to true"),
        ({"rotation": {"maxAge": "720h"}}, {}, "spec.rotation.every", "at least every 720h"),
        ({"rotation": {"maxAge": "2h"}}, {"rotation": {"every": "3h"}}, "spec.rotation.every", "that or less"),
        (
            {"rotation": {"maxAge": "2h"}},
            {"endpoint": "fixed", "rotation": {"every": "1h"}},
            "spec.rotation.every",
            "its class has no rotate operation: choose an endpoint of another class",
        ),
        ({"quota": {"perNamespace": 0}}, {}, "metadata.namespace", 'allows no Database in namespace "shop"; ask'),
        ({"quota": {"perEndpoint": 0}}, {}, "spec.endpoint", "allows no Database on this endpoint; ask"),
        ({"validations": rule("object.metadata.name == 'x'", message="call it x")}, {}, "spec", "call it x"),
        ({"validations": rule("false", messageExpression="'no ' + object.metadata.name")}, {}, "spec", "no orders"),
        ({"validations": rule("object.spec.ghost == 1")}, {}, "spec", 'Key not found in map : "ghost"'),
        ({"validations": rule("object.spec.endpoint")}, {}, "spec", "it gives STRING, and true or false is needed"),
        (
            {"validations": rule("object.spec.endpoint == 'x' ||\n  false\n")},
            {},
            "spec",
            "asks for object.spec.endpoint == 'x' || false",
        ),
        ({"validations": rule("usage.namespace > 0", fieldPath="metadata.name")}, {}, "metadata.name", "asks for"),
    ],
)
def test_a_violation_names_the_field_the_policy_and_the_cure(demands: Json, asked: Json, path: str, cure: str) -> None:
    found = faults(judged("CREATE", database(**asked), world=world(policy(**demands))))

    assert list(found) == [path]
    assert found[path].startswith('DatabasePolicy "rules" ')
    assert cure in found[path]


def test_every_violation_of_every_policy_is_said_at_once() -> None:
    policies = [
        policy("b", **SMALL),
        policy("a", deletionProtection="Required"),
        policy("c", params={"x": {"required": True}}),
    ]

    found = faults(judged("CREATE", database(params={"size": "huge"}), world=world(*policies)))

    assert list(found) == ["spec.deletionProtection", "spec.params.size", "spec.params.x"]


def test_a_mistyped_endpoint_does_not_hide_what_expressions_say_of_the_rest() -> None:
    """Those about the endpoint or its class would only stumble."""
    rules = {
        "metadata.name": "object.metadata.name.startsWith('team-')",
        "spec.params": "class.metadata.name == 'gold'",
        "spec.rotation": "endpoint.spec.port == 1",
        "spec.deletionPolicy": "usage.endpoint > 0",
    }
    validations = [{"expression": expression, "fieldPath": path} for path, expression in rules.items()]

    there = faults(judged("CREATE", database(), world=world(policy(validations=validations))))
    mistyped = faults(judged("CREATE", database(endpoint="ppg"), world=world(policy(validations=validations))))

    assert there.keys() == rules.keys()
    assert mistyped.keys() == {"metadata.name", "spec.endpoint"}


@pytest.mark.parametrize(
    ("match", "concerned"),
    [
        ({}, True),
        ({"endpoints": ["pg"]}, True),
        ({"endpoints": ["other"]}, False),
        ({"classes": ["standard"]}, True),
        ({"classes": ["gold"]}, False),
        ({"operations": ["UPDATE"]}, False),
        ({"users": ["alice"]}, True),
        ({"users": ["bob"]}, False),
        ({"groups": ["team"]}, True),
        ({"users": ["bob"], "groups": ["team"]}, True),
        ({"users": ["alice"], "endpoints": ["other"]}, False),
        ({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"env": "test"}}}, False),
    ],
)
def test_a_policy_concerns_what_meets_all_its_criteria(match: Json, concerned: bool) -> None:  # noqa: FBT001
    surroundings = world(policy(match=match, validations=rule("false")), _namespaces={"shop": {"env": "prod"}})

    assert judged("CREATE", database(), world=surroundings, groups=["team"]).allowed is not concerned


def test_warn_and_audit_let_through_and_leave_a_trace() -> None:
    policies = [policy("loud", enforcement="Warn", **SMALL), policy("quiet", enforcement="Audit", **SMALL)]
    manifest = database(params={"size": "huge"})
    verdict = judged("CREATE", manifest, world=world(*policies))
    request = read_review(json.dumps(review("CREATE", manifest)).encode())

    assert verdict.allowed
    assert verdict.warnings == ('spec.params.size: DatabasePolicy "loud" allows only "small"; choose one of them',)
    assert all(len(warning) <= 120 for warning in write_review(request, verdict)["response"]["warnings"])
    assert set(verdict.audit) == {"user", "operation", "policy-warn", "policy-audit"}
    assert [(v.policy, v.enforcement) for v in verdict.violations] == [("loud", "Warn"), ("quiet", "Audit")]


def test_a_long_warning_goes_on_in_the_next_so_that_its_cure_is_read() -> None:
    endpoints = [f"postgresql-{number}" for number in range(12)]
    verdict = judged("CREATE", database(), world=world(policy(enforcement="Warn", allowedEndpoints=endpoints)))
    request = read_review(json.dumps(review("CREATE", database())).encode())

    lines = write_review(request, verdict)["response"]["warnings"]

    assert all(len(line) <= 120 for line in lines)
    assert " ".join(line.removeprefix("… ") for line in lines) == verdict.warnings[0]
    assert lines[-1].endswith("choose one of them")


@pytest.mark.parametrize(
    "demands",
    [
        {**SMALL, "deletionProtection": "Required", "rotation": {"maxAge": "1h"}, "adoption": "Forbidden"},
        {"allowedEndpoints": ["other"], "quota": {"perNamespace": 0, "perEndpoint": 0}},
        {"validations": rule("object.metadata.name == 'x' && 'dba' in request.userInfo.groups")},
        {"validations": rule("object.spec.ghost == 1")},
        {"validations": rule("object.metadata.labels.team == 'x'")},
        {"validations": rule("false", messageExpression="'of ' + string(size(object.metadata))")},
    ],
)
def test_a_tightened_policy_blocks_nothing_that_exists(demands: Json) -> None:
    old = annotated(database(params={"size": "huge"}), {ADOPT: "true"})
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    rotated = annotated(old, {ADOPT: "true", ROTATE: "now"})

    for new in (old, labelled, rotated):
        assert judged("UPDATE", new, old, world=world(policy(**demands))).allowed
    assert judged("DELETE", old, world=world(policy(**demands))).allowed


def test_an_update_is_refused_for_what_it_changes() -> None:
    old = database(deletionProtection=True)
    protected = world(policy(deletionProtection="Required"))
    unadopted = world(policy(adoption="Forbidden"))
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"team": "x"}}}
    named = world(policy(validations=rule("'team' in object.metadata.?labels.orValue({})")))

    assert list(faults(judged("UPDATE", database(), old, world=protected))) == ["spec.deletionProtection"]
    assert judged("UPDATE", annotated(database(), {CONFIRM_DELETE: "orders"}), old, world=protected).allowed
    assert not judged("UPDATE", annotated(old, {ADOPT: "true"}), old, world=unadopted).allowed
    assert not judged("UPDATE", old, labelled, world=named).allowed


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("48h", "9999h", False),
        ("48h", None, False),
        ("48h", "30h", True),
        ("48h", "48h", True),
        (None, "48h", True),
        (None, None, True),
        ("1h", "25h", False),
    ],
)
def test_a_rotation_that_is_too_rare_may_come_nearer_and_not_go_further(
    before: str | None,
    after: str | None,
    allowed: bool,  # noqa: FBT001
) -> None:
    specs: list[Json] = [{"rotation": {"every": every}} if every else {} for every in (before, after)]
    old, new = (database(**spec) for spec in specs)

    assert judged("UPDATE", new, old, world=world(policy(rotation={"maxAge": "24h"}))).allowed is allowed


def test_protection_is_not_spared_by_confirming_a_deletion_at_creation() -> None:
    protected = world(policy(deletionProtection="Required"))

    found = faults(judged("CREATE", annotated(database(), {CONFIRM_DELETE: "orders"}), world=protected))

    assert found == {"spec.deletionProtection": 'DatabasePolicy "rules" requires it; set it to true'}


def labelled(manifest: Json, **labels: str) -> Json:
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}


def test_no_size_of_an_object_keeps_an_update_from_being_judged() -> None:
    """An update brings the object twice, and what cannot be evaluated of both is no fault that was there before."""
    team = world(policy(validations=rule("object.metadata.labels.team == 'shop'")))

    for size in (70_000, 100_000, 140_000):
        old = labelled(annotated(database(), {"n": "x" * size}), team="shop")
        new = labelled(old, team="other")
        longer = annotated(new, {"n": "x" * 200_000})
        shorter = labelled(annotated(old, {"n": "x"}), team="shop")

        assert not judged("UPDATE", new, old, world=team).allowed
        assert not judged("UPDATE", longer, old, world=team).allowed
        assert judged("UPDATE", shorter, old, world=team).allowed
        assert judged(
            "UPDATE", {**old, "metadata": {**old["metadata"], "finalizers": ["a/b"]}}, old, world=team
        ).allowed


def test_an_expression_that_was_made_to_take_too_much_lets_nobody_through() -> None:
    greedy = "[object.metadata.name]" + ".map(a, a + a + a + a)" * 13 + ".all(a, size(a) > 0)"
    costly = world(policy(validations=rule(f"object.metadata.?labels.?team.orValue('') == 'shop' || !({greedy})")))
    old = labelled(database(), team="shop")

    for _ in range(2):
        assert not judged("UPDATE", labelled(old, team="other"), old, world=costly).allowed
    assert judged("UPDATE", {**old, "metadata": {**old["metadata"], "finalizers": []}}, old, world=costly).allowed


def test_two_expressions_of_one_message_are_two() -> None:
    said = {"message": "see the platform's handbook"}
    both = world(
        policy(
            validations=[
                *rule("'team' in object.metadata.labels", **said),
                *rule("'cost' in object.metadata.labels", **said),
            ]
        )
    )

    assert not judged("UPDATE", labelled(database(), team="a"), labelled(database(), cost="b"), world=both).allowed
    assert judged("UPDATE", labelled(database(), team="b"), labelled(database(), team="a"), world=both).allowed


def test_who_may_rotate_can_be_said() -> None:
    old = database()
    new = annotated(old, {ROTATE: "1"})
    dba = policy(match={"operations": ["ROTATE"]}, validations=rule("'dba' in request.userInfo.groups"))

    assert not judged("UPDATE", new, old, world=world(dba)).allowed
    assert judged("UPDATE", new, old, world=world(dba), groups=["dba"]).allowed
    assert judged("UPDATE", old, old, world=world(dba)).allowed


def test_a_deletion_is_confirmed_by_name_unless_the_namespace_goes() -> None:
    confirmed = policy(deletionProtection="RequireConfirmation")

    refused = faults(judged("DELETE", database(), world=world(confirmed)))

    assert f"kubectl annotate database orders -n shop {CONFIRM_DELETE}=orders" in next(iter(refused.values()))
    assert not judged("DELETE", annotated(database(), {CONFIRM_DELETE: "other"}), world=world(confirmed)).allowed
    assert judged("DELETE", annotated(database(), {CONFIRM_DELETE: "orders"}), world=world(confirmed)).allowed
    assert judged("DELETE", database(), world=world(confirmed, _terminating=frozenset({"shop"}))).allowed


def test_a_quota_counts_what_its_policy_concerns() -> None:
    databases = [database("a"), database("b", endpoint="gold"), database("c", namespace="other")]
    gold = endpoint("gold", className="gold")
    classes = [database_class(), database_class("gold")]
    surroundings: Json = {"_databases": databases, "_endpoints": [endpoint(), gold], "_classes": classes}
    one = policy(match={"classes": ["standard"]}, quota={"perNamespace": 2})
    two = policy(match={"endpoints": ["pg"]}, quota={"perEndpoint": 2})

    assert judged("CREATE", database(), world=world(one, **surroundings)).allowed
    assert not judged("CREATE", database(), world=world(two, **surroundings)).allowed


@pytest.mark.parametrize(
    ("limit", "there", "said"),
    [
        (1, 1, 'allows 1 Database in namespace "shop", and there is 1; delete one, or ask an administrator'),
        (1, 2, 'allows 1 Database in namespace "shop", and there are 2; delete one, or ask an administrator'),
        (2, 2, 'allows 2 Databases in namespace "shop", and there are 2; delete one, or ask an administrator'),
    ],
)
def test_a_full_quota_says_how_much_there_is(limit: int, there: int, said: str) -> None:
    full = world(
        policy(quota={"perNamespace": limit}), _databases=[database(f"db-{number}") for number in range(there)]
    )

    assert faults(judged("CREATE", database(), world=full)) == {"metadata.namespace": f'DatabasePolicy "rules" {said}'}


def test_defaults_go_by_name_before_the_classs_and_after_the_users() -> None:
    params = {name: {"default": "class"} for name in ("a", "b", "c")}
    policies = [
        policy("z", params={"a": {"default": "z"}, "b": {"default": "z"}, "ghost": {"default": "z"}}),
        policy("y", params={"a": {"default": "y"}}),
    ]
    judge = Judge(world(*policies, _classes=[database_class(params=params)]))
    request = read_review(json.dumps(review("CREATE", database(params={"b": "own"}))).encode())

    added = {step["path"]: step["value"] for step in judge.mutate(request).patch if "/params/" in step["path"]}

    assert added == {"/spec/params/a": "y", "/spec/params/c": "class"}


def test_what_is_wrong_with_a_default_is_not_put_down_to_who_gave_nothing() -> None:
    classes = [database_class(params={"size": {"enum": ["small"], "default": "small"}, "tier": {"required": False}})]
    surroundings = world(policy(params={"size": {"default": "huge"}}), _classes=classes)
    given = database(params={"size": "huge"})
    defaulted = annotated(given, {DEFAULTED_PARAMS: "size"})

    said = 'is not an allowed value; allowed are "small"'
    assert faults(judged("CREATE", given, world=surroundings)) == {"spec.params.size": said}
    assert faults(judged("CREATE", defaulted, world=surroundings)) == {
        "spec.params.size": f'{said}; "huge" is the default of a policy or the class: give a value of your own'
    }


def test_what_the_engine_would_cut_short_or_not_bear_is_refused() -> None:
    surroundings = world(policy(validations=rule("object.spec.params.a == 'x'")))
    heavy = world(policy(validations=rule("object.spec.params.all(a, object.spec.params.all(b, true))")))

    cut = faults(judged("CREATE", database(params={"a": "x\0y"}), world=surroundings))
    long = faults(judged("CREATE", annotated(database(params={"a": "x"}), {"n": "x" * 140000}), world=surroundings))
    many = annotated(database(), {f"k{n}": "v" for n in range(200)})
    costly = world(
        policy(validations=rule("object.metadata.annotations.all(a, object.metadata.annotations.all(b, true))"))
    )

    assert "NUL character" in cut["spec"]
    assert "more than 131072 characters" in long["spec"]
    assert "Iteration budget exceeded" in faults(judged("CREATE", many, world=costly))["spec"]
    assert judged("CREATE", database(), world=heavy).allowed


@pytest.mark.parametrize(
    ("demands", "path", "said"),
    [
        ({}, "spec", "demands nothing"),
        (
            {"validations": rule("1 + 'a' == 2")},
            "spec.validations[0].expression",
            "line 1, column 3: found no matching",
        ),
        ({"validations": rule("ghost")}, "spec.validations[0].expression", "line 1, column 1: undeclared reference"),
        (
            {"validations": rule("authorizer.group('x') == quantity('1Gi')")},
            "spec.validations[0].expression",
            "there are object, oldObject, request, namespaceObject, class, endpoint, usage, and CEL's functions for",
        ),
        ({"validations": rule("'text'")}, "spec.validations[0].expression", "true or false is needed"),
        ({"validations": rule("true", messageExpression="1")}, "spec.validations[0].messageExpression", "a text is"),
        ({"params": {"a": {"pattern": "("}}}, "spec.params[a].pattern", "is no RE2 pattern"),
        ({"params": {"a": {"enum": ["x"], "default": "y"}}}, "spec.params[a].default", "is not among enum"),
        ({"params": {"a": {"forbidden": True, "required": True}}}, "spec.params[a]", "remove forbidden"),
        (
            {"match": {"endpoints": ["a"]}, "allowedEndpoints": ["b"]},
            "spec.allowedEndpoints",
            "every Database would be refused",
        ),
        (
            {"match": {"operations": ["CREATE"]}, "deletionProtection": "RequireConfirmation"},
            "spec.deletionProtection",
            "is about DELETE",
        ),
        ({"match": {"operations": ["UPDATE"]}, "quota": {"perNamespace": 1}}, "spec.quota", "is about CREATE"),
        (
            {"match": {"operations": ["ROTATE", "DELETE"]}, "rotation": {"maxAge": "24h"}},
            "spec.rotation",
            "is about CREATE and UPDATE",
        ),
        ({"match": {"operations": ["DELETE"]}, **SMALL}, "spec.params", "is about CREATE and UPDATE"),
        (
            {"match": {"operations": ["DELETE"]}, "deletionProtection": "Required"},
            "spec.deletionProtection",
            "is about CREATE and UPDATE",
        ),
        (
            {"match": {"operations": ["UPDATE"]}, "params": {"a": {"default": "x"}}},
            "spec.params[a].default",
            "is about CREATE",
        ),
        ({"params": {"a": {}}}, "spec.params[a]", "demands nothing"),
        (
            {"params": {"a": {"enum": ["x"], "pattern": "^y$"}}},
            "spec.params[a].enum",
            "every Database would be refused",
        ),
        (
            {"validations": rule("!has(object.spec.deletionProtectoin)")},
            "spec.validations[0].expression",
            "line 1, column 18: object.spec has no deletionProtectoin; it has deletionPolicy, deletionProtection, en",
        ),
        (
            {"validations": rule("true", messageExpression="'of ' +\n  namespaceObject.metadata.annotations.team")},
            "spec.validations[0].messageExpression",
            "line 2, column 28: namespaceObject.metadata has no annotations; it has labels, name",
        ),
        (
            {**SMALL, "match": {"namespaceSelector": {"matchLabels": {"a b": "c"}}}},
            "spec.match.namespaceSelector.matchLabels[a b]",
            "no label can have",
        ),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_when_it_is_applied(demands: Json, path: str, said: str) -> None:
    found = faults(judged("CREATE", policy(**demands)))

    assert list(found) == [path]
    assert said in found[path]


def test_what_a_policy_may_mean_otherwise_is_warned_of() -> None:
    names = {"endpoints": ["pg", "pgg"], "classes": ["standard", "standrad"]}
    params = {"size": {"pattern": "small|large"}, "tier": {"pattern": "^gold$"}}

    warned = judged("CREATE", policy(match=names, allowedEndpoints=["pg", "x", "y"], params=params)).warnings
    again = judged("UPDATE", policy(params=params), policy(params=params)).warnings

    assert warned == (
        "spec.params[size].pattern: may be found in a part of the value; begin it with ^ and end it with $",
        "spec.match.endpoints: there is no DatabaseEndpoint pgg yet",
        "spec.match.classes: there is no DatabaseClass standrad yet",
        "spec.allowedEndpoints: there is no DatabaseEndpoint x, y yet",
    )
    assert again == ()


@pytest.mark.parametrize(
    ("operations", "expression", "warned"),
    [
        (["DELETE"], "object.metadata.name != 'x'", "object, which is null in a DELETE"),
        (["CREATE", "DELETE"], "'x' == object.spec.endpoint", "object, which is null in a DELETE"),
        (["CREATE"], "oldObject.spec.endpoint == 'x'", "oldObject, which is null in a CREATE"),
        ([], "object.spec.endpoint == oldObject.spec.endpoint", "oldObject, which is null in a CREATE"),
        ([], "oldObject == null || oldObject.spec.endpoint == 'x'", ""),
        (["CREATE", "DELETE"], "request.operation == 'DELETE' || object.spec.endpoint == 'x'", ""),
        (["UPDATE", "ROTATE"], "object.spec.endpoint == oldObject.spec.endpoint", ""),
        (["DELETE"], "oldObject.metadata.name != 'object.spec'", ""),
    ],
)
def test_an_expression_that_would_refuse_every_such_request_is_warned_of(
    operations: list[str], expression: str, warned: str
) -> None:
    match = {"operations": operations} if operations else {}

    warnings = judged("CREATE", policy(match=match, validations=rule(expression))).warnings

    assert len(warnings) == bool(warned)
    assert all(w.startswith(f"spec.validations[0].expression: reads {warned}") for w in warnings)


@pytest.mark.parametrize(
    ("match", "warned"),
    [
        ({"users": ["system:serviceaccount:ci:*"]}, "users: system:serviceaccount:ci:*: a star stands for itself"),
        ({"groups": ["team-*", "ops"]}, "groups: team-*: a star stands for itself"),
        ({"users": ["system:serviceaccount:ci/bot"]}, "users: system:serviceaccount:ci/bot: is no ServiceAccount"),
        ({"users": ["system:serviceaccounts:ci"]}, "users: system:serviceaccounts:ci: is a group"),
        ({"groups": ["system:serviceaccount:ci:bot"]}, "groups: system:serviceaccount:ci:bot: is a user"),
        ({"users": ["system:serviceaccount:ci:bot", "alice"], "groups": ["system:serviceaccounts:ci"]}, ""),
    ],
)
def test_who_is_named_as_nobody_is_called_is_warned_of(match: Json, warned: str) -> None:
    """A policy that concerns nobody looks like one that is kept."""
    warnings = judged("CREATE", policy(match=match, adoption="Forbidden")).warnings

    assert len(warnings) == bool(warned)
    assert all(warning.startswith(f"spec.match.{warned}") for warning in warnings)


def test_parameters_that_the_matched_classes_do_not_take_are_warned_of() -> None:
    """Where a policy says which classes it is about; a class that takes anything is of any."""
    size = {"size": {"enum": ["small", "large"]}, "tier": {"required": False}}
    classes = [database_class(params=size), database_class("other", params={"age": {}}), database_class("any")]
    endpoints = [endpoint(), endpoint("two", className="other"), endpoint("three", className="any")]
    surroundings = world(_classes=classes, _endpoints=endpoints)

    def warned(**match: list[str]) -> tuple[str, ...]:
        params = {
            "size": {"default": "huge"},
            "siez": {"forbidden": True},
            "age": {"required": True},
            "tier": {"enum": ["gold"]},
        }
        return judged("CREATE", policy(match=match, params=params), world=surroundings).warnings

    refused = "spec.params[size].default: DatabaseClass standard refuses it; who gives no value of their own is refused"
    unknown = "which DatabaseClass standard does not know; it knows size, tier"
    assert warned(classes=["standard"]) == warned(endpoints=["pg"]) == (refused, f"spec.params[age, siez]: {unknown}")
    assert warned(classes=["standard", "other"])[1:] == (
        "spec.params[siez]: which DatabaseClass other, standard do not know; they know age, size, tier",
    )
    assert warned(endpoints=["pg", "three"]) == (refused,)
    assert warned() == ()


def test_a_parameter_whose_only_value_is_a_policys_default_has_no_other_policys() -> None:
    pinned = policy("pinned", params={"size": {"forbidden": True, "default": "small"}})
    first = policy("a", params={"size": {"default": "large"}})

    found = faults(judged("CREATE", database(params={"size": "large"}), world=world(pinned, first)))

    assert found == {"spec.params.size": 'DatabasePolicy "pinned" allows no value but its default, "small"; give that'}
    assert judged("CREATE", database(params={"size": "small"}), world=world(pinned, first)).allowed


@pytest.mark.parametrize("enforcement", ["Deny", "Warn", "Audit"])
def test_an_expression_that_takes_too_much_counts_as_violated_and_names_its_policy(enforcement: str) -> None:
    greedy = "[object.metadata.name]" + ".map(a, a + a)" * 26 + ".all(a, size(a) > 0)"
    policies = (
        policy("hungry", enforcement=enforcement, validations=rule(greedy)),
        policy("b", validations=rule("true")),
    )

    verdict = judged("CREATE", database(), world=world(*policies))
    (found,) = verdict.violations

    assert verdict.allowed == (enforcement != "Deny")
    assert found.policy == "hungry"
    assert found.message.startswith('DatabasePolicy "hungry" cannot be evaluated (it took more than')
