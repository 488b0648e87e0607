"""Who could be taken for whom: what a tenant can write so that a server takes their database for another's.

The victim has `acme` in `team-a`. Each row is an attempt from elsewhere: it meets the victim's claim and is refused
there, with nothing called. The table is printed (`pytest -s`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from api.kinds import Claim, Database, DatabaseClass, DatabaseEndpoint
from api.templates import TemplateError
from controller.observed import Namespace
from controller.plan import plan
from controller.request import Request
from controller.steps import AdoptInstance, StartOperation
from tests.controller.builders import NOW, database_class, endpoint, instance, metadata, observed, time

HOSTS = {"postgres": "pg.example.test", "mariadb": "maria.example.test", "sqlserver": "mssql.example.test"}
PORTS = {"postgres": 5432, "mariadb": 3306, "sqlserver": 1433}
PARAMETER = "{{ .Params.name }}"


class Attempt(NamedTuple):
    what: str
    name: str = "acme"
    endpoint: tuple[tuple[str, Any], ...] = ()


SAME = [
    Attempt("the same name"),
    Attempt("upper case", "ACME"),
    Attempt("an accent", "acmé"),
    Attempt("a combining accent", "acme\u0301"),
    Attempt("full-width letters", "ａｃｍｅ"),
    Attempt("trailing spaces", "acme  "),
    Attempt("a trailing no-break space", "acme\u00a0"),
    Attempt("an invisible character", "ac\u200bme"),
    Attempt("a soft hyphen", "ac\u00adme"),
    Attempt("host in upper case", endpoint=(("upper", True),)),
    Attempt("host with a trailing dot", endpoint=(("dot", True),)),
    Attempt("the default port in full", endpoint=(("port", True),)),
    Attempt("another endpoint object", endpoint=(("name", "other"),)),
]
LONG = {"postgres": "x" * 64, "mariadb": "x" * 65, "sqlserver": "x" * 129}
"""One more than an identifier may have."""
BYTES = {"postgres": "ä" * 32, "mariadb": "ä" * 65, "sqlserver": "🐘" * 65}
"""Few characters, and too long in the engine's units."""


def a_class(driver: str) -> DatabaseClass:
    named = {kind: {"name": f"{kind}_db", "inputs": {"0": PARAMETER}} for kind in ("create", "rotate", "delete")}
    return database_class(operations=named, driver=driver, identity=PARAMETER)


def an_endpoint(driver: str, **how: Any) -> DatabaseEndpoint:
    host = HOSTS[driver]
    host = host.upper() if how.get("upper") else host
    made = endpoint(host=f"{host}." if how.get("dot") else host, **({"port": PORTS[driver]} if how.get("port") else {}))
    return replace(made, metadata=replace(made.metadata, name=how.get("name", "main")))


def asks(name: str, namespace: str = "team-b", **annotations: str) -> Database:
    manifest = metadata("shop", namespace, finalizers=["dbaas.bedag.ch/database"], annotations=annotations)
    return Database.parse({"metadata": manifest, "spec": {"endpoint": "main", "params": {"name": name}}})


def claim_of(driver: str, attempt: Attempt) -> str:
    request = Request(asks(attempt.name), an_endpoint(driver, **dict(attempt.endpoint)), a_class(driver))
    return request.instance_name(request.freeze())


@pytest.mark.parametrize("driver", list(HOSTS))
def test_what_a_server_takes_for_the_victims_meets_the_victims_claim_and_calls_nothing(driver: str) -> None:
    victim = claim_of(driver, SAME[0])
    held = replace(instance("Bound"), claim=Claim("team-a", "shop", "victim"))
    for attempt in SAME:
        world = observed(
            database=asks(attempt.name, **{"dbaas.bedag.ch/adopt": "true"}),
            endpoint=an_endpoint(driver, **dict(attempt.endpoint)),
            cls=a_class(driver),
            namesake=held,
        )
        decided = plan(world, NOW)
        print(f"{driver:10} {attempt.what:28} {decided.verdict and decided.verdict.reason}")

        assert claim_of(driver, attempt) == victim, attempt.what
        assert decided.step is None, attempt.what
        assert decided.verdict is not None
        assert decided.verdict.reason == "NameTaken"


@pytest.mark.parametrize("driver", list(HOSTS))
@pytest.mark.parametrize("names", [LONG, BYTES], ids=["too long", "too long in the engine's units"])
def test_what_a_server_would_cut_is_refused(driver: str, names: dict[str, str]) -> None:
    with pytest.raises(TemplateError, match="use a shorter one"):
        claim_of(driver, Attempt("too long", names[driver]))


def test_relabelling_and_then_rotating_acts_on_what_was_claimed() -> None:
    label = '{{ .Metadata.labels.team | default "none" }}'
    named = {kind: {"name": f"{kind}_db", "inputs": {"0": label}} for kind in ("create", "rotate", "delete")}
    cls = database_class(operations=named, identity=label)
    mine = asks("acme", "team-a", **{"dbaas.bedag.ch/rotate": "now"})
    frozen = Request(mine, endpoint(), cls).freeze()
    relabelled = replace(mine, metadata=replace(mine.metadata, labels={"team": "victim"}))
    claimed = replace(
        instance("Bound", calls=frozen.calls, identity=frozen.identity),
        claim=Claim("team-a", "shop", mine.metadata.uid),
    )
    decided = plan(observed(database=relabelled, cls=cls, instance=claimed), NOW)

    assert isinstance(decided.step, StartOperation)
    assert decided.step.spec.type == "rotate"
    assert {call.arguments[0].template.literal for call in decided.step.spec.calls} == {"none"}


@pytest.mark.parametrize(
    ("what", "age", "taken"),
    [
        ("the same namespace", timedelta(hours=-1), True),
        ("a namespace deleted and made anew", timedelta(hours=1), False),
        ("a restored backup, its namespace first", timedelta(minutes=-51), True),
    ],
)
def test_what_was_retained_goes_to_its_own_namespace_only(what: str, age: timedelta, *, taken: bool) -> None:
    retained = instance("Released", uid="former")
    namespace = Namespace.parse({"metadata": metadata("team-a", creationTimestamp=time(NOW + age))})
    decided = plan(observed(namesake=retained, namespace=namespace), NOW)
    print(f"{what:40} {type(decided.step).__name__} {decided.verdict and decided.verdict.reason}")

    assert isinstance(decided.step, AdoptInstance) is taken
