"""What counts as a result, and what of a failure is told."""

from __future__ import annotations

import pytest

from api.reasons import Reason
from tests.integration.caller import Caller
from tests.integration.postgresql_site import Schema

pytestmark = pytest.mark.integration

PAIRS = "f() RETURNS TABLE (key text, value text)"


@pytest.mark.parametrize("columns", ["key text, value text", '"KEY" text, "Value" text', "value text, key text"])
def test_rows_of_key_and_value_are_read_in_any_case_and_order(call: Caller, schema: Schema, columns: str) -> None:
    pair = ("'v' || n, 'k' || n") if columns.startswith("value") else ("'k' || n, 'v' || n")
    schema.function(f"f() RETURNS TABLE ({columns})", f"SELECT {pair} FROM generate_series(1, 3) n", "sql")

    assert call("f") == {"k1": "v1", "k2": "v2", "k3": "v3"}


def test_one_row_of_any_columns_is_read(call: Caller, schema: Schema) -> None:
    schema.function(
        'f() RETURNS TABLE (username text, port integer, tls boolean, "Since" date, extra jsonb, raw bytea,'
        " padded char(9))",
        "SELECT 'u', 5432, true, date '2026-11-21', '{\"a\": 1}'::jsonb, '\\x6162'::bytea, 'p'",
        "sql",
    )

    assert call("f") == {
        "username": "u",
        "port": "5432",
        "tls": "true",
        "Since": "2026-11-21",
        "extra": '{"a": 1}',
        "raw": "\\x6162",
        "padded": "p",
    }


def test_a_scalar_is_one_column_of_the_functions_name(call: Caller, schema: Schema) -> None:
    schema.function("password() RETURNS text", "SELECT 'x'", "sql")

    assert call("password") == {"password": "x"}


def test_null_is_empty(call: Caller, schema: Schema) -> None:
    schema.function(PAIRS, "VALUES ('a', NULL), ('b', '')", "sql")
    schema.function("g(OUT a text, OUT b integer)", "SELECT NULL::text, NULL::integer", "sql")

    assert call("f") == {"a": "", "b": ""}
    assert call("g") == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("signature", "body", "told"),
    [
        ("f() RETURNS TABLE (a text, b text, c text)", "SELECT 's3cret', 's3cret', 's3cret' FROM generate_series(1, 2)",
         "2 rows of columns a, b, c"),
        ("f() RETURNS TABLE (a text, b text, c text)", "SELECT 'x', 'x', 'x' WHERE false", "0 rows of columns a, b, c"),
        (PAIRS, "SELECT 'x', 'x' WHERE false", "0 rows of columns key, value"),
        (PAIRS, "VALUES ('a', 's3cret'), ('b', 'x'), ('a', 's3cret')", "row 3 has the same key as row 1"),
        (PAIRS, "VALUES ('a', 'x'), (NULL, 's3cret')", "row 2 has no key"),
        (PAIRS, "VALUES ('', 's3cret')", "row 1 has no key"),
        ("f() RETURNS SETOF text", "VALUES ('s3cret'), ('b')", "2 rows of columns f"),
        ("f() RETURNS void", "SELECT", "returned nothing"),
        ("f() RETURNS TABLE (a text, key text, value text)", "VALUES ('x', '1', 's3cret'), ('x', '2', 's3cret')",
         "2 rows of columns a, key, value"),
        (PAIRS, "SELECT n::text, 's3cret' FROM generate_series(1, 5000) n", "5000 rows of columns key, value"),
    ],
)  # fmt: skip
def test_another_shape_is_told_with_columns_and_counts_and_never_a_value(
    call: Caller, schema: Schema, signature: str, body: str, told: str
) -> None:
    schema.function(signature, body, "sql")
    failure = call.refusal("f")

    assert failure.reason is Reason.RESULT_INVALID
    assert told in failure.message
    assert "s3cret" not in failure.message


