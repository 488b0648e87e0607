"""What the example procedures promise on PostgreSQL beyond what they promise everywhere, on a real server."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.installation import Installation
from tests.servers.examples import OPERATOR_PASSWORD, run

pytestmark = pytest.mark.integration

MADE = "CREATE ROLE {0} NOLOGIN IN ROLE dbaas_logins; GRANT {0} TO dbaas_provisioner"
"""What creating begins with."""


@pytest.fixture
def installation(postgresql_installation: Installation) -> Installation:
    return postgresql_installation


def test_deleting_takes_database_and_login_away_whoever_is_connected(installation: Installation) -> None:
    result = installation.call("create", "crowded")
    with installation.logged_in(result) as connection:
        installation.call("delete", "crowded")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    assert installation.present("crowded") == []
    installation.call("delete", "crowded")
    assert installation.call("create", "crowded")["password"] not in ("", result["password"])


@pytest.mark.parametrize(
    "interrupted",
    [
        MADE,
        "CREATE DATABASE {0} OWNER {0} ALLOW_CONNECTIONS false",
    ],
)
def test_a_create_that_was_interrupted_is_completed_by_the_next(installation: Installation, interrupted: str) -> None:
    name = f"half_{len(interrupted)}"
    for step in dict.fromkeys([MADE, interrupted]):
        # As the functions do it.
        statement = f"SET ROLE dbaas_owner; SELECT dbaas_internal.execute('{step.format(name)}')"
        installation.server.execute(statement, database="dbaas")
    result = installation.call("create", name)

    installation.logged_in(result).close()


def test_a_login_survives_an_upgrade_to_a_server_on_which_createrole_alone_alters_no_role(
    installation: Installation,
) -> None:
    """PostgreSQL 16 and later want the ADMIN OPTION, which pg_upgrade brings along if it was there before."""
    installation.call("create", "of_today")
    installation.server.execute(MADE.format("of_before"))
    before = _altered_by_the_provisioner(installation)
    run(installation.server)

    assert "of_today" in before
    assert "of_before" not in before
    assert "of_before" in _altered_by_the_provisioner(installation)
    installation.logged_in(installation.call("create", "of_before")).close()
    installation.call("delete", "of_before")


def _altered_by_the_provisioner(installation: Installation) -> list[str]:
    rows = installation.server.execute(
        "SELECT DISTINCT roleid::regrole::text FROM pg_auth_members"
        " WHERE admin_option AND member = 'dbaas_provisioner'::regrole"
    )
    return [role for (role,) in rows]


def test_a_delete_that_was_interrupted_is_completed_by_the_next(installation: Installation) -> None:
    installation.call("create", "half_gone")
    installation.server.execute("ALTER ROLE half_gone NOLOGIN")
    installation.server.execute("DROP DATABASE half_gone")
    installation.call("delete", "half_gone")

    assert installation.present("half_gone") == []


def test_an_owner_cannot_keep_a_database_from_being_deleted(installation: Installation) -> None:
    result = installation.call("create", "clingy")
    with installation.logged_in(result) as connection:
        connection.execute("ALTER DATABASE clingy IS_TEMPLATE true")
        installation.call("delete", "clingy")

    assert installation.present("clingy") == []


def test_the_operator_may_do_nothing_but_call_the_three(installation: Installation) -> None:
    forbidden = [
        "CREATE DATABASE x",
        "CREATE ROLE x",
        "CREATE SCHEMA x",
        "CREATE TABLE public.x (a integer)",
        "CREATE TEMPORARY TABLE x (a integer)",
        "SET ROLE dbaas_owner",
        "SET ROLE dbaas_provisioner",
        "SELECT dbaas_internal.execute('CREATE ROLE x')",
        "SELECT dbaas_internal.new_password()",
        "SELECT dbaas_internal.dblink_connect('dbaas_loopback')",
        "SELECT umoptions FROM pg_user_mapping",
        "ALTER FUNCTION dbaas.create_database(text) SECURITY INVOKER",
        "CREATE FUNCTION dbaas.x() RETURNS text LANGUAGE sql AS 'SELECT 1'",
    ]
    with installation.as_operator() as connection:
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        [options] = connection.execute("SELECT umoptions FROM pg_user_mappings").fetchall()

    assert options == (None,)


def test_a_made_login_may_not_call_them_nor_create_anything_elsewhere(installation: Installation) -> None:
    result = installation.call("create", "plain_user")
    [flags] = installation.server.execute(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s",
        [result["username"]],
    )

    assert flags == (False, False, False, False, False)
    assert installation.server.execute(
        "SELECT has_function_privilege(%s, 'dbaas.delete_database(text)', 'EXECUTE'),"
        " has_schema_privilege(%s, 'dbaas', 'USAGE')",
        [result["username"]] * 2,
        database="dbaas",
    ) == [(False, False)]


def test_no_password_stands_in_a_source_nor_does_the_installation_log_one(installation: Installation) -> None:
    created = installation.call("create", "silent")
    sources = installation.server.execute(
        "SELECT coalesce(string_agg(prosrc, ''), '') FROM pg_proc"
        " WHERE pronamespace IN ('dbaas'::regnamespace, 'dbaas_internal'::regnamespace)",
        database="dbaas",
    )[0][0]
    [options] = installation.server.execute("SELECT umoptions FROM pg_user_mappings", database="dbaas")
    secrets = [option.partition("=")[2] for option in options[0] if option.startswith("password=")]
    log = installation.server.log.read_text()

    assert "create_database" in log
    assert len(secrets) == 1
    for secret in (created["password"], *secrets, OPERATOR_PASSWORD, OPERATOR_PASSWORD.replace("'", "''")):
        assert secret not in log + sources
