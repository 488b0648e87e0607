"""Logging in to SQL Server: every refusal has its own reason, and no password leaves before the server is verified."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from api.reasons import Reason
from provisioner_job.errors import Failure
from tests.integration.sqlserver_site import PASSWORD, SqlServerSite
from tests.integration.tds.packets import Encryption
from tests.integration.tds.requests import scrambled

pytestmark = pytest.mark.integration

QUICK = timedelta(seconds=0.6)


def assert_no_password_was_sent(site: SqlServerSite) -> None:
    """Neither in a login, nor anywhere in clear."""
    assert site.world.logins == []
    assert scrambled(PASSWORD) not in bytes(site.world.in_clear)
    assert PASSWORD.encode("utf-16-le") not in bytes(site.world.in_clear)


def test_a_real_or_double_server_lets_the_account_in(sqlserver: SqlServerSite) -> None:
    session = sqlserver.connect()
    session.close()

    assert session.connection.server_version.startswith("SQL Server 1")
    assert session.connection.tls_version


def test_nothing_but_prelogin_and_the_handshake_is_ever_in_clear(misbehaving: SqlServerSite) -> None:
    misbehaving.connect().close()
    deadline = time.monotonic() + 5
    while not misbehaving.world.in_clear:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    assert misbehaving.world.logins == [PASSWORD]
    assert scrambled(PASSWORD) not in bytes(misbehaving.world.in_clear)
    assert "SELECT".encode("utf-16-le") not in bytes(misbehaving.world.in_clear)


@pytest.mark.parametrize("answer", [Encryption.ON, Encryption.REQUIRED])
def test_a_server_that_takes_or_demands_encryption_is_used(misbehaving: SqlServerSite, answer: Encryption) -> None:
    misbehaving.behaviour.encryption = answer
    session = misbehaving.connect()
    session.close()

    assert session.connection.tls_version == "TLSv1.2"


@pytest.mark.parametrize(
    ("answer", "told"),
    [(Encryption.OFF, "would encrypt the login alone"), (Encryption.NOT_SUPPORTED, "offers no TLS")],
)
@pytest.mark.parametrize("mode", ["VerifyFull", "VerifyCA"])
def test_a_server_that_would_talk_in_clear_is_refused(
    misbehaving: SqlServerSite, answer: Encryption, told: str, mode: str
) -> None:
    misbehaving.behaviour.encryption = answer
    failure = misbehaving.refusal(tls_mode=mode)

    assert failure.reason is Reason.TLS_NOT_OFFERED
    assert told in failure.message
    assert_no_password_was_sent(misbehaving)


@pytest.mark.parametrize("in_packets", [True, False])
def test_tls_1_3_works_wherever_the_server_puts_its_tickets(misbehaving: SqlServerSite, in_packets: bool) -> None:  # noqa: FBT001
    misbehaving.behaviour.newest_tls = ssl.TLSVersion.TLSv1_3
    misbehaving.behaviour.tickets_in_packets = in_packets
    session = misbehaving.connect(minimum_tls_version="1.3")
    session.close()

    assert session.connection.tls_version == "TLSv1.3"


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_shown_where_the_server_demands_one(
    misbehaving: SqlServerSite, newest: ssl.TLSVersion
) -> None:
    misbehaving.behaviour.client_ca = misbehaving.authority.file
    misbehaving.behaviour.newest_tls = newest
    own = misbehaving.authority.issue("client", common_name="client")
    foreign = misbehaving.stranger.issue("client", common_name="client")
    without = misbehaving.refusal()
    wrong = misbehaving.refusal(client_certificate=(str(foreign.certificate), str(foreign.key)))

    assert without.reason is Reason.CLIENT_CERTIFICATE_REFUSED
    assert wrong.reason is Reason.CLIENT_CERTIFICATE_REFUSED
    assert_no_password_was_sent(misbehaving)
    misbehaving.connect(client_certificate=(str(own.certificate), str(own.key))).close()


def test_tls_disabled_is_refused_by_a_server_that_demands_tls(misbehaving: SqlServerSite) -> None:
    misbehaving.behaviour.encryption = Encryption.REQUIRED
    failure = misbehaving.refusal(tls_mode="Disabled")

    assert failure.reason is Reason.TLS_FAILED
    assert "Disabled" in failure.message
    assert_no_password_was_sent(misbehaving)


def test_a_server_that_sends_clients_elsewhere_is_not_followed(misbehaving: SqlServerSite) -> None:
    """The ODBC driver would go there by itself, without the relay and in clear."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.5)
        misbehaving.behaviour.routed_to = trap.getsockname()
        failure = misbehaving.refusal()
        with pytest.raises(TimeoutError):
            trap.accept()

    assert failure.reason is Reason.ENDPOINT_INVALID
    assert f"127.0.0.1:{trap.getsockname()[1] if trap.fileno() > 0 else ''}" in failure.message


