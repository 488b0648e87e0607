"""A server that is not what the endpoint says is refused before it learns a word, and the condition says why."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.dbms import Dbms
from tests.e2e.recorder import Recorder
from tests.e2e.scene import Applied, Scene
from tests.servers.pki import Authority

NAME = "another.example.test"


@dataclass(frozen=True)
class Case:
    """A server that must be refused."""

    server: Recorder | None
    """None: the right server, under demands that it does not meet."""
    reason: str
    words: tuple[str, ...]
    """Of the condition's message."""
    demands: Mapping[str, Any] = field(default_factory=dict)
    """Of the endpoint's `tls`."""


@pytest.fixture
def cases(dbms: Dbms, tmp_path: Path) -> Iterator[dict[str, Case]]:
    address = dbms.server.options.listen
    stranger = Authority(tmp_path / "stranger", "Nobody's CA")
    trusted = dbms.authority
    names = [dbms.host, address]
    with ExitStack() as stack:

        def serve(*options: Any) -> Recorder:
            return stack.enter_context(Recorder(address, *options))

        yield {
            "stranger": Case(
                serve(stranger.issue("stranger", names)),
                "CertificateNotTrusted",
                ("correct the endpoint's tls.caSecretRef or tls.caBundle",),
            ),
            "wrong-bundle": Case(
                None,
                "CertificateNotTrusted",
                ("correct the endpoint's tls.caSecretRef or tls.caBundle",),
                {"caBundle": stranger.pem},
            ),
            "name": Case(
                serve(trusted.issue("other", [NAME])),
                "CertificateNameMismatch",
                (f"it is for {NAME}, not for {dbms.host}", "correct the endpoint's host or tls.serverName"),
            ),
            "server-name": Case(
                None,
                "CertificateNameMismatch",
                (f"not for {NAME}", "correct the endpoint's host or tls.serverName"),
                {"serverName": NAME},
            ),
            "expired": Case(
                serve(trusted.issue("expired", names, expires=timedelta(days=-1))),
                "CertificateExpired",
                ("it is valid from", "renew the server's certificate"),
            ),
            "plain": Case(
                serve(None),
                "TLSNotOffered",
                ("offers no TLS, so no password was sent", "set ssl = on"),
            ),
            "old": Case(
                serve(trusted.issue("old", names), ssl.TLSVersion.TLSv1_2),
                "TLSVersionRefused",
                ("does not offer TLS 1.3",),
                {"minimumVersion": "1.3"},
            ),
        }


def test_a_server_in_the_wrong_place_learns_nothing_and_is_told_apart(scene: Scene, cases: Mapping[str, Case]) -> None:
    """Wrong authority, wrong name, expired, no TLS, old TLS: all at once; each recovers when its endpoint is right."""
    databases = {name: begin(scene, name, case) for name, case in cases.items()}
    for name, case in cases.items():
        condition = databases[name].wait_reason(case.reason)
        asked = case.server is None or case.server.asked > 0

        assert all(words in condition["message"] for words in case.words), condition
        assert databases[name].condition("Stalled")["status"] == "True"
        assert asked, name
        assert case.server is None or case.server.learned == b"", name
        assert databases[name].effects == []

    for name in cases:
        right = {"caBundle": scene.dbms.authority.pem, "serverName": None, "minimumVersion": None}
        scene.change_endpoint(name, port=scene.dbms.port, tls=right)
    for database in databases.values():
        database.wait_ready()

        assert len(database.effects) == 1


def begin(scene: Scene, name: str, case: Case) -> Applied:
    """Apply a Database on an endpoint of the case's server."""
    port = scene.dbms.port if case.server is None else case.server.port
    tls = {"caBundle": scene.dbms.authority.pem, **case.demands}
    return scene.apply(f"db-{name}", endpoint=scene.add_endpoint(name, port=port, tls=tls))


def test_what_was_agreed_on_is_on_record(scene: Scene) -> None:
    """The auditor reads TLS version, cipher and the server's certificate from the Operation."""
    shop = scene.apply()
    shop.wait_ready()
    [operation] = shop.requests()
    connection = operation["status"]["connection"]

    assert connection["tlsVersion"] == "TLSv1.3"
    assert connection["cipher"].startswith("TLS_")
    assert len(connection["peerCertificateSHA256"].replace(":", "")) == 64
    assert connection["serverVersion"].startswith("PostgreSQL 1")
