"""Which procedure of SQL Server a name means, and how its arguments reach it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.reasons import Reason
from provisioner_job.drivers.contract import Argument, Procedure
from provisioner_job.drivers.sqlserver_catalogue import Name, quoted
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.sqlserver_site import SqlServerSchema, SqlServerSite
from tests.integration.tds.procedures import Event, Rows

pytestmark = pytest.mark.integration

OWN_STATEMENTS = (
    r"SET ANSI_NULLS, .* FROM .*|"
    r"SET ANSI_NULLS, .*SERVERPROPERTY.*|"
    r"SELECT s\.name, o\.name, RTRIM\(o\.type\), .* ORDER BY s\.name, o\.object_id, p\.parameter_id|"
    r"SELECT TOP \(1000\) s\.name, o\.name FROM sys\.procedures AS o .*|"
    r"SELECT CASE WHEN TRY_CONVERT\(.*|"
    r"SET LOCK_TIMEOUT \d+; DECLARE @dbaas_status int; EXEC @dbaas_status = \[test_\d+\]\.\[echo\] @given = (\?|@P1); "
    r"SELECT @dbaas_status AS dbaas_status|"
    r"\[?(sys)?\]?\.?sp_datatype_info_100.*|"
)


def returned(**values: object) -> Iterator[Event]:
    yield Rows(dict.fromkeys(values, "nvarchar(max)"), [[*values.values()]])


def constant(schema: SqlServerSchema, name: str, said: str) -> None:
    schema.define(name, "", f"SELECT '{said}' AS made", lambda _: returned(made=said))


def echo(schema: SqlServerSchema, declared: str = "nvarchar(max)") -> Any:
    def script(values: Mapping[str, Any]) -> Iterator[Event]:
        yield Rows({"given": declared}, [[values["given"]]])

    return schema.define("echo", f"@given {declared}", "SELECT @given AS given", script)


# Names


@pytest.mark.parametrize("name", ["Make It", "a]b; DROP TABLE x; --", 'in "quotes"', "größe🐎", "select"])
def test_a_name_in_brackets_is_one_name(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, name: str) -> None:
    constant(sqlserver_schema, name, "it")

    assert sqlserver_call(f"{sqlserver_schema.name}.{quoted(name)}") == {"made": "it"}
    in_quotes = name.replace('"', '""')
    assert sqlserver_call(f'{sqlserver_schema.name}."{in_quotes}"') == {"made": "it"}


def test_a_name_without_a_schema_is_found_in_any(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    constant(sqlserver_schema, f"only_{sqlserver_schema.name}", "found")

    assert sqlserver_call.session.call(Procedure(f"only_{sqlserver_schema.name}")) == {"made": "found"}


def test_a_name_that_two_schemas_have_is_ambiguous_until_it_is_qualified(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    other = SqlServerSchema(f"{sqlserver_schema.name}_other", sqlserver_schema.site)
    other.create()
    try:
        for schema in (sqlserver_schema, other):
            constant(schema, "twin", schema.name)
        with pytest.raises(Failure) as caught:
            sqlserver_call.session.call(Procedure("twin"))

        assert caught.value.reason is Reason.PROCEDURE_AMBIGUOUS
        assert f"{other.name}.twin()" in caught.value.message
        assert sqlserver_call(f"{other.name}.twin") == {"made": other.name}
    finally:
        other.drop()


def test_a_missing_procedure_is_named_with_what_is_similar(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    echo(sqlserver_schema)
    failure = sqlserver_call.refusal("ehco")

    assert failure.reason is Reason.PROCEDURE_MISSING
    assert f"{sqlserver_schema.name}.echo" in failure.message
    assert not failure.retryable
    assert f"{sqlserver_schema.name}.echo" in sqlserver_call.refusal("nowhere.echo").message


def test_what_may_not_be_executed_or_is_no_procedure_says_so(misbehaving: SqlServerSite) -> None:
    misbehaving.world.define("dbaas", "closed", "@a int", lambda _: returned(), executable=False)
    misbehaving.world.define("dbaas", "f", "", lambda _: returned(), kind="FN")
    session = misbehaving.connect()
    call = Caller(session, SqlServerSchema("dbaas", misbehaving))
    closed, function = call.refusal("closed", a="1"), call.refusal("f")
    session.close()

    assert closed.reason is Reason.PERMISSION_DENIED
    assert "GRANT EXECUTE" in closed.message
    assert function.reason is Reason.PROCEDURE_MISSING
    assert "function" in function.message


@pytest.mark.parametrize(
    "name", ["", "a b", "f()", "f; DROP TABLE x", "a.b.c.d", "f]", "[f", "[]", "1f", "f--", "sys.",
     ".f", "f\0", "?", "@f", "#f", "x" * 129]
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_is_sent(misbehaving: SqlServerSite, name: str) -> None:
    session = misbehaving.connect()
    before = len(misbehaving.world.requests)
    with pytest.raises(Failure) as caught:
        session.call(Procedure(name))
    session.close()

    assert caught.value.reason is Reason.PROCEDURE_MISSING
    assert len(misbehaving.world.requests) == before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("p", Name("", "", "p")),
        ("s.p", Name("", "s", "p")),
        ("d.s.p", Name("d", "s", "p")),
        ("d..p", Name("d", "", "p")),
        ("[a.b].[c]]d]", Name("", "a.b", "c]d")),
        ('[d].s."p""q"', Name("d", "s", 'p"q')),
    ],
)
def test_a_name_has_up_to_three_parts(text: str, name: Name) -> None:
    assert Name.parse(text) == name


# Arguments


@pytest.mark.parametrize("name", ["k8sName", "k8sname", "@k8sName"])
def test_an_argument_name_is_taken_whatever_its_case(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, name: str
) -> None:
    sqlserver_schema.define(
        "p", "@k8sName nvarchar(50)", "SELECT @k8sName AS a", lambda values: returned(a=values["k8sName"])
    )

    assert sqlserver_call("p", **{name: "v"}) == {"a": "v"}


def test_positions_are_taken_in_numeric_order(sqlserver_call: Caller, sqlserver_schema: SqlServerSchema) -> None:
    letters = [chr(ord("a") + number) for number in range(11)]
    sqlserver_schema.define(
        "p",
        ", ".join(f"@{letter} nvarchar(5)" for letter in letters),
        "SELECT " + " + ".join(f"@{letter}" for letter in letters) + " AS a",
        lambda values: returned(a="".join(values[letter] for letter in letters)),
    )
    arguments = tuple(Argument(str(number), str(number % 10)) for number in reversed(range(11)))

    assert sqlserver_call.session.call(Procedure(f"{sqlserver_schema.name}.p", arguments)) == {"a": "01234567890"}


@pytest.mark.parametrize("names", [("0", "2"), ("1",), ("0", "0"), ("0", "given"), ("0", "1")])
def test_positions_with_gaps_repetitions_or_names_among_them_are_refused(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, names: tuple[str, ...]
) -> None:
    made = echo(sqlserver_schema)
    arguments = tuple(Argument(name, "x") for name in names)
    with pytest.raises(Failure) as caught:
        sqlserver_call.session.call(Procedure(f"{sqlserver_schema.name}.echo", arguments))

    assert caught.value.reason is Reason.ARGUMENTS_INVALID
    assert made is None or made.calls == []


@pytest.mark.parametrize("name", ["wrong", "given = 1; --", "given; DROP TABLE x", "]", "@@given"])
def test_a_wrong_argument_name_is_told_with_the_right_ones(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, name: str
) -> None:
    made = echo(sqlserver_schema)
    failure = sqlserver_call.refusal("echo", **{name: "x"})

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert "it takes given" in failure.message
    assert made is None or made.calls == []


def test_a_missing_argument_is_named_and_a_default_is_used(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema
) -> None:
    made = sqlserver_schema.define(
        "p",
        "@a nvarchar(9), @b nvarchar(9), @c nvarchar(9) = 'C'",
        "SELECT @a + @b + @c AS a",
        lambda values: returned(a=values["a"] + values["b"] + values["c"]),
    )
    failure = sqlserver_call.refusal("p", a="x")

    assert failure.reason is Reason.ARGUMENTS_INVALID
    assert failure.message == f"{sqlserver_schema.name}.p: needs b"
    assert made is None or made.calls == []
    assert sqlserver_call("p", a="x", b="y") == {"a": "xyC"}


TYPED = [
    ("int", "42", "42"),
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("tinyint", "255", "255"),
    ("decimal(30, 9)", "123456789012345678901.123456789", "123456789012345678901.123456789"),
    ("money", "9.95", "9.9500"),
    ("float", "0.1", "0.1"),
    ("bit", "true", "true"),
    ("bit", "0", "false"),
    ("date", "2026-11-21", "2026-11-21"),
    ("datetime2(3)", "2026-11-21T10:00:00.120", "2026-11-21 10:00:00.120000"),
    ("uniqueidentifier", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    ("xml", "<a>1</a>", "<a>1</a>"),
    ("varbinary(8)", "0x00FF", "0x00FF"),
    ("varchar(5)", "é€", "é€"),
    ("nvarchar(3)", "abc", "abc"),
    ("sysname", "n", "n"),
]


@pytest.mark.parametrize(("declared", "text", "printed"), TYPED, ids=[f"{one[0]}-{one[1][:8]}" for one in TYPED])
def test_values_are_read_by_the_server_as_the_declared_type(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, declared: str, text: str, printed: str
) -> None:
    echo(sqlserver_schema, declared)

    assert sqlserver_call("echo", given=text) == {"given": printed}
    assert sqlserver_call("echo", text) == {"given": printed}


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("int", "s3cret"),
        ("int", "99999999999"),
        ("int", ""),
        ("tinyint", "-1"),
        ("bit", "s3cret"),
        ("date", "2026-02-30"),
        ("date", ""),
        ("datetime2", "s3cret"),
        ("uniqueidentifier", "s3cret"),
        ("uniqueidentifier", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 and s3cret"),
        ("decimal(5, 2)", "s3cret"),
        ("xml", "<s3cret"),
        ("varbinary(8)", "s3cret"),
        ("varbinary(2)", "0x010203"),
        ("nvarchar(3)", "s3cret"),
        ("nvarchar(3)", "🐎🐎"),
        ("varchar(5)", "s3cret"),
        ("varchar(50)", "s3cret 漢"),
    ],
)
def test_a_value_that_does_not_fit_is_named_never_quoted_and_nothing_runs(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, declared: str, value: str
) -> None:
    """SQL Server itself would cut, replace or default most of these silently."""
    made = echo(sqlserver_schema, declared)
    for failure in (sqlserver_call.refusal("echo", given=value), sqlserver_call.refusal("echo", value)):
        assert failure.reason is Reason.ARGUMENTS_INVALID
        assert not failure.entered
        assert "s3cret" not in failure.message
        assert declared.partition("(")[0] in failure.message
    assert "argument given" in sqlserver_call.refusal("echo", given=value).message
    assert made is None or made.calls == []


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_what_sql_server_cannot_store_is_refused_before_it_is_sent(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, value: str
) -> None:
    made = echo(sqlserver_schema)

    assert sqlserver_call.refusal("echo", given=value).reason is Reason.ARGUMENTS_INVALID
    assert made is None or made.calls == []


@pytest.mark.parametrize(
    "value",
    [
        "it's", 'a "quoted" one', "'; DROP TABLE x; --", "]; EXEC xp_cmdshell 'x'", "line\nline\r\n\ttab",
        "{{ .Params }}",
        "? @P1 {call x}", "%s %(a)s", "🐎 naïve ﬁ 漢字 \u202e", "x" * 4001, "'" * 70_000, "NULL", " both ends ", "",
    ],
    ids=lambda value: value[:12],
)  # fmt: skip
def test_text_arrives_and_returns_unchanged(
    sqlserver_call: Caller, sqlserver_schema: SqlServerSchema, value: str
) -> None:
    echo(sqlserver_schema)

    assert sqlserver_call("echo", given=value) == {"given": value}


def test_any_text_arrives_unchanged_and_nothing_else_ever_runs(
    sqlserver: SqlServerSite, sqlserver_schema: SqlServerSchema
) -> None:
    echo(sqlserver_schema)
    session = sqlserver.connect()
    before = 0 if sqlserver.double is None else len(sqlserver.world.requests)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
    def round_trip(value: str) -> None:
        procedure = Procedure(f"{sqlserver_schema.name}.echo", (Argument("given", value),))
        assert session.call(procedure) == {"given": value}

    try:
        round_trip()
    finally:
        session.close()
    if sqlserver.double is not None:
        assert_only_own_statements(sqlserver, before)


def assert_only_own_statements(site: SqlServerSite, since: int) -> None:
    """Every statement that arrived is one of the driver's, word for word."""
    strange = [
        request.text
        for request in site.world.requests[since:]
        if request.kind not in ("sp_unprepare", "sp_execute") and not re.fullmatch(OWN_STATEMENTS, request.text)
    ]

    assert strange == []


