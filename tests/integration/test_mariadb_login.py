"""Logging in to MariaDB: every refusal has its own reason, and says what helps."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from api.reasons import Reason
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Procedure
from tests.integration.mariadb_site import MariaDBSite, links
from tests.servers.mariadb import MariaDB
from tests.servers.mariadb_impostor import MariaDBImpostor

pytestmark = pytest.mark.integration


@pytest.fixture
def restored(mariadb: MariaDBSite) -> Iterator[MariaDBSite]:
    """The site, for tests that change how the server presents itself."""
    yield mariadb
    mariadb.server.present(mariadb.good)
    mariadb.server.configure({"require_secure_transport": "OFF", "read_only": "OFF"})
    mariadb.make_account()


def test_mysql_and_mariadb_are_served_by_the_same_driver() -> None:
    assert load("mysql") is load("mariadb")


def test_the_server_agrees_that_the_connection_is_encrypted(mariadb: MariaDBSite) -> None:
    server = mariadb.server
    server.execute("CREATE DATABASE looks")
    server.execute(
        "CREATE PROCEDURE looks.status() SELECT VARIABLE_NAME AS `key`, VARIABLE_VALUE AS `value`"
        " FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN ('SSL_VERSION', 'SSL_CIPHER')"
    )
    server.execute(f"GRANT EXECUTE ON looks.* TO {mariadb.username}")
    session = mariadb.connect()
    seen = session.call(Procedure("looks.status"))
    session.close()
    server.execute("DROP DATABASE looks")

    # A server with wolfSSL writes TLS13-AES256-GCM-SHA384 for TLS_AES_256_GCM_SHA384.
    digits = "".join(filter(str.isdigit, seen["SSL_CIPHER"].removeprefix("TLS13")))
    assert seen["SSL_VERSION"] == session.connection.tls_version
    assert digits == "".join(filter(str.isdigit, session.connection.cipher))


# Downgrade, and servers that want the password


@pytest.mark.parametrize("method", ["mysql_clear_password", "dialog", "caching_sha2_password"])
def test_a_server_that_was_not_verified_hears_nothing_in_tls_either(mariadb: MariaDBSite, method: str) -> None:
    foreign = mariadb.stranger.issue("impostor", ["127.0.0.1"])
    with MariaDBImpostor(foreign, method) as impostor:
        failure = mariadb.refusal(port=impostor.port)

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert impostor.heard == b""


@pytest.mark.parametrize(
    ("method", "mode"),
    [
        ("mysql_clear_password", "VerifyCA"),
        ("dialog", "VerifyCA"),
        ("mysql_old_password", "VerifyCA"),
        ("mysql_old_password", "VerifyFull"),
        ("client_ed25519", "VerifyFull"),
        ("auth_gssapi_client", "VerifyFull"),
        ("mysql_clear_password", "Disabled"),
        ("dialog", "Disabled"),
        ("caching_sha2_password", "Disabled"),
        ("sha256_password", "Disabled"),
    ],
)
def test_a_method_that_would_give_the_password_away_is_refused(mariadb: MariaDBSite, method: str, mode: str) -> None:
    for greeting in ("mysql_native_password", method):
        certificate = None if mode == "Disabled" else mariadb.good
        with MariaDBImpostor(certificate, method, greeting) as impostor:
            failure = mariadb.refusal(port=impostor.port, tls_mode=mode)

        assert failure.reason is Reason.CREDENTIALS_REFUSED
        assert method in failure.message
        assert mariadb.password.encode() not in impostor.heard
        assert mariadb.username.encode() in impostor.heard


@pytest.mark.parametrize(
    ("method", "mode"),
    [
        ("caching_sha2_password", "VerifyFull"),
        ("caching_sha2_password", "VerifyCA"),
        ("sha256_password", "VerifyCA"),
        ("mysql_clear_password", "VerifyFull"),
    ],
)
def test_a_verified_server_is_shown_the_password_when_its_method_needs_it(
    mariadb: MariaDBSite, method: str, mode: str
) -> None:
    """MySQL 8's own default does, whenever the account is not in the server's cache."""
    with MariaDBImpostor(mariadb.good, method) as impostor:
        failure = mariadb.refusal(port=impostor.port, tls_mode=mode)

    assert impostor.encrypted
    assert mariadb.password.encode() + b"\0" in impostor.heard
    assert failure.reason is Reason.CREDENTIALS_REFUSED


def test_a_server_that_takes_no_clear_connections_says_what_to_do(restored: MariaDBSite) -> None:
    restored.server.configure({"require_secure_transport": "ON"})
    failure = restored.refusal(tls_mode="Disabled")

    # Newer releases have an error of its own for it, older ones refuse the account.
    assert failure.reason in (Reason.CREDENTIALS_REFUSED, Reason.ENDPOINT_INVALID)
    assert "no login without TLS" in failure.message or "tls.mode to VerifyFull" in failure.message


# Client certificates


# The account


def test_a_wrong_password_is_refused_once_and_never_repeated(mariadb: MariaDBSite) -> None:
    [(_, before)] = mariadb.server.execute("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")
    failure = mariadb.refusal(password="Wr0ng-and-secret", host="localhost")
    [(_, after)] = mariadb.server.execute("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")

    assert failure.reason is Reason.CREDENTIALS_REFUSED
    assert failure.code == "1045"
    assert "Wr0ng-and-secret" not in "".join(f"{one!r}{one}{vars(one)}" for one in links(failure))
    assert int(after) - int(before) <= 1


def test_an_empty_password_or_name_is_not_looked_for_elsewhere(mariadb: MariaDBSite) -> None:
    assert mariadb.refusal(password="").reason is Reason.CREDENTIALS_REFUSED
    assert mariadb.refusal(username="").reason is Reason.ENDPOINT_INVALID


def test_an_unknown_account_is_refused_like_a_wrong_password(mariadb: MariaDBSite) -> None:
    assert mariadb.refusal(username="nobody").reason is Reason.CREDENTIALS_REFUSED


def test_a_locked_account_is_refused(restored: MariaDBSite) -> None:
    restored.make_account("ACCOUNT LOCK")

    assert restored.refusal().reason is Reason.CREDENTIALS_REFUSED


def test_an_expired_password_is_told_with_the_cure(restored: MariaDBSite) -> None:
    """MariaDB lets such an account log in, and answers everything after it with an error."""
    restored.make_account("PASSWORD EXPIRE")
    failure = restored.refusal()

    assert failure.reason is Reason.CREDENTIALS_REFUSED
    assert "the account's password has expired; set another (ALTER USER)" in failure.message


def test_an_unknown_database_and_one_that_is_not_the_accounts_are_told(mariadb: MariaDBSite) -> None:
    """An account without any right to a database is not told whether there is one."""
    failure = mariadb.refusal(database="absent")
    assert failure.reason is Reason.PERMISSION_DENIED
    mariadb.server.execute(f"GRANT EXECUTE ON `absent`.* TO {mariadb.username}")
    missing = mariadb.refusal(database="absent")
    mariadb.server.execute(f"REVOKE EXECUTE ON `absent`.* FROM {mariadb.username}")

    assert missing.reason is Reason.DATABASE_MISSING
    assert "absent" in missing.message


@pytest.mark.parametrize("field", ["username", "database"])
def test_a_name_with_a_nul_does_not_become_two_fields(mariadb: MariaDBSite, field: str) -> None:
    assert mariadb.refusal(**{field: "a\0b"}).reason is Reason.ENDPOINT_INVALID


@pytest.mark.parametrize("host", ["/tmp", "@socket", "a,b", "a b", "", "a\n"])
def test_a_host_that_is_no_host_is_refused(mariadb: MariaDBSite, host: str) -> None:
    assert mariadb.refusal(host=host).reason is Reason.ENDPOINT_INVALID
    assert mariadb.refusal(server_name=host or "/").reason is Reason.ENDPOINT_INVALID


def test_an_account_with_all_its_connections_in_use_has_too_many(restored: MariaDBSite) -> None:
    restored.make_account("WITH MAX_USER_CONNECTIONS 1")
    session = restored.connect()
    failure = restored.refusal()
    session.close()

    assert failure.reason is Reason.TOO_MANY_CONNECTIONS
    assert failure.retryable


# The network


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.TLS_FAILED),
        (b"\x05\0\0\0\x0a8.0\0", Reason.TLS_FAILED),
        (b"\x03\0\0\0\x0a", Reason.SERVER_NOT_READY),
        (b"", Reason.SERVER_NOT_READY),
        (b"\x17\0\0\0\xff\x10\x04Too many connections", Reason.TOO_MANY_CONNECTIONS),
    ],
)
def test_something_that_does_not_answer_as_mariadb_does_is_told(
    mariadb: MariaDBSite, listener: socket.socket, greeting: bytes, reason: Reason
) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(greeting)

    thread = threading.Thread(target=answer)
    thread.start()
    failure = mariadb.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=5))
    thread.join()

    assert failure.reason is reason


def test_a_server_that_hangs_up_amid_the_handshake_is_tried_again(
    mariadb: MariaDBSite, listener: socket.socket
) -> None:
    """It was stopped, or the network was cut: nothing is wrong that somebody would have to change."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection, socket.create_connection(("127.0.0.1", mariadb.server.port)) as real:
            connection.sendall(real.recv(4096))
            connection.recv(36)
            connection.recv(4096)
            connection.sendall(b"\x16\x03\x03\x00\x7a\x02\0\0")  # the beginning of a ServerHello

    thread = threading.Thread(target=answer)
    thread.start()
    failure = mariadb.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=5))
    thread.join()

    assert failure.reason is Reason.SERVER_NOT_READY


