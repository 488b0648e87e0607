"""Logging in to PostgreSQL: every refusal has its own reason, and says what helps."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from api.reasons import Reason
from provisioner_job.drivers.contract import Procedure
from tests.integration.conftest import Site, connect
from tests.servers.postgresql import PostgreSQL
from tests.servers.programs import free_port

pytestmark = pytest.mark.integration


@pytest.fixture
def restored(site: Site) -> Iterator[Site]:
    """The site, for tests that change how the server presents itself."""
    yield site
    site.server.hba()
    site.server.configure({"ssl": "on", "ssl_max_protocol_version": ""})
    site.server.present(site.pki.good)


def test_a_connection_says_what_it_is(site: Site) -> None:
    session = connect(site.login())
    facts = session.connection
    session.close()
    certificate = site.pki.good.parsed

    assert facts.server_version.startswith("PostgreSQL 1")
    assert facts.tls_version == "TLSv1.3"
    assert facts.cipher.startswith("TLS_")
    assert facts.peer_certificate_sha256 == hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert facts.peer_certificate_not_after == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_the_server_agrees_that_the_connection_is_encrypted(site: Site) -> None:
    session = connect(site.login())
    seen = site.server.execute(
        "SELECT ssl, version, cipher, application_name FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = %s AND backend_type = 'client backend'",
        [site.username],
    )
    facts = session.connection
    session.close()

    assert seen == [(True, facts.tls_version, facts.cipher, "dbaas:pg")]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_name_or_address_that_the_certificate_carries_is_accepted(site: Site, host: str) -> None:
    session = connect(site.login(host=host))
    session.close()

    assert session.connection.tls_version


def test_a_server_name_other_than_the_host_is_what_the_certificate_is_held_against(site: Site) -> None:
    session = connect(site.login(server_name="db.example.test"))
    session.close()

    assert session.connection.tls_version
    assert site.refusal(server_name="other.example.test").reason is Reason.CERTIFICATE_NAME_MISMATCH


def test_a_ca_bundle_in_the_endpoint_comes_before_the_mounted_file(site: Site) -> None:
    session = connect(site.login(ca_bundle=site.pki.authority.pem, ca_file="/nowhere/ca.crt"))
    session.close()

    assert session.connection.tls_version
    assert site.refusal(ca_bundle=site.pki.stranger.pem).reason is Reason.CERTIFICATE_NOT_TRUSTED


def test_without_a_ca_the_public_ones_are_trusted_and_a_private_one_is_not(site: Site) -> None:
    failure = site.refusal(ca_file=None)

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert "tls.caSecretRef" in failure.message


def test_a_certificate_of_another_ca_is_refused(site: Site) -> None:
    failure = site.refusal(ca_file=str(site.pki.stranger.file))

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert f"127.0.0.1:{site.server.port}" in failure.message
    assert not failure.retryable


def test_a_certificate_for_another_name_is_refused_and_both_names_are_said(restored: Site) -> None:
    restored.server.present(restored.pki.authority.issue("elsewhere", ["elsewhere.example.test", "10.9.9.9"]))
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_NAME_MISMATCH
    assert "elsewhere.example.test, 10.9.9.9" in failure.message
    assert "not for 127.0.0.1" in failure.message


def test_verify_ca_accepts_another_name_but_not_another_ca(restored: Site) -> None:
    restored.server.present(restored.pki.authority.issue("elsewhere", ["elsewhere.example.test"]))
    session = connect(restored.login(tls_mode="VerifyCA"))
    session.close()

    assert session.connection.tls_version
    strange = restored.refusal(tls_mode="VerifyCA", ca_file=str(restored.pki.stranger.file))
    assert strange.reason is Reason.CERTIFICATE_NOT_TRUSTED


def test_an_expired_certificate_is_refused_and_its_date_is_said(restored: Site) -> None:
    expired = restored.pki.authority.issue("expired", ["127.0.0.1"], expires=timedelta(days=-2))
    restored.server.present(expired)
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_EXPIRED
    assert f"{expired.parsed.not_valid_after_utc:%Y-%m-%d}" in failure.message


def test_a_certificate_that_is_not_valid_yet_is_refused(restored: Site) -> None:
    restored.server.present(restored.pki.authority.issue("early", ["127.0.0.1"], begins=timedelta(days=2)))
    failure = restored.refusal()

    assert failure.reason is Reason.CERTIFICATE_EXPIRED
    assert "not yet valid" in failure.message


@pytest.mark.parametrize("mode", ["VerifyFull", "VerifyCA"])
def test_a_server_without_tls_is_refused_before_the_password_is_sent(restored: Site, mode: str) -> None:
    restored.server.hba(f"host all {restored.username} 127.0.0.1/32 password")
    restored.server.configure({"ssl": "off"})
    failure = restored.refusal(tls_mode=mode)

    assert failure.reason is Reason.TLS_NOT_OFFERED
    assert "no password was sent" in failure.message


def test_a_server_whose_tls_is_too_old_is_refused(restored: Site) -> None:
    restored.server.configure({"ssl_max_protocol_version": "TLSv1.2"})
    failure = restored.refusal(minimum_tls_version="1.3")
    session = connect(restored.login())
    session.close()

    assert failure.reason is Reason.TLS_VERSION_REFUSED
    assert "TLS 1.3" in failure.message
    assert session.connection.tls_version == "TLSv1.2"


def test_tls_disabled_connects_in_clear_and_says_so(restored: Site) -> None:
    restored.server.hba(f"hostnossl all {restored.username} 127.0.0.1/32 scram-sha-256")
    restored.server.reload()
    session = connect(restored.login(tls_mode="Disabled"))
    session.close()

    assert session.connection.tls_version == ""
    assert session.connection.peer_certificate_sha256 == ""


def test_a_password_in_clear_goes_only_to_a_server_whose_name_was_verified(restored: Site) -> None:
    restored.server.hba(f"host all {restored.username} 127.0.0.1/32 password")
    restored.server.reload()
    connect(restored.login()).close()

    for mode in ("VerifyCA", "Disabled"):
        failure = restored.refusal(tls_mode=mode)
        assert failure.reason is Reason.CREDENTIALS_REFUSED
        assert "password" in failure.message


def test_a_client_certificate_is_shown_where_the_server_asks_for_one(restored: Site) -> None:
    restored.server.hba(f"hostssl all {restored.username} 127.0.0.1/32 cert")
    restored.server.reload()
    own = restored.pki.authority.issue("client", common_name=restored.username)
    foreign = restored.pki.authority.issue("foreign", common_name="somebody")
    connect(restored.login(client_certificate=(str(own.certificate), str(own.key)))).close()

    without = restored.refusal()
    assert without.reason is Reason.CLIENT_CERTIFICATE_REFUSED
    wrong = restored.refusal(client_certificate=(str(foreign.certificate), str(foreign.key)))
    assert wrong.reason is Reason.CLIENT_CERTIFICATE_REFUSED


def test_a_client_certificate_of_another_ca_is_refused_by_the_server(site: Site) -> None:
    own = site.pki.stranger.issue("client", common_name=site.username)
    failure = site.refusal(client_certificate=(str(own.certificate), str(own.key)))

    assert failure.reason is Reason.CLIENT_CERTIFICATE_REFUSED


def test_a_client_key_mounted_for_the_group_is_accepted(site: Site) -> None:
    own = site.pki.authority.issue("mounted", common_name=site.username)
    own.key.chmod(0o440)
    session = connect(site.login(client_certificate=(str(own.certificate), str(own.key))))
    session.close()

    assert session.connection.tls_version


@pytest.mark.parametrize("broken", ["certificate", "key", "pair", "absent"])
def test_unusable_client_certificate_files_are_the_endpoints_fault(site: Site, tmp_path: Path, broken: str) -> None:
    one = site.pki.authority.issue("one", common_name=site.username)
    other = site.pki.authority.issue("other", common_name=site.username)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    garbage.chmod(0o600)
    files = {
        "certificate": (garbage, one.key),
        "key": (one.certificate, garbage),
        "pair": (one.certificate, other.key),
        "absent": (tmp_path / "absent.crt", tmp_path / "absent.key"),
    }[broken]
    failure = site.refusal(client_certificate=(str(files[0]), str(files[1])))

    assert failure.reason is Reason.ENDPOINT_INVALID
    assert "tls.crt" in failure.message


def test_a_ca_file_that_holds_no_certificate_is_the_endpoints_fault(site: Site) -> None:
    assert site.refusal(ca_bundle="not PEM").reason is Reason.ENDPOINT_INVALID
    assert site.refusal(ca_file="/nowhere/ca.crt").reason is Reason.ENDPOINT_INVALID


def test_a_wrong_password_is_refused_once_and_never_repeated(site: Site) -> None:
    site.server.configure({"log_connections": "on"})
    before = site.server.log.read_text().count("password authentication failed")
    failure = site.refusal(password="Wr0ng-and-secret", host="localhost")
    after = site.server.log.read_text().count("password authentication failed")

    assert failure.reason is Reason.CREDENTIALS_REFUSED
    assert failure.code == "28P01"
    assert "Wr0ng-and-secret" not in f"{failure} {failure!r} {failure.__cause__!r} {failure.__context__!r}"
    assert after - before == 1


def test_an_empty_password_is_refused_and_not_looked_for_elsewhere(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passfile = tmp_path / ".pgpass"
    passfile.write_text(f"*:*:*:*:{site.password}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    failure = site.refusal(password="")

    assert failure.reason is Reason.CREDENTIALS_REFUSED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSSLMODE", "disable"),
        ("PGSERVICE", "elsewhere"),
        ("PGHOSTADDR", "203.0.113.1"),
        ("PGOPTIONS", "-c search_path=evil"),
        ("PGREQUIREAUTH", "none"),
        ("PGCHANNELBINDING", "disable"),
        ("PGSSLROOTCERT", "/nowhere"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGGSSENCMODE", "require"),
        ("PGSSLNEGOTIATION", "direct"),
    ],
)
def test_the_environment_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    session = connect(site.login())
    session.close()

    assert session.connection.tls_version == "TLSv1.3"
    assert name not in os.environ


def test_an_unknown_role_is_refused_like_a_wrong_password(site: Site) -> None:
    assert site.refusal(username="nobody").reason is Reason.CREDENTIALS_REFUSED


def test_an_unknown_database_is_named(site: Site) -> None:
    failure = site.refusal(database="absent")

    assert failure.reason is Reason.DATABASE_MISSING
    assert "absent" in failure.message


def test_a_database_that_the_account_may_not_connect_to_is_a_missing_permission(site: Site) -> None:
    site.server.execute("CREATE DATABASE closed")
    site.server.execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    failure = site.refusal(database="closed")

    assert failure.reason is Reason.PERMISSION_DENIED


def test_no_database_means_the_engines_default(site: Site) -> None:
    connect(site.login(database="")).close()


def test_names_are_passed_to_the_server_as_they_are(site: Site) -> None:
    """Nothing in a database's or account's name can become another connection option."""
    failure = site.refusal(database="x sslmode=disable host=/tmp")

    assert failure.reason is Reason.DATABASE_MISSING
    assert site.refusal(username="x' sslmode='disable").reason is Reason.CREDENTIALS_REFUSED


@pytest.mark.parametrize("field", ["database", "username", "password"])
def test_nothing_is_cut_at_a_nul_as_c_would_cut_it(site: Site, field: str) -> None:
    values = {"database": "postgres", "username": site.username, "password": site.password}

    assert site.refusal(**{field: f"{values[field]}\0x"}).reason is Reason.ENDPOINT_INVALID


@pytest.mark.parametrize("host", ["/tmp", "@socket", "a,b", "a b", "", "a\n", "127.0.0.1,127.0.0.1"])
def test_a_host_that_libpq_would_take_for_a_socket_or_a_list_is_refused(site: Site, host: str) -> None:
    assert site.refusal(host=host).reason is Reason.ENDPOINT_INVALID
    assert site.refusal(server_name=host or "/").reason is Reason.ENDPOINT_INVALID


@pytest.mark.parametrize("changes", [{"tls_mode": "Prefer"}, {"tls_mode": ""}, {"minimum_tls_version": "1.1"}])
def test_a_demand_that_is_not_understood_is_no_weaker_demand(site: Site, changes: dict[str, str]) -> None:
    assert site.refusal(**changes).reason is Reason.ENDPOINT_INVALID


def test_a_port_where_nobody_listens_is_unreachable(site: Site) -> None:
    port = free_port()
    failure = site.refusal(port=port)

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert failure.message == f"127.0.0.1:{port} cannot be reached: connection refused"
    assert site.refusal(port=port, tls_mode="Disabled").reason is Reason.ENDPOINT_UNREACHABLE


def test_a_name_that_does_not_resolve_is_unreachable(site: Site) -> None:
    failure = site.refusal(host="absent.invalid")

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert "absent.invalid" in failure.message


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(site: Site, listener: socket.socket) -> None:
    started = time.monotonic()
    failure = site.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=0.5))

    assert failure.reason is Reason.SERVER_NOT_READY
    assert time.monotonic() - started < 3


def test_something_that_is_no_postgresql_is_said_to_be_none(site: Site, listener: socket.socket) -> None:
    def answer() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    failure = site.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=5))

    assert failure.reason is Reason.TLS_FAILED
    assert "PostgreSQL" in failure.message


def test_an_account_with_all_its_connections_in_use_has_too_many(site: Site) -> None:
    site.server.execute(f"ALTER ROLE {site.username} CONNECTION LIMIT 0")
    failure = site.refusal()
    site.server.execute(f"ALTER ROLE {site.username} CONNECTION LIMIT -1")

    assert failure.reason is Reason.TOO_MANY_CONNECTIONS
    assert failure.retryable


def test_a_role_or_database_cannot_loosen_the_session(site: Site) -> None:
    """Settings of the role come before nothing that the driver sets."""
    site.server.execute(f"ALTER ROLE {site.username} SET search_path = evil; ")
    site.server.execute(f"ALTER ROLE {site.username} SET standard_conforming_strings = off")
    site.server.execute(
        "CREATE FUNCTION public.session_settings() RETURNS TABLE (key text, value text) LANGUAGE sql AS"
        " $$ SELECT name, setting FROM pg_settings $$"
    )
    session = connect(site.login())
    settings = session.call(Procedure("session_settings"))
    session.close()
    site.server.execute(f"ALTER ROLE {site.username} RESET ALL; DROP FUNCTION public.session_settings()")

    assert settings["search_path"] == '"$user",public,pg_temp'
    assert settings["standard_conforming_strings"] == "on"
    assert settings["bytea_output"] == "hex"
    assert settings["DateStyle"].startswith("ISO")
    assert settings["client_encoding"] == "UTF8"
    assert settings["statement_timeout"] == "60000"
    assert settings["default_transaction_isolation"] == "read committed"


def test_a_server_that_restarts_is_not_ready_and_then_it_is(site: Site) -> None:
    with PostgreSQL.temporary() as server:
        other = Site(server, site.pki)
        server.start(site.pki.good)
        server.execute(f"CREATE ROLE {other.username} LOGIN PASSWORD 'pw'")
        session = connect(other.login(password="pw"))
        server.stop()
        stopped = other.refusal(password="pw")
        server.start(site.pki.good)
        connect(other.login(password="pw")).close()
        session.close()

        assert stopped.reason is Reason.ENDPOINT_UNREACHABLE


def test_a_standby_is_not_where_procedures_run(site: Site) -> None:
    with PostgreSQL.temporary() as server:
        other = Site(server, site.pki)
        server.start(site.pki.good)
        server.execute(f"CREATE ROLE {other.username} LOGIN PASSWORD 'pw'")
        server.stop("fast")
        (server.data / "standby.signal").touch()
        server.start(site.pki.good)
        failure = other.refusal(password="pw")

        assert failure.reason is Reason.SERVER_NOT_READY
        assert "standby" in failure.message
