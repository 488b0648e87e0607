"""Logging in to PostgreSQL: every refusal has its own reason, and says what helps."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Procedure
from tests.integration.postgresql_site import Site
from tests.servers.postgresql import PostgreSQL

pytestmark = pytest.mark.integration


@pytest.fixture
def restored(site: Site) -> Iterator[Site]:
    """The site, for tests that change how the server presents itself."""
    yield site
    site.server.hba()
    site.server.configure({"ssl": "on", "ssl_max_protocol_version": ""})
    site.server.present(site.good)


def test_the_server_agrees_that_the_connection_is_encrypted(site: Site) -> None:
    session = site.connect()
    seen = site.server.execute(
        "SELECT ssl, version, cipher, application_name FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = %s AND backend_type = 'client backend'",
        [site.username],
    )
    facts = session.connection
    session.close()

    assert seen == [(True, facts.tls_version, facts.cipher, "dbaas:pg")]


def test_a_password_in_clear_goes_only_to_a_server_whose_name_was_verified(restored: Site) -> None:
    restored.server.hba(f"host all {restored.username} 127.0.0.1/32 password")
    restored.server.reload()
    restored.connect().close()

    for mode in ("VerifyCA", "Disabled"):
        failure = restored.refusal(tls_mode=mode)
        assert failure.reason is Reason.CREDENTIALS_REFUSED
        assert "password" in failure.message


def test_a_client_key_mounted_for_the_group_is_accepted(site: Site) -> None:
    own = site.authority.issue("mounted", common_name=site.username)
    own.key.chmod(0o440)
    session = site.connect(client_certificate=(str(own.certificate), str(own.key)))
    session.close()

    assert session.connection.tls_version


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
    session = site.connect()
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
    site.connect(database="").close()


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


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


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


def test_a_server_that_hangs_up_amid_the_handshake_is_tried_again(site: Site, listener: socket.socket) -> None:
    """It was stopped, or the network was cut: nothing is wrong that somebody would have to change."""

    def answer() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"S")
                connection.recv(4096)
                connection.sendall(b"\x16\x03\x03\x00\x7a\x02\0\0")  # the beginning of a ServerHello

    threading.Thread(target=answer, daemon=True).start()
    failure = site.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=5))

    assert failure.reason is Reason.SERVER_NOT_READY
    assert "ended the connection during the TLS handshake" in failure.message


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
    session = site.connect()
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
        other = replace(site, server=server)
        server.start(site.good)
        server.execute(f"CREATE ROLE {other.username} LOGIN PASSWORD 'pw'")
        session = other.connect(password="pw")
        server.stop()
        stopped = other.refusal(password="pw")
        server.start(site.good)
        other.connect(password="pw").close()
        session.close()

        assert stopped.reason is Reason.ENDPOINT_UNREACHABLE


def test_a_standby_is_not_where_procedures_run(site: Site) -> None:
    with PostgreSQL.temporary() as server:
        other = replace(site, server=server)
        server.start(site.good)
        server.execute(f"CREATE ROLE {other.username} LOGIN PASSWORD 'pw'")
        server.stop("fast")
        (server.data / "standby.signal").touch()
        server.start(site.good)
        failure = other.refusal(password="pw")

        assert failure.reason is Reason.SERVER_NOT_READY
        assert "standby" in failure.message


def test_a_server_that_is_kept_read_only_is_not_ready(site: Site) -> None:
    site.server.execute(f"ALTER ROLE {site.username} SET default_transaction_read_only = on")
    try:
        failure = site.refusal()
    finally:
        site.server.execute(f"ALTER ROLE {site.username} RESET default_transaction_read_only")

    assert failure.reason is Reason.SERVER_NOT_READY
    assert "default_transaction_read_only" in failure.message
