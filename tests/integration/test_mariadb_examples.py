"""What the example procedures promise on MariaDB beyond what they promise everywhere, on a real server."""

from __future__ import annotations

import pymysql
import pytest

from api.reasons import Reason
from provisioner_job.drivers import load
from provisioner_job.errors import Failure
from tests.integration.installation import Installation
from tests.servers.logins import LoginRefused

pytestmark = pytest.mark.integration


@pytest.fixture
def installation(mariadb_installation: Installation) -> Installation:
    return mariadb_installation


def test_a_login_may_do_all_in_its_database(installation: Installation) -> None:
    result = installation.call("create", "shop_stock")
    with installation.logged_in(result) as connection, connection.cursor() as cursor:
        for statement in (
            "CREATE TABLE t (a integer PRIMARY KEY) ENGINE=InnoDB",
            "INSERT INTO t VALUES (1)",
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE PROCEDURE p() SELECT * FROM v",
            "CALL p()",
        ):
            cursor.execute(statement)
        rows = cursor.fetchall()
        cursor.execute("SELECT @@character_set_database")
        [characters] = cursor.fetchall()

    assert rows == ((1,),)
    assert characters == ("utf8mb4",)
    for database in ("mysql", "sys"):
        with pytest.raises(LoginRefused, match="1044"):
            installation.logged_in(result, database)


def test_an_underscore_is_no_wildcard(installation: Installation) -> None:
    """Or the login of `team_a_db` could enter `team-a_db`, and make databases called `teamxaxdb`."""
    result = installation.call("create", "team_a_db")
    installation.call("create", "team-a_db")
    with pytest.raises(LoginRefused, match="1044"):
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
        pymysql.connect(
            host="127.0.0.1",
            port=installation.server.port,
            user=result["username"],
            password=result["password"],
            ssl_disabled=True,
        )
    in_clear = installation.login._replace(server=installation.login.server._replace(tls_mode="Disabled"))
    with pytest.raises(Failure) as caught:
        load("mariadb")(in_clear).close()
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED


def test_deleting_takes_database_and_login_away_whoever_is_connected(installation: Installation) -> None:
    result = installation.call("create", "crowded_db")
    connection = installation.logged_in(result)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a integer) ENGINE=InnoDB")
        cursor.execute("START TRANSACTION")
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("LOCK TABLES t WRITE")
        installation.call("delete", "crowded_db")
        with pytest.raises(pymysql.Error):
            cursor.execute("SELECT 1")

    assert installation.present("crowded_db") == []
    installation.call("delete", "crowded_db")
    assert installation.call("create", "crowded_db")["password"] not in ("", result["password"])


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

    assert installation.present(name) == []
    assert installation.server.execute("SELECT * FROM dbaas.made WHERE name = %s", [name]) == []


def test_a_login_that_dropped_its_own_database_is_deleted_all_the_same(installation: Installation) -> None:
    result = installation.call("create", "clingy_db")
    with installation.logged_in(result) as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE clingy_db")
        installation.call("delete", "clingy_db")

    assert installation.present("clingy_db") == []


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
    with installation.as_operator() as connection, connection.cursor() as cursor:
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
    with pytest.raises(LoginRefused):
        installation.logged_in({"username": "dbaas_owner", "password": "", "database": "dbaas"})
    grants = [row[0] for row in installation.server.execute("SHOW GRANTS FOR dbaas_owner@localhost")]
    [(made,)] = installation.server.execute("SHOW CREATE USER dbaas_owner@localhost")
    everywhere = [grant.partition(" ON ")[0] for grant in grants if "ON *.*" in grant]

    # MySQL lists its newer rights apart, and its PROCESSLIST shows others' sessions only to who has PROCESS.
    assert everywhere in (
        ["GRANT CREATE USER, CONNECTION ADMIN"],
        ["GRANT PROCESS, CREATE USER", "GRANT CONNECTION_ADMIN"],
    )
    assert "ACCOUNT LOCK" in made


def test_no_password_stands_in_a_source_nor_does_the_installation_log_one(installation: Installation) -> None:
    created = installation.call("create", "silent_db")
    sources = "".join(
        row[0]
        for row in installation.server.execute(
            "SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'dbaas'"
        )
    )

    assert "IDENTIFIED " in sources
    assert created["password"] not in sources
    assert created["password"].encode().hex() not in sources
    # The tests set the variable in a statement of its own, before the file; what the file does with it stays out.
    log = installation.server.statements.read_text(errors="replace")
    assert "verifier(@operator_password)" not in log
    assert "QUOTE(@operator_password)" not in log