def test_a_function_that_returns_a_record_without_columns_is_not_called(call: Caller, schema: Schema) -> None:
    schema.function("f() RETURNS record", "BEGIN RAISE EXCEPTION 'was called'; END")
    failure = call.refusal("f")

    assert failure.reason is Reason.RESULT_INVALID
    assert "RETURNS TABLE" in failure.message


@pytest.mark.parametrize(
    "signature",
    ["f() RETURNS refcursor", "f() RETURNS SETOF refcursor", "f(OUT c refcursor, OUT n int)"],
)
def test_a_function_that_returns_a_cursor_is_not_called(call: Caller, schema: Schema, signature: str) -> None:
    """The cursor's name would be taken for the result, and nobody could fetch from it any more."""
    schema.function(signature, "BEGIN RAISE EXCEPTION 'was called'; END")
    failure = call.refusal("f")

    assert failure.reason is Reason.RESULT_INVALID
    assert "returns a cursor, which ends with the call" in failure.message
    assert call.refusal("f", returns=False).message.endswith("was called")


def test_a_procedure_that_gives_a_cursor_is_not_called(call: Caller, schema: Schema) -> None:
    schema.procedure("p(name text, INOUT result refcursor)", "BEGIN RAISE EXCEPTION 'was called'; END")

    assert "returns a cursor" in call.refusal("p", name="shop", result="c").message


def test_what_may_be_silent_may_return_nothing(call: Caller, schema: Schema) -> None:
    schema.function("f() RETURNS void", "BEGIN END")
    schema.procedure("p()", "BEGIN END")
    schema.function("no_row() RETURNS TABLE (key text, value text)", "BEGIN END")
    schema.function("g() RETURNS TABLE (key text, value text)", "BEGIN RETURN QUERY VALUES ('a', 'b'); END")

    assert [call(name, silent=True) for name in ("f", "p", "no_row", "g")] == [{}, {}, {}, {"a": "b"}]


def test_a_procedure_without_outputs_has_no_result(call: Caller, schema: Schema) -> None:
    schema.procedure("p()", "BEGIN END")

    assert call.refusal("p").reason is Reason.RESULT_INVALID
    assert call("p", returns=False) == {}


@pytest.mark.parametrize("returned", ["void", "SETOF text", "text"])
def test_where_no_result_is_wanted_any_will_do(call: Caller, schema: Schema, returned: str) -> None:
    schema.function(f"f() RETURNS {returned}", "BEGIN " + ("END" if "text" not in returned else "RETURN; END"
                    if "SETOF" in returned else "RETURN 'x'; END"))  # fmt: skip

    assert call("f", returns=False) == {}


def test_an_error_after_the_first_rows_discards_them(call: Caller, schema: Schema) -> None:
    schema.function(PAIRS, "SELECT 'k' || n, (1 / (3 - n))::text FROM generate_series(1, 3) n", "sql")
    schema.define("ALTER FUNCTION f() VOLATILE ROWS 1")

    assert call.refusal("f").code == "22012"


def test_an_exception_is_told_by_its_primary_message_alone(call: Caller, schema: Schema) -> None:
    schema.function(
        PAIRS,
        """BEGIN
             RAISE EXCEPTION 'quota of team exceeded'
               USING DETAIL = 's3cret detail', HINT = 's3cret hint', ERRCODE = 'DB001';
           END""",
    )
    failure = call.refusal("f")

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.code == "DB001"
    assert failure.message == f"{schema.name}.f: quota of team exceeded"
    assert failure.retryable


def test_a_statement_that_a_failing_procedure_ran_is_not_told(call: Caller, schema: Schema) -> None:
    schema.function(PAIRS, "BEGIN EXECUTE format('CREATE ROLE %I PASSWORD %L', 'pg_made', 's3cret'); RETURN; END")
    failure = call.refusal("f")
    chain = [failure, failure.__cause__, failure.__context__]

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert "s3cret" not in "".join(f"{one!r}{one}{vars(one) if one else ''}" for one in chain)


