"""Credentials that get lost are found again; those of a database that was there before are nobody's to have."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from api.labels import ADOPT
from api.resources import SECRETS
from tests.e2e.cluster import Cluster, eventually
from tests.e2e.examples import Examples
from tests.e2e.scene import Applied

ROTATE = {"name": "dbaas.rotate_database", "inputs": {"k8s_name": "{{ .Metadata.namespace }}_{{ .Metadata.name }}"}}

STRICT = """
CREATE OR REPLACE FUNCTION dbaas.create_strictly(k8s_name text) RETURNS TABLE (key text, value text) LANGUAGE plpgsql
AS $$ BEGIN
    IF EXISTS (SELECT FROM pg_database WHERE datname = k8s_name) THEN
        RAISE duplicate_database USING MESSAGE = format('%s is taken', k8s_name);
    END IF;
    RETURN QUERY SELECT * FROM dbaas.create_database(k8s_name);
END $$;
GRANT EXECUTE ON FUNCTION dbaas.create_strictly TO dbaas_operator
"""


def complete(database: Applied, old: dict[str, str]) -> dict[str, str] | None:
    """Its Secret, once it is whole again."""
    found = database.secret() or {}
    return found if found.keys() == old.keys() and found["password"] not in ("", old["password"]) else None


@pytest.mark.parametrize(
    "left",
    [None, {"data": None}, {"data": {"password": None}}, {"data": {"password": ""}}],
    ids=["deleted", "emptied", "without its password", "with an empty password"],
)
def test_a_secret_that_somebody_destroyed_is_there_again(
    cluster: Cluster, examples: Examples, left: dict[str, Any] | None
) -> None:
    """With a password that works: the one that is lost is reset, because the database is this Database's own."""
    shop = examples.apply("shop")
    first = shop.wait_ready()
    if left is None:
        cluster.delete(SECRETS, shop.secret_name, shop.namespace)
    else:
        cluster.patch(SECRETS, shop.secret_name, left, shop.namespace)
    second = eventually(lambda: complete(shop, first), "the Secret is whole again")

    assert examples.site.login(second) == (first["username"], first["database"])
    assert examples.site.refuses(first)
    assert shop.requested() == ["create", "create", "rotate"]
    assert shop.requests()[1]["status"]["reason"] == "CredentialsLost"
    assert shop.wait_ready() == second


def test_keys_that_users_add_to_a_secret_stay(cluster: Cluster, examples: Examples) -> None:
    shop = examples.apply("shop")
    first = shop.wait_ready()
    cluster.patch(SECRETS, shop.secret_name, {"stringData": {"theirs": "mine"}}, shop.namespace)
    secret = shop.rotate()

    assert secret["theirs"] == "mine"
    assert secret["password"] != first["password"]


def test_lost_credentials_without_a_rotate_operation_say_what_to_do(cluster: Cluster, examples: Examples) -> None:
    """And are recovered at once when the class gets one."""
    examples.change_class(operations={"rotate": None})
    shop = examples.apply("shop")
    first = shop.wait_ready()
    cluster.delete(SECRETS, shop.secret_name, shop.namespace)
    condition = shop.wait_reason("CredentialsLost")

    assert "have them reset so that the procedure returns them" in condition["message"]
    assert shop.condition("Stalled")["status"] == "True"
    assert examples.site.login(first)[0] == first["username"]

    examples.change_class(operations={"rotate": ROTATE})
    second = eventually(lambda: complete(shop, first), "the Secret is there again")
    assert examples.site.login(second)[0] == first["username"]
    assert shop.wait_ready() == second


@pytest.fixture
def legacy(examples: Examples) -> dict[str, str]:
    """A database that a DBA has made by hand: its credentials."""
    name = f"{examples.scene.namespace}_legacy"
    rows: list[Any] = examples.scene.dbms.server.execute(
        "SELECT * FROM dbaas.create_database(%s)", [name], database="dbaas"
    )
    return {**dict(rows), "host": examples.site.host, "port": str(examples.site.port)}


def test_a_database_that_was_there_before_is_nobodys(examples: Examples, legacy: dict[str, str]) -> None:
    """Neither its password nor its end."""
    database = examples.apply("legacy")
    condition = database.wait_reason("AlreadyExists")

    assert "the database existed before this Database asked for it" in condition["message"]
    assert f'{ADOPT}: "true"' in condition["message"]
    assert database.secret() is None
    assert database.condition("Stalled")["status"] == "True"

    database.delete_and_wait()
    assert database.requested() == ["create"]
    assert examples.site.login(legacy) == (legacy["username"], legacy["database"])


def test_a_create_that_refuses_what_is_there_takes_nothing_away(examples: Examples, legacy: dict[str, str]) -> None:
    """It was called, and failed; what the deletion would drop was there before."""
    examples.scene.dbms.server.execute(STRICT, database="dbaas")
    examples.change_class(operations={"create": {"name": "dbaas.create_strictly"}})
    database = examples.apply("legacy")
    condition = database.wait_reason("AlreadyExists")

    assert "is taken" in condition["message"]

    database.delete_and_wait()
    assert database.requested() == ["create"]
    assert examples.site.login(legacy) == (legacy["username"], legacy["database"])


def test_a_database_that_was_there_before_is_taken_over_by_whoever_may(
    cluster: Cluster, examples: Examples, legacy: dict[str, str]
) -> None:
    """At once, with its data and with another password; it is the Database's own from then on."""
    with psycopg.connect(
        host=examples.site.address,
        port=examples.site.port,
        user=legacy["username"],
        password=legacy["password"],
        dbname=legacy["database"],
    ) as connection:
        connection.execute("CREATE TABLE kept (a integer)")
    database = examples.apply("legacy")
    database.wait_reason("AlreadyExists")
    cluster.kubectl("annotate", "database", "legacy", "-n", database.namespace, f"{ADOPT}=true")
    secret = database.wait_ready()

    assert examples.site.login(secret) == (legacy["username"], legacy["database"])
    assert examples.site.refuses(legacy)
    assert database.operations()[-1]["spec"]["type"] == "rotate"
    tables = "SELECT 1 FROM pg_tables WHERE tablename = 'kept'"
    assert examples.scene.dbms.server.execute(tables, database=legacy["database"]) == [(1,)]

    database.delete_and_wait()
    assert legacy["database"] not in examples.scene.dbms.databases() | examples.scene.dbms.roles()
