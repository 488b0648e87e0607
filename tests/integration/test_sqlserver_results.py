"""What a procedure of SQL Server returns, whatever stands in front of it, between it and behind it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from api.reasons import Reason
from tests.integration.caller import Caller
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Assigned, Counted, Event, Gone, Printed, Raised, Returned, Rows, Script

pytestmark = pytest.mark.integration

PAIRS = {"key": "nvarchar(128)", "value": "nvarchar(max)"}


def events(*given: Event) -> Script:
    def script(_: Mapping[str, Any]) -> Iterator[Event]:
        yield from given

    return script


def pairs(*rows: tuple[object, object]) -> Rows:
    return Rows(PAIRS, rows)


def test_rows_of_key_and_value_are_read_behind_everything(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    """PRINT, row counts, and result sets that were only looked at."""
    sqlserver_schema.define(
        "p",
        "",
        """BEGIN
             SET NOCOUNT OFF;
             PRINT 'creating'; DECLARE @t TABLE (a int); INSERT @t VALUES (1), (2); RAISERROR('note', 0, 1);
             SELECT a AS other FROM @t; UPDATE @t SET a = 3;
             SELECT 'username' AS [KEY], 'u' AS [Value] UNION ALL SELECT 'password', 'p';
             DELETE @t; PRINT 'created';
           END""",
        events(
            Printed("creating"),
            Counted(2),
            Printed("note"),
            Rows({"other": "int"}, [[1], [2]]),
            Counted(2),
            Rows({"KEY": "varchar(8)", "Value": "varchar(1)"}, [["username", "u"], ["password", "p"]]),
            Counted(2),
            Printed("created"),
        ),
    )

    assert sqlserver_call("p") == {"username": "u", "password": "p"}


def test_one_row_of_any_columns_is_read_on_the_servers_terms(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    columns = {
        "username": "varchar(10)",
        "port": "int",
        "big": "bigint",
        "tls": "bit",
        "since": "date",
        "at": "datetime",
        "exact": "datetime2(7)",
        "away": "datetimeoffset(3)",
        "of_day": "time(3)",
        "price": "decimal(12, 3)",
        "cash": "money",
        "ratio": "float",
        "raw": "varbinary(8)",
        "id": "uniqueidentifier",
        "doc": "xml",
        "padded": "nchar(3)",
        "nothing": "int",
    }
    values = [
        "é€",
        1433,
        -(2**63),
        True,
        datetime.date(2026, 11, 21),
        datetime.datetime(2026, 11, 21, 10, 30),  # noqa: DTZ001 - these types have no zone
        datetime.datetime(2026, 11, 21, 10, 30, 0, 123456),  # noqa: DTZ001
        datetime.datetime(2026, 11, 21, 10, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        datetime.time(10, 30, 1, 500000),
        Decimal("-12.500"),
        Decimal("9.95"),
        0.1,
        b"\x00\xffa",
        UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        "<a>1</a>",
        "x",
        None,
    ]
    sqlserver_schema.define(
        "p",
        "",
        """SELECT CAST(N'é€' AS varchar(10)) AS username, 1433 AS port, CAST(-9223372036854775808 AS bigint) AS big,
             CAST(1 AS bit) AS tls, CAST('2026-11-21' AS date) AS since, CAST('2026-11-21T10:30:00' AS datetime) AS at,
             CAST('2026-11-21 10:30:00.1234560' AS datetime2(7)) AS exact,
             CAST('2026-11-21 10:30:00 +01:00' AS datetimeoffset(3)) AS away,
             CAST('10:30:01.5' AS time(3)) AS of_day, CAST(-12.5 AS decimal(12, 3)) AS price,
             CAST(9.95 AS money) AS cash,
             CAST(0.1 AS float) AS ratio, 0x00FF61 AS raw,
             CAST('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AS uniqueidentifier) AS id, CAST('<a>1</a>' AS xml) AS doc,
             CAST('x' AS nchar(3)) AS padded, CAST(NULL AS int) AS nothing""",
        events(Rows(columns, [values])),
    )

    assert sqlserver_call("p") == {
        "username": "é€",
        "port": "1433",
        "big": "-9223372036854775808",
        "tls": "true",
        "since": "2026-11-21",
        "at": "2026-11-21 10:30:00",
        "exact": "2026-11-21 10:30:00.123456",
        "away": "2026-11-21 10:30:00+01:00",
        "of_day": "10:30:01.500000",
        "price": "-12.500",
        "cash": "9.9500",
        "ratio": "0.1",
        "raw": "0x00FF61",
        "id": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "doc": "<a>1</a>",
        "padded": "x  ",
        "nothing": "",
    }


def test_null_is_empty(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    sqlserver_schema.define(
        "p", "", "SELECT 'a' AS [key], CAST(NULL AS nvarchar(max)) AS value UNION ALL SELECT 'b', ''",
        events(pairs(("a", None), ("b", ""))),
    )  # fmt: skip

    assert sqlserver_call("p") == {"a": "", "b": ""}


def test_texts_of_any_length_come_whole(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    long = "ü🐘" * 100_000
    sqlserver_schema.define(
        "p", "", "SELECT 'long' AS [key], REPLICATE(CAST(N'ü🐘' AS nvarchar(max)), 100000) AS value",
        events(pairs(("long", long))),
    )  # fmt: skip

    assert sqlserver_call("p") == {"long": long}


def test_output_parameters_are_the_result_of_a_procedure_without_rows(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    signature = "@name nvarchar(50), @username nvarchar(60) OUTPUT, @port int = 7 OUTPUT"

    def script(given: Mapping[str, Any]) -> Iterator[Event]:
        yield Printed("x")
        yield Assigned("username", f"{given['name']}_{given['username'] or ''}")

    sqlserver_schema.define("p", signature, "SET @username = CONCAT(@name, '_', @username)", script)

    assert sqlserver_call("p", name="a") == {"username": "a_", "port": ""}
    assert sqlserver_call("p", name="a", username="u", port="1433") == {"username": "a_u", "port": "1433"}
    assert sqlserver_call("p", "a", "u", "1433") == {"username": "a_u", "port": "1433"}


def test_output_parameters_join_the_rows(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    sqlserver_schema.define(
        "p", "@n int OUTPUT", "BEGIN SET @n = 1; SELECT 'a' AS [key], 'b' AS value; END",
        events(Assigned("n", 1), pairs(("a", "b"))),
    )  # fmt: skip

    assert sqlserver_call("p") == {"a": "b", "n": "1"}


def test_what_may_be_silent_may_return_nothing_but_a_status(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    sqlserver_schema.define("p", "", "SET NOCOUNT ON", events(Counted(1)))
    sqlserver_schema.define("q", "", "RETURN 1", events(Returned(1)))

    assert sqlserver_call("p", silent=True) == {}
    assert sqlserver_call.refusal("q", silent=True).code == "1"


def test_a_status_other_than_0_is_a_failure_where_nothing_is_returned(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    """As the procedures of the server itself have it; a delete that says so has not deleted."""
    sqlserver_schema.define("p", "", "BEGIN RETURN -4; END", events(Returned(-4)))
    sqlserver_schema.define("q", "@password nvarchar(9) = NULL OUTPUT", "BEGIN RETURN 1; END", events(Returned(1)))

    for name, status in (("p", "-4"), ("q", "1")):
        for returns in (True, False):
            failure = sqlserver_call.refusal(name, returns=returns)
            assert (failure.reason, failure.code) == (Reason.PROCEDURE_FAILED, status)
            assert f"it returned status {status}, which means that it failed" in failure.message


def test_a_status_beside_a_result_is_no_failure(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    sqlserver_schema.define(
        "p", "", "BEGIN SELECT 'a' AS [key], 'b' AS value; RETURN 7; END", events(pairs(("a", "b")), Returned(7))
    )

    assert sqlserver_call("p") == {"a": "b"}


@pytest.mark.parametrize(
    ("sql", "rows", "told"),
    [
        ("SELECT 's3cret' AS a, 's3cret' AS b, 1 AS c UNION ALL SELECT 's3cret', '', 2",
         Rows({"a": "varchar(9)", "b": "varchar(9)", "c": "int"}, [["s3cret", "s3cret", 1], ["s3cret", "", 2]]),
         "2 rows of columns a, b, c"),
        ("SELECT 'x' AS [key], 'y' AS value WHERE 1 = 0", pairs(), "0 rows of columns key, value"),
        ("SELECT 'a' AS [key], 's3cret' AS value UNION ALL SELECT 'a', 's3cret'",
         pairs(("a", "s3cret"), ("a", "s3cret")), "row 2 has the same key as row 1"),
        ("SELECT CAST(NULL AS varchar(9)) AS [key], 's3cret' AS value", pairs((None, "s3cret")), "row 1 has no key"),
        ("SELECT 's3cret', 1", Rows([("", "varchar(9)"), ("", "int")], [["s3cret", 1]]), "need distinct names"),
        ("SELECT TOP 5000 's3cret' AS [key], 'x' AS value FROM sys.all_columns a, sys.all_columns b",
         pairs(*[("s3cret", "x")] * 5000), "5000 rows of columns key, value"),
        ("DECLARE @x int = 1", Counted(1), "returned nothing"),
    ],
)  # fmt: skip
def test_another_shape_is_told_with_columns_and_counts_and_never_a_value(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, sql: str, rows: Event, told: str
) -> None:
    sqlserver_schema.define("p", "", sql, events(rows))
    failure = sqlserver_call.refusal("p")

    assert failure.reason is Reason.RESULT_INVALID
    assert told in failure.message
    assert "s3cret" not in failure.message
    assert sqlserver_call("p", returns=False) == {}


@pytest.mark.parametrize("returns", [True, False])
def test_an_error_after_the_rows_discards_them(
    sqlserver_call: Caller,
    sqlserver_schema: SqlServerSchema,
    returns: bool,  # noqa: FBT001
) -> None:
    sqlserver_schema.define(
        "p", "", "BEGIN SELECT 'a' AS [key], 'b' AS value; PRINT 'x'; THROW 50001, 'after the rows', 1; END",
        events(pairs(("a", "b")), Printed("x"), Raised(50001, "after the rows")),
    )  # fmt: skip
    failure = sqlserver_call.refusal("p", returns=returns)

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.code == "50001"
    assert failure.message == f"{sqlserver_schema.name}.p: after the rows"


def test_an_error_that_the_body_goes_on_after_fails_the_call_all_the_same(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    sqlserver_schema.define(
        "p", "", "BEGIN RAISERROR('not so', 16, 1); SELECT 'a' AS [key], 'b' AS value; END",
        events(Raised(50000, "not so"), pairs(("a", "b"))),
    )  # fmt: skip

    assert sqlserver_call.refusal("p").message.endswith("p: not so")


@pytest.mark.parametrize(
    "message", ["quota of team exceeded", "a (1205) (SQLExecDirectW) b", "[FreeTDS] (7) x; [42000] y", "größer\nals 🐘"]
)
def test_an_exception_is_told_by_its_primary_message_alone(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, message: str
) -> None:
    sqlserver_schema.define(
        "p", "", f"BEGIN THROW 50042, N'{message}', 1; END", events(Raised(50042, message), Raised(3621, "ended."))
    )
    failure = sqlserver_call.refusal("p")

    assert failure.retryable
    assert "ended." not in failure.message
    if "SQLExec" not in message and "[" not in message:
        assert failure.reason is Reason.PROCEDURE_FAILED
        assert failure.code == "50042"
        assert failure.message == f"{sqlserver_schema.name}.p: {message}"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (245, "Conversion failed when converting the nvarchar value 's3cret' to data type int."),
        (2628, "String or binary data would be truncated in table 't', column 'c'. Truncated value: 's3cret'."),
        (2627, "Violation of PRIMARY KEY constraint 'k'. The duplicate key value is (s3cret)."),
        (105, "Unclosed quotation mark after the character string 's3cret'."),
        (102, "Incorrect syntax near 's3cret'."),
        (203, "The name 'CREATE LOGIN x WITH PASSWORD = ''s3cret''' is not a valid identifier."),
        (2812, "Could not find stored procedure 'CREATE LOGIN x WITH PASSWORD = ''s3cret'''."),
    ],
)
def test_what_the_server_quotes_from_values_and_statements_is_not_told(
    misbehaving: SqlServerSite, number: int, message: str
) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("p", "", "", events(Raised(number, message)))
    session = misbehaving.connect()
    failure = Caller(session, schema).refusal("p")
    session.close()
    chain = [failure, failure.__cause__, failure.__context__]

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert f"error {number}" in failure.message
    assert "s3cret" not in "".join(f"{one!r}{one}{vars(one) if one else ''}" for one in chain)


@pytest.mark.parametrize(
    ("number", "severity", "message", "reason"),
    [
        (1205, 13, "Transaction (Process ID 51) was deadlocked on lock resources.", Reason.DEADLOCK),
        (3960, 16, "Snapshot isolation transaction aborted due to update conflict.", Reason.DEADLOCK),
        (1222, 16, "Lock request time out period exceeded.", Reason.LOCK_TIMEOUT),
        (1105, 17, "Could not allocate space; the 'PRIMARY' filegroup is full.", Reason.RESOURCES_EXHAUSTED),
        (10928, 16, "Resource ID: 1. The request limit is 90.", Reason.TOO_MANY_CONNECTIONS),
        (1807, 16, "Could not obtain exclusive lock on database 'model'. Retry later.", Reason.LOCK_TIMEOUT),
        (3906, 16, "Failed to update database 'd' because the database is read-only.", Reason.SERVER_NOT_READY),
        (596, 21, "Cannot continue the execution because the session is in the kill state.", Reason.CONNECTION_LOST),
        (229, 14, "The EXECUTE permission was denied on the object 'other'.", Reason.PROCEDURE_FAILED),
        (201, 16, "Procedure or function 'other' expects parameter '@x'.", Reason.PROCEDURE_FAILED),
        (2812, 16, "Could not find stored procedure 'other'.", Reason.PROCEDURE_FAILED),
        (15151, 16, "Cannot drop the login 'x', because it does not exist.", Reason.PROCEDURE_FAILED),
    ],
)  # fmt: skip
def test_an_error_inside_the_body_has_its_own_reason(
    misbehaving: SqlServerSite, number: int, severity: int, message: str, reason: Reason
) -> None:
    """A procedure that misses something is not itself missing; one that may not do something may itself be called."""
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("p", "", "", events(Raised(number, message, severity)))
    session = misbehaving.connect()
    failure = Caller(session, schema).refusal("p")
    session.close()

    assert failure.reason is reason
    assert failure.retryable


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1801, "Database 'd' already exists. Choose a different database name."),
        (15025, "The server principal 'd' already exists."),
    ],
)
def test_a_database_or_a_login_that_is_there_already_is_told_apart(
    misbehaving: SqlServerSite, number: int, message: str
) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("p", "", "", events(Raised(number, message)))
    session = misbehaving.connect()
    failure = Caller(session, schema).refusal("p")
    session.close()

    assert failure.reason is Reason.ALREADY_EXISTS
    assert failure.message == f"dbaas.p: {message}"


@pytest.mark.parametrize("before", [(), (pairs(("a", "b" * 9000)),), (Printed("x"),)])
def test_a_connection_that_breaks_in_the_middle_is_lost(misbehaving: SqlServerSite, before: tuple[Event, ...]) -> None:
    schema = SqlServerSchema("dbaas", misbehaving)
    schema.define("p", "", "", events(*before, Gone()))
    session = misbehaving.connect()
    call = Caller(session, schema)
    failure = call.refusal("p")
    again = call.refusal("p")
    session.close()

    assert failure.reason is Reason.CONNECTION_LOST
    assert again.reason is Reason.CONNECTION_LOST


def test_a_session_goes_on_after_a_failure(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    sqlserver_schema.define("p", "", "BEGIN THROW 50000, 'no', 1; END", events(Raised(50000, "no")))
    sqlserver_schema.define("q", "", "SELECT 'a' AS [key], 'yes' AS value", events(pairs(("a", "yes"))))
    sqlserver_call.refusal("p")

    assert sqlserver_call("q") == {"a": "yes"}
