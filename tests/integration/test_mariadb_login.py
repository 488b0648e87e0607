"""Logging in to MariaDB: every refusal has its own reason, and says what helps."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from api.reasons import Reason
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Procedure
from tests.integration.mariadb_site import MariaDBSite, links
from tests.servers.mariadb import MariaDB
from tests.servers.mariadb_impostor import Impostor
from tests.servers.programs import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def restored(mariadb: MariaDBSite) -> Iterator[MariaDBSite]:
    """The site, for tests that change how the server presents itself."""
    yield mariadb
    mariadb.server.present(mariadb.good)
    mariadb.server.configure({"require_secure_transport": "OFF", "read_only": "OFF"})
    mariadb.make_account()


@pytest.fixture(scope="module")
def plain(mariadb: MariaDBSite) -> Iterator[MariaDBSite]:
    """A server without TLS."""
    with MariaDB.temporary() as server:
        server.start()
        site = MariaDBSite(server, mariadb.authority, mariadb.stranger, mariadb.good)
        site.make_account()
        yield site


def test_mysql_and_mariadb_are_served_by_the_same_driver() -> None:
    assert load("mysql") is load("mariadb")


def test_a_connection_says_what_it_is(mariadb: MariaDBSite) -> None:
    session = mariadb.connect()
    facts = session.connection
    session.close()
    certificate = mariadb.good.parsed

    assert facts.server_version.startswith("MariaDB 1")
    assert facts.tls_version == "TLSv1.3"
    assert facts.cipher.startswith("TLS_")
    assert facts.peer_certificate_sha256 == hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert facts.peer_certificate_not_after == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_the_server_agrees_that_the_connection_is_encrypted(mariadb: MariaDBSite) -> None:
    server = mariadb.server
    server.execute("CREATE OR REPLACE DATABASE looks")
    server.execute(
        "CREATE PROCEDURE looks.status() SELECT VARIABLE_NAME AS `key`, VARIABLE_VALUE AS `value`"
        " FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN ('SSL_VERSION', 'SSL_CIPHER')"
    )
    server.execute(f"GRANT EXECUTE ON looks.* TO {mariadb.username}")
    session = mariadb.connect()
    seen = session.call(Procedure("looks.status"))
    session.close()
    server.execute("DROP DATABASE looks")

    assert seen == {"SSL_VERSION": session.connection.tls_version, "SSL_CIPHER": session.connection.cipher}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_name_or_address_that_the_certificate_carries_is_accepted(mariadb: MariaDBSite, host: str) -> None:
    session = mariadb.connect(host=host)
    session.close()

    assert session.connection.tls_version


def test_a_server_name_other_than_the_host_is_what_the_certificate_is_held_against(mariadb: MariaDBSite) -> None:
    session = mariadb.connect(server_name="db.example.test")
    session.close()

    assert session.connection.tls_version
    assert mariadb.refusal(server_name="other.example.test").reason is Reason.CERTIFICATE_NAME_MISMATCH


def test_a_ca_bundle_in_the_endpoint_comes_before_the_mounted_file(mariadb: MariaDBSite) -> None:
    mariadb.connect(ca_bundle=mariadb.authority.pem, ca_file="/nowhere/ca.crt").close()

    assert mariadb.refusal(ca_bundle=mariadb.stranger.pem).reason is Reason.CERTIFICATE_NOT_TRUSTED


def test_without_a_ca_the_public_ones_are_trusted_and_a_private_one_is_not(
    mariadb: MariaDBSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(mariadb.authority.file))
    failure = mariadb.refusal(ca_file=None)

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert "tls.caSecretRef" in failure.message


def test_a_certificate_of_another_ca_is_refused(mariadb: MariaDBSite) -> None:
    failure = mariadb.refusal(ca_file=str(mariadb.stranger.file))

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert f"127.0.0.1:{mariadb.server.port}" in failure.message
    assert not failure.retryable


def test_a_certificate_for_another_name_is_refused_and_both_names_are_said(restored: MariaDBSite) -> None:
    restored.server.present(restored.authority.issue("elsewhere", ["elsewhere.example.test", "10.9.9.9"]))
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_NAME_MISMATCH
    assert "elsewhere.example.test, 10.9.9.9" in failure.message
    assert "not for 127.0.0.1" in failure.message


def test_verify_ca_accepts_another_name_but_not_another_ca(restored: MariaDBSite) -> None:
    restored.server.present(restored.authority.issue("elsewhere", ["elsewhere.example.test"]))
    session = restored.connect(tls_mode="VerifyCA")
    session.close()

    assert session.connection.tls_version
    assert session.connection.peer_certificate_not_after
    strange = restored.refusal(tls_mode="VerifyCA", ca_file=str(restored.stranger.file))
    assert strange.reason is Reason.CERTIFICATE_NOT_TRUSTED


def test_an_expired_certificate_is_refused_and_its_date_is_said(restored: MariaDBSite) -> None:
    expired = restored.authority.issue("expired", ["127.0.0.1"], expires=timedelta(days=-2))
    restored.server.present(expired)
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_EXPIRED
    assert f"{expired.parsed.not_valid_after_utc:%Y-%m-%d %H:%M}" in failure.message


def test_a_certificate_that_is_not_valid_yet_is_refused(restored: MariaDBSite) -> None:
    restored.server.present(restored.authority.issue("early", ["127.0.0.1"], begins=timedelta(days=2)))
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_EXPIRED
    assert "not yet valid" in failure.message


# Downgrade, and servers that want the password


@pytest.mark.parametrize("mode", ["VerifyFull", "VerifyCA"])
def test_a_server_without_tls_is_refused_before_the_password_is_sent(plain: MariaDBSite, mode: str) -> None:
    failure = plain.refusal(tls_mode=mode)

    assert failure.reason is Reason.TLS_NOT_OFFERED
    assert "no password was sent" in failure.message


@pytest.mark.parametrize("mode", ["VerifyFull", "VerifyCA"])
def test_where_the_offer_of_tls_was_taken_away_nothing_is_said(mariadb: MariaDBSite, mode: str) -> None:
    with Impostor(None, "mysql_clear_password") as impostor:
        failure = mariadb.refusal(port=impostor.port, tls_mode=mode)

    assert failure.reason is Reason.TLS_NOT_OFFERED
    assert impostor.heard == b""


@pytest.mark.parametrize("method", ["mysql_clear_password", "dialog", "caching_sha2_password"])
def test_a_server_that_was_not_verified_hears_nothing_in_tls_either(mariadb: MariaDBSite, method: str) -> None:
    foreign = mariadb.stranger.issue("impostor", ["127.0.0.1"])
    with Impostor(foreign, method) as impostor:
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
        with Impostor(certificate, method, greeting) as impostor:
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
    with Impostor(mariadb.good, method) as impostor:
        failure = mariadb.refusal(port=impostor.port, tls_mode=mode)

    assert impostor.encrypted
    assert mariadb.password.encode() + b"\0" in impostor.heard
    assert failure.reason is Reason.CREDENTIALS_REFUSED


def test_a_server_whose_tls_is_too_old_is_refused(mariadb: MariaDBSite) -> None:
    with MariaDB.temporary() as server:
        server.start(mariadb.good, tls_version="TLSv1.2")
        site = MariaDBSite(server, mariadb.authority, mariadb.stranger, mariadb.good)
        site.make_account()
        failure = site.refusal(minimum_tls_version="1.3")
        session = site.connect()
        session.close()

    assert failure.reason is Reason.TLS_VERSION_REFUSED
    assert "TLS 1.3" in failure.message
    assert session.connection.tls_version == "TLSv1.2"


def test_tls_disabled_connects_in_clear_and_says_so(plain: MariaDBSite) -> None:
    session = plain.connect(tls_mode="Disabled")
    session.close()

    assert session.connection.tls_version == ""
    assert session.connection.peer_certificate_sha256 == ""


def test_a_server_that_takes_no_clear_connections_says_what_to_do(restored: MariaDBSite) -> None:
    restored.server.configure({"require_secure_transport": "ON"})
    failure = restored.refusal(tls_mode="Disabled")

    assert failure.reason is Reason.CREDENTIALS_REFUSED
    assert "no login without TLS" in failure.message


# Client certificates


def test_a_client_certificate_is_shown_where_the_account_requires_one(restored: MariaDBSite) -> None:
    own = restored.authority.issue("client", common_name="operator")
    foreign = restored.authority.issue("foreign", common_name="somebody")
    restored.make_account("REQUIRE SUBJECT '/CN=operator'")
    restored.connect(client_certificate=(str(own.certificate), str(own.key))).close()

    without = restored.refusal()
    assert without.reason is Reason.CREDENTIALS_REFUSED
    assert "client certificate" in without.message
    wrong = restored.refusal(client_certificate=(str(foreign.certificate), str(foreign.key)))
    assert wrong.reason is Reason.CREDENTIALS_REFUSED
    assert "another client certificate" in wrong.message


def test_a_client_certificate_of_another_ca_is_refused_by_the_server(mariadb: MariaDBSite) -> None:
    own = mariadb.stranger.issue("client", common_name=mariadb.username)
    failure = mariadb.refusal(client_certificate=(str(own.certificate), str(own.key)))

    assert failure.reason is Reason.CLIENT_CERTIFICATE_REFUSED


@pytest.mark.parametrize("broken", ["certificate", "key", "pair", "absent"])
def test_unusable_client_certificate_files_are_the_endpoints_fault(
    mariadb: MariaDBSite, tmp_path: Path, broken: str
) -> None:
    one = mariadb.authority.issue("one", common_name=mariadb.username)
    other = mariadb.authority.issue("other", common_name=mariadb.username)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    files = {
        "certificate": (garbage, one.key),
        "key": (one.certificate, garbage),
        "pair": (one.certificate, other.key),
        "absent": (tmp_path / "absent.crt", tmp_path / "absent.key"),
    }[broken]
    failure = mariadb.refusal(client_certificate=(str(files[0]), str(files[1])))

    assert failure.reason is Reason.ENDPOINT_INVALID
    assert "tls.crt" in failure.message


def test_a_ca_file_that_holds_no_certificate_is_the_endpoints_fault(mariadb: MariaDBSite) -> None:
    assert mariadb.refusal(ca_bundle="not PEM").reason is Reason.ENDPOINT_INVALID
    assert mariadb.refusal(ca_bundle="größe").reason is Reason.ENDPOINT_INVALID
    assert mariadb.refusal(ca_file="/nowhere/ca.crt").reason is Reason.ENDPOINT_INVALID


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


@pytest.mark.parametrize("changes", [{"tls_mode": "Prefer"}, {"tls_mode": ""}, {"minimum_tls_version": "1.1"}])
def test_a_demand_that_is_not_understood_is_no_weaker_demand(mariadb: MariaDBSite, changes: dict[str, str]) -> None:
    assert mariadb.refusal(**changes).reason is Reason.ENDPOINT_INVALID


def test_an_account_with_all_its_connections_in_use_has_too_many(restored: MariaDBSite) -> None:
    restored.make_account("WITH MAX_USER_CONNECTIONS 1")
    session = restored.connect()
    failure = restored.refusal()
    session.close()

    assert failure.reason is Reason.TOO_MANY_CONNECTIONS
    assert failure.retryable


# The network


def test_a_port_where_nobody_listens_is_unreachable(mariadb: MariaDBSite) -> None:
    port = free_port()
    failure = mariadb.refusal(port=port)

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert failure.message == f"127.0.0.1:{port} cannot be reached: connection refused"
    assert mariadb.refusal(port=port, tls_mode="Disabled").reason is Reason.ENDPOINT_UNREACHABLE


def test_a_name_that_does_not_resolve_is_unreachable(mariadb: MariaDBSite) -> None:
    failure = mariadb.refusal(host="absent.invalid")

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert "absent.invalid" in failure.message


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(
    mariadb: MariaDBSite, listener: socket.socket
) -> None:
    started = time.monotonic()
    failure = mariadb.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=0.5))

    assert failure.reason is Reason.SERVER_NOT_READY
    assert time.monotonic() - started < 3


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
    server.execute("CREATE OR REPLACE DATABASE looks")
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
