"""What the alerts of a TLS handshake come to, without a server."""

from __future__ import annotations

import ssl

import pytest

from api.operation import Server
from api.reasons import Reason
from provisioner_job.drivers.contract import Login
from provisioner_job.drivers.tls import Expectation, handshake_failure


@pytest.mark.parametrize(
    ("said", "demanded", "reason"),
    [
        ("TLSV1_ALERT_PROTOCOL_VERSION", "1.2", Reason.TLS_VERSION_REFUSED),
        ("UNSUPPORTED_PROTOCOL", "1.3", Reason.TLS_VERSION_REFUSED),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "1.3", Reason.TLS_VERSION_REFUSED),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "1.2", Reason.TLS_FAILED),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "1.3", Reason.TLS_FAILED),
    ],
)
def test_a_server_without_the_demanded_version_is_told_from_one_that_fails(
    said: str, demanded: str, reason: Reason
) -> None:
    """A handshake that nobody wants to continue is about the version where only 1.3 would do: its ciphers are few."""
    error = ssl.SSLError(1, said)
    error.reason = said
    server = Server("tls", "db", 3306, "", minimum_tls_version=demanded)

    assert handshake_failure(error, Expectation.of(Login(server, "u", "p"))).reason is reason
