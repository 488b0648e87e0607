"""What a probe is told of a procedure: whether it is there, and who may execute it."""

from __future__ import annotations

import pytest

from api.probe import Inspection
from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from provisioner_job.errors import Failure
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.postgresql_site import Schema
from tests.integration.sqlserver_site import SqlServerSite
from tests.integration.tds.procedures import Event

pytestmark = pytest.mark.integration


def missing(session: Session, name: str) -> str:
    """The message about a procedure that is not there."""
    with pytest.raises(Failure) as caught:
        session.inspect(name)
    assert caught.value.reason is Reason.PROCEDURE_MISSING
    return caught.value.message


# PostgreSQL


@pytest.fixture
def closed(schema: Schema) -> Schema:
    """A schema with a function that nobody but its owner may execute."""
    schema.function("make(name text) RETURNS text", "SELECT name", "sql")
    schema.define("REVOKE EXECUTE ON FUNCTION make FROM PUBLIC")
    return schema


def test_postgresql_tells_what_the_account_may_execute(session: Session, closed: Schema) -> None:
    before = session.inspect(f"{closed.name}.make")
    closed.define("GRANT EXECUTE ON FUNCTION make TO operator")
    after = session.inspect(f"{closed.name}.make")

    assert (before.found, before.callable, before.public) == (True, False, False)
    assert f"may not call {closed.name}.make(name text); GRANT EXECUTE on it" in before.message
    assert after == Inspection(found=True, callable=True, public=False)


def test_postgresql_tells_what_everybody_may_execute_and_how_to_end_it(session: Session, closed: Schema) -> None:
    """A new function is PUBLIC's until somebody revokes it; where PUBLIC may not use the schema it does not count."""
    closed.define("GRANT EXECUTE ON FUNCTION make TO PUBLIC")
    hidden = session.inspect(f"{closed.name}.make")
    closed.define(f"GRANT USAGE ON SCHEMA {closed.name} TO PUBLIC")
    public = session.inspect(f"{closed.name}.make")
    statement = public.message.partition("; ")[2]
    closed.define(statement)

    assert hidden.public is False
    assert public.public is True
    assert statement == f'REVOKE EXECUTE ON ROUTINE "{closed.name}"."make"(text) FROM PUBLIC'
    assert session.inspect(f"{closed.name}.make").public is False


def test_postgresql_says_what_is_not_there(session: Session, closed: Schema) -> None:
    assert "there is" not in missing(session, f"{closed.name}.nothing_like_it")
    assert "no procedure name of PostgreSQL" in missing(session, "a b")


# MariaDB


@pytest.mark.parametrize(
    ("grant", "revoke"),
    [
        ("PROCEDURE {0}.make", "PROCEDURE `{0}`.`make`"),
        ("{0}.*", "`{0}`.*"),
        ("`test\\_%`.*", "`test\\_%`.*"),
        ("*.*", "*.*"),
    ],
)
def test_mariadb_tells_what_everybody_may_execute_and_how_to_end_it(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema, grant: str, revoke: str
) -> None:
    mariadb_schema.procedure("make(name text)", "SELECT name")
    mariadb_schema.procedure("make_up()", "SELECT 1")
    mariadb.server.execute(f"GRANT EXECUTE ON PROCEDURE {mariadb_schema.name}.make_up TO PUBLIC")
    session, name = mariadb.connect(), f"{mariadb_schema.name}.make"
    private = session.inspect(name)
    mariadb.server.execute(f"GRANT EXECUTE ON {grant.format(mariadb_schema.name)} TO PUBLIC")
    public = session.inspect(name)
    statement = public.message.partition("; ")[2]
    mariadb.server.execute(statement)
    after = session.inspect(name)
    mariadb.server.execute(f"REVOKE EXECUTE ON PROCEDURE {mariadb_schema.name}.make_up FROM PUBLIC")
    session.close()

    assert private == after == Inspection(found=True, callable=None, public=False)
    assert public.public is True
    assert statement == f"REVOKE EXECUTE ON {revoke.format(mariadb_schema.name)} FROM PUBLIC"


def test_mariadb_says_what_is_not_there_or_no_procedure(mariadb: MariaDBSite, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.define("CREATE FUNCTION counted() RETURNS int RETURN 1")
    session = mariadb.connect()
    function = session.inspect(f"{mariadb_schema.name}.counted")
    message = missing(session, f"{mariadb_schema.name}.nothing")
    session.close()

    assert (function.found, function.callable) == (False, False)
    assert "is a function, not a procedure" in function.message
    assert "does not exist, or the endpoint's account may not execute it" in message


# SQL Server


def nothing(_: object) -> list[Event]:
    return []


def test_sql_server_tells_what_the_account_and_everybody_may_execute(misbehaving: SqlServerSite) -> None:
    world = misbehaving.world
    world.define("dbaas", "make", "@name sysname", nothing)
    world.define("dbaas", "closed", "@name sysname", nothing, executable=False)
    world.define("dbaas", "f", "", nothing, kind="FN")
    session = misbehaving.connect()
    mine, closed, function = (session.inspect(f"dbaas.{name}") for name in ("make", "closed", "f"))
    world.grant_to_public("dbaas", "make", "1", "3", "0")
    public = session.inspect("make")
    message = missing(session, "dbaas.maek")
    session.close()

    assert mine == Inspection(found=True, callable=True, public=False)
    assert (closed.found, closed.callable, closed.public) == (True, False, False)
    assert "GRANT EXECUTE" in closed.message
    assert function.found is False
    assert public.public is True
    assert public.message.partition("; ")[2] == (
        "REVOKE EXECUTE FROM public; REVOKE EXECUTE ON [dbaas].[make] FROM public; "
        "REVOKE EXECUTE ON SCHEMA::[dbaas] FROM public"
    )
    assert "there is dbaas.make" in message
