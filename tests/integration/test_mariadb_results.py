"""What counts as a result of MariaDB's, and what of a failure is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from tests.integration.caller import Caller
from tests.integration.mariadb_site import MariaDBSchema, links

pytestmark = pytest.mark.integration

PAIR = "SELECT 'made' AS `key`, 'yes' AS `value`"
SEQUENCE = "FROM seq_1_to_{}"


@pytest.mark.parametrize(
    "columns",
    [
        "concat('k', seq) AS `key`, concat('v', seq) AS `value`",
        "concat('k', seq) AS `KEY`, concat('v', seq) AS `Value`",
        "concat('v', seq) AS `value`, concat('k', seq) AS `key`",
    ],
)
def test_rows_of_key_and_value_are_read_in_any_case_and_order(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, columns: str
) -> None:
    mariadb_schema.procedure("p()", f"SELECT {columns} FROM seq_1_to_3")

    assert mariadb_call("p") == {"k1": "v1", "k2": "v2", "k3": "v3"}


def test_one_row_of_any_columns_is_read(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure(
        "p()",
        """DECLARE tls tinyint(1) DEFAULT true; DECLARE flags bit(12) DEFAULT b'100000001'; DECLARE padded char(9)
             DEFAULT 'p'; DECLARE raw varbinary(9) DEFAULT 'ab'; DECLARE size decimal(10,3) DEFAULT 1.5;
           DECLARE since date DEFAULT '2026-11-21'; DECLARE moment datetime(3) DEFAULT '2026-11-21 10:00:00.5';
           DECLARE id uuid DEFAULT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'; DECLARE net inet6 DEFAULT '::1';
           DECLARE pick enum('x','y') DEFAULT 'y'; DECLARE latin varchar(9) CHARACTER SET latin1 DEFAULT 'é';
           DECLARE big bigint unsigned DEFAULT 18446744073709551615; DECLARE half double DEFAULT 0.1;
           SELECT 'u' AS username, 3306 AS port, tls, flags, padded, raw, size, since AS `Since`, moment, id, net, pick,
                  latin, big, half, JSON_OBJECT('a', 1) AS extra, '🐘' AS elephant""",
    )

    assert mariadb_call("p") == {
        "username": "u",
        "port": "3306",
        "tls": "1",
        "flags": "257",
        "padded": "p",
        "raw": "0x6162",
        "size": "1.500",
        "Since": "2026-11-21",
        "moment": "2026-11-21 10:00:00.500",
        "id": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "net": "::1",
        "pick": "y",
        "latin": "é",
        "big": "18446744073709551615",
        "half": "0.1",
        "extra": '{"a": 1}',
        "elephant": "🐘",
    }


def test_null_is_empty(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p()", "SELECT 'a' AS `key`, NULL AS `value` UNION ALL SELECT 'b', ''")
    mariadb_schema.procedure("q()", "SELECT NULL AS a, CAST(NULL AS binary) AS b")

    assert mariadb_call("p") == {"a": "", "b": ""}
    assert mariadb_call("q") == {"a": "", "b": ""}


def test_the_last_result_set_with_columns_counts(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.define("CREATE TABLE log (line text)")
    mariadb_schema.procedure(
        "p()", f"SELECT 1, 2, 3; SELECT 's3cret' AS a, 'b' AS b; {PAIR}; INSERT INTO log VALUES (1)"
    )

    assert mariadb_call("p") == {"made": "yes"}


def test_an_error_after_the_result_set_discards_it(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p()", f"{PAIR}; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'and then it failed'")
    failure = mariadb_call.refusal("p")

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.message == f"{mariadb_schema.name}.p: and then it failed"
    assert mariadb_call.refusal("p", returns=False).reason is Reason.PROCEDURE_FAILED


def test_an_error_amid_the_rows_discards_them(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.define(
        "CREATE FUNCTION f(n int) RETURNS text BEGIN IF n = 3 THEN SIGNAL SQLSTATE '45000'; END IF; RETURN n; END"
    )
    mariadb_schema.procedure("p()", "SELECT seq AS `key`, f(seq) AS `value` FROM seq_1_to_3")

    assert mariadb_call.refusal("p").code == "1644"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 's3cret' AS a, 's3cret' AS b FROM seq_1_to_2", "2 rows of columns a, b"),
        ("SELECT 'x' AS a FROM seq_1_to_2 WHERE false", "0 rows of columns a"),
        ("SELECT 'x' AS `key`, 'x' AS `value` FROM seq_1_to_2 WHERE false", "0 rows of columns key, value"),
        ("SELECT 'a' AS `key`, 's3cret' AS `value` FROM seq_1_to_2", "row 2 has the same key as row 1"),
        ("SELECT NULL AS `key`, 's3cret' AS `value`", "row 1 has no key"),
        ("SELECT 's3cret' AS a, 's3cret' AS a", "columns need distinct names"),
        ("SELECT seq AS `key`, 's3cret' AS `value` FROM seq_1_to_5000", "5000 rows of columns key, value"),
        ("DO 1", "returned nothing"),
    ],
)
def test_another_shape_is_told_with_columns_and_counts_and_never_a_value(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, query: str, told: str
) -> None:
    mariadb_schema.procedure("p()", query)
    failure = mariadb_call.refusal("p")

    assert failure.reason is Reason.RESULT_INVALID
    assert told in failure.message
    assert "s3cret" not in failure.message
    assert mariadb_call("p", returns=False) == {}


def test_out_and_inout_parameters_join_the_last_result(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure(
        "p(name varchar(20), OUT username text, INOUT size int, OUT `made at` date, OUT ok boolean, OUT gone text)",
        "SET username = CONCAT(name, '_ü'), size = size + 1, `made at` = '2026-11-21', ok = true;"
        " SELECT 'not this' AS a UNION SELECT 'nor this'; SELECT 1 AS `also this`",
    )

    assert mariadb_call("p", "shop", "41") == {
        "username": "shop_ü", "size": "42", "made at": "2026-11-21", "ok": "1", "gone": "", "also this": "1",
    }  # fmt: skip
    assert mariadb_call("p", "shop", "41", returns=False) == {}


def test_what_may_be_silent_may_return_nothing(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p()", "DO 1")
    mariadb_schema.procedure("q()", PAIR)

    assert [mariadb_call(name, silent=True) for name in ("p", "q")] == [{}, {"made": "yes"}]


def test_a_status_parameter_takes_no_row_of_the_result_away(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.procedure("p(OUT status int)", f"{PAIR}; SET status = 0")

    assert mariadb_call("p") == {"made": "yes", "status": "0"}


@pytest.mark.parametrize("beginning", ["START TRANSACTION", "SET autocommit = 0"])
def test_what_a_procedure_did_stays_done_although_it_does_not_commit(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, beginning: str
) -> None:
    mariadb_schema.define("CREATE TABLE made (name varchar(9))")
    mariadb_schema.procedure("p()", f"{beginning}; INSERT INTO made VALUES ('shop'); {PAIR}")
    mariadb_schema.procedure("q()", f"{beginning}; DELETE FROM made")
    rows = f"SELECT name FROM {mariadb_schema.name}.made"

    assert mariadb_call("p") == {"made": "yes"}
    assert mariadb_schema.server.execute(rows) == [("shop",)]
    assert mariadb_call("q", returns=False) == {}
    assert mariadb_schema.server.execute(rows) == []


def test_what_a_failing_procedure_did_is_undone(
    open_mariadb_session: Callable[[], Session], mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.define("CREATE TABLE made (name varchar(9))")
    mariadb_schema.procedure("p()", "START TRANSACTION; INSERT INTO made VALUES ('shop'); SIGNAL SQLSTATE '45000'")
    session = open_mariadb_session()
    Caller(session, mariadb_schema).refusal("p")
    session.close()

    assert mariadb_schema.server.execute(f"SELECT name FROM {mariadb_schema.name}.made") == []


@pytest.mark.parametrize(
    ("signal", "code"),
    [
        ("SIGNAL SQLSTATE '02000' SET MESSAGE_TEXT = 'no such team'", "1643"),
        ("SIGNAL SQLSTATE '42000' SET MESSAGE_TEXT = 'no such team', MYSQL_ERRNO = 30001", "30001"),
        ("SIGNAL SQLSTATE 'HY000' SET MESSAGE_TEXT = 'no such team', MYSQL_ERRNO = 50001", "50001"),
        ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no such team', MYSQL_ERRNO = 65534", "65534"),
    ],
)
def test_a_number_of_the_procedures_own_is_told_with_its_text(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, signal: str, code: str
) -> None:
    """Numbers go to 65535, and PyMySQL reads those above 32767 as negative."""
    mariadb_schema.procedure("p()", signal)
    failure = mariadb_call.refusal("p")

    assert (failure.reason, failure.code) == (Reason.PROCEDURE_FAILED, code)
    assert failure.message == f"{mariadb_schema.name}.p: no such team"


def test_a_signal_is_told_by_its_text_alone(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure(
        "p()", "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'quota of team exceeded', MYSQL_ERRNO = 5001"
    )
    failure = mariadb_call.refusal("p")

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.code == "5001"
    assert failure.message == f"{mariadb_schema.name}.p: quota of team exceeded"
    assert failure.retryable


@pytest.mark.parametrize(
    "body",
    [
        "EXECUTE IMMEDIATE 'CREATE USER ''s3cret'' IDENTIFIED BY ''s3cret'' s3cret'",
        "SELECT * FROM s3cret_table",
        "CALL s3cret()",
        "INSERT INTO once VALUES ('s3cret'); INSERT INTO once VALUES ('s3cret')",
        "SET @n = CAST('s3cret' AS int); INSERT INTO numbers VALUES ('s3cret')",
        "CREATE USER operator IDENTIFIED BY 's3cret'",
    ],
)
def test_what_the_server_quotes_of_a_failing_body_is_not_told(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, body: str
) -> None:
    mariadb_schema.define("CREATE TABLE once (a varchar(9) PRIMARY KEY)", "CREATE TABLE numbers (a int)")
    mariadb_schema.procedure("p()", body)
    failure = mariadb_call.refusal("p")

    assert failure.reason is (Reason.ALREADY_EXISTS if failure.code == "1396" else Reason.PROCEDURE_FAILED)
    assert failure.code in failure.message
    assert "s3cret" not in "".join(f"{one!r}{one}{vars(one)}" for one in links(failure))


def test_an_error_is_told_by_number_name_and_state(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p()", "SELECT * FROM absent")

    assert mariadb_call.refusal("p").message == (
        f"{mariadb_schema.name}.p: something that it uses does not exist: "
        "the server reports error 1146 (ER_NO_SUCH_TABLE), SQLSTATE 42S02"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("CALL missing_procedure()", Reason.PROCEDURE_FAILED),
        ("SELECT * FROM missing_table", Reason.PROCEDURE_FAILED),
        ("CALL q(1, 2)", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1142", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1370", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '22007' SET MYSQL_ERRNO = 1366", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213", Reason.DEADLOCK),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205", Reason.LOCK_TIMEOUT),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114", Reason.RESOURCES_EXHAUSTED),
        ("SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1203", Reason.TOO_MANY_CONNECTIONS),
        ("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290", Reason.SERVER_NOT_READY),
        ("SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1969", Reason.PROCEDURE_FAILED),
    ],
)
def test_an_error_inside_the_body_has_its_own_reason(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, body: str, reason: Reason
) -> None:
    """A procedure that misses something is not itself missing; one that may not do something may itself be called."""
    mariadb_schema.procedure("q(a int)", "DO 1")
    mariadb_schema.procedure("p()", body)
    failure = mariadb_call.refusal("p")

    assert failure.reason is reason
    assert failure.retryable


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("EXECUTE IMMEDIATE 'CREATE DATABASE test'", Reason.ALREADY_EXISTS),
        ("EXECUTE IMMEDIATE 'CREATE USER operator'", Reason.ALREADY_EXISTS),
        ("EXECUTE IMMEDIATE 'DROP USER nobody_at_all'", Reason.PROCEDURE_FAILED),
        ("EXECUTE IMMEDIATE 'DROP DATABASE nowhere'", Reason.PROCEDURE_FAILED),
        ("SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1007, MESSAGE_TEXT = 'taken'", Reason.ALREADY_EXISTS),
    ],
)
def test_a_database_or_an_account_that_is_there_already_is_told_apart(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, body: str, reason: Reason
) -> None:
    mariadb_schema.define("CREATE DATABASE IF NOT EXISTS test")
    mariadb_schema.procedure("p()", body)

    assert mariadb_call.refusal("p").reason is reason


def test_a_long_message_is_cut(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure(
        "p()", "DECLARE m text DEFAULT repeat('long ', 100); SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = m"
    )

    assert len(mariadb_call.refusal("p").message) < 600


def test_a_session_goes_on_after_a_failure(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p()", "SIGNAL SQLSTATE '45000'")
    mariadb_schema.procedure("q()", PAIR)
    mariadb_call.refusal("p")

    assert mariadb_call("q") == {"made": "yes"}
