"""Procedures as DBAs write them whom nobody has asked: what comes of one call of each.

Kept short, and as odd as they come: what is expected of each is what docs/dba.md lets its author expect.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from api.reasons import Reason
from tests.integration.caller import Caller
from tests.integration.mariadb_site import MariaDBSchema
from tests.integration.postgresql_site import Schema

pytestmark = pytest.mark.integration

CREDENTIALS = {"username": "shop", "password": "pw"}
SQL = "LANGUAGE sql AS"
BODY = "LANGUAGE plpgsql AS"

POSTGRESQL: Mapping[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "composite": (
        "CREATE TYPE made AS (username text, password text); "
        f"CREATE FUNCTION f(name text) RETURNS made {SQL} $$ SELECT name, 'pw' $$",
        {"name": "shop"},
        CREDENTIALS,
    ),
    "set of a composite of key and value": (
        "CREATE TYPE pair AS (key text, value text); "
        f"CREATE FUNCTION f(name text) RETURNS SETOF pair {SQL} $$ VALUES ('username', name), ('password', 'pw') $$",
        {"name": "shop"},
        CREDENTIALS,
    ),
    "values of jsonb": (
        f"CREATE FUNCTION f(name text) RETURNS TABLE (key text, value jsonb) {SQL}"
        " $$ VALUES ('port', to_jsonb(5432)), ('tls', to_jsonb(true)) $$",
        {"name": "shop"},
        {"port": "5432", "tls": "true"},
    ),
    "one json": (
        f"CREATE FUNCTION f(name text) RETURNS json {SQL} $$ SELECT json_build_object('username', name) $$",
        {"name": "shop"},
        {"f": '{"username" : "shop"}'},
    ),
    "odd types": (
        "CREATE FUNCTION f(name name) RETURNS TABLE (n numeric(10,2), ok bool, at timestamptz, i inet, d interval,"
        f" u uuid, a text[], x float8) {SQL} $$ SELECT 1.50, true, '2026-11-21 10:00+01'::timestamptz, '::1'::inet,"
        " '1 day'::interval, '00000000-0000-0000-0000-000000000001'::uuid, ARRAY['a', 'b c'], 0.1 $$",
        {"name": "shop"},
        {
            "n": "1.50",
            "ok": "true",
            "at": "2026-11-21 09:00:00+00",
            "i": "::1",
            "d": "1 day",
            "u": "00000000-0000-0000-0000-000000000001",
            "a": '{a,"b c"}',
            "x": "0.1",
        },
    ),
    "names in mixed case": (
        'CREATE FUNCTION "CreateDb"("dbName" text) RETURNS TABLE ("userName" text) LANGUAGE sql'
        ' AS $$ SELECT "dbName" $$',
        {"dbName": "shop"},
        {"userName": "shop"},
    ),
    "commits, INOUT with defaults": (
        "CREATE PROCEDURE f(name text, INOUT username text DEFAULT NULL, INOUT password text DEFAULT 'pw')"
        f" {BODY} $$ BEGIN username := name; COMMIT; END $$",
        {"name": "shop"},
        CREDENTIALS,
    ),
    "SECURITY DEFINER, search_path, a flood of messages": (
        "CREATE FUNCTION f(name text) RETURNS TABLE (username text, password text) LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp SET client_min_messages = debug AS $$ BEGIN"
        " FOR i IN 1..5000 LOOP RAISE INFO 'password is pw %', i; END LOOP; RETURN QUERY SELECT name, 'pw'; END $$",
        {"name": "shop"},
        CREDENTIALS,
    ),
    "a handler that goes on": (
        "CREATE FUNCTION f(name text) RETURNS TABLE (username text, password text) LANGUAGE plpgsql AS $$ BEGIN"
        " BEGIN PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END; RETURN QUERY SELECT name, NULL::text; END $$",
        {"name": "shop"},
        {"username": "shop", "password": ""},
    ),
    "a megabyte": (
        f"CREATE FUNCTION f(name text) RETURNS TABLE (password text) {SQL} $$ SELECT repeat('x', 1000000) $$",
        {"name": "shop"},
        {"password": "x" * 1_000_000},
    ),
    "quotes, backslashes, percent, others": (
        f"CREATE FUNCTION f(name text) RETURNS TABLE (password text) {SQL} $$ SELECT name $$",
        {"name": "a'b\"c\\d%s{{ }}$1;é🐘"},
        {"password": "a'b\"c\\d%s{{ }}$1;é🐘"},
    ),
}

REFUSED: Mapping[str, tuple[str, Reason, str]] = {
    "creates its database itself": ("EXECUTE 'CREATE DATABASE never'", Reason.PROCEDURE_FAILED, "25001"),
    "has a code of its own": (
        "RAISE EXCEPTION 'no more' USING ERRCODE = 'DB001'",
        Reason.PROCEDURE_FAILED,
        "DB001",
    ),
    "asserts": ("ASSERT false, 'name must be lower case'", Reason.PROCEDURE_FAILED, "P0004"),
    "finds it there": ("RAISE duplicate_database USING MESSAGE = 'taken'", Reason.ALREADY_EXISTS, "42P04"),
    "may not write": ("SET LOCAL transaction_read_only = on; CREATE TABLE t (a int)", Reason.SERVER_NOT_READY, "25006"),
    "finds no room": ("RAISE disk_full USING MESSAGE = 'no room'", Reason.RESOURCES_EXHAUSTED, "53100"),
    "finds the database in use": ("RAISE object_in_use USING MESSAGE = 'in use'", Reason.PROCEDURE_FAILED, "55006"),
    "gives up on its own lock": ("RAISE lock_not_available USING MESSAGE = 'locked'", Reason.LOCK_TIMEOUT, "55P03"),
}

MARIADB: Mapping[str, tuple[str, dict[str, str]]] = {
    "logs before it answers": ("SELECT 'begun' AS log; SELECT name AS username, 'pw' AS `password`", CREDENTIALS),
    "counts after it answers": ("SELECT name AS username; SELECT ROW_COUNT() AS affected", {"affected": "-1"}),
    "swallows an error": (
        "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; INSERT INTO nowhere VALUES (1);"
        " SELECT name AS username, NULL AS `password`",
        {"username": "shop", "password": ""},
    ),
    "prepares": (
        "SET @s = CONCAT('SELECT ', QUOTE(name), ' AS username, ''pw'' AS `password`'); PREPARE s FROM @s; EXECUTE s;"
        " DEALLOCATE PREPARE s",
        CREDENTIALS,
    ),
    "turns autocommit off": ("SET autocommit = 0; SELECT name AS username, 'pw' AS `password`", CREDENTIALS),
    "warns": (
        "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = 'pw'; SELECT name AS username, 'pw' AS `password`",
        CREDENTIALS,
    ),
    "selects into": (
        "DECLARE pw text; SELECT 'pw' INTO pw; SELECT 'username' AS `KEY`, name AS `VALUE` UNION SELECT 'password', pw",
        CREDENTIALS,
    ),
    "uses a temporary table": (
        "CREATE TEMPORARY TABLE r (`key` text, `value` text);"
        " INSERT INTO r VALUES ('username', name), ('password', 'pw'); SELECT * FROM r; DROP TEMPORARY TABLE r",
        CREDENTIALS,
    ),
    "gives odd types": (
        "SELECT TRUE AS t, 1.50 AS d, CAST('a' AS BINARY) AS b, JSON_OBJECT('a', 1) AS j, b'101' AS bits, NULL AS n",
        {"t": "1", "d": "1.50", "b": "0x61", "j": '{"a": 1}', "bits": "0x05", "n": ""},
    ),
    "gives all locks back": ("DO RELEASE_ALL_LOCKS(); SELECT name AS username, 'pw' AS `password`", CREDENTIALS),
}

MARIADB_REFUSED: Mapping[str, tuple[str, Reason, str]] = {
    "signals": ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no more'", Reason.PROCEDURE_FAILED, "no more"),
    "signals what was not found": (
        "SIGNAL SQLSTATE '02000' SET MESSAGE_TEXT = 'gone'",
        Reason.PROCEDURE_FAILED,
        "gone",
    ),
    "signals again, in its own words": (
        "DECLARE EXIT HANDLER FOR SQLEXCEPTION RESIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'ask us';"
        " INSERT INTO nowhere VALUES (1)",
        Reason.PROCEDURE_FAILED,
        "ask us",
    ),
    "finds it there": (
        "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1007, MESSAGE_TEXT = 'taken'",
        Reason.ALREADY_EXISTS,
        "taken",
    ),
    "answers in another character set": (
        "SET NAMES latin1; SELECT _utf8mb4'ä' AS `password`",
        Reason.RESULT_INVALID,
        "text that is not UTF-8",
    ),
    "answers nothing": ("DO 1", Reason.RESULT_INVALID, "returned nothing"),
}


@pytest.mark.parametrize("written", POSTGRESQL)
def test_what_a_procedure_of_postgresql_gives(
    call: Caller, schema: Schema, capfd: pytest.CaptureFixture[str], written: str
) -> None:
    statement, given, result = POSTGRESQL[written]
    schema.define(statement)

    assert call("CreateDb" if "CreateDb" in statement else "f", **given) == result
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("written", REFUSED)
def test_why_a_procedure_of_postgresql_fails(call: Caller, schema: Schema, written: str) -> None:
    body, reason, code = REFUSED[written]
    schema.function("f(name text) RETURNS TABLE (key text, value text)", f"BEGIN {body}; END")
    failure = call.refusal("f", name="shop")

    assert (failure.reason, failure.code, failure.entered) == (reason, code, True)


@pytest.mark.parametrize("written", MARIADB)
def test_what_a_procedure_of_mariadb_gives(mariadb_call: Caller, mariadb_schema: MariaDBSchema, written: str) -> None:
    body, result = MARIADB[written]
    mariadb_schema.procedure("p(name varchar(63))", body)

    assert mariadb_call("p", "shop") == result


@pytest.mark.parametrize("written", MARIADB_REFUSED)
def test_why_a_procedure_of_mariadb_fails(mariadb_call: Caller, mariadb_schema: MariaDBSchema, written: str) -> None:
    body, reason, told = MARIADB_REFUSED[written]
    mariadb_schema.procedure("p(name varchar(63))", body)
    failure = mariadb_call.refusal("p", "shop")

    assert (failure.reason, failure.entered) == (reason, True)
    assert told in failure.message
