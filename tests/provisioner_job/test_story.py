"""Jobs as processes, between a real API server and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from api.operation import Call, OperationSpec, Server, Text, operation_name
from api.resources import NAMESPACES, OPERATIONS, ROLE_BINDINGS, SECRETS
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Login
from tests.provisioner_job.operations import call, spec, target, text
from tests.provisioner_job.world import (
    ADMINISTRATOR,
    ADMINISTRATOR_PASSWORD,
    GENERATED_PASSWORD,
    OPERATOR,
    Job,
    World,
    eventually,
)

pytestmark = pytest.mark.integration

LOG = "INSERT INTO calls (what) VALUES (name);"
RETURN = "RETURN QUERY VALUES ('host', 'db'), ('username', name), ('password', {password});"
CREATE = LOG + RETURN.format(password="CASE (SELECT count(*) FROM calls) WHEN 1 THEN 'fresh-password' ELSE '' END")
ALWAYS = LOG + RETURN.format(password="'fresh-password'")
GATE = 4711
GATED = f"PERFORM pg_advisory_xact_lock({GATE});"
TAKEN = "RAISE EXCEPTION 'database \"%\" already exists', name USING ERRCODE = 'duplicate_database';"
FOREVER = LOG + "PERFORM pg_sleep(60);"


@pytest.fixture(autouse=True)
def _procedures(world: World) -> None:
    """A procedure as the contract wants it: called again, it returns no password."""
    world.define("create_database", CREATE)


@contextmanager
def locked(world: World, given: OperationSpec) -> Iterator[None]:
    """Another Job holds the lock of this identity."""
    server = Server("main", "127.0.0.1", world.database.port, "postgres")
    login = Login(server, ADMINISTRATOR, ADMINISTRATOR_PASSWORD, str(world.authority.file))
    session = load("postgres")(login)
    try:
        session.lock(given.identity, timedelta(seconds=5))
        yield
    finally:
        session.close()


def is_idle(world: World) -> bool:
    """Whether nothing runs on the server for the operator."""
    running = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active'"
    return bool(world.database.execute(running, [ADMINISTRATOR]) == [(0,)])


def wait_for_the_call(world: World, job: Job) -> None:
    """Until the procedure runs on the server, for ever."""
    job.until("calling")
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND wait_event = 'PgSleep'"
    eventually(lambda: world.database.execute(sleeping, [ADMINISTRATOR]), "the procedure runs")


@contextmanager
def amid_the_call(world: World, given: OperationSpec) -> Iterator[Job]:
    """A Job whose procedure, with `GATED` in it, runs on the server, and goes on when the context ends."""
    at_the_gate = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
    with psycopg.connect(host=str(world.database.folder), port=world.database.port, user="postgres") as gate:
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        job = world.start(given)
        job.until("calling")
        eventually(lambda: world.database.execute(at_the_gate, [GATE]), "the procedure runs")
        yield job


class TestSuccess:
    def test_a_create_writes_its_secret_and_reports(self, world: World) -> None:
        ended = world.run(given := spec())
        manifest = world.get(SECRETS, "orders-credentials")
        status = world.status(given)

        assert ended.code == 0, ended.errors
        assert world.secret() == {"host": "db", "username": "orders", "password": "fresh-password"}
        assert manifest is not None
        assert manifest["type"] == "servicebinding.io/postgresql"
        assert given.secret is not None
        assert manifest["metadata"]["ownerReferences"][0]["uid"] == given.secret.owner.uid
        assert (status["outcome"], status["called"], status["reportedBy"]) == ("Succeeded", True, "Job")
        assert status["resultKeys"] == ["host", "username", "password"]
        assert status["connection"]["tlsVersion"] == "TLSv1.3"

    def test_the_log_tells_every_step_and_who_asked(self, world: World) -> None:
        ended = world.run(given := spec())

        steps = ["started", "secret-checked", "connected", "locked", "calling", "called", "secret-written", "reported"]
        assert ended.events == steps
        for line in ended.lines:
            assert line["database"] == f"{world.namespace}/orders"
            assert line["operation"] == operation_name(given.instance, 1, 1)
            assert (line["attempt"], line["requester"], line["endpoint"]) == (1, "mary", "main")
        assert ended.line("called")["procedure"] == "create_database"
        assert ended.line("called")["arguments"] == {"name": "orders"}
        assert ended.line("called")["resultKeys"] == ["host", "username", "password"]
        assert {"tlsVersion", "cipher", "serverVersion", "peerCertificateSHA256"} <= set(ended.line("connected"))
        assert ended.line("secret-written")["keys"] == ["host", "password", "username"]

    def test_a_generated_password_goes_to_the_procedure_and_to_the_secret_and_nowhere_else(self, world: World) -> None:
        world.define("create_database", LOG + "RETURN QUERY VALUES ('taken', md5(name));")
        password = text("password", "{{ .Generated.password }}")
        given = spec(
            generated=True,
            calls=(call("create_database", name="{{ .Generated.password }}"),),
            secret=target(password, text("taken", "{{ .Result.taken }}")),
        )
        ended = world.run(given)

        assert world.calls() == [GENERATED_PASSWORD]
        assert (world.secret() or {})["password"] == GENERATED_PASSWORD
        assert ended.line("called")["arguments"] == {"name": "[generated]"}
        assert GENERATED_PASSWORD not in f"{ended}{world.status(given)}"

    def test_a_delete_needs_no_secret_and_no_right_in_the_namespace(self, world: World) -> None:
        world.define("drop_database", LOG, returns="void")
        ended = world.run(given := spec(type="delete", secret=None, calls=(call("drop_database", name="orders"),)))

        assert ended.code == 0, ended.errors
        assert world.status(given)["outcome"] == "Succeeded"
        assert world.calls() == ["orders"]
        assert "secret-checked" not in ended.events

    def test_a_rotation_calls_twice_and_keeps_what_is_not_returned(self, world: World) -> None:
        world.define("rotate", LOG + "RETURN QUERY VALUES ('password', 'rotated');")
        world.run(spec())
        keys = (text("dsn", "{{ .Result.username }}:{{ .Result.password }}"), text("host", "{{ .Result.host }}"))
        calls = (call("rotate", name="first"), call("create_database", name="second"))
        given = spec(type="rotate", sequence=2, calls=calls, secret=target(*keys))
        world.run(given)
        manifest = world.get(SECRETS, "orders-credentials")

        assert world.status(given)["outcome"] == "Succeeded"
        assert world.secret() == {"dsn": "second:rotated", "host": "db"}
        assert world.calls() == ["orders", "first", "second"]
        assert manifest is not None
        assert "dbaas.bedag.ch/rotated-at" in manifest["metadata"]["annotations"]

    def test_a_rotation_that_returns_nothing_leaves_the_word_to_the_create_after_it(self, world: World) -> None:
        world.run(spec())
        world.define("rotate_silently", LOG, returns="void")
        world.define("create_database", RETURN.format(password="'rotated'"))
        calls = (call("rotate_silently", name="orders"), call("create_database", name="orders"))
        world.run(given := spec(type="rotate", sequence=2, calls=calls))

        assert world.status(given)["outcome"] == "Succeeded", world.status(given)
        assert (world.secret() or {})["password"] == "rotated"

    def test_a_rotation_of_which_nobody_says_the_new_password_is_no_success(self, world: World) -> None:
        """The Secret would be called rotated, and not log in any more."""
        world.run(spec())
        world.define("rotate_silently", LOG, returns="void")
        calls = (call("rotate_silently", name="orders"), call("create_database", name="orders"))
        world.run(given := spec(type="rotate", sequence=2, calls=calls))
        status = world.status(given)

        assert (status["reason"], status["called"]) == ("ResultInvalid", True)
        assert "let the rotate procedure return what it has set" in status["message"]
        assert (world.secret() or {})["password"] == "fresh-password"

    def test_what_others_have_added_to_the_secret_stays(self, world: World) -> None:
        given = world.operation(spec(sequence=2, secret=target(credentials=())))
        world.our_secret(given, 1, stringData={"password": "kept", "theirs": "x"})
        world.start(given).end()

        assert world.status(given)["outcome"] == "Succeeded", world.status(given)
        assert world.secret() == {"host": "db", "username": "orders", "password": "fresh-password", "theirs": "x"}


class TestOnceOnly:
    def test_a_finished_operation_is_not_run_again(self, world: World) -> None:
        world.run(given := spec())
        ended = world.run(given)

        assert (ended.code, ended.events) == (0, ["skipped"])
        assert world.calls() == ["orders"]

    def test_what_the_secret_carries_already_is_not_called_for_again(self, world: World) -> None:
        world.run(spec())
        ended = world.run(again := spec(attempt=2))

        assert ended.events == ["started", "secret-checked", "skipped", "reported"]
        assert world.status(again)["outcome"] == "Succeeded"
        assert world.status(again)["called"] is False
        assert world.calls() == ["orders"]

    def test_two_jobs_of_one_request_call_once(self, world: World) -> None:
        """The second waits for the lock of the first, and finds its Secret."""
        world.define("create_database", GATED + CREATE)
        with amid_the_call(world, world.operation(spec())) as first:
            second = world.start(world.operation(again := spec(attempt=2)))
            second.until("connected")
        first.end()
        ended = second.end()

        assert ended.events[-2:] == ["skipped", "reported"]
        assert world.status(again)["outcome"] == "Succeeded"
        assert world.calls() == ["orders"]

    def test_an_operation_that_is_deleted_while_its_job_waits_is_not_called(self, world: World) -> None:
        given = world.operation(spec())
        with locked(world, given):
            job = world.start(given)
            job.until("connected")
            name = operation_name(given.instance, given.sequence, given.attempt)
            world.api.ask("DELETE", OPERATIONS.path(name, namespace=OPERATOR))
        ended = job.end()

        assert (ended.code, ended.events[-1]) == (0, "skipped")
        assert world.calls() == []
        assert world.secret() is None

    def test_killed_during_the_call_it_can_be_run_again(self, world: World) -> None:
        world.define("create_database", GATED + ALWAYS)
        with amid_the_call(world, given := world.operation(spec())) as job:
            job.kill()
        ended = world.start(given).end()

        assert ended.code == 0
        assert (world.secret() or {})["password"] == "fresh-password"
        # The first call outlived its Job, and the second waited for it: or it noticed, and was undone.
        assert world.calls() in (["orders"], ["orders", "orders"])

    def test_killed_before_the_secret_it_can_be_run_again(self, world: World) -> None:
        world.define("create_database", GATED + ALWAYS)
        with amid_the_call(world, given := world.operation(spec())) as job:
            world.proxy.cut()
        job.until("called")
        job.kill()

        assert world.secret() is None

        world.proxy.restore()
        world.start(given).end()

        assert (world.secret() or {})["password"] == "fresh-password"
        assert world.status(given)["outcome"] == "Succeeded"
        assert world.calls() == ["orders", "orders"]

    def test_killed_before_the_report_it_is_run_again_without_a_call(self, world: World) -> None:
        job = world.start(given := world.operation(spec()))
        job.until("secret-written")
        job.kill()
        ended = world.start(given).end()

        assert ended.code == 0
        assert world.status(given)["outcome"] == "Succeeded"
        assert world.calls() == ["orders"]

    @pytest.mark.parametrize("event", ["started", "secret-checked", "connected", "locked"])
    def test_killed_early_it_is_run_again(self, world: World, event: str) -> None:
        world.define("create_database", ALWAYS)
        job = world.start(given := world.operation(spec()))
        job.until(event)
        job.kill()
        world.start(given).end()

        assert world.status(given)["outcome"] == "Succeeded"
        assert (world.secret() or {})["password"] == "fresh-password"


class TestRefusedSecrets:
    """Whatever would keep the credentials from their Secret is noticed before the procedure runs."""

    def refused(self, world: World, given: OperationSpec) -> dict[str, Any]:
        """The report of a Job that must not call."""
        ended = world.run(given)

        assert ended.code == 0, ended.errors
        assert world.calls() == []
        assert "connected" not in ended.events
        return world.status(given)

    def test_a_foreign_one_is_not_touched(self, world: World) -> None:
        before = world.foreign_secret()
        status = self.refused(world, spec())

        assert status["reason"] == "SecretConflict"
        assert f"{world.namespace}/orders-credentials" in status["message"]
        assert world.get(SECRETS, "orders-credentials") == before

    def test_an_immutable_one(self, world: World) -> None:
        world.our_secret(spec(), 1, immutable=True)
        status = self.refused(world, spec(sequence=2))

        assert status["reason"] == "SecretRefused"
        assert "immutable" in status["message"]

    def test_a_quota(self, world: World) -> None:
        path = f"/api/v1/namespaces/{world.namespace}/resourcequotas"
        hard = {"hard": {"count/secrets": "0"}}
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": hard}
        assert world.api.ask("POST", path, quota).accepted
        counted = {"status": hard | {"used": {"count/secrets": "0"}}}
        assert world.api.merge(f"{path}/none/status", counted).accepted
        status = self.refused(world, spec())

        assert status["reason"] == "SecretRefused"
        assert "exceeded quota" in status["message"]

    def test_a_namespace_that_is_being_deleted(self, world: World) -> None:
        given = world.operation(spec())
        world.api.ask("DELETE", NAMESPACES.path(world.namespace))
        world.start(given).end()

        assert world.status(given)["reason"] == "SecretRefused"
        assert "being deleted" in world.status(given)["message"]
        assert world.calls() == []

    def test_another_policy_of_the_cluster(self, world: World) -> None:
        policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic"
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE", "UPDATE"]}
        body = {
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [
                    {
                        "expression": f"object.metadata.namespace != '{world.namespace}'",
                        "message": "every Secret here needs a cost centre",
                    }
                ],
            }
        }
        kinds = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "cost"}}
        binding = {"spec": {"policyName": "cost", "validationActions": ["Deny"]}}
        try:
            world.api.ask("POST", f"{policies}ies", kinds | {"kind": "ValidatingAdmissionPolicy"} | body)
            world.api.ask(
                "POST", f"{policies}ybindings", kinds | {"kind": "ValidatingAdmissionPolicyBinding"} | binding
            )
            trial = f"{SECRETS.path(namespace=world.namespace)}?dryRun=All"
            probe = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "probe"}}
            eventually(lambda: not world.api.ask("POST", trial, probe).accepted, "the policy acts")
            status = self.refused(world, spec())
        finally:
            world.api.ask("DELETE", f"{policies}ybindings/cost")
            world.api.ask("DELETE", f"{policies}ies/cost")

        assert status["reason"] == "SecretRefused"
        assert "every Secret here needs a cost centre" in status["message"]


class TestChangesDuringTheCall:
    @pytest.fixture(autouse=True)
    def _slow(self, world: World) -> None:
        world.define("create_database", GATED + ALWAYS)

    def test_a_change_to_the_secret_is_kept(self, world: World) -> None:
        given = world.operation(spec(sequence=2))
        world.our_secret(given, 1)
        path = SECRETS.path("orders-credentials", namespace=world.namespace)
        with amid_the_call(world, given) as job:
            world.api.merge(path, {"metadata": {"annotations": {"their": "note"}}})
        job.end()
        manifest = world.get(SECRETS, "orders-credentials")

        assert world.status(given)["outcome"] == "Succeeded"
        assert manifest is not None
        assert manifest["metadata"]["annotations"]["their"] == "note"
        assert (world.secret() or {})["password"] == "fresh-password"

    def test_a_secret_that_goes_away_is_written_with_what_it_held(self, world: World) -> None:
        world.define("create_database", GATED + LOG + RETURN.format(password="''"))
        given = world.operation(spec(sequence=2))
        world.our_secret(given, 1)
        with amid_the_call(world, given) as job:
            world.api.ask("DELETE", SECRETS.path("orders-credentials", namespace=world.namespace))
        job.end()

        assert (world.secret() or {})["password"] == "kept"

    def test_a_foreign_secret_that_appears_is_not_touched(self, world: World) -> None:
        with amid_the_call(world, given := world.operation(spec())) as job:
            before = world.foreign_secret()
        job.end()

        assert world.status(given)["reason"] == "SecretConflict"
        assert world.status(given)["called"] is True
        assert world.get(SECRETS, "orders-credentials") == before

    def test_an_api_server_that_is_away_is_waited_for(self, world: World) -> None:
        with amid_the_call(world, given := world.operation(spec())) as job:
            world.proxy.cut()
        job.until("called")
        eventually(lambda: world.proxy.refused > 2, "the Job has asked again")
        world.proxy.restore()
        ended = job.end()

        assert ended.code == 0
        assert world.status(given)["outcome"] == "Succeeded"
        assert (world.secret() or {})["password"] == "fresh-password"

    def test_an_api_server_that_knows_no_right_for_a_moment_is_waited_for(self, world: World) -> None:
        """As one that has just been started again: the result may be the only copy of a password."""
        given = world.operation(spec())
        name = operation_name(given.instance, given.sequence, given.attempt)
        binding = world.get(ROLE_BINDINGS, name)
        assert binding is not None
        with amid_the_call(world, given) as job:
            world.api.ask("DELETE", ROLE_BINDINGS.path(name, namespace=world.namespace))
        job.until("called")
        world.create(
            ROLE_BINDINGS, {key: binding[key] for key in ("roleRef", "subjects")} | {"metadata": {"name": name}}
        )
        job.end()

        assert world.status(given)["outcome"] == "Succeeded"
        assert (world.secret() or {})["password"] == "fresh-password"

    def test_rights_that_arrive_late_are_waited_for(self, world: World) -> None:
        """Grants reach an API server's authorizer a moment after they are made."""
        given = world.operation(spec())
        name = operation_name(given.instance, given.sequence, given.attempt)
        binding = world.get(ROLE_BINDINGS, name)
        assert binding is not None
        world.api.ask("DELETE", ROLE_BINDINGS.path(name, namespace=world.namespace))
        job = world.start(given)
        job.until("started")
        world.create(
            ROLE_BINDINGS, {key: binding[key] for key in ("roleRef", "subjects")} | {"metadata": {"name": name}}
        )
        job.end()

        assert world.status(given)["outcome"] == "Succeeded"

    def test_rights_that_do_not_arrive_are_no_refusal(self, world: World) -> None:
        """Who was to grant them may have died: the next attempt has them, and nobody need change anything."""
        given = world.operation(spec())
        name = operation_name(given.instance, given.sequence, given.attempt)
        world.api.ask("DELETE", ROLE_BINDINGS.path(name, namespace=world.namespace))
        job = world.start(given)
        job.end()

        status = world.status(given)
        assert (status["outcome"], status["reason"]) == ("Retry", "KubernetesUnavailable")
        assert "was not given its right to the Secret" in status["message"]
        assert status.get("called", False) is False

    def test_a_report_that_somebody_else_has_written_stays(self, world: World) -> None:
        given = world.operation(spec())
        lost = {
            "outcome": "Retry",
            "reason": "JobLost",
            "message": "",
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:00Z",
            "called": True,
            "reportedBy": "Controller",
        }
        name = operation_name(given.instance, given.sequence, given.attempt)
        path = OPERATIONS.path(name, namespace=OPERATOR, subresource="status")
        with amid_the_call(world, given) as job:
            assert world.api.merge(path, {"status": lost}).accepted
        ended = job.end()

        assert (ended.code, ended.events[-1]) == (0, "skipped")
        assert world.status(given) == lost