def test_the_environment_changes_nothing(
    misbehaving: SqlServerSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump, conf = tmp_path / "dump", tmp_path / "freetds.conf"
    conf.write_text(f"[global]\n dump file = {dump}\n host = 203.0.113.1\n tds version = 5.0\n")
    (tmp_path / "odbcinst.ini").write_text(f"[ODBC]\nTrace = Yes\nTraceFile = {dump}\n")
    for name, value in (
        ("TDSDUMP", dump),
        ("TDSDUMPCONFIG", dump),
        ("FREETDSCONF", conf),
        ("FREETDS", tmp_path),
        ("TDSVER", "5.0"),
        ("TDSPORT", "1"),
        ("ODBCSYSINI", tmp_path),
        ("ODBCINI", tmp_path / "odbcinst.ini"),
    ):
        monkeypatch.setenv(name, str(value))
    misbehaving.connect().close()

    assert not dump.exists()
    assert "TDSDUMP" not in os.environ


def test_another_process_gets_nothing_from_the_relay(misbehaving: SqlServerSite) -> None:
    from provisioner_job.drivers.sqlserver_relay import Relay
    from provisioner_job.drivers.sqlserver_tds import Account
    from provisioner_job.drivers.sqlserver_tls import open_upstream
    from provisioner_job.drivers.tls import Expectation

    expected = Expectation.of(misbehaving.login())
    upstream = open_upstream(expected, "127.0.0.1", time.monotonic() + 5)
    relay = Relay(upstream, Account("u", "p", "d"), expected)
    script = f"import socket; s = socket.create_connection(('127.0.0.1', {relay.port})); print(s.recv(1))"
    stranger = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10)
    relay.close()

    assert stranger.stdout == "b''\n"
    assert_no_password_was_sent(misbehaving)


def test_a_wrong_password_is_refused_once_and_never_repeated(misbehaving: SqlServerSite) -> None:
    failure = misbehaving.refusal(password="Wr0ng-and-secret", host="localhost")

    assert failure.reason is Reason.CREDENTIALS_REFUSED
    assert failure.code == "18456"
    assert "Wr0ng-and-secret" not in f"{failure} {failure!r} {failure.__cause__!r} {failure.__context__!r}"
    assert misbehaving.world.logins == ["Wr0ng-and-secret"]


@pytest.mark.parametrize(
    "password", ["a", "};PWD={x", "{braces}", "'\"\\;=", " spaces ", "🐘" * 64, "x" * 128, "ÿ" * 127]
)
def test_any_password_arrives_as_it_is(misbehaving: SqlServerSite, password: str) -> None:
    misbehaving.world.accounts["us er;{}="] = password
    misbehaving.connect(username="us er;{}=", password=password).close()

    assert misbehaving.world.logins == [password]


def test_what_no_login_can_hold_is_refused_before_anything_is_sent(misbehaving: SqlServerSite) -> None:
    assert misbehaving.refusal(password="").reason is Reason.CREDENTIALS_REFUSED
    assert misbehaving.refusal(password="x" * 129).reason is Reason.ENDPOINT_INVALID
    assert misbehaving.refusal(database="a\0b").reason is Reason.ENDPOINT_INVALID
    assert misbehaving.world.logins == []


def test_a_database_is_named_as_it_is(misbehaving: SqlServerSite) -> None:
    misbehaving.world.databases.add("my db};Encrypt=no")
    misbehaving.connect(database="my db};Encrypt=no").close()
    misbehaving.connect(database="").close()
    failure = misbehaving.refusal(database="absent")

    assert failure.reason is Reason.DATABASE_MISSING
    assert "absent" in failure.message