def test_a_server_that_is_stopped_is_unreachable_and_a_replica_is_not_ready(mariadb: MariaDBSite) -> None:
    with MariaDB.temporary() as server:
        site = MariaDBSite(server, mariadb.authority, mariadb.stranger, mariadb.good)
        server.start(mariadb.good, read_only="1")
        site.make_account()
        replica = site.refusal()
        server.configure({"read_only": "OFF"})
        site.connect().close()
        server.stop()
        stopped = site.refusal()
        server.start(mariadb.good)
        site.connect().close()

    assert replica.reason is Reason.SERVER_NOT_READY
    assert "read-only" in replica.message
    assert stopped.reason is Reason.ENDPOINT_UNREACHABLE


# The session


def test_a_server_cannot_loosen_the_session(restored: MariaDBSite) -> None:
    """Its init_connect and its globals come before what the driver sets."""
    server = restored.server
    [(usual,)] = server.execute("SELECT @@global.sql_mode")
    server.configure({"sql_mode": "''", "init_connect": "'SET sql_mode = \"NO_BACKSLASH_ESCAPES\", autocommit = 0'"})
    server.execute("CREATE DATABASE looks")
    names = ("sql_mode", "autocommit", "wait_timeout", "innodb_lock_wait_timeout", "lock_wait_timeout", "time_zone",
             "max_statement_time", "character_set_client", "character_set_results", "collation_connection")  # fmt: skip
    listed = ", ".join(f"'{name.upper()}'" for name in names)
    server.execute(
        "CREATE PROCEDURE looks.settings() SELECT LOWER(VARIABLE_NAME) AS `key`, VARIABLE_VALUE AS `value`"
        f" FROM information_schema.SESSION_VARIABLES WHERE VARIABLE_NAME IN ({listed})"
    )
    server.execute(f"GRANT EXECUTE ON looks.* TO {restored.username}")
    session = restored.connect()
    settings = session.call(Procedure("looks.settings", timeout=timedelta(seconds=20)))
    session.close()
    server.configure({"sql_mode": f"'{usual}'", "init_connect": "''"})
    server.execute("DROP DATABASE looks")

    assert settings["autocommit"] == "ON"
    assert settings["wait_timeout"] == "300"
    assert settings["lock_wait_timeout"] == settings["innodb_lock_wait_timeout"] == "18"
    assert settings["max_statement_time"] == "20.000000"
    assert settings["character_set_client"] == settings["character_set_results"] == "utf8mb4"
    assert settings["collation_connection"].startswith("utf8mb4_")
    assert settings["time_zone"] == "+00:00"
