"""Which procedure of MariaDB's a name means, and how its arguments reach it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite

pytestmark = pytest.mark.integration

MADE = "SELECT 'made' AS `key`, 'yes' AS `value`"
ECHO = "SELECT given AS given"


# Names


@pytest.mark.parametrize("spelling", ["make", "MAKE", "Make", "`make`", "`MAKE`"])
def test_a_procedures_name_means_the_same_in_any_case(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, spelling: str
) -> None:
    mariadb_schema.procedure("make()", MADE)

    assert mariadb_call(f"{mariadb_schema.name}.{spelling}") == {"made": "yes"}


def test_a_schemas_name_means_what_is_written_where_the_server_tells_cases_apart(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.procedure("make()", MADE)

    assert mariadb_call.refusal(f"{mariadb_schema.name.upper()}.make").reason is Reason.PROCEDURE_MISSING


@pytest.mark.parametrize("name", ["a``b; DROP TABLE x; -- ", 'say "it\'s"', "1 2", "größe", "%s", "\\'", "a.b"])
def test_a_name_full_of_quotes_is_one_name(mariadb_call: Caller, mariadb_schema: MariaDBSchema, name: str) -> None:
    mariadb_schema.procedure(f"`{name.strip()}`()", MADE)

    assert mariadb_call(f"{mariadb_schema.name}.`{name.strip()}`") == {"made": "yes"}


def test_a_name_without_a_schema_is_one_of_the_endpoints_database(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.procedure("p(a int)", MADE)
    inside, outside = mariadb.connect(database=mariadb_schema.name), mariadb.connect()
    made = inside.call(Procedure("p", (Argument("0", "1"),)))
    with pytest.raises(Failure) as caught:
        outside.call(Procedure("p", (Argument("0", "1"),)))
    inside.close()
    outside.close()

    assert made == {"made": "yes"}
    assert caught.value.reason is Reason.PROCEDURE_MISSING
    assert "names no schema" in caught.value.message
    assert f"there is {mariadb_schema.name}.p" in caught.value.message


def test_a_missing_procedure_is_named_with_what_is_similar(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("echo()", MADE)
    failure = mariadb_call.refusal("ehco")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert f"{mariadb_schema.name}.ehco" in failure.message
    assert f"{mariadb_schema.name}.echo" in failure.message
    assert not failure.retryable


def test_a_procedure_that_the_account_may_not_see_says_which_grant_helps(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    """MariaDB answers as if there were none: it does not tell the two apart."""
    mariadb_schema.procedure("hidden()", MADE)
    mariadb.server.execute(f"REVOKE EXECUTE ON {mariadb_schema.name}.* FROM {mariadb.username}")
    failure = mariadb_call.refusal("hidden")
    mariadb.server.execute(f"GRANT EXECUTE ON {mariadb_schema.name}.* TO {mariadb.username}")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert f"GRANT EXECUTE ON PROCEDURE `{mariadb_schema.name}`.`hidden`" in failure.message


def test_a_procedure_that_may_be_seen_and_not_executed_is_a_missing_permission(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    mariadb_schema.procedure("seen()", MADE)
    mariadb.server.execute(f"REVOKE EXECUTE ON {mariadb_schema.name}.* FROM {mariadb.username}")
    mariadb.server.execute(f"GRANT ALTER ROUTINE ON PROCEDURE {mariadb_schema.name}.seen TO {mariadb.username}")
    failure = mariadb_call.refusal("seen")
    mariadb.server.execute(f"GRANT EXECUTE ON {mariadb_schema.name}.* TO {mariadb.username}")

    assert failure.reason is Reason.PERMISSION_DENIED
    assert failure.code == "1370"


def test_a_procedure_that_the_body_may_not_call_is_the_bodys_failure(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.server.execute("CREATE DATABASE closed")
    mariadb_schema.server.execute("CREATE PROCEDURE closed.p() DO 1")
    mariadb_schema.procedure("p()", "CALL closed.p()", "SQL SECURITY INVOKER")
    failure = mariadb_call.refusal("p")

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.code == "1370"


@pytest.mark.parametrize(
    "name",
    ["", "a b", "f()", "f; DROP TABLE x", "a.b.c", "f`", "`f", "``", "12", "a.12", "f--", "a.", ".f", "f\0", "%s",
     "`" + "x" * 65 + "`", "`🐘`", "🐘.f"],
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_is_sent(mariadb_call: Caller, name: str) -> None:
    with pytest.raises(Failure) as caught:
        mariadb_call.session.call(Procedure(name))

    assert caught.value.reason is Reason.PROCEDURE_MISSING


def test_a_function_is_no_procedure(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.define("CREATE FUNCTION f(a int) RETURNS text RETURN 'x'")
    failure = mariadb_call.refusal("f", "1")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert "is a function" in failure.message
    mariadb_schema.procedure("f(a int)", MADE)
    assert mariadb_call("f", "1") == {"made": "yes"}


# Arguments


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_arguments_is_refused_before_anything_runs(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, count: int
) -> None:
    mariadb_schema.define("CREATE TABLE ran (a int)")
    mariadb_schema.procedure("p(a varchar(9), INOUT b int, OUT c int)", "INSERT INTO ran VALUES (1)")
    failure = mariadb_call.refusal("p", *["1"] * count)

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert f"p(a varchar(9), INOUT b int(11), OUT c int(11)) takes 2 arguments, not {count}" in failure.message
    assert mariadb_schema.server.execute("SELECT * FROM ran", database=mariadb_schema.name) == []


@pytest.mark.parametrize("names", [("0", "2"), ("1",), ("0", "0"), ("0", "given"), ("given",), ("٠",), ("-1",)])
def test_names_and_positions_with_gaps_or_repetitions_are_refused(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, names: tuple[str, ...]
) -> None:
    mariadb_schema.procedure("p(given text)", ECHO)
    with pytest.raises(Failure) as caught:
        mariadb_call.given("p", tuple(Argument(name, "x") for name in names))

    assert caught.value.reason is Reason.ARGUMENTS_INVALID


def test_positions_are_taken_in_numeric_order(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    letters = [chr(ord("a") + number) for number in range(11)]
    declared = ", ".join(f"{letter} text" for letter in letters)
    mariadb_schema.procedure(f"p({declared})", f"SELECT CONCAT({', '.join(letters)}) AS all_of_them")
    arguments = tuple(Argument(str(number), str(number % 10)) for number in reversed(range(11)))

    assert mariadb_call.given("p", arguments) == {"all_of_them": "01234567890"}


TYPED = [
    ("int", "42", "42"),
    ("bigint unsigned", "18446744073709551615", "18446744073709551615"),
    ("decimal(30,9)", "12345678901234567890.123456789", "12345678901234567890.123456789"),
    ("double", "0.1", "0.1"),
    ("boolean", "1", "1"),
    ("bit", "1", "1"),
    ("bit(12)", "2049", "2049"),
    ("date", "2026-11-21", "2026-11-21"),
    ("datetime", "2026-11-21 10:00:00", "2026-11-21 10:00:00"),
    ("time", "10:00:00", "10:00:00"),
    ("year", "2026", "2026"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("json", '{"a":  [1, null]}', '{"a":  [1, null]}'),
    ("inet6", "::1", "::1"),
    ("enum('x','it''s')", "it's", "it's"),
    ("set('x','y')", "x,y", "x,y"),
    ("char(5)", "ab", "ab"),
    ("varchar(3)", "äöü", "äöü"),
    ("varchar(9) character set latin1", "é", "é"),
    ("varchar(9) character set utf8mb3", "漢字", "漢字"),
    ("longtext", "x" * 70_000, "x" * 70_000),
    ("varbinary(9)", "é", "0xc3a9"),
    ("blob", "ab", "0x6162"),
]


@pytest.mark.parametrize(("declared", "given_text", "returned"), TYPED, ids=[f"{one[0]}-{one[1][:8]}" for one in TYPED])
def test_values_are_read_and_printed_by_the_server_as_the_declared_type(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, declared: str, given_text: str, returned: str
) -> None:
    mariadb_schema.procedure(f"p(given {declared})", ECHO)
    mariadb_schema.procedure(f"q(INOUT given {declared})", "DO 1")

    assert mariadb_call("p", given_text) == {"given": returned}
    if "enum" not in declared and "set" not in declared.split("(")[0]:
        assert mariadb_call("q", given_text) == {"given": returned}


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("int", "s3cret"),
        ("int", "99999999999"),
        ("int", ""),
        ("tinyint(1)", "true"),
        ("bit", "true"),
        ("bit", "2"),
        ("bit(3)", "8"),
        ("date", "2026-02-30"),
        ("date", "s3cret"),
        ("datetime", "s3cret"),
        ("uuid", "s3cret"),
        ("inet6", "s3cret"),
        ("enum('x','y')", "s3cret"),
        ("set('x','y')", "s3cret"),
        ("decimal(5,2)", "s3cret"),
        ("decimal(5,2)", "12345678"),
        ("varchar(10) character set latin1", "s3cret🐘"),
        ("varchar(10)", "s3cret that is too long"),
        ("varchar(10)", "s3cret         "),
        ("char(3)", "s3cret"),
        ("varbinary(3)", "s3cret"),
        ("varbinary(3)", "éé"),
        ("tinytext", "s3cret" * 100),
        ("tinytext", "é" * 128),
    ],
)
def test_a_value_that_is_not_of_the_declared_type_is_refused_and_never_cut_or_quoted(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, declared: str, value: str
) -> None:
    mariadb_schema.define("SET sql_mode = ''")
    mariadb_schema.procedure(f"p(a text, wanted {declared})", "SELECT wanted AS ran")
    failure = mariadb_call.refusal("p", "x", value)

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert not failure.entered
    assert "argument 1" in failure.message
    assert declared.split(" ")[0] in failure.message.replace("wanted ", "")
    assert "s3cret" not in failure.message


def test_a_procedure_made_in_a_lax_session_still_refuses_what_it_would_cut(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema, mariadb_call: Caller
) -> None:
    """Arguments are converted under the caller's sql_mode; the body goes on under its own."""
    [(usual,)] = mariadb.server.execute("SELECT @@global.sql_mode")
    mariadb.server.configure({"sql_mode": "''"})
    mariadb_schema.procedure("p(given varchar(4), number int)", "SELECT given, number")
    mariadb.server.configure({"sql_mode": f"'{usual}'"})

    assert mariadb_call.refusal("p", "12345", "1").reason is Reason.ARGUMENTS_INVALID
    assert mariadb_call.refusal("p", "1234", "one").reason is Reason.ARGUMENTS_INVALID
    assert mariadb_call("p", "1234", "1") == {"given": "1234", "number": "1"}


