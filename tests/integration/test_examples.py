"""The example procedures do what the README says: each promise that they make for every engine, on real servers.

What an engine's own procedures promise beyond it is in test_ENGINE_examples.py.
"""

from __future__ import annotations

import threading

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Result
from tests.integration.installation import BOTH, Installation
from tests.servers.examples import DATABASE, run
from tests.servers.logins import LoginRefused, log_in

pytestmark = pytest.mark.integration


@pytest.fixture(params=["postgresql", "mariadb"])
def installation(request: pytest.FixtureRequest) -> Installation:
    found: Installation = request.getfixturevalue(f"{request.param}_installation")
    return found


def test_a_created_database_can_be_used_by_its_login_alone(installation: Installation) -> None:
    result = installation.call("create", "shop_orders")
    other = installation.call("create", "shop_invoices")

    assert set(result) == {"username", "password", "database"}
    assert len(result["password"]) >= 32
    server, authority = installation.server, installation.authority
    assert log_in(server.engine, installation.secret(result), authority) == ("shop_orders", "shop_orders")
    for database in ("shop_invoices", DATABASE):
        with pytest.raises(LoginRefused, match=installation.dialect.no_entry):
            installation.logged_in(result, database)
    installation.logged_in(other).close()


def test_creating_again_returns_the_same_with_an_empty_password(installation: Installation) -> None:
    first = installation.call("create", "again_db")
    second = installation.call("create", "again_db")

    assert second == {**first, "password": ""}
    installation.logged_in(first).close()


def test_rotating_refuses_the_old_password_and_create_leaves_the_new_one(installation: Installation) -> None:
    first = installation.call("create", "turning_db")
    with installation.logged_in(first) as open_before, open_before.cursor() as cursor:
        rotated = installation.call("rotate", "turning_db")
        cursor.execute("SELECT 1")
    again = installation.call("create", "turning_db")

    assert rotated["password"] not in ("", first["password"])
    assert again["password"] == ""
    installation.logged_in({**first, **rotated}).close()
    with pytest.raises(LoginRefused, match=installation.dialect.wrong_password):
        installation.logged_in(first)


def test_a_deleted_database_is_gone_and_comes_back_with_another_password(installation: Installation) -> None:
    result = installation.call("create", "doomed_db")
    assert installation.present("doomed_db") == BOTH
    installation.call("delete", "doomed_db")

    assert installation.present("doomed_db") == []
    installation.call("delete", "doomed_db")
    assert installation.call("create", "doomed_db")["password"] not in ("", result["password"])


def test_what_was_not_made_here_is_not_deleted_rotated_or_handed_out(installation: Installation) -> None:
    installation.server.execute("CREATE DATABASE own_db")
    for name in (*installation.dialect.others, DATABASE, "own_db", "absent_db", ""):
        before = installation.present(name)
        installation.call("delete", name)
        failure = installation.refusal("rotate", name)

        assert installation.present(name) == before, name
        assert failure.reason is Reason.PROCEDURE_FAILED, name
        if before or not name:
            refused = installation.refusal("create", name).reason
            # The names of some are refused before anybody looks.
            assert refused is Reason.ALREADY_EXISTS or (refused is Reason.PROCEDURE_FAILED and name != "own_db"), name


def test_names_that_could_be_misread_are_refused(installation: Installation) -> None:
    everywhere = (f"a_b; DROP DATABASE {DATABASE}", "a_'b", "Upper_db", "-a_b", "a_\nb", "a_b\n")
    for name in (*everywhere, *installation.dialect.misread):
        failure = installation.refusal("create", name)

        assert failure.code == installation.dialect.refused_name, name
        assert installation.dialect.rule in failure.message, name
        assert installation.present(name) == [], name
        installation.call("delete", name)
        assert installation.refusal("rotate", name).reason is Reason.PROCEDURE_FAILED, name


def test_every_kubernetes_name_works(installation: Installation) -> None:
    for name in ("team-a_db.v2", "0start_0", installation.dialect.longest, "select_from", "a_b_c-d"):
        result = installation.call("create", name)
        installation.logged_in(result).close()
        installation.call("delete", name)

        assert installation.present(name) == [], name


def test_installing_again_keeps_what_exists(installation: Installation) -> None:
    result = installation.call("create", "survivor_db")
    run(installation.server)

    installation.logged_in(result).close()
    again = installation.beside()
    assert again.call("create", "survivor_db")["password"] == ""
    assert again.call("rotate", "survivor_db")["password"]
    again.session.close()


def test_calls_for_one_name_at_the_same_time_make_one_database(installation: Installation) -> None:
    contenders = [installation.beside() for _ in range(3)]
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda one=one: results.append(one.call("create", "contended_db")))
        for one in contenders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for contender in contenders:
        contender.session.close()

    passwords = sorted(result["password"] for result in results)
    assert passwords[:2] == ["", ""]
    assert passwords[2]


def test_no_password_stands_in_the_servers_log(installation: Installation) -> None:
    created = installation.call("create", "quiet_db")
    rotated = installation.call("rotate", "quiet_db")
    log = installation.server.statements.read_text(errors="replace") + installation.server.log.read_text()

    assert "create_database" in log
    for secret in (created["password"], rotated["password"]):
        assert secret not in log
        assert secret.encode().hex() not in log
