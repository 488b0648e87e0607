"""The example procedures for MariaDB do what they say: each promise of theirs, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymysql
import pytest
import yaml

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure, Result, Session
from provisioner_job.errors import Failure
from tests.integration.conftest import Pki
from tests.integration.mariadb_site import MariaDBSite
from tests.servers.mariadb import MariaDB

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples" / "mariadb"
PROCEDURES = EXAMPLES / "procedures.sql"
OPERATOR_PASSWORD = "the operator's \\ own"


@dataclass(frozen=True)
class Installation:
    """A server with the examples installed as a DBA would."""

    server: MariaDB
    operator: MariaDBSite
    session: Session = field(repr=False)

    def call(self, operation: str, name: str) -> Result:
        arguments = (Argument("0", name),)
        return self.session.call(
            Procedure(f"dbaas.{operation}_database", arguments, timedelta(seconds=20), operation != "delete")
        )

    def refusal(self, operation: str, name: str) -> Failure:
        with pytest.raises(Failure) as caught:
            self.call(operation, name)
        return caught.value

    def logged_in(self, result: Result, database: str | None = None, **options: Any) -> pymysql.Connection[Any]:
        secure = {"ssl_ca": str(self.operator.authority.file), "ssl_verify_cert": True, "ssl_verify_identity": True}
        return pymysql.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=result["username"],
            password=result["password"],
            database=database or result.get("database"),
            autocommit=True,
            **(options or secure),
        )

    def exists(self, name: str) -> tuple[int, int]:
        """How many databases and accounts there are of this name."""
        [row] = self.server.execute(
            "SELECT (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s),"
            " (SELECT COUNT(*) FROM mysql.global_priv WHERE User = %s)",
            [name, name],
        )
        return row[0], row[1]


@pytest.fixture(scope="module")
def installation(pki: Pki) -> Iterator[Installation]:
    with MariaDB.temporary(log_statements=True) as server:
        server.start(pki.good)
        server.client(PROCEDURES, variables={"operator_password": OPERATOR_PASSWORD})
        operator = MariaDBSite(server, pki.authority, pki.stranger, pki.good, "dbaas_operator", OPERATOR_PASSWORD)
        session = operator.connect(database="dbaas")
        yield Installation(server, operator, session)
        session.close()


def test_a_created_database_can_be_used_by_its_login_alone(installation: Installation) -> None:
    result = installation.call("create", "shop_orders")
    with installation.logged_in(result) as connection, connection.cursor() as cursor:
        for statement in (
            "CREATE TABLE t (a integer PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO t VALUES (1)",
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE PROCEDURE p() SELECT * FROM v",
            "CALL p()",
        ):
            cursor.execute(statement)
        cursor.fetchall()
        cursor.execute("SELECT SUBSTRING_INDEX(USER(), '@', 1), DATABASE(), @@character_set_database")
        rows = cursor.fetchall()

    assert set(result) == {"username", "password", "database"}
    assert len(result["password"]) >= 32
    assert rows == (("shop_orders", "shop_orders", "utf8mb4"),)
    installation.call("create", "shop_invoices")
    for database in ("shop_invoices", "dbaas", "mysql", "sys"):
        with pytest.raises(pymysql.OperationalError, match="1044"):
            installation.logged_in(result, database)


def test_an_underscore_is_no_wildcard(installation: Installation) -> None:
    """Or the login of `team_a_db` could enter `team-a_db`, and make databases called `teamxaxdb`."""
    result = installation.call("create", "team_a_db")
    installation.call("create", "team-a_db")
    with pytest.raises(pymysql.OperationalError, match="1044"):
        installation.logged_in(result, "team-a_db")
    with (
        installation.logged_in(result) as connection,
        connection.cursor() as cursor,
        pytest.raises(pymysql.OperationalError, match="1044"),
    ):
        cursor.execute("CREATE DATABASE teamxa_db")


def test_a_login_without_tls_is_refused(installation: Installation) -> None:
    result = installation.call("create", "in_clear")
    with pytest.raises(pymysql.OperationalError, match="1045"):
        installation.logged_in(result, ssl_disabled=True)
    assert installation.operator.refusal(tls_mode="Disabled").reason is Reason.CREDENTIALS_REFUSED


def test_creating_again_returns_the_same_with_an_empty_password(installation: Installation) -> None:
    first = installation.call("create", "again_db")
    second = installation.call("create", "again_db")

    assert second == {**first, "password": ""}
    installation.logged_in(first).close()


def test_rotating_refuses_the_old_password_and_create_leaves_the_new_one(installation: Installation) -> None:
    first = installation.call("create", "turning_db")
    with installation.logged_in(first) as open_before, open_before.cursor() as cursor:
        rotated = installation.call("rotate", "turning_db")
        cursor.execute("SELECT 1")
    again = installation.call("create", "turning_db")

    assert rotated["password"] not in ("", first["password"])
    assert again["password"] == ""
    installation.logged_in({**first, **rotated}).close()
    with pytest.raises(pymysql.OperationalError, match="1045"):
        installation.logged_in(first)


def test_deleting_takes_database_and_login_away_whoever_is_connected(installation: Installation) -> None:
    result = installation.call("create", "doomed_db")
    connection = installation.logged_in(result)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a integer) ENGINE=InnoDB")
        cursor.execute("START TRANSACTION")
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("LOCK TABLES t WRITE")
        installation.call("delete", "doomed_db")
        with pytest.raises(pymysql.Error):
            cursor.execute("SELECT 1")

    assert installation.exists("doomed_db") == (0, 0)
    installation.call("delete", "doomed_db")
    assert installation.call("create", "doomed_db")["password"] not in ("", result["password"])


@pytest.mark.parametrize("name", ["mysql", "dbaas", "root", "dbaas_owner", "dbaas_operator", "own_db", "absent_db", ""])
def test_what_was_not_made_here_is_not_deleted_rotated_or_handed_out(installation: Installation, name: str) -> None:
    installation.server.execute("CREATE DATABASE IF NOT EXISTS own_db")
    before = installation.exists(name)
    installation.call("delete", name)
    failure = installation.refusal("rotate", name)

    assert installation.exists(name) == before
    assert failure.reason is Reason.PROCEDURE_FAILED
    if any(before) or not name:
        assert installation.refusal("create", name).reason is Reason.PROCEDURE_FAILED


@pytest.mark.parametrize(
    "name",
    ["a_b; DROP DATABASE dbaas", "a_`b", "a_'b", "Upper_db", "a_" + "x" * 62, "-a_b", "a_b\n", "a_b ", "nounderscore",
     "a_%", "a_b\\", "é_b", "_b", "a_"],
)  # fmt: skip
def test_names_that_could_be_misread_are_refused(installation: Installation, name: str) -> None:
    failure = installation.refusal("create", name)

    assert failure.code == "1644"
    assert "up to 64 characters" in failure.message
    installation.call("delete", name)
    assert installation.refusal("rotate", name).reason is Reason.PROCEDURE_FAILED


@pytest.mark.parametrize("name", ["team-a_db.v2", "0start_0", "a_" + "x" * 61, "select_from", "a_b_c-d"])
def test_every_kubernetes_name_works(installation: Installation, name: str) -> None:
    result = installation.call("create", name)
    installation.logged_in(result).close()
    installation.call("delete", name)

    assert installation.exists(name) == (0, 0)


@pytest.mark.parametrize("done", range(1, 5))
def test_a_create_that_was_interrupted_is_completed_by_the_next(installation: Installation, done: int) -> None:
    name = f"half_{done}"
    steps = [
        f"INSERT INTO dbaas.made (name) VALUES ('{name}')",
        f"CREATE DATABASE `{name}`",
        f"CREATE USER `{name}`@`%` REQUIRE SSL ACCOUNT LOCK",
        f"ALTER USER `{name}`@`%` IDENTIFIED BY 'lost' ACCOUNT UNLOCK",
    ]
    for step in steps[:done]:
        installation.server.execute(step)

    installation.logged_in(installation.call("create", name)).close()


@pytest.mark.parametrize("done", range(1, 4))
def test_a_delete_that_was_interrupted_is_completed_by_the_next(installation: Installation, done: int) -> None:
    name = f"gone_{done}"
    installation.call("create", name)
    steps = [f"ALTER USER `{name}`@`%` ACCOUNT LOCK", f"DROP DATABASE `{name}`", f"DROP USER `{name}`@`%`"]
    for step in steps[:done]:
        installation.server.execute(step)
    installation.call("delete", name)

    assert installation.exists(name) == (0, 0)
    assert installation.server.execute("SELECT * FROM dbaas.made WHERE name = %s", [name]) == []


def test_a_login_that_dropped_its_own_database_is_deleted_all_the_same(installation: Installation) -> None:
    result = installation.call("create", "clingy_db")
    with installation.logged_in(result) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE clingy_db")
        installation.call("delete", "clingy_db")

    assert installation.exists("clingy_db") == (0, 0)


FORBIDDEN = [
    "CREATE DATABASE x_y",
    "CREATE USER x",
    "CREATE TABLE dbaas.x (a integer)",
    "SELECT * FROM dbaas.made",
    "SELECT dbaas.new_password()",
    "CALL dbaas.hold('x')",
    "SELECT * FROM mysql.global_priv",
    "ALTER PROCEDURE dbaas.create_database SQL SECURITY INVOKER",
    "DROP PROCEDURE dbaas.create_database",
    "CREATE PROCEDURE dbaas.x() SELECT 1",
    "GRANT EXECUTE ON PROCEDURE dbaas.create_database TO root@localhost",
    "SET GLOBAL general_log = 0",
]


def test_the_operator_may_do_nothing_but_call_the_three(installation: Installation) -> None:
    account = {"username": "dbaas_operator", "password": OPERATOR_PASSWORD}
    with installation.logged_in(account) as connection, connection.cursor() as cursor:
        for statement in FORBIDDEN:
            with pytest.raises(pymysql.Error, match=r"\((1044|1045|1142|1227|1370|1410),"):
                cursor.execute(statement)
        cursor.execute("SHOW PROCEDURE STATUS WHERE Db = 'dbaas'")
        visible = {row[1] for row in cursor.fetchall()}
        cursor.execute("SHOW CREATE PROCEDURE dbaas.create_database")
        [source] = cursor.fetchall()

    assert visible == {"create_database", "rotate_database", "delete_database"}
    assert source[2] is None


def test_a_made_login_may_not_call_them_nor_do_anything_elsewhere(installation: Installation) -> None:
    result = installation.call("create", "plain_user")
    with installation.logged_in(result) as connection, connection.cursor() as cursor:
        for statement in [*FORBIDDEN, "CALL dbaas.delete_database('shop_orders')"]:
            with pytest.raises(pymysql.Error, match=r"\((1044|1045|1142|1227|1370|1410),"):
                cursor.execute(statement)
        cursor.execute("SHOW GRANTS")
        grants = [row[0] for row in cursor.fetchall()]

    assert [grant for grant in grants if "ON *.*" in grant and not grant.startswith("GRANT USAGE")] == []
    assert len(grants) == 2


def test_nobody_logs_in_as_the_owner_who_may_do_nothing_in_the_servers_own_schemas(installation: Installation) -> None:
    with pytest.raises(pymysql.OperationalError):
        installation.logged_in({"username": "dbaas_owner", "password": ""})
    grants = [row[0] for row in installation.server.execute("SHOW GRANTS FOR dbaas_owner@localhost")]
    locked = installation.server.execute(
        "SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 'dbaas_owner'"
    )

    assert [grant.partition(" ON ")[0] for grant in grants if "ON *.*" in grant] == [
        "GRANT CREATE USER, CONNECTION ADMIN"
    ]
    assert locked == [("1",)]


def test_no_password_stands_in_the_log_or_in_a_source(installation: Installation) -> None:
    created = installation.call("create", "quiet_db")
    rotated = installation.call("rotate", "quiet_db")
    sources = "".join(
        row[0]
        for row in installation.server.execute(
            "SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'dbaas'"
        )
    )
    log = installation.server.statements.read_text(errors="replace") + installation.server.log.read_text()

    assert "create_database" in log
    for secret in (created["password"], rotated["password"]):
        assert secret not in log + sources
        assert secret.encode().hex() not in log + sources
    # The tests set the variable in a statement of its own, before the file; what the file does with it stays out.
    assert "verifier(@operator_password)" not in log


def test_installing_again_keeps_what_exists(installation: Installation) -> None:
    result = installation.call("create", "survivor_db")
    installation.server.client(PROCEDURES)

    installation.logged_in(result).close()
    again = replace(installation, session=installation.operator.connect(database="dbaas"))
    assert again.call("create", "survivor_db")["password"] == ""
    assert again.call("rotate", "survivor_db")["password"]
    again.session.close()


def test_calls_for_one_name_at_the_same_time_make_one_database(installation: Installation) -> None:
    sessions = [installation.operator.connect() for _ in range(3)]
    results: list[Result] = []
    threads = [
        threading.Thread(
            target=lambda one=session: results.append(replace(installation, session=one).call("create", "contended_db"))
        )
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.close()

    passwords = sorted(result["password"] for result in results)
    assert passwords[:2] == ["", ""]
    assert passwords[2]


def test_the_class_gives_a_service_binding_of_the_servers_kind() -> None:
    [manifest] = yaml.safe_load_all((EXAMPLES / "class.yaml").read_text())
    keys = manifest["spec"]["secretFormat"]

    assert keys["type"] == "mariadb"
    assert {"type", "provider", "host", "port", "username", "password", "database", "uri"} == set(keys)