# What the catalogue does not show


@pytest.mark.parametrize("catalogue", ["hidden", "refused"])
def test_a_procedure_that_the_account_may_not_see_is_called_by_its_name_all_the_same(
    misbehaving: SqlServerSite, catalogue: str
) -> None:
    """DENY VIEW DEFINITION takes the catalogue away from an account, and no right to execute."""

    def script(values: Mapping[str, Any]) -> Iterator[Event]:
        yield Rows(
            {"key": "nvarchar(20)", "value": "nvarchar(20)"}, [["given", values["given"]], ["n", str(values["n"])]]
        )

    misbehaving.world.define("dbaas", "make it", "@given nvarchar(20), @n int = 3", script)
    misbehaving.world.catalogue = catalogue
    session = misbehaving.connect()

    def call(name: str, **arguments: str) -> Any:
        return session.call(Procedure(name, tuple(Argument(*one) for one in arguments.items())))

    try:
        assert call("dbaas.[make it]", given="'; x", n="7") == {"given": "'; x", "n": "7"}
        assert call("dbaas.[make it]", **{"@given": "shop"}) == {"given": "shop", "n": "3"}
        assert call("dbaas.[make it]", **{"1": "2", "0": "shop"}) == {"given": "shop", "n": "2"}
        for name, arguments, reason in (
            ("dbaas.absent", {}, Reason.PROCEDURE_MISSING),
            ("dbaas.[make it]", {"given": "a", "x": "b"}, Reason.ARGUMENTS_INVALID),
            ("dbaas.[make it]", {"given = 1; --": "b"}, Reason.ARGUMENTS_INVALID),
            ("dbaas.[make it]", {"0": "b", "n": "b"}, Reason.ARGUMENTS_INVALID),
            ("dbaas.[make it]", {"given": "nul\0"}, Reason.ARGUMENTS_INVALID),
        ):
            with pytest.raises(Failure) as caught:
                call(name, **arguments)
            assert caught.value.reason is reason, name
    finally:
        session.close()
