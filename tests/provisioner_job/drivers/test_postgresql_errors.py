"""What PostgreSQL's codes mean, where a real server cannot be made to say them quickly."""

from __future__ import annotations

import pytest

from api.reasons import Reason
from provisioner_job.drivers.postgresql_errors import call_failure, login_failure


def verbose(sqlstate: str, message: str, location: str = "auth_failed, auth.c:328", severity: str = "FATAL") -> str:
    return f'connection to server at "h", port 5432 failed: {severity}:  {sqlstate}: {message}\nLOCATION:  {location}\n'


@pytest.mark.parametrize(
    ("sqlstate", "message", "reason"),
    [
        ("57P03", "the database system is starting up", Reason.SERVER_NOT_READY),
        ("57P03", "das Datenbanksystem startet", Reason.SERVER_NOT_READY),
        ("57P01", "terminating connection due to administrator command", Reason.SERVER_NOT_READY),
        ("53300", "sorry, too many clients already", Reason.TOO_MANY_CONNECTIONS),
        ("53200", "out of memory", Reason.RESOURCES_EXHAUSTED),
        ("28P01", "Passwort-Authentifizierung fehlgeschlagen", Reason.CREDENTIALS_REFUSED),
        ("28000", 'no pg_hba.conf entry for host "h", user "u"', Reason.CREDENTIALS_REFUSED),
        ("28000", "connection requires a valid client certificate", Reason.CLIENT_CERTIFICATE_REFUSED),
        ("3D000", 'database "x" does not exist', Reason.DATABASE_MISSING),
        ("42501", "permission denied for database", Reason.PERMISSION_DENIED),
        ("08P01", "unsupported startup parameter: options", Reason.ENDPOINT_INVALID),
        ("XX000", "something else", Reason.ENDPOINT_UNREACHABLE),
    ],
)
def test_a_refused_login_is_understood_by_its_code_in_any_language(sqlstate: str, message: str, reason: Reason) -> None:
    failure = login_failure(verbose(sqlstate, message, severity="VERHÄNGNISVOLL"), "h:5432", certificate_given=False)

    assert failure is not None
    assert failure.reason is reason
    assert failure.code == sqlstate
    assert failure.message == f"h:5432 refuses the login: {message}"


def test_a_certificate_that_was_shown_and_refused_is_told_from_a_password() -> None:
    text = verbose("28000", "Zertifikatauthentifizierung fehlgeschlagen")
    with_certificate = login_failure(text, "h:5432", certificate_given=True)
    without = login_failure(text, "h:5432", certificate_given=False)

    assert with_certificate is not None
    assert with_certificate.reason is Reason.CLIENT_CERTIFICATE_REFUSED
    assert without is not None
    assert without.reason is Reason.CREDENTIALS_REFUSED


def test_what_a_server_did_not_say_is_not_read_as_its_code() -> None:
    text = 'connection to server at "10.0.0.1", port 5432 failed: Connection refused\n\tIs the server running?'

    assert login_failure(text, "h:5432", certificate_given=False) is None


@pytest.mark.parametrize(
    ("sqlstate", "origin", "reason"),
    [
        ("42883", "call", Reason.PROCEDURE_MISSING),
        ("42883", "body", Reason.PROCEDURE_FAILED),
        ("42501", "call", Reason.PERMISSION_DENIED),
        ("42501", "body", Reason.PROCEDURE_FAILED),
        ("42725", "call", Reason.PROCEDURE_AMBIGUOUS),
        ("40P01", "body", Reason.DEADLOCK),
        ("40001", "body", Reason.DEADLOCK),
        ("55P03", "body", Reason.LOCK_TIMEOUT),
        ("53400", "body", Reason.RESOURCES_EXHAUSTED),
        ("57P02", "call", Reason.CONNECTION_LOST),
        ("P0001", "body", Reason.PROCEDURE_FAILED),
        ("08006", "body", Reason.PROCEDURE_FAILED),
        ("", "call", Reason.PROCEDURE_FAILED),
    ],
)
def test_a_failed_call_is_understood_by_its_code_and_where_it_arose(
    sqlstate: str,
    origin: str,
    reason: Reason,
) -> None:
    assert call_failure(sqlstate, "m", in_body=origin == "body").reason is reason
