"""What logging in promises for every engine: whose certificate counts, and what is refused with which reason.

What of TLS is refused is in test_tls.py, what an engine has of its own in test_ENGINE_login.py.
"""

from __future__ import annotations

import hashlib
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from api.reasons import Reason
from tests.integration.fronts import Front
from tests.integration.napping import otherwise
from tests.servers.programs import free_port

pytestmark = pytest.mark.integration


def test_a_connection_says_what_it_is(front: Front) -> None:
    session = front.connect()
    facts = session.connection
    session.close()
    certificate = front.certificate.parsed

    assert facts.server_version.startswith(front.release)
    assert (facts.tls_version, facts.cipher.split("_")[0].split("-")[0]) in (("TLSv1.3", "TLS"), ("TLSv1.2", "ECDHE"))
    assert facts.peer_certificate_sha256 == hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    assert facts.peer_certificate_not_after == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_the_name_or_address_that_the_certificate_carries_is_accepted(front: Front) -> None:
    for host in front.hosts:
        session = front.connect(host=host)
        session.close()

        assert session.connection.tls_version, host


def test_a_server_name_other_than_the_host_is_what_the_certificate_is_held_against(front: Front) -> None:
    session = front.connect(server_name="db.example.test")
    session.close()

    assert session.connection.tls_version
    assert front.refusal(server_name="other.example.test").reason is Reason.CERTIFICATE_NAME_MISMATCH


def test_a_ca_bundle_in_the_endpoint_comes_before_the_mounted_file(front: Front) -> None:
    session = front.connect(ca_bundle=front.authority.pem, ca_file="/nowhere/ca.crt")
    session.close()

    assert session.connection.tls_version
    assert front.refusal(ca_bundle=front.stranger.pem).reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert front.refusal(ca_file=str(front.stranger.file)).reason is Reason.CERTIFICATE_NOT_TRUSTED


def test_without_a_ca_the_public_ones_are_trusted_and_a_private_one_is_not(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority.file))
    failure = front.refusal(ca_file=None)

    assert failure.reason is Reason.CERTIFICATE_NOT_TRUSTED
    assert "tls.caSecretRef" in failure.message


@pytest.mark.parametrize("broken", ["certificate", "key", "pair", "absent"])
def test_unusable_client_certificate_files_are_the_endpoints_fault(front: Front, tmp_path: Path, broken: str) -> None:
    one, other = (front.authority.issue(stem, common_name=front.username) for stem in ("one", "other"))
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("garbage")
    garbage.chmod(0o600)
    files = {
        "certificate": (garbage, one.key),
        "key": (one.certificate, garbage),
        "pair": (one.certificate, other.key),
        "absent": (tmp_path / "absent.crt", tmp_path / "absent.key"),
    }[broken]
    failure = front.refusal(client_certificate=(str(files[0]), str(files[1])))

    assert failure.reason is Reason.ENDPOINT_INVALID
    assert "tls.crt" in failure.message


@pytest.mark.parametrize("changes", [{"ca_bundle": "not PEM"}, {"ca_bundle": "größe"}, {"ca_file": "/nowhere/ca.crt"}])
def test_a_ca_file_that_holds_no_certificate_is_the_endpoints_fault(front: Front, changes: dict[str, str]) -> None:
    assert front.refusal(**changes).reason is Reason.ENDPOINT_INVALID


@pytest.mark.parametrize("changes", [{"tls_mode": "Prefer"}, {"tls_mode": ""}, {"minimum_tls_version": "1.1"}])
def test_a_demand_that_is_not_understood_is_no_weaker_demand(front: Front, changes: dict[str, str]) -> None:
    assert front.refusal(**changes).reason is Reason.ENDPOINT_INVALID


def test_a_port_where_nobody_listens_is_unreachable(front: Front) -> None:
    port = free_port()
    failure = front.refusal(port=port)

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert failure.message == f"127.0.0.1:{port} cannot be reached: connection refused"
    assert front.refusal(port=port, tls_mode="Disabled").reason is Reason.ENDPOINT_UNREACHABLE


def test_a_name_that_does_not_resolve_is_unreachable(front: Front) -> None:
    failure = front.refusal(host="absent.invalid")

    assert failure.reason is Reason.ENDPOINT_UNREACHABLE
    assert "absent.invalid" in failure.message


def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(front: Front) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, otherwise(listener.close):
        failure = front.refusal(port=listener.getsockname()[1], connect_timeout=timedelta(seconds=0.6))

    assert failure.reason is Reason.SERVER_NOT_READY
    assert "takes connections, but" in failure.message
