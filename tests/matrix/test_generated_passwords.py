"""Passwords that the operator generates: one for each request, whatever becomes of its Jobs, and kept nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from api.resources import CLASSES, SECRETS
from tests.e2e.cluster import OPERATOR
from tests.matrix.engines import RealEngine
from tests.matrix.estate import Applied, Estate
from tests.servers.examples import ACCOUNT, DATABASE
from tests.servers.postgresql import PostgreSQL

pytestmark = pytest.mark.integration

NAME = "generated"
PROCEDURES = f"""
    CREATE SCHEMA {NAME};
    CREATE TABLE {NAME}.given (number serial, operation text, name text, password text);
    CREATE TABLE {NAME}.logins (name text PRIMARY KEY, password text);
    CREATE FUNCTION {NAME}.set(name text, password text) RETURNS TABLE (key text, value text)
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO {NAME}.given (operation, name, password) VALUES ('set', $1, $2);
        INSERT INTO {NAME}.logins VALUES ($1, $2) ON CONFLICT ON CONSTRAINT logins_pkey DO UPDATE SET password = $2;
        RETURN QUERY VALUES ('username', $1);
    END $$;
    CREATE FUNCTION {NAME}.drop(name text) RETURNS void LANGUAGE sql SECURITY DEFINER
    AS $$ DELETE FROM {NAME}.logins l WHERE l.name = $1 $$;
    GRANT USAGE ON SCHEMA {NAME} TO {ACCOUNT};
"""
IDENTITY = "{{ .Metadata.namespace }}_{{ .Metadata.name }}"
PASSWORD = "{{ .Generated.password }}"


@pytest.fixture(scope="module")
def server(estate: Estate) -> PostgreSQL:
    """With procedures that are told which password to set."""
    [server] = [
        engine.server
        for engine in estate.engines
        if isinstance(engine, RealEngine) and isinstance(engine.server, PostgreSQL)
    ]
    server.execute(PROCEDURES, database=DATABASE)
    sets: dict[str, Any] = {"name": f"{NAME}.set", "inputs": {"name": IDENTITY, "password": PASSWORD}, "timeout": "20s"}
    drops = {"name": f"{NAME}.drop", "inputs": {"name": IDENTITY}, "timeout": "20s"}
    spec = {
        "driver": "postgres",
        "identity": IDENTITY,
        "operations": {"create": sets, "rotate": sets, "delete": drops},
        "secretFormat": {
            "username": "{{ .Result.username }}",
            "password": PASSWORD,
            "dsn": "postgresql://{{ .Result.username }}:{{ .Generated.password | urlquery }}@{{ .Endpoint.host }}/",
        },
        "retry": {"limit": 20, "backoff": "1s"},
    }
    estate.client.create(CLASSES, {"metadata": {"name": NAME}, "spec": spec})
    return server


def given(server: PostgreSQL, database: Applied) -> list[str]:
    """The passwords that the procedure was called with, each once, in their order."""
    query = f"SELECT password FROM {NAME}.given WHERE name = %s ORDER BY number"
    return [*dict.fromkeys(word for (word,) in server.execute(query, [database.identity], database=DATABASE))]


def stored(server: PostgreSQL, database: Applied) -> list[str]:
    query = f"SELECT password FROM {NAME}.logins WHERE name = %s"
    return [word for (word,) in server.execute(query, [database.identity], database=DATABASE)]


def kept(estate: Estate) -> list[str]:
    """The Secrets of the operator's namespace that carry a password of a request under way."""
    secrets, _ = estate.client.list(SECRETS, namespace=OPERATOR)
    return [each["metadata"]["name"] for each in secrets if [*(each.get("data") or ())] == ["password"]]


def test_every_attempt_of_a_request_has_the_same_password_and_every_request_another(
    estate: Estate, server: PostgreSQL
) -> None:
    """Each Job is killed when the server has the call, and does not live to write the Secret."""
    engine = next(e for e in estate.engines if isinstance(e, RealEngine) and e.server is server)
    database = estate.prepare(engine, NAME)
    # The first request looks the procedure up.
    estate.moments[database.key("create")] = {"asked 2": lambda: kill(estate, database, "create")}
    database.again()
    database.wait_settled("create")
    [first] = given(server, database)

    assert [operation["spec"]["attempt"] for operation in database.operations()][:2] == [1, 2]
    secret = database.secret() or {}
    assert secret["password"] == first == stored(server, database)[0]
    assert first in secret["dsn"]
    assert kept(estate) == []

    estate.moments[database.key("rotate")] = {"asked 2": lambda: kill(estate, database, "rotate")}
    database.rotate()
    database.wait_settled("rotate")
    passwords = given(server, database)

    assert passwords[0] == first
    assert (database.secret() or {})["password"] == passwords[-1] == stored(server, database)[0] != first
    assert kept(estate) == []

    database.delete()
    database.wait_gone()
    assert stored(server, database) == []
    database.line.close()


def kill(estate: Estate, database: Applied, kind: str) -> None:
    """End the process that has just sent its call; the server goes on with it."""
    process = estate.journeys[database.key(kind)][-1].process
    assert process is not None
    process.kill()