class TestLimits:
    def test_a_call_that_takes_too_long_is_cancelled_on_the_server(self, world: World) -> None:
        world.define("create_database", FOREVER)
        given = spec(calls=(call("create_database", timedelta(seconds=1), name="orders"),))
        world.run(given)

        assert world.status(given)["reason"] == "Timeout"
        assert world.status(given)["called"] is True
        assert world.calls() == []
        eventually(lambda: is_idle(world), "nothing runs any more")

    def test_a_lock_that_is_not_given_up_is_reported(self, world: World) -> None:
        """The wait ends with the time of the operation, and what the connection may take."""
        given = spec(calls=(call("create_database", timedelta(seconds=1), name="orders"),))
        given = world.operation(given)
        with locked(world, given):
            ended = world.start(given).end()

        assert world.status(given)["reason"] == "LockTimeout"
        assert world.status(given)["called"] is False
        assert "calling" not in ended.events

    def test_a_drained_node_lets_it_finish(self, world: World) -> None:
        world.define("create_database", GATED + ALWAYS)
        with amid_the_call(world, given := world.operation(spec())) as job:
            job.terminate()
        ended = job.end()

        assert ended.code == 0
        assert world.status(given)["outcome"] == "Succeeded"

    def test_before_a_drained_node_kills_it_the_call_is_cancelled(self, world: World) -> None:
        world.define("create_database", FOREVER)
        job = world.start(given := world.operation(spec()), stop_seconds=0.2)
        wait_for_the_call(world, job)
        job.terminate()
        ended = job.end()

        assert ended.code == 0
        assert world.status(given)["reason"] == "Interrupted"
        assert world.status(given)["called"] is True
        eventually(lambda: is_idle(world), "nothing runs any more")

    def test_a_server_that_answers_nothing_is_given_up(self, world: World) -> None:
        """The driver cannot cancel on a server that is frozen; the report gets out all the same."""
        world.define("create_database", FOREVER)
        job = world.start(given := world.operation(spec()), stop_seconds=0.2)
        wait_for_the_call(world, job)
        world.database.pause()
        try:
            job.terminate()
            ended = job.end()
        finally:
            world.database.resume()

        assert ended.code == 0
        assert world.status(given)["reason"] == "Interrupted"