def test_the_same_error_inside_the_body_is_the_procedures_failure(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.procedure("p(a varchar(20))", "DECLARE n int; SET n = a")
    mariadb_schema.procedure("q(a varchar(20))", "SET a = CONCAT(a, a)")

    assert mariadb_call.refusal("p", "x").reason is Reason.PROCEDURE_FAILED
    assert mariadb_call.refusal("p", "x").code == "1366"
    assert mariadb_call.refusal("q", "x" * 20).reason is Reason.PROCEDURE_FAILED


def test_half_a_character_is_refused_before_it_is_sent(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.procedure("p(given text)", ECHO)
    failure = mariadb_call.refusal("p", "\ud800")

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert "argument 0" in failure.message


@pytest.mark.parametrize(
    "value",
    [
        "it's",
        'a "quoted" one',
        "a; DROP TABLE x; --",
        "' OR 1=1 -- ",
        "\\' OR 1=1 -- ",
        "line\nline\r\n\ttab",
        "{{ .Params.name }} {{",
        "%s %(a)s %%",
        "? :a @b @@version",
        "\\x00 \\' \\\\ \\",
        "a\0b\x1a",
        "🐘 naïve ﬁ 漢字 \u202e",
        "x" * 10_000,
        "'" * 10_000,
        "NULL",
        " leading and trailing ",
        "",
        "`/*!50000 x */",
    ],
    ids=lambda value: repr(value[:12]),
)
def test_text_arrives_and_returns_unchanged(mariadb_call: Caller, mariadb_schema: MariaDBSchema, value: str) -> None:
    mariadb_schema.procedure("p(given text)", ECHO)
    mariadb_schema.procedure("q(INOUT given text)", "DO 1")

    assert mariadb_call("p", value) == {"given": value}
    assert mariadb_call("q", value) == {"given": value}


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "ORACLE"])
def test_any_text_arrives_and_returns_unchanged_whatever_the_servers_mode(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema, mode: str
) -> None:
    """Even if something between here and the server set the session back."""
    mariadb_schema.procedure("p(given longtext)", ECHO)
    [(usual,)] = mariadb.server.execute("SELECT @@global.sql_mode")
    mariadb.server.configure({"sql_mode": f"'{mode}'"})
    session = mariadb.connect()
    mariadb.server.configure({"sql_mode": f"'{usual}'"})

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def round_trip(value: str) -> None:
        procedure = Procedure(f"{mariadb_schema.name}.p", (Argument("0", value),))
        assert session.call(procedure) == {"given": value}

    try:
        round_trip()
    finally:
        session.close()


def test_no_value_and_no_name_ever_becomes_a_statement(
    mariadb: MariaDBSite, mariadb_schema: MariaDBSchema, mariadb_call: Caller
) -> None:
    """The server's own log of statements: values stand in it as hexadecimal digits alone."""
    mariadb_schema.procedure("p(given longtext, INOUT other longtext)", "SELECT given AS given")
    marks = ("zqzq", "'zqzq", "\\'zqzq", "`zqzq", "zqzq;zqzq", "*/zqzq", "\nzqzq")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.sampled_from(marks), min_size=2, max_size=2))
    def called(values: list[str]) -> None:
        assert mariadb_call("p", *values) == {"given": values[0], "other": values[1]}

    called()
    for mark in marks:
        with pytest.raises(Failure):
            mariadb_call.session.call(Procedure(f"{mariadb_schema.name}.`{mark.replace('`', '``')}`"))

    log = mariadb.server.statements.read_text()
    assert "7a717a71" in log
    assert "zqzq" not in log
