"""The example procedures do what the README says: each promise of theirs, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Login, Procedure, Result, Session
from provisioner_job.errors import Failure
from tests.integration.conftest import Pki, Site, connect
from tests.servers.postgresql import PostgreSQL

pytestmark = pytest.mark.integration

PROCEDURES = Path(__file__).parents[2] / "examples" / "postgresql" / "procedures.sql"
OPERATOR_PASSWORD = "the operator's own"


@dataclass(frozen=True)
class Installation:
    """A server with the examples installed as a DBA would."""

    server: PostgreSQL
    pki: Pki
    session: Session = field(repr=False)

    def call(self, operation: str, name: str) -> Result:
        arguments = (Argument("k8s_name", name),)
        return self.session.call(
            Procedure(f"dbaas.{operation}_database", arguments, timedelta(seconds=20), operation != "delete")
        )

    def refusal(self, operation: str, name: str) -> Failure:
        with pytest.raises(Failure) as caught:
            self.call(operation, name)
        return caught.value

    def logged_in(self, result: Result, database: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=result["username"],
            password=result["password"],
            dbname=database or result["database"],
            sslmode="verify-full",
            sslrootcert=str(self.pki.authority.file),
            autocommit=True,
        )

    def exists(self, name: str) -> tuple[bool, bool]:
        """Whether there is such a database, and such a role."""
        [row] = self.server.execute(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s),"
            " EXISTS (SELECT FROM pg_roles WHERE rolname = %s)",
            [name, name],
        )
        return row[0], row[1]


def operator_login(server: PostgreSQL, pki: Pki) -> Login:
    return Site(server, pki, "dbaas_operator", OPERATOR_PASSWORD).login(database="dbaas")


@pytest.fixture(scope="module")
def installation(pki: Pki) -> Iterator[Installation]:
    with PostgreSQL.temporary(log_statements=True) as server:
        server.start(pki.good)
        server.execute("CREATE DATABASE dbaas")
        variables = {"operator_password": OPERATOR_PASSWORD}
        server.psql(PROCEDURES, database="dbaas", variables=variables)
        session = connect(operator_login(server, pki))
        yield Installation(server, pki, session)
        session.close()


def test_a_created_database_can_be_used_by_its_login_alone(installation: Installation) -> None:
    result = installation.call("create", "shop_orders")
    with installation.logged_in(result) as connection:
        connection.execute("CREATE TABLE t (a integer)")
        rows = connection.execute("SELECT current_user, current_database()").fetchall()

    assert set(result) == {"username", "password", "database"}
    assert len(result["password"]) >= 32
    assert rows == [("shop_orders", "shop_orders")]
    other = installation.call("create", "shop_invoices")
    for database in ("shop_invoices", "dbaas"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            installation.logged_in(result, database)
    installation.logged_in(other).close()


def test_creating_again_returns_the_same_with_an_empty_password(installation: Installation) -> None:
    first = installation.call("create", "again_db")
    second = installation.call("create", "again_db")

    assert second == {**first, "password": ""}
    installation.logged_in(first).close()


def test_rotating_refuses_the_old_password_and_create_leaves_the_new_one(installation: Installation) -> None:
    first = installation.call("create", "turning")
    rotated = installation.call("rotate", "turning")
    again = installation.call("create", "turning")

    assert rotated["password"] not in ("", first["password"])
    assert again["password"] == ""
    installation.logged_in({**first, **rotated}).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        installation.logged_in(first)


def test_deleting_takes_database_and_login_away_whoever_is_connected(installation: Installation) -> None:
    result = installation.call("create", "doomed")
    with installation.logged_in(result) as connection:
        installation.call("delete", "doomed")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    assert installation.exists("doomed") == (False, False)
    installation.call("delete", "doomed")
    assert installation.call("create", "doomed")["password"] not in ("", result["password"])


@pytest.mark.parametrize("name", ["postgres", "dbaas", "dbaas_provisioner", "dbaas_logins", "absent", "template1", ""])
def test_what_was_not_made_here_is_not_deleted_rotated_or_handed_out(installation: Installation, name: str) -> None:
    before = installation.exists(name)
    installation.call("delete", name)
    failure = installation.refusal("rotate", name)

    assert installation.exists(name) == before
    assert failure.reason is Reason.PROCEDURE_FAILED
    if any(before) or not name:
        assert installation.refusal("create", name).reason is Reason.PROCEDURE_FAILED


@pytest.mark.parametrize("name", ["a; DROP DATABASE dbaas", 'a"b', "a'b", "Upper", "x" * 64, "-a", "a\nb", "a\n"])
def test_names_that_could_be_misread_are_refused(installation: Installation, name: str) -> None:
    failure = installation.refusal("create", name)

    assert failure.code == "42602"
    assert installation.exists(name) == (False, False)


@pytest.mark.parametrize("name", ["team-a_db.v2", "0start", "x" * 63, "select"])
def test_every_kubernetes_name_works(installation: Installation, name: str) -> None:
    result = installation.call("create", name)
    installation.logged_in(result).close()
    installation.call("delete", name)

    assert installation.exists(name) == (False, False)


@pytest.mark.parametrize(
    "interrupted",
    [
        "CREATE ROLE {0} NOLOGIN IN ROLE dbaas_logins; GRANT {0} TO dbaas_provisioner",
        "CREATE DATABASE {0} OWNER {0} ALLOW_CONNECTIONS false",
    ],
)
def test_a_create_that_was_interrupted_is_completed_by_the_next(installation: Installation, interrupted: str) -> None:
    name = f"half_{len(interrupted)}"
    steps = ["CREATE ROLE {0} NOLOGIN IN ROLE dbaas_logins; GRANT {0} TO dbaas_provisioner"]
    for step in dict.fromkeys([*steps, interrupted]):
        installation.server.execute(step.format(name))
    result = installation.call("create", name)

    installation.logged_in(result).close()


def test_a_delete_that_was_interrupted_is_completed_by_the_next(installation: Installation) -> None:
    installation.call("create", "half_gone")
    installation.server.execute("ALTER ROLE half_gone NOLOGIN")
    installation.server.execute("DROP DATABASE half_gone")
    installation.call("delete", "half_gone")

    assert installation.exists("half_gone") == (False, False)


def test_an_owner_cannot_keep_a_database_from_being_deleted(installation: Installation) -> None:
    result = installation.call("create", "clingy")
    with installation.logged_in(result) as connection:
        connection.execute("ALTER DATABASE clingy IS_TEMPLATE true")
        installation.call("delete", "clingy")

    assert installation.exists("clingy") == (False, False)


def test_the_operator_may_do_nothing_but_call_the_three(installation: Installation) -> None:
    connection = psycopg.connect(
        host="127.0.0.1",
        port=installation.server.port,
        user="dbaas_operator",
        password=OPERATOR_PASSWORD,
        dbname="dbaas",
        autocommit=True,
    )
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
    with connection:
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


def test_no_password_stands_in_the_log_or_in_a_source(installation: Installation) -> None:
    created = installation.call("create", "quiet")
    rotated = installation.call("rotate", "quiet")
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
    for secret in (created["password"], rotated["password"], *secrets, OPERATOR_PASSWORD):
        assert secret not in log + sources


def test_installing_again_keeps_what_exists(installation: Installation) -> None:
    result = installation.call("create", "survivor")
    installation.server.psql(PROCEDURES, database="dbaas")

    installation.logged_in(result).close()
    assert installation.call("create", "survivor")["password"] == ""
    assert installation.call("rotate", "survivor")["password"]


def test_calls_for_one_name_at_the_same_time_make_one_database(installation: Installation) -> None:
    sessions = [connect(operator_login(installation.server, installation.pki)) for _ in range(2)]
    contenders = [replace(installation, session=session) for session in sessions]
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda one=one: results.append(one.call("create", "contended"))) for one in contenders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.close()

    passwords = sorted(result["password"] for result in results)
    assert passwords[0] == ""
    assert passwords[1]
