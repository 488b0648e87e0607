"""Secrets that somebody destroyed, wholly or in part: whole again, with credentials that work, and once only."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from api.binding import secret_name
from api.labels import RETRY
from api.resources import DATABASES, ROLES, SECRETS
from tests.e2e.cluster import eventually
from tests.e2e.proxy import Asked, Fault, Gate
from tests.matrix.engines import Engine
from tests.matrix.estate import NAMESPACE, Applied, Estate

pytestmark = pytest.mark.integration

Deed = Callable[[Applied], object]


def deleted(database: Applied) -> None:
    database.estate.client.delete(SECRETS, secret_name(database.name), namespace=NAMESPACE)


def bereft(*keys: str, value: str | None) -> Deed:
    """Takes keys out, or leaves them without a value."""

    def deed(database: Applied) -> None:
        patch = {"data": dict.fromkeys(keys, value)}
        database.estate.client.patch(SECRETS, secret_name(database.name), patch, namespace=NAMESPACE)

    return deed


def without_its_role(database: Applied) -> None:
    """The controller can look no more then, and Kubernetes collects what belongs to the Role."""
    client, instance = database.estate.client, ((database.get() or {})["status"])["instance"]
    client.delete(ROLES, instance, namespace=NAMESPACE)
    eventually(lambda: database.secret() is None, "the Secret was collected")


DEEDS: dict[str, Deed] = {
    "deleted": deleted,
    "password taken out": bereft("password", value=None),
    "password emptied": bereft("password", value=""),
    "what has the password in it emptied": bereft("uri", value=""),
    "what the server tells again taken out": bereft("host", "username", value=None),
    "without its Role": without_its_role,
}


class Looks(Gate):
    """Counts the controller's looks at the Secret of one Database."""

    def __init__(self, database: Applied) -> None:
        self._secret = SECRETS.path(secret_name(database.name), namespace=NAMESPACE)
        self.answers: list[int] = []

    def answered(self, asked: Asked, status: int) -> Fault | None:
        """How the API server answered."""
        if (asked.method, asked.target.partition("?")[0]) == ("GET", self._secret):
            self.answers.append(status)
        return None


def look(database: Applied, value: str) -> None:
    """Ask for a look now: the rounds take an hour."""
    patch = {"metadata": {"annotations": {RETRY: value}}}
    database.estate.client.patch(DATABASES, database.name, patch, namespace=NAMESPACE)


def whole(database: Applied, engine: Engine, keys: set[str]) -> bool:
    secret = database.secret() or {}
    assert {key for key, value in secret.items() if value} == keys, database.describe()
    assert engine.refuses(secret) == ""
    assert database.ready, database.describe()
    return True


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_a_secret_that_somebody_destroyed_is_whole_again_when_asked_for(
    estate: Estate, chance: random.Random, deed: Deed
) -> None:
    engine = chance.choice(estate.engines)
    database = estate.apply(engine)
    database.wait_settled("create")
    keys = {key for key, value in (database.secret() or {}).items() if value}
    deed(database)
    look(database, "1")
    eventually(lambda: whole(database, engine, keys), "the Secret is whole again")
    database.wait_settled("create")
    mended = [(each["spec"]["type"], each["spec"]["request"]) for each in database.operations()]

    assert mended[1] == ("create", "missing-secret")
    assert mended[2:] in ([], [("rotate", "recovery")])

    # Nothing is missed any more: asked once again, it is looked at, and nothing follows.
    estate.way.gate = gate = Looks(database)
    try:
        look(database, "2")
        # Perhaps twice: a round may pass by.
        eventually(lambda: 200 in gate.answers, "it was looked at")
    finally:
        estate.way.gate = Gate()
    database.delete()
    database.wait_gone()
    assert [each["spec"]["type"] for each in database.operations()] == [kind for kind, _ in mended] + ["delete"]
    database.line.close()


def test_who_asked_while_no_controller_ran_is_served_by_the_next(estate: Estate, chance: random.Random) -> None:
    """One of them it would see at once in its first round, the other in an hour."""
    engine = chance.choice(estate.engines)
    databases = [estate.apply(engine) for _ in range(2)]
    for database in databases:
        database.wait_settled("create")
    keys = set(databases[0].secret() or {})
    estate.controller.kill()
    try:
        for database in databases:
            deleted(database)
            look(database, "now")
    finally:
        estate.controller.start()
    for database in databases:
        eventually(lambda one=database: whole(one, engine, keys), "the Secret is whole again")  # type: ignore[misc]
        database.wait_settled("create")
        database.delete()
        database.wait_gone()
        database.line.close()


def test_a_secret_that_a_backup_brought_back_goes_with_its_database(estate: Estate, chance: random.Random) -> None:
    """Backup tools restore no owner references, so that Kubernetes would collect it with nothing."""
    engine = chance.choice(estate.engines)
    database = estate.apply(engine)
    database.wait_settled("create")
    name = secret_name(database.name)
    saved = estate.client.get(SECRETS, name, namespace=NAMESPACE)
    estate.client.delete(SECRETS, name, namespace=NAMESPACE)
    told = {key: saved["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    estate.client.create(SECRETS, {"metadata": told, "type": saved["type"], "data": saved["data"]})
    database.rotate()
    database.wait_settled("rotate")
    database.delete()
    database.wait_gone()
    database.line.close()
