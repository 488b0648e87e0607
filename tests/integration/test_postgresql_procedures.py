"""Which procedure a name means, and how its arguments reach it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure, Session
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.postgresql_site import Schema, Site

pytestmark = pytest.mark.integration


@pytest.fixture
def everyone(schema: Schema) -> Iterator[Schema]:
    """A second schema, for names that could mean two things."""
    name = f"{schema.name}_other"
    schema.server.execute(f"CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO PUBLIC")
    yield Schema(name, schema.server)
    schema.server.execute(f"DROP SCHEMA {name} CASCADE")


def echo(schema: Schema) -> None:
    schema.define(
        "CREATE FUNCTION echo(given text) RETURNS TABLE (key text, value text) LANGUAGE sql AS"
        " $$ VALUES ('given', given) $$"
    )


# Names


@pytest.mark.parametrize("spelling", ["make", "MAKE", "Make", '"make"'])
def test_an_unquoted_name_is_folded_as_postgresql_folds_it(call: Caller, schema: Schema, spelling: str) -> None:
    schema.function("make() RETURNS TABLE (key text, value text)", "VALUES ('made', 'folded')", "sql")

    assert call(spelling) == {"made": "folded"}


def test_a_name_declared_in_quotes_is_found_as_written(call: Caller, schema: Schema) -> None:
    schema.function('"Make It"() RETURNS TABLE (key text, value text)', "VALUES ('made', 'quoted')", "sql")
    schema.function('"makeDb"() RETURNS TABLE (key text, value text)', "VALUES ('made', 'camel')", "sql")

    assert call('"Make It"') == {"made": "quoted"}
    assert call("makeDb") == {"made": "camel"}
    assert call.refusal('"makedb"').reason is Reason.PROCEDURE_MISSING


def test_the_folded_name_comes_before_the_one_as_written(call: Caller, schema: Schema) -> None:
    schema.function('"Make"() RETURNS text', "SELECT 'quoted'", "sql")
    schema.function("make() RETURNS text", "SELECT 'folded'", "sql")

    assert call("Make") == {"make": "folded"}
    assert call('"Make"') == {"Make": "quoted"}


def test_a_name_full_of_quotes_is_one_name(call: Caller, schema: Schema) -> None:
    schema.function('"a""b; DROP TABLE x; --"() RETURNS text', "SELECT 'ran'", "sql")

    assert call('"a""b; DROP TABLE x; --"') == {'a"b; DROP TABLE x; --': "ran"}


def test_a_name_without_a_schema_is_found_in_any(session: Session, schema: Schema) -> None:
    schema.function(f"only_{schema.name}() RETURNS text", "SELECT 'found'", "sql")

    assert session.call(Procedure(f"only_{schema.name}")) == {f"only_{schema.name}": "found"}


def test_a_name_that_two_schemas_have_is_ambiguous_until_it_is_qualified(
    session: Session, schema: Schema, everyone: Schema
) -> None:
    for place in (schema, everyone):
        place.function("twin() RETURNS text", f"SELECT '{place.name}'", "sql")
    with pytest.raises(Failure) as caught:
        session.call(Procedure("twin"))

    assert caught.value.reason is Reason.PROCEDURE_AMBIGUOUS
    assert f"{schema.name}.twin()" in caught.value.message
    assert f"{everyone.name}.twin()" in caught.value.message
    assert session.call(Procedure(f"{everyone.name}.twin")) == {"twin": everyone.name}


def test_a_look_alike_that_the_account_may_not_call_changes_nothing(
    session: Session, schema: Schema, everyone: Schema
) -> None:
    for place in (schema, everyone):
        place.function("lone() RETURNS text", f"SELECT '{place.name}'", "sql")
    everyone.define("REVOKE EXECUTE ON FUNCTION lone() FROM PUBLIC")

    assert session.call(Procedure("lone")) == {"lone": schema.name}


def test_a_missing_procedure_is_named_with_what_is_similar(call: Caller, schema: Schema) -> None:
    echo(schema)
    failure = call.refusal("ehco")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert f"{schema.name}.ehco" in failure.message
    assert f"{schema.name}.echo" in failure.message
    assert not failure.retryable


def test_the_same_name_in_another_schema_is_told(call: Caller, schema: Schema) -> None:
    echo(schema)
    failure = call.refusal("nowhere.echo")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert f"{schema.name}.echo" in failure.message


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "f()",
        "f; DROP TABLE x",
        "a.b.c",
        'f"',
        '"f',
        '""',
        "1f",
        "f--",
        "pg_catalog.",
        ".f",
        "f\0",
        "%s",
        "$1",
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_sent(session: Session, name: str) -> None:
    with pytest.raises(Failure) as caught:
        session.call(Procedure(name))

    assert caught.value.reason is Reason.PROCEDURE_MISSING


def test_the_systems_schemas_are_searched_only_when_named(session: Session) -> None:
    with pytest.raises(Failure) as caught:
        session.call(Procedure("pg_backend_pid"))

    assert caught.value.reason is Reason.PROCEDURE_MISSING
    assert session.call(Procedure("pg_catalog.pg_backend_pid"))["pg_backend_pid"].isdecimal()


def test_an_aggregate_is_no_procedure(call: Caller, schema: Schema) -> None:
    schema.define("CREATE AGGREGATE total(integer) (sfunc = int4pl, stype = integer)")
    failure = call.refusal("total", "1")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert "aggregate" in failure.message


def test_a_procedure_that_may_not_be_executed_says_which_grant_is_missing(call: Caller, schema: Schema) -> None:
    echo(schema)
    schema.define("REVOKE EXECUTE ON FUNCTION echo(text) FROM PUBLIC")
    failure = call.refusal("echo", given="x")

    assert failure.reason is Reason.PERMISSION_DENIED
    assert "GRANT EXECUTE" in failure.message


def test_a_schema_that_may_not_be_used_is_a_missing_permission(call: Caller, schema: Schema) -> None:
    echo(schema)
    schema.define(f"REVOKE USAGE ON SCHEMA {schema.name} FROM operator")

    assert call.refusal("echo", given="x").reason is Reason.PERMISSION_DENIED


# Overloads


def test_overloads_are_told_apart_by_their_arguments(call: Caller, schema: Schema) -> None:
    schema.function("f(a text) RETURNS text", "SELECT 'one'", "sql")
    schema.function("f(a text, b text) RETURNS text", "SELECT 'two'", "sql")
    schema.function("f(c integer) RETURNS text", "SELECT 'number'", "sql")

    assert call("f", a="x") == {"f": "one"}
    assert call("f", a="x", b="y") == {"f": "two"}
    assert call("f", c="1") == {"f": "number"}
    assert call("f", "x", "y") == {"f": "two"}
    ambiguous = call.refusal("f", "1")
    assert ambiguous.reason is Reason.PROCEDURE_AMBIGUOUS
    assert f"{schema.name}.f(a text)" in ambiguous.message
    assert f"{schema.name}.f(c integer)" in ambiguous.message


def test_an_overload_that_a_default_makes_possible_is_ambiguous(call: Caller, schema: Schema) -> None:
    schema.function("f(a text) RETURNS text", "SELECT 'one'", "sql")
    schema.function("f(a text, b text DEFAULT 'x') RETURNS text", "SELECT 'two'", "sql")

    assert call.refusal("f", a="x").reason is Reason.PROCEDURE_AMBIGUOUS
    assert call("f", a="x", b="y") == {"f": "two"}


def test_same_names_with_other_types_stay_ambiguous(call: Caller, schema: Schema) -> None:
    """Text could be read as either: nothing is guessed."""
    schema.function("f(a text) RETURNS text", "SELECT 'text'", "sql")
    schema.function("f(a integer) RETURNS text", "SELECT 'integer'", "sql")

    assert call.refusal("f", a="1").reason is Reason.PROCEDURE_AMBIGUOUS


# Arguments


@pytest.mark.parametrize("name", ["k8sName", "k8sname", "K8SNAME"])
def test_an_argument_name_obeys_the_declaration_whatever_its_case(call: Caller, schema: Schema, name: str) -> None:
    schema.function("f(k8sName text) RETURNS text", "SELECT k8sName", "sql")

    assert call("f", **{name: "v"}) == {"f": "v"}


def test_argument_names_that_differ_by_case_alone_are_taken_exactly(call: Caller, schema: Schema) -> None:
    schema.function('f("Name" text, name text) RETURNS text', 'SELECT "Name" || name', "sql")

    assert call("f", Name="a", name="b") == {"f": "ab"}
    assert call.refusal("f", NAME="a", name="b").reason is Reason.ARGUMENTS_INVALID


def test_argument_names_that_need_quotes_are_quoted(call: Caller, schema: Schema) -> None:
    schema.function('f("a b""; --" text, "select" text) RETURNS text', 'SELECT "a b""; --" || "select"', "sql")

    assert call("f", **{'a b"; --': "1", "select": "2"}) == {"f": "12"}


@pytest.mark.parametrize("name", ["wrong", "given => $1) --", "given; DROP TABLE x", '"', "ſ"])
def test_a_wrong_argument_name_is_told_with_the_right_ones(call: Caller, schema: Schema, name: str) -> None:
    echo(schema)
    failure = call.refusal("echo", **{name: "x"})

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert name in failure.message
    assert "it takes given" in failure.message


def test_a_missing_argument_is_named(call: Caller, schema: Schema) -> None:
    schema.function("f(a text, b integer) RETURNS text", "SELECT a", "sql")
    failure = call.refusal("f", a="x")

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert failure.message == f"{schema.name}.f(a text, b integer) needs b"


def test_defaults_fill_what_is_not_given(call: Caller, schema: Schema) -> None:
    schema.function(
        "f(a text, b text DEFAULT 'B', c integer DEFAULT 3) RETURNS text", "SELECT concat_ws(',', a, b, c)", "sql"
    )

    assert call("f", a="x") == {"f": "x,B,3"}
    assert call("f", a="x", c="7") == {"f": "x,B,7"}
    assert call("f", "x", "y") == {"f": "x,y,3"}
    assert call.refusal("f", b="y").reason is Reason.ARGUMENTS_INVALID
    assert call.refusal("f", "1", "2", "3", "4").reason is Reason.ARGUMENTS_INVALID


def test_positions_are_taken_in_numeric_order(call: Caller, schema: Schema) -> None:
    letters = [chr(ord("a") + number) for number in range(11)]
    declared = ", ".join(f"{letter} text" for letter in letters)
    schema.function(f"f({declared}) RETURNS text", f"SELECT concat({', '.join(letters)})", "sql")
    arguments = tuple(Argument(str(number), str(number % 10)) for number in reversed(range(11)))

    assert call.session.call(Procedure(f"{schema.name}.f", arguments)) == {"f": "01234567890"}


@pytest.mark.parametrize("names", [("0", "2"), ("1",), ("0", "0"), ("0", "given")])
def test_positions_with_gaps_repetitions_or_names_among_them_are_refused(
    call: Caller, schema: Schema, names: tuple[str, ...]
) -> None:
    schema.function("f(given text, b text DEFAULT '') RETURNS text", "SELECT given", "sql")
    with pytest.raises(Failure) as caught:
        call.session.call(Procedure(f"{schema.name}.f", tuple(Argument(name, "x") for name in names)))

    assert caught.value.reason is Reason.ARGUMENTS_INVALID


def test_parameters_without_names_take_positions(call: Caller, schema: Schema) -> None:
    schema.function("f(text, text, text DEFAULT '!') RETURNS text", "SELECT $1 || $2 || $3", "sql")

    assert call("f", "a", "b") == {"f": "ab!"}
    assert "0, 1" in call.refusal("f").message
    assert call.refusal("f", a="x").reason is Reason.ARGUMENTS_INVALID


def test_a_variadic_takes_an_array_by_name_and_elements_by_position(call: Caller, schema: Schema) -> None:
    schema.function("f(a text, VARIADIC rest text[]) RETURNS text", "SELECT a || array_to_string(rest, '+')", "sql")

    assert call("f", a="x:", rest='{1,"two, 2"}') == {"f": "x:1+two, 2"}
    assert call("f", "x:", "1", "2,3", "{4}") == {"f": "x:1+2,3+{4}"}
    assert call.refusal("f", a="x").reason is Reason.ARGUMENTS_INVALID


def test_a_variadic_with_a_default_may_be_left_out(call: Caller, schema: Schema) -> None:
    """PostgreSQL itself finds no such function by names alone."""
    schema.function(
        "f(a text, b text DEFAULT 'b', VARIADIC rest text[] DEFAULT '{c}') RETURNS text",
        "SELECT a || b || array_to_string(rest, '+')",
        "sql",
    )

    assert call("f", a="x") == {"f": "xbc"}
    assert call("f", b="y", a="x") == {"f": "xyc"}
    assert call("f", "x") == {"f": "xbc"}
    assert call("f", a="x", b="", rest="{d,e}") == {"f": "xd+e"}


@pytest.mark.parametrize(("given", "told"), [({"b": "x"}, "needs rest"), ({"a": "x", "rest": "{d}"}, "needs b")])
def test_what_postgresql_cannot_leave_out_beside_a_variadic_is_asked_for(
    call: Caller, schema: Schema, given: dict[str, str], told: str
) -> None:
    schema.function(
        "f(a text DEFAULT 'a', b text DEFAULT 'b', VARIADIC rest text[] DEFAULT '{c}') RETURNS text", "SELECT a", "sql"
    )
    failure = call.refusal("f", **given)

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert told in failure.message


def test_polymorphic_parameters_take_text(call: Caller, schema: Schema) -> None:
    schema.function("f(a anyelement, b anyarray) RETURNS text", "SELECT a::text || b::text", "sql")

    assert call("f", a="x", b="{y}") == {"f": "x{y}"}


TYPED = [
    ("integer", "42", "42"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("numeric", "12345678901234567890.123456789", "12345678901234567890.123456789"),
    ("double precision", "0.1", "0.1"),
    ("boolean", "true", "true"),
    ("boolean", "no", "false"),
    ("date", "2026-11-21", "2026-11-21"),
    ("timestamptz", "2026-11-21T10:00:00+01:00", "2026-11-21 09:00:00+00"),
    ("interval", "1 day 2 hours", "1 day 02:00:00"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("json", '{"a":  [1, null]}', '{"a":  [1, null]}'),
    ("jsonb", '{"a":  [1, null]}', '{"a": [1, null]}'),
    ("text[]", '{a,"b c",NULL}', '{a,"b c",NULL}'),
    ("integer[]", "{1,2}", "{1,2}"),
    ("inet", "10.0.0.1/24", "10.0.0.1/24"),
    ("bytea", r"\x00ff", r"\x00ff"),
    ("character(5)", "ab", "ab"),
    ("varchar(3)", "longer than three", "longer than three"),
    ('"char"', "x", "x"),
    ("bit varying", "101", "101"),
    ("name", "n", "n"),
    ("regclass", "pg_class", "pg_class"),
]


@pytest.mark.parametrize(("declared", "given_text", "returned"), TYPED, ids=[f"{one[0]}-{one[1][:8]}" for one in TYPED])
def test_values_are_read_and_printed_by_the_server_as_the_declared_type(
    call: Caller, schema: Schema, declared: str, given_text: str, returned: str
) -> None:
    schema.function(f"f(a {declared}) RETURNS TABLE (a {declared}, kind text)", "SELECT a, pg_typeof(a)::text", "sql")
    result = call("f", a=given_text)

    assert result["a"] == returned
    assert result["kind"] == declared.partition("(")[0].replace("varchar", "character varying").replace(
        "timestamptz", "timestamp with time zone"
    )


def test_domains_enums_and_composites_of_odd_names_work(call: Caller, schema: Schema) -> None:
    schema.define(
        """CREATE DOMAIN "My Size" AS integer CHECK (VALUE < 100)""",
        """CREATE TYPE "Mood" AS ENUM ('fine', 'so "so"')""",
        "CREATE TYPE pair AS (a text, b integer)",
    )
    schema.function(
        'f(s "My Size", m "Mood", p pair) RETURNS TABLE (s text, m text, b text)', "SELECT s, m, p.b", "sql"
    )

    assert call("f", s="7", m='so "so"', p='("x,y",3)') == {"s": "7", "m": 'so "so"', "b": "3"}
    too_big = call.refusal("f", s="100", m="fine", p="(x,3)")
    assert too_big.reason is Reason.ARGUMENTS_INVALID
    assert "argument s" in too_big.message
    unknown = call.refusal("f", s="1", m="s3cret-mood", p="(x,3)")
    assert unknown.reason is Reason.ARGUMENTS_INVALID
    assert '"Mood"' in unknown.message
    assert "s3cret" not in unknown.message


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("integer", "s3cret"),
        ("integer", "99999999999"),
        ("integer", ""),
        ("date", "2026-02-30"),
        ("date", "s3cret"),
        ("json", '{"s3cret"'),
        ("boolean", "s3cret"),
        ("uuid", "s3cret"),
        ("text[]", "s3cret"),
        ("integer[]", "{s3cret}"),
        ("timestamptz", "s3cret"),
        ("numeric", "s3cret $1"),
    ],
)
def test_a_value_that_is_not_of_the_declared_type_is_named_and_never_quoted(
    call: Caller, schema: Schema, declared: str, value: str
) -> None:
    schema.function(f"f(a text, wanted {declared}) RETURNS text", "SELECT 'x'", "sql")
    for failure in (call.refusal("f", a="x", wanted=value), call.refusal("f", "x", value)):
        assert failure.reason is Reason.ARGUMENTS_INVALID
        assert "s3cret" not in failure.message
    named = call.refusal("f", a="x", wanted=value)
    assert f"argument wanted of {schema.name}.f holds no valid {declared.split('tz')[0]}" in named.message
    assert named.code


def test_a_name_that_postgresql_would_cut_is_refused(call: Caller, schema: Schema) -> None:
    schema.function("f(given name) RETURNS text", "SELECT given::text", "sql")
    fits, too_long = "a" * 61 + "é", "a" * 62 + "é"

    assert call("f", given=fits) == call("f", fits) == {"f": fits}
    for failure in (call.refusal("f", given=too_long), call.refusal("f", too_long)):
        assert failure.reason is Reason.ARGUMENTS_INVALID
        assert "more than the 63 bytes of a name" in failure.message


def test_the_same_error_inside_the_body_is_the_procedures_failure(call: Caller, schema: Schema) -> None:
    schema.function("f(a text) RETURNS text", "BEGIN RETURN a::integer; END")
    failure = call.refusal("f", a="x")

    assert failure.reason is Reason.PROCEDURE_FAILED
    assert failure.code == "22P02"


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_what_postgresql_cannot_store_is_refused_before_it_is_sent(call: Caller, schema: Schema, value: str) -> None:
    echo(schema)
    failure = call.refusal("echo", given=value)

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert "argument given" in failure.message


@pytest.mark.parametrize(
    "value",
    [
        "it's",
        'a "quoted" one',
        "a; DROP TABLE x; --",
        "line\nline\r\n\ttab",
        "{{ .Params.name }} {{",
        "%s %(a)s %%",
        "$1 $$ $body$",
        "\\x00 \\' \\\\",
        "🐘 naïve ﬁ 漢字 \u202e",
        "x" * 10_000,
        "'" * 10_000,
        "NULL",
        " leading and trailing ",
        "",
    ],
    ids=lambda value: value[:12],
)
def test_text_arrives_and_returns_unchanged(call: Caller, schema: Schema, value: str) -> None:
    echo(schema)

    assert call("echo", given=value) == {"given": value}
    assert call("echo", value) == {"given": value}


def test_text_that_the_databases_encoding_lacks_is_an_invalid_argument(site: Site) -> None:
    site.server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    site.server.execute("CREATE FUNCTION f(a text) RETURNS text LANGUAGE sql AS 'SELECT a'", database="latin")
    session = site.connect(database="latin")
    with pytest.raises(Failure) as caught:
        session.call(Procedure("f", (Argument("a", "🐘"),)))
    fine = session.call(Procedure("f", (Argument("a", "é"),)))
    session.close()

    assert caught.value.reason is Reason.ARGUMENTS_INVALID
    assert fine == {"f": "é"}


# Procedures


def test_a_procedure_gives_its_out_and_inout_parameters(call: Caller, schema: Schema) -> None:
    schema.procedure(
        "p(name text, INOUT size integer, OUT username text, OUT made boolean)",
        "BEGIN size := size + 1; username := name || '_user'; made := true; END",
    )

    assert call("p", name="a", size="1") == {"size": "2", "username": "a_user", "made": "true"}
    assert call("p", "a", "1") == {"size": "2", "username": "a_user", "made": "true"}


def test_inout_parameters_that_are_not_given_are_null(call: Caller, schema: Schema) -> None:
    schema.procedure(
        "p(name text, INOUT username text, INOUT password text DEFAULT 'd')",
        "BEGIN username := coalesce(username, 'was null'); END",
    )

    assert call("p", name="a") == {"username": "was null", "password": "d"}
    assert call("p", "a") == {"username": "was null", "password": "d"}
    assert call("p", "a", "u", "w") == {"username": "u", "password": "w"}


def test_an_out_parameter_is_not_an_argument(call: Caller, schema: Schema) -> None:
    schema.procedure("p(a text, OUT c text)", "BEGIN c := a; END")

    assert call.refusal("p", a="x", c="y").reason is Reason.ARGUMENTS_INVALID


def test_a_procedure_may_commit(call: Caller, schema: Schema) -> None:
    schema.define("CREATE TABLE log (line text)", "GRANT ALL ON log TO operator")
    schema.procedure(
        "p(INOUT line text)",
        f"BEGIN INSERT INTO {schema.name}.log VALUES (line); COMMIT; RAISE EXCEPTION 'after the commit'; END",
    )
    failure = call.refusal("p", line="kept")

    assert failure.message.endswith("after the commit")
    assert schema.server.execute(f"SELECT line FROM {schema.name}.log") == [("kept",)]


def test_a_function_with_out_parameters_returns_them(call: Caller, schema: Schema) -> None:
    schema.function("f(a text, INOUT b text, OUT c json)", "SELECT b || a, json_build_object('a', a)", "sql")

    assert json.loads(call("f", a="x", b="y")["c"]) == {"a": "x"}
    assert call("f", a="x", b="y")["b"] == "yx"