@pytest.mark.parametrize(
    ("number", "severity", "message", "reason"),
    [
        (18456, 14, "Login failed for user 'x'.", Reason.CREDENTIALS_REFUSED),
        (18470, 14, "Login failed for user 'x'. The account is disabled.", Reason.CREDENTIALS_REFUSED),
        (18486, 14, "Login failed for user 'x' because it is locked out.", Reason.CREDENTIALS_REFUSED),
        (916, 14, "The server principal is not able to access the database.", Reason.PERMISSION_DENIED),
        (17809, 20, "The maximum number of connections has been reached.", Reason.TOO_MANY_CONNECTIONS),
        (10928, 16, "Resource ID: 1. The request limit is 90.", Reason.TOO_MANY_CONNECTIONS),
        (6005, 10, "SHUTDOWN is in progress.", Reason.SERVER_NOT_READY),
        (17142, 14, "SQL Server service has been paused.", Reason.SERVER_NOT_READY),
        (18401, 14, "Login failed. Reason: Server is in script upgrade mode.", Reason.SERVER_NOT_READY),
        (701, 17, "There is insufficient system memory in resource pool 'default'.", Reason.RESOURCES_EXHAUSTED),
    ],
)  # fmt: skip
def test_a_refused_login_is_understood_by_its_number(
    misbehaving: SqlServerSite, number: int, severity: int, message: str, reason: Reason
) -> None:
    misbehaving.behaviour.login_error = (number, message, max(severity, 11))
    failure = misbehaving.refusal()

    assert failure.reason is reason
    assert failure.code == str(number)
    assert message in failure.message


def test_a_replica_that_only_reads_is_not_where_procedures_run(misbehaving: SqlServerSite) -> None:
    misbehaving.world.updateability = "READ_ONLY"
    failure = misbehaving.refusal()

    assert failure.reason is Reason.SERVER_NOT_READY
    assert "replica" in failure.message


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("prelogin", Reason.SERVER_NOT_READY),
        ("handshake", Reason.SERVER_NOT_READY),
        ("login", Reason.SERVER_NOT_READY),
    ],
)
def test_a_server_that_hangs_up_is_told_from_one_that_is_not_there(
    misbehaving: SqlServerSite, step: str, reason: Reason
) -> None:
    misbehaving.behaviour.closes_at = step

    assert misbehaving.refusal().reason is reason


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x04\x01\x00\x09\0\0\0\0\xff", b"\x04\x01\0\0\0\0\0\0"]
)
def test_something_that_is_no_sql_server_is_said_to_be_none(misbehaving: SqlServerSite, said: bytes) -> None:
    misbehaving.behaviour.garbage = said
    failure = misbehaving.refusal()

    assert failure.reason is Reason.TLS_FAILED
    assert "SQL Server" in failure.message
    assert_no_password_was_sent(misbehaving)


@pytest.mark.parametrize("host", ["a,b", "a b", "", "a\n", "host\\instance", "tcp:a;b"])
def test_a_host_that_a_driver_would_read_otherwise_is_refused(misbehaving: SqlServerSite, host: str) -> None:
    assert misbehaving.refusal(host=host).reason is Reason.ENDPOINT_INVALID


def test_an_odbc_driver_that_cannot_be_loaded_is_a_missing_driver(misbehaving: SqlServerSite, tmp_path: Path) -> None:
    from provisioner_job.drivers.sqlserver import connect

    assert misbehaving.target.library is not None
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(Failure) as caught:
        connect(misbehaving.login(), misbehaving.target.library._replace(path=str(broken)))

    assert caught.value.reason is Reason.DRIVER_MISSING
    assert misbehaving.target.library.name in caught.value.message


def test_without_any_odbc_driver_the_reason_says_how_to_get_one(
    misbehaving: SqlServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provisioner_job.drivers import sqlserver_odbc

    for name in ("_MICROSOFT", "_FREETDS"):
        monkeypatch.setattr(sqlserver_odbc, name, ("/nowhere/*.so",))
    monkeypatch.setattr(sqlserver_odbc, "_wheel", tuple)
    unset = replace(misbehaving, target=replace(misbehaving.target, library=None))
    failure = unset.refusal()

    assert failure.reason is Reason.DRIVER_MISSING
    assert "ACCEPT_MICROSOFT_ODBC_EULA=yes" in failure.message
    assert "tdsodbc" in failure.message
