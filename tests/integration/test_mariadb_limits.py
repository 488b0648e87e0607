"""What a wait for MariaDB has of its own: lock names, killed Jobs, who may end what runs as whom, administrators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Session
from provisioner_job.drivers.mariadb import lock_name
from provisioner_job.errors import Failure
from tests.integration.caller import Caller
from tests.integration.holder import Holder, holding
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.napping import SLEEPS, Bed, meanwhile, wait_until

pytestmark = pytest.mark.integration

SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=60)
INVOKER = "SQL SECURITY INVOKER"


@pytest.fixture
def administrator(mariadb: MariaDBSite) -> Iterator[None]:
    """The account may end what others run."""
    mariadb.server.execute(f"GRANT CONNECTION ADMIN ON *.* TO {mariadb.username}")
    yield
    mariadb.server.execute(f"REVOKE CONNECTION ADMIN ON *.* FROM {mariadb.username}")


# Locks


def test_the_lock_and_a_wait_for_it_outlast_calls_and_their_time_limits(
    open_mariadb_session: Callable[[], Session], mariadb_bed: Bed, mariadb: MariaDBSite
) -> None:
    first, second = open_mariadb_session(), open_mariadb_session()
    first.lock("a", SHORT)
    mariadb_bed.refusal(first, "60", timeout=0.2)
    with pytest.raises(Failure):
        second.lock("a", SHORT)
    mariadb_bed.nap(second, "0", timeout=1)
    thread = meanwhile(lambda: mariadb.running("GET_LOCK", seconds=1.5), first.close)

    second.lock("a", LONG)
    thread.join()


def test_the_lock_names_are_the_same_everywhere_and_apart() -> None:
    names = {lock_name(f"identity {number}").casefold() for number in range(1000)}

    assert len(names) == 1000
    assert all(len(name) <= 64 for name in names)
    assert lock_name("shop_orders") == lock_name("shop_orders")
    assert lock_name("x" * 10_000) != lock_name("x" * 9_999)
    assert lock_name("Größe 🐘") != lock_name("grosse")


@pytest.fixture
def holder(mariadb: MariaDBSite, mariadb_schema: MariaDBSchema) -> Iterator[Holder]:
    """Another process that holds the lock of `killed`, and calls `drudge` when it is told how long that shall take."""
    mariadb_schema.procedure(
        "drudge(seconds double)",
        "DECLARE until datetime(3) DEFAULT NOW(3) + INTERVAL seconds SECOND;"
        " WHILE SYSDATE(3) < until DO DO SLEEP(0.05); END WHILE",
    )
    with holding("mariadb", mariadb.login(), f"{mariadb_schema.name}.drudge", "0") as holder:
        yield holder


def test_a_call_that_outlives_its_killed_job_keeps_the_lock_to_its_end(
    mariadb: MariaDBSite, holder: Holder, open_mariadb_session: Callable[[], Session]
) -> None:
    """MariaDB does not notice that a client is gone while statement follows statement: only the time limit ends it."""
    holder.call(seconds=2)
    wait_until(lambda: mariadb.running("SLEEP(0.05)"))
    holder.kill()

    holder.outlasts(open_mariadb_session())
    assert not mariadb.running("SLEEP(0.05)")


def test_a_waiting_job_that_is_killed_leaves_the_lock(
    holder: Holder, open_mariadb_session: Callable[[], Session]
) -> None:
    """Long before the server would end its idle session, after hours."""
    holder.kill()

    open_mariadb_session().lock("killed", LONG)


# Time limits


@pytest.mark.parametrize("security", [INVOKER, "SQL SECURITY DEFINER"])
def test_a_call_that_takes_too_long_is_ended_by_the_server(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite, security: str
) -> None:
    mariadb_schema.define(f"CREATE PROCEDURE nap(seconds double) {security} {SLEEPS}")
    failure = mariadb_call.refusal("nap", "60", timeout=0.3)

    assert failure.reason is Reason.TIMEOUT
    assert failure.code == "1969"
    assert "0.3 s" in failure.message
    assert not mariadb.running("SLEEP")


STUBBORN = (
    "DECLARE until datetime DEFAULT NOW() + INTERVAL 60 SECOND; DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;"
    " spin: LOOP DO SLEEP(0.2); IF SYSDATE() > until THEN LEAVE spin; END IF; END LOOP; SELECT 'slept' AS state"
)


def test_a_call_that_swallows_every_timeout_is_ended_from_here(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    mariadb_schema.procedure("mule()", STUBBORN, INVOKER)
    failure = mariadb_call.refusal("mule", timeout=0.2)

    assert failure.reason is Reason.TIMEOUT
    assert "nor to its cancellation" in failure.message
    wait_until(lambda: not mariadb.running("SLEEP"))


def test_a_definers_call_that_swallows_every_timeout_is_left_behind_and_said_to_run(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    """To the server it is the definer's, not the account's."""
    mariadb_schema.procedure("mule()", STUBBORN)
    failure = mariadb_call.refusal("mule", timeout=0.2)
    left = mariadb.server.execute(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(0.2)%' AND ID <> CONNECTION_ID()"
    )
    for (number,) in left:
        mariadb.server.execute(f"KILL {number}")

    assert failure.reason is Reason.TIMEOUT
    assert "CONNECTION ADMIN" in failure.message
    assert left


def test_a_call_that_waits_for_a_lock_all_the_time_says_so(mariadb_call: Caller, mariadb_schema: MariaDBSchema) -> None:
    mariadb_schema.define("CREATE TABLE t (a int PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO t VALUES (1)")
    mariadb_schema.procedure("rewrite()", "UPDATE t SET a = 3; SELECT 'x' AS state")
    mariadb_schema.procedure("metadata()", "ALTER TABLE t ADD b int; SELECT 'x' AS state")
    with mariadb_schema.server.connect(mariadb_schema.name) as other, other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE t SET a = 2")
        failures = [mariadb_call.refusal(name, timeout=1.5) for name in ("rewrite", "metadata")]

    assert [(one.reason, one.code) for one in failures] == [(Reason.LOCK_TIMEOUT, "1205")] * 2


# Cancellation


@pytest.mark.usefixtures("administrator")
def test_an_account_with_connection_admin_cancels_what_runs_as_its_definer(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    mariadb_schema.define(f"CREATE PROCEDURE nap(seconds double) {SLEEPS}")
    thread = meanwhile(lambda: mariadb.running("SLEEP"), mariadb_call.session.cancel)
    failure = mariadb_call.refusal("nap", "60", timeout=120)
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    assert "was cancelled" in failure.message
    assert not mariadb.running("SLEEP")


def test_another_account_leaves_a_definers_call_behind_and_says_so(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    mariadb_schema.define(f"CREATE PROCEDURE nap(seconds double) {SLEEPS}")
    thread = meanwhile(lambda: mariadb.running("SLEEP"), mariadb_call.session.cancel)
    failure = mariadb_call.refusal("nap", "60", timeout=120)
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    assert "CONNECTION ADMIN" in failure.message
    wait_until(lambda: not mariadb.running("SLEEP"))


def test_a_call_that_swallows_every_cancellation_is_ended_with_its_connection(
    mariadb_call: Caller, mariadb_schema: MariaDBSchema, mariadb: MariaDBSite
) -> None:
    mariadb_schema.procedure("mule()", STUBBORN, INVOKER)
    thread = meanwhile(lambda: mariadb.running("SLEEP"), mariadb_call.session.cancel)
    failure = mariadb_call.refusal("mule", timeout=120)
    thread.join()

    assert failure.reason is Reason.INTERRUPTED
    wait_until(lambda: not mariadb.running("SLEEP"))


@pytest.mark.parametrize(
    ("kill", "reason"), [("KILL QUERY", Reason.PROCEDURE_FAILED), ("KILL CONNECTION", Reason.CONNECTION_LOST)]
)
def test_an_administrator_who_ends_a_call_is_no_timeout(
    mariadb_call: Caller, mariadb_bed: Bed, mariadb: MariaDBSite, kill: str, reason: Reason
) -> None:
    def ended() -> bool:
        found = mariadb.server.execute(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP%' AND ID <> CONNECTION_ID()"
        )
        for (number,) in found:
            mariadb.server.execute(f"{kill} {number}")
        return bool(found)

    def end() -> None:
        # What was there may be hidden at the next look: the list waits for no session that changes its own entry.
        wait_until(ended)

    thread = meanwhile(mariadb_bed.asleep, end)
    failure = mariadb_call.refusal("nap", "60", timeout=120)
    thread.join()

    assert failure.reason is reason
    if reason is Reason.CONNECTION_LOST:
        assert mariadb_call.refusal("nap", "0").reason is Reason.CONNECTION_LOST