def test_a_message_is_passed_on_as_it_came(call: Caller, schema: Schema) -> None:
    """Who knows the secrets takes them out before anything is cut off."""
    schema.function(PAIRS, "BEGIN RAISE EXCEPTION '%', repeat('long  ', 1000); END")

    assert call.refusal("f").message.endswith("long  " * 1000)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("PERFORM missing_function(1)", Reason.PROCEDURE_FAILED),
        ("PERFORM * FROM missing_table", Reason.PROCEDURE_FAILED),
        ("PERFORM pg_read_file('/etc/passwd')", Reason.PROCEDURE_FAILED),
        ("PERFORM 1 / 0", Reason.PROCEDURE_FAILED),
        ("RAISE EXCEPTION USING ERRCODE = '40P01'", Reason.DEADLOCK),
        ("RAISE EXCEPTION USING ERRCODE = '40001'", Reason.DEADLOCK),
        ("RAISE EXCEPTION USING ERRCODE = '55P03'", Reason.LOCK_TIMEOUT),
        ("RAISE EXCEPTION USING ERRCODE = '53100'", Reason.RESOURCES_EXHAUSTED),
        ("RAISE EXCEPTION USING ERRCODE = '53300'", Reason.TOO_MANY_CONNECTIONS),
        ("RAISE EXCEPTION USING ERRCODE = '25006'", Reason.SERVER_NOT_READY),
        ("RAISE EXCEPTION USING ERRCODE = '08001'", Reason.PROCEDURE_FAILED),
        ("RAISE EXCEPTION USING ERRCODE = '57014'", Reason.PROCEDURE_FAILED),
        ("PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(9)", Reason.CONNECTION_LOST),
    ],
)
def test_an_error_inside_the_body_has_its_own_reason(call: Caller, schema: Schema, body: str, reason: Reason) -> None:
    """A procedure that misses something is not itself missing; one that may not do something may itself be called."""
    schema.function(PAIRS, f"BEGIN {body}; END")
    failure = call.refusal("f")

    assert failure.reason is reason
    assert failure.retryable


def test_what_postgresql_allows_in_no_such_procedure_is_told_with_the_way_out(call: Caller, schema: Schema) -> None:
    schema.function("make() RETURNS void", "BEGIN EXECUTE 'CREATE DATABASE never'; END")
    schema.define(
        "CREATE PROCEDURE commits() LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog"
        " AS $$ BEGIN COMMIT; END $$"
    )

    assert "as by dblink" in call.refusal("make").message
    assert "SECURITY DEFINER" in call.refusal("commits").message


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        ("42P04", "any words", Reason.ALREADY_EXISTS),
        ("42710", 'role "team_shop" already exists', Reason.ALREADY_EXISTS),
        ("42710", "Rolle »team_shop« existiert bereits", Reason.ALREADY_EXISTS),
        ("42710", 'extension "shop" already exists', Reason.PROCEDURE_FAILED),
    ],
)
def test_what_is_there_already_is_the_database_or_what_bears_its_name(
    call: Caller, schema: Schema, code: str, message: str, reason: Reason
) -> None:
    body = f"BEGIN RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{message}'; END"
    schema.function("f(name text, note text) RETURNS void", body)

    assert call.refusal("f", name="team_shop", note="extension").reason is reason


def test_a_session_goes_on_after_a_failure(call: Caller, schema: Schema) -> None:
    schema.function(PAIRS, "BEGIN RAISE EXCEPTION 'no'; END")
    schema.function("g() RETURNS text", "SELECT 'yes'", "sql")
    call.refusal("f")

    assert call("g") == {"g": "yes"}


def test_what_a_body_says_by_the_way_is_heard_by_nobody(
    call: Caller, schema: Schema, capfd: pytest.CaptureFixture[str]
) -> None:
    """libpq would print it on the Job's standard error: notices quote passwords too."""
    schema.function(
        "talkative() RETURNS TABLE (key text, value text)",
        "BEGIN SET client_min_messages = notice; RAISE NOTICE 'the password is hunter2'; "
        "RAISE WARNING 'hunter2'; RETURN QUERY SELECT 'a', 'b'; END",
    )

    assert call("talkative") == {"a": "b"}
    assert capfd.readouterr() == ("", "")
