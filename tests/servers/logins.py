"""Logging in as a user's program does: by the credentials of a Secret and the engine's usual library, TLS verified."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pymysql

from tests.servers.pki import Authority

SECONDS = 10


class LoginRefused(Exception):
    """A server does not take these credentials."""


def connect(engine: str, secret: Mapping[str, str], authority: Authority, address: str = "") -> Any:
    """A connection of the engine's library, in autocommit. Raises LoginRefused.

    engine: a folder below examples/. address: where the Secret's host is to be found, if its name does not tell.
    """
    return _CONNECT[engine](secret, authority, address or secret["host"])


def log_in(engine: str, secret: Mapping[str, str], authority: Authority, address: str = "") -> tuple[str, str]:
    """Who one is then, and in which database. Raises LoginRefused."""
    with connect(engine, secret, authority, address) as connection, connection.cursor() as cursor:
        cursor.execute(_WHO_AND_WHERE[engine])
        user, database = cursor.fetchone()
    return str(user), str(database)


def _postgresql(secret: Mapping[str, str], authority: Authority, address: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(
            host=secret["host"],
            hostaddr=address,
            port=int(secret["port"]),
            user=secret["username"],
            password=secret["password"],
            dbname=secret["database"],
            sslmode="verify-full",
            sslrootcert=str(authority.file),
            connect_timeout=SECONDS,
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        raise LoginRefused(str(error)) from None


def _mariadb(secret: Mapping[str, str], authority: Authority, address: str) -> pymysql.Connection[Any]:
    connection = pymysql.connect(
        # The name that the certificate must carry; where it is, the socket knows.
        host=secret["host"],
        user=secret["username"],
        # PyMySQL would encode it as Latin-1.
        password=secret["password"].encode(),
        database=secret["database"],
        ssl_ca=str(authority.file),
        ssl_verify_cert=True,
        ssl_verify_identity=True,
        autocommit=True,
        defer_connect=True,
    )
    try:
        connection.connect(socket.create_connection((address, int(secret["port"])), timeout=SECONDS))
    except (pymysql.Error, OSError) as error:
        raise LoginRefused(str(error)) from None
    return connection


_CONNECT: Mapping[str, Callable[[Mapping[str, str], Authority, str], Any]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
}
_WHO_AND_WHERE = {
    "postgresql": "SELECT current_user::text, current_database()::text",
    "mariadb": "SELECT SUBSTRING_INDEX(USER(), '@', 1), DATABASE()",
}
