"""What MariaDB's and MySQL's error numbers come to, without a server."""

from __future__ import annotations

import pytest

from api.reasons import Reason
from provisioner_job.drivers.mariadb_errors import Called, ServerError, call_failure, from_server, login_failure

CREATE = Called("dbaas", "create_database")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (1040, Reason.TOO_MANY_CONNECTIONS),
        (1044, Reason.PERMISSION_DENIED),
        (1045, Reason.CREDENTIALS_REFUSED),
        (1049, Reason.DATABASE_MISSING),
        (1053, Reason.SERVER_NOT_READY),
        (1129, Reason.SERVER_NOT_READY),
        (1226, Reason.TOO_MANY_CONNECTIONS),
        (1862, Reason.CREDENTIALS_REFUSED),
        (3159, Reason.ENDPOINT_INVALID),
        (9999, Reason.ENDPOINT_UNREACHABLE),
    ],
)
def test_a_refused_login_has_the_reason_of_its_number(number: int, reason: Reason) -> None:
    failure = login_failure(ServerError(number, "28000", "Said so"), "db:3306", "or else")

    assert failure.reason is reason
    assert failure.code == str(number)
    assert "db:3306 refuses the login: Said so" in failure.message
    assert ("or else" in failure.message) is (number == 1045)


@pytest.mark.parametrize(
    ("number", "message", "cure"),
    [
        (1862, "Your password has expired. To log in you must change it.", "ALTER USER"),
        (3159, "Connections using insecure transport are prohibited.", "VerifyFull"),
    ],
)
def test_a_login_that_needs_a_change_says_which(number: int, message: str, cure: str) -> None:
    failure = login_failure(ServerError(number, "HY000", message), "db:3306", "or else")

    assert message.rstrip(".") in failure.message
    assert cure in failure.message


@pytest.mark.parametrize(
    ("number", "message", "reason"),
    [
        (1305, "PROCEDURE dbaas.create_database does not exist", Reason.PROCEDURE_MISSING),
        (1305, "PROCEDURE create_database does not exist", Reason.PROCEDURE_MISSING),
        (1305, "PROCEDURE dbaas.create_database_role does not exist", Reason.PROCEDURE_FAILED),
        (1305, "PROCEDURE my.dbaas.create_database does not exist", Reason.PROCEDURE_FAILED),
        (1305, "PROCEDURE dbaas.other does not exist", Reason.PROCEDURE_FAILED),
        (1318, "Incorrect number of arguments for PROCEDURE dbaas.create_database; expected 2, got 1",
         Reason.ARGUMENTS_INVALID),
        (1318, "Incorrect number of arguments for PROCEDURE dbaas.other; expected 2, got 1", Reason.PROCEDURE_FAILED),
        (1370, "execute command denied to user 'o'@'%' for routine 'dbaas.create_database'", Reason.PERMISSION_DENIED),
        (1370, "execute command denied to user 'o'@'%' for routine 'dbaas.helper'", Reason.PROCEDURE_FAILED),
        (1142, "INSERT command denied to user 'o'@'%' for table `dbaas`.`made`", Reason.PROCEDURE_FAILED),
        (1366, "Incorrect integer value: 'x' for column 'n' at row 1", Reason.PROCEDURE_FAILED),
        (1205, "Lock wait timeout exceeded; try restarting transaction", Reason.LOCK_TIMEOUT),
        (1213, "Deadlock found when trying to get lock; try restarting transaction", Reason.DEADLOCK),
        (1927, "Connection was killed", Reason.CONNECTION_LOST),
    ],
)  # fmt: skip
def test_an_error_of_a_call_is_the_calls_own_or_the_bodys(number: int, message: str, reason: Reason) -> None:
    assert call_failure(ServerError(number, "42000", message), CREATE).reason is reason


def test_only_what_a_procedure_says_itself_is_passed_on() -> None:
    signal = call_failure(ServerError(1644, "45000", "quota exceeded"), CREATE)
    numbered = call_failure(ServerError(5001, "45000", "quota exceeded"), CREATE)
    quoting = call_failure(ServerError(1062, "23000", "Duplicate entry 's3cret' for key 'PRIMARY'"), CREATE)
    own = call_failure(ServerError(30001, "42000", "quota exceeded"), CREATE)
    unknown = call_failure(ServerError(9999, "", "s3cret"), CREATE)

    assert signal.message == numbered.message == own.message == "quota exceeded"
    assert quoting.message == (
        "a row with this key is there already: the server reports error 1062 (ER_DUP_ENTRY), SQLSTATE 23000"
    )
    assert unknown.message == "the server reports error 9999"


def test_numbers_of_the_client_library_are_no_servers() -> None:
    assert [from_server(number) for number in (0, 999, 1000, 1999, 2013, 2999, 3024, 4151)] == [
        False, False, True, True, False, False, True, True,
    ]  # fmt: skip
