"""What docs/rights.md and docs/auditor.md say of rights is what the chart grants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from tests.chart.apiserver import render
from tests.docs.pages import Page, page

Right = tuple[str, str, str, str]
"""What grants it, resource, the one name that it is for or "", verb."""


@cache
def objects() -> tuple[dict[str, Any], ...]:
    """What the chart renders without values."""
    return tuple(document for document in yaml.safe_load_all(render(values={})) if document)


def granted() -> Iterator[Right]:
    for role in objects():
        if role["kind"] in ("ClusterRole", "Role"):
            for rule in role["rules"]:
                yield from rights(
                    f"{role['kind']} {role['metadata']['name']}",
                    rule["resources"],
                    rule.get("resourceNames") or [""],
                    rule["verbs"],
                )


def told(page: Page) -> Iterator[Right]:
    for source, *cells in page.rows("granted by"):
        resources, names, verbs = (re.findall("`([^`]+)`", cell) for cell in cells)
        yield from rights(source.replace("`", ""), resources, names or [""], verbs)


def rights(source: str, resources: list[str], names: list[str], verbs: list[str]) -> Iterator[Right]:
    yield from ((source, resource, name, verb) for resource in resources for name in names for verb in verbs)


def test_the_page_has_every_right_that_the_chart_grants_and_no_other() -> None:
    said = list(told(page("docs/rights.md")))

    assert len(said) == len(set(said))
    assert set(said) == set(granted())


def test_no_program_has_a_verb_that_its_client_never_says() -> None:
    """`kube.client.Client` patches; it replaces nothing, and deletes no collections."""
    programs = ("dbaas-controller", "dbaas-webhook", "dbaas-jobs")
    verbs = {verb for source, _, _, verb in granted() if source.split()[1].startswith(programs)}

    assert verbs <= {"get", "list", "watch", "create", "patch", "delete", "bind", "escalate"}


def test_an_auditor_has_the_rights_that_the_commands_of_their_page_take() -> None:
    """kubectl reads the object whose logs it is to show, then its Pods; with a selector the Pods alone."""
    guide = page("docs/auditor.md")
    commands = [*guide.spans(), *(line for block in guide.blocks("console") for line in block.splitlines())]
    read = {resource for source, resource, _, verb in granted() if source.endswith("dbaas-auditor") and verb == "get"}
    owners = {found[1] for command in commands if (found := re.search(r" logs (?:-\S+ )*(\w+)/", command))}

    assert owners
    assert {"pods", "pods/log", *(f"{owner}s" for owner in owners)} <= read


def test_every_webhook_that_leaves_annotations_in_the_audit_log_is_named() -> None:
    """The API server puts the webhook's own name before each key."""
    called = {
        webhook["name"]
        for configuration in objects()
        if configuration["kind"].endswith("WebhookConfiguration")
        for webhook in configuration["webhooks"]
    }
    named = set(re.findall(r"`([a-z.]+\.dbaas\.bedag\.ch)/", page("docs/auditor.md").text))

    assert named == called