class TestFailures:
    def test_a_procedure_that_quotes_passwords_leaves_no_trace_of_them(self, world: World) -> None:
        admin = ADMINISTRATOR_PASSWORD.replace("'", "''")
        world.define(
            "create_database",
            f"RAISE EXCEPTION 'cannot set % for %', quote_literal(name), quote_literal('{admin}') "
            f"USING DETAIL = name, HINT = '{admin}';",
        )
        given = spec(generated=True, calls=(call("create_database", name="{{ .Generated.password }}"),))
        ended = world.run(given)
        everything = f"{ended}{world.status(given)}"

        assert world.status(given)["reason"] == "ProcedureFailed"
        assert "cannot set" in world.status(given)["message"]
        for secret in (ADMINISTRATOR_PASSWORD, GENERATED_PASSWORD):
            for form in (secret, secret.replace("'", "''"), secret.replace("\\", "\\\\"), repr(secret)[1:-1]):
                assert form not in everything
        for fragment in ("adm'", "gener'", "ated%", "pass\\"):
            assert fragment not in everything

    def test_a_returned_password_is_not_logged_by_a_later_failure(self, world: World) -> None:
        world.define("rotate", "RETURN QUERY VALUES ('password', 'brand-new-password');")
        world.define("create_database", "RAISE EXCEPTION 'brand-new-password is weak';")
        given = spec(type="rotate", calls=(call("rotate", name="a"), call("create_database", name="b")))
        ended = world.run(given)

        assert world.status(given)["message"] == "create_database: *** is weak"
        assert "brand-new" not in f"{ended}"

    def test_a_database_that_existed_before_is_somebody_elses(self, world: World) -> None:
        world.define("create_database", LOG + RETURN.format(password="''"))
        ended = world.run(given := spec())

        assert world.status(given)["reason"] == "AlreadyExists"
        assert world.secret() is None
        assert "secret-written" not in ended.events

    def test_a_create_that_refuses_what_is_there_at_its_first_call_has_found_somebody_elses(self, world: World) -> None:
        """Else a delete would follow, as of a create that was called, and take that database away."""
        world.define("create_database", TAKEN)
        world.run(given := spec())
        status = world.status(given)

        assert (status["reason"], status["called"]) == ("AlreadyExists", True)
        assert status["message"].startswith('create_database: database "orders" already exists: ')
        assert "choose other parameters or another name" in status["message"]

    @pytest.mark.parametrize("kind", ["create", "rotate"])
    def test_a_create_that_refuses_what_it_has_made_itself_is_told_to_go_on(self, world: World, kind: str) -> None:
        world.define("create_database", TAKEN)
        world.define("rotate", "RETURN;")
        create, rotate = call("create_database", name="orders"), call("rotate", name="orders")
        world.run(given := spec(type=kind, recoverable=True, calls=(rotate, create) if kind == "rotate" else (create,)))
        status = world.status(given)

        assert (status["reason"], status["called"]) == ("ProcedureFailed", True)
        assert 'database "orders" already exists' in status["message"]
        assert "let create_database go on with what is there already" in status["message"]

    @pytest.mark.parametrize(("name", "reason"), [("orders", "AlreadyExists"), ("pgcrypto", "ProcedureFailed")])
    def test_an_account_of_that_name_is_somebody_elses_too(self, world: World, name: str, reason: str) -> None:
        """A create that makes the login first comes to its database never; another object's name says nothing."""
        taken = f"RAISE EXCEPTION '{name} already exists' USING ERRCODE = 'duplicate_object';"
        world.define("create_database", taken.replace(f"'{name} ", f"""'role "{name}" """))
        world.run(given := spec())

        assert world.status(given)["reason"] == reason

    def test_keys_of_which_no_secret_can_have_any_are_no_result(self, world: World) -> None:
        """An empty Secret would be called Ready."""
        world.define("create_database", "RETURN QUERY VALUES ('user name', 'u'), ('pass word', 'p');")
        world.run(given := spec())

        assert world.status(given)["reason"] == "ResultInvalid"
        assert "returned user name, pass word" in world.status(given)["message"]
        assert world.secret() is None

    def test_a_key_of_any_length_is_reported_and_costs_nothing(self, world: World) -> None:
        """The API server takes no Operation of more than a megabyte or two, and no report says so."""
        world.define("create_database", "RETURN QUERY VALUES ('password', 'p'), (repeat('k', 4000000), 'v');")
        world.run(given := spec())
        password, long = world.status(given)["resultKeys"]

        assert world.secret() == {"password": "p"}
        assert (world.status(given)["reason"], password) == ("Succeeded", "password")
        assert long == "k" * 252 + "…"

    def test_a_key_that_the_result_lacks_is_named(self, world: World) -> None:
        given = spec(secret=target(text("dsn", "{{ .Result.url }}")))
        world.run(given)

        assert world.status(given)["reason"] == "TemplateInvalid"
        assert ".Result.host" in world.status(given)["message"]
        assert world.secret() is None

    def test_a_key_that_no_secret_can_have_is_skipped_with_a_line(self, world: World) -> None:
        world.define("create_database", "RETURN QUERY VALUES ('password', 'p'), ('user name', 'u');")
        ended = world.run(spec())

        assert world.secret() == {"password": "p"}
        assert ended.line("skipped")["key"] == "user name"

    @pytest.mark.parametrize(
        ("returns", "argument", "reason"),
        [
            ("refcursor", text("name", "orders"), "ResultInvalid"),
            ("record", text("name", "orders"), "ResultInvalid"),
            ("text", text("given", "orders"), "ArgumentsInvalid"),
        ],
    )
    def test_what_was_refused_before_the_call_has_not_been_called(
        self, world: World, returns: str, argument: Text, reason: str
    ) -> None:
        """Else a database that somebody else has there would pass for this claim's own, and be reset."""
        world.define(f"make_{returns}", LOG, returns=returns)
        world.run(given := spec(calls=(Call(f"make_{returns}", (argument,), timedelta(seconds=20)),)))

        assert (world.status(given)["reason"], world.status(given)["called"]) == (reason, False)
        assert world.calls() == []

    def test_a_procedure_that_is_missing_has_not_been_called(self, world: World) -> None:
        given = spec(calls=(call("no_such_thing", name="orders"),))
        ended = world.run(given)

        assert world.status(given)["reason"] == "ProcedureMissing"
        assert world.status(given)["called"] is False
        assert ended.line("failed")["reason"] == "ProcedureMissing"

    def test_a_contract_of_another_release_is_reported(self, world: World) -> None:
        given = world.operation(spec())
        name = operation_name(given.instance, 1, 1)
        world.api.ask("DELETE", OPERATIONS.path(name, namespace=OPERATOR))
        later = {"metadata": {"name": name}, "spec": given.manifest() | {"version": 2}}
        world.create(OPERATIONS, later, OPERATOR)
        ended = world.start(given).end()

        assert ended.code == 0
        assert world.status(given)["reason"] == "OperationInvalid"
        assert "version" in world.status(given)["message"]

    def test_a_create_that_would_have_nowhere_to_put_its_result_is_not_run(self, world: World) -> None:
        world.run(given := spec(secret=None))

        assert world.status(given)["reason"] == "OperationInvalid"
        assert world.calls() == []

    def test_a_missing_key_of_the_endpoints_secret_is_named(self, world: World) -> None:
        (world.folder / "files" / "credentials").mkdir(parents=True)
        (world.folder / "files" / "credentials" / "password").write_text("")
        world.run(given := spec())

        assert world.status(given)["reason"] == "EndpointInvalid"

    def test_a_defect_is_reported_without_what_it_held(self, world: World) -> None:
        """A folder where a file should be stands for everything that nobody has thought of."""
        (world.folder / "files" / "credentials" / "password").mkdir(parents=True)
        ended = world.run(given := spec())

        assert ended.code == 0
        assert world.status(given)["reason"] == "Crashed"
        assert "IsADirectoryError" in world.status(given)["message"]
        assert "builtins.IsADirectoryError" in ended.errors
        assert str(world.folder) not in f"{world.status(given)}{ended.lines}{ended.errors}"
