"""DatabasePolicies as users meet them: kubectl's own words, from a webhook that a real API server calls."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.labels import CONFIRM_DELETE
from tests.chart.apiserver import running_api_server
from tests.integration.test_webhook_admission import Kubectl, bare, wait_until_called
from tests.webhook.builders import CREATE, DELETE, database_class, endpoint, policy
from tests.webhook.running import eventually, install, running_webhook

pytestmark = pytest.mark.integration

GOLDEN = Path(__file__).parent / "golden"
Json = dict[str, Any]
ROTATING = {"create": CREATE, "rotate": CREATE, "delete": DELETE}


def policies() -> list[Json]:
    """One of each sort, by name."""
    return [
        policy(
            "naming",
            validations=[
                {
                    "expression": "object.metadata.name.matches('^[a-z]+$')",
                    "messageExpression": "'asks for a name of letters only, not ' + object.metadata.name",
                    "fieldPath": "metadata.name",
                }
            ],
        ),
        policy("places", allowedEndpoints=["pg"]),
        policy("sizes", params={"size": {"enum": ["small", "large"], "default": "small"}}),
        policy("production", rotation={"maxAge": "720h"}, enforcement="Warn"),
        policy("confirmed", deletionProtection="RequireConfirmation"),
        policy("few", match={"endpoints": ["pg"]}, quota={"perNamespace": 2}),
    ]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with running_api_server() as server:
        install(server, "shop")
        with running_webhook(server, tmp_path_factory.mktemp("webhook")) as webhook:
            wait_until_called(webhook)
            kubectl = Kubectl(server)
            for manifest in (
                database_class(operations=ROTATING),
                endpoint(),
                endpoint("other", host="other.example.test"),
                *policies(),
            ):
                done = kubectl.apply(manifest)
                assert done.returncode == 0, done.stderr
            # The webhook hears of the last policy as the first ones: wait until it acts upon all.
            probe = ["create", "-f", "-", "--dry-run=server"]
            said = [""]

            def known() -> bool:
                said[0] = kubectl(*probe, stdin=bare("no-1", endpoint="other", params={"size": "huge"})).stderr
                return all(f'"{name}"' in said[0] for name in ("naming", "places", "sizes"))

            eventually(known, lambda: said[0])
            yield kubectl


def golden(name: str, said: str) -> None:
    """Compare with the file; `UPDATE_GOLDEN=1` writes it anew."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(said)

    assert said == file.read_text()


def test_every_violation_is_printed_with_field_policy_and_cure(kubectl: Kubectl) -> None:
    manifest = bare("no-1", endpoint="other", params={"size": "huge"})

    golden("policy-refused", kubectl("apply", "-f", "-", stdin=manifest).stderr)


def test_a_policy_that_does_not_compile_is_printed_with_its_column(kubectl: Kubectl) -> None:
    broken = policy("broken", validations=[{"expression": "object.x +\n  1 + 'a' == 2"}, {"expression": "ghost"}])

    golden("policy-broken", kubectl("apply", "-f", "-", stdin=broken).stderr)


def test_expressions_see_the_annotations_of_endpoint_and_class(kubectl: Kubectl) -> None:
    closed = "!('example.com/closed' in {each}.metadata.?annotations.orValue({{}}))"
    rules = [{"expression": closed.format(each=each), "message": f"{each} is closed"} for each in ("endpoint", "class")]
    kubectl.apply(policy("open", match={"operations": ["CREATE"]}, validations=rules))
    said = [""]

    def refused(*closed: str) -> bool:
        said[0] = kubectl("create", "-f", "-", "--dry-run=server", stdin=bare("late")).stderr
        return [each for each in ("class", "endpoint") if f"{each} is closed" in said[0]] == [*closed]

    for kind, name, known in (("dbe", "pg", ["endpoint"]), ("dbc", "standard", ["class", "endpoint"])):
        done = kubectl("annotate", kind, name, "example.com/closed=yes", namespace="")
        assert done.returncode == 0, done.stderr
        eventually(lambda known=known: refused(*known), lambda: said[0])  # type: ignore[misc]
    kubectl("annotate", "dbe,dbc", "--all", "example.com/closed-", namespace="")

    eventually(refused, lambda: said[0])


def test_a_database_is_defaulted_warned_of_counted_and_deleted_when_confirmed(kubectl: Kubectl) -> None:
    dry = kubectl("create", "-f", "-", "--dry-run=server", stdin=bare("orders"), user="alice")
    created = kubectl("apply", "-f", "-", stdin=bare("orders"), user="alice")
    kubectl.apply(bare("bills"))
    over: list[str] = []

    def full() -> bool:
        done = kubectl("create", "-f", "-", "--dry-run=server", stdin=bare("more"))
        over[:] = [done.stderr]
        return done.returncode != 0

    eventually(full)
    again = kubectl("replace", "-f", "-", stdin=bare("orders"))
    refused = kubectl("delete", "database", "orders", "--wait=false")
    kubectl("annotate", "database", "orders", f"{CONFIRM_DELETE}=orders")
    deleted = kubectl("delete", "database", "orders", "--wait=false")

    assert kubectl.get("database", "bills")["spec"]["params"] == {"size": "small"}
    golden("policy-dry-run", dry.stderr)
    golden("policy-warned", created.stderr)
    golden("policy-quota", over[0])
    golden("policy-unconfirmed", refused.stderr)
    assert (again.returncode, deleted.returncode) == (0, 0), again.stderr + deleted.stderr
