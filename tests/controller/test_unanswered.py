"""Expressions that do not answer, because they take too much or too many ask: what is told of Databases meanwhile."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from controller.compliance import FIRST_WAIT, LONGEST_WAIT, PATIENCE, Compliance, Silence
from controller.judge import Judge
from controller.plan import plan
from controller.status import desired_status
from controller.steps import ClaimInstance
from tests.controller.test_compliance import NOW, Cluster, Json, condition
from tests.policy.test_isolation import LONG

LARGE = {f"p{number}": "a" * 900 for number in range(64)}
ENDLESS = LONG.expression.replace("object.", "object.spec.")
"""Takes too much with such parameters, for this Database and every other of its namespace."""


class Clock:
    """Stands until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, time: timedelta) -> None:
        self.now += time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(clock: Clock) -> Cluster:
    cluster = Cluster()
    cluster.world.judge = Judge(cluster.world, clock)
    return cluster


def rule(expression: str, message: str = "") -> Json:
    return {"validations": [{"expression": expression, "message": message}]}


def stop_the_evaluator() -> None:
    """Whoever asks now has no answer; the next one asks another process."""
    children = [pid for tasks in Path("/proc/self/task").glob("*/children") for pid in tasks.read_text().split()]
    [evaluator] = [pid for pid in children if b"policy.evaluator" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(evaluator), signal.SIGSTOP)


def test_what_was_said_stands_while_there_is_no_answer_and_the_answer_ends_it(cluster: Cluster, clock: Clock) -> None:
    cluster.policy(**rule("object.metadata.labels.size == 'small'", "too large"))
    cluster.database("a", metadata={"labels": {"size": "small"}})
    cluster.claim("a")
    before = cluster.judged("a")
    stop_the_evaluator()
    cluster.database("a", metadata={"labels": {"size": "huge"}})
    during = cluster.judged("a")
    asked_again = plan(cluster.observe("a"), NOW).look_again
    clock.forward(FIRST_WAIT)
    after = cluster.judged("a")

    assert before.reason == during.reason == "Compliant"
    assert during.violations == ()
    assert asked_again == NOW + FIRST_WAIT
    assert [violation.message for violation in after.violations] == ['DatabasePolicy "rules" too large']
    assert after.silence is None


def test_between_two_questions_nobody_is_asked(cluster: Cluster) -> None:
    cluster.policy(**rule("object.metadata.name == 'a'"))
    cluster.database("a")
    cluster.claim("a")
    cluster.judged("a")
    stop_the_evaluator()
    cluster.database("a", metadata={"labels": {"changed": "true"}})
    during = cluster.judged("a")

    assert during.silence is not None
    assert cluster.judged("a") is during


def test_others_are_told_and_what_its_own_policy_had_against_it_stands(cluster: Cluster) -> None:
    cluster.database("a", params=LARGE)
    cluster.claim("a")
    cluster.policy("one", **rule("false", "never"))
    cluster.policy("other", **rule("object.spec.endpoint == 'main'"))
    cluster.judged("a")
    cluster.policy("one", **rule(ENDLESS))
    cluster.policy("other", allowedEndpoints=["spare"])
    found = cluster.judged("a")

    assert [violation.policy for violation in found.violations] == ["one", "other"]
    assert "never" in found.message
    assert "cannot be evaluated" not in found.message


def test_one_that_goes_on_not_answering_is_told_and_asked_ever_more_rarely(cluster: Cluster, clock: Clock) -> None:
    cluster.database("a", params=LARGE)
    cluster.claim("a")
    cluster.policy(**rule(ENDLESS))
    found, waits = cluster.judged("a"), list[timedelta]()
    while found.silence is not None and found.silence.passing:
        assert found.denied == ()
        waits.append(found.silence.ask_again - clock.now)
        clock.forward(waits[-1])
        found = cluster.judged("a")

    assert sum(waits, timedelta()) >= PATIENCE
    assert waits[1:] == [max(FIRST_WAIT, sum(waits[:number], timedelta())) for number in range(1, len(waits))]
    assert "cannot be evaluated (it took more than" in found.message
    assert Silence.after(Silence(NOW, NOW, passing=True), NOW + timedelta(days=9)).ask_again == (
        NOW + timedelta(days=9) + LONGEST_WAIT
    )
    cluster.policy(**rule("true"))
    assert cluster.judged("a").reason == "Compliant"


def test_a_controller_that_has_just_started_leaves_the_status_as_it_is(cluster: Cluster) -> None:
    cluster.policy(**rule("object.spec.endpoint == 'spare'", "use the spare one"))
    cluster.database("a")
    cluster.claim("a")
    observed = cluster.observe("a")
    decided = plan(observed, NOW).verdict
    assert observed.database is not None
    assert decided is not None
    status = desired_status(observed, observed.database, decided, NOW)
    told = condition(observed)
    cluster.world.judge.forget(("team-a", "a"))
    stop_the_evaluator()
    cluster.database("a", metadata={"status": status})

    assert told is not None
    assert told["reason"] == "PolicyViolated"
    assert condition(cluster.observe("a")) == told


def test_one_without_a_status_is_told_nothing_yet(cluster: Cluster) -> None:
    cluster.database("a", params=LARGE)
    cluster.claim("a")
    cluster.policy(**rule(ENDLESS))

    assert condition(cluster.observe("a")) is None


def test_who_has_no_claim_is_held_back_until_there_is_an_answer(cluster: Cluster, clock: Clock) -> None:
    """As admission refuses it; it is not stalled as long as the answer may come by itself."""
    cluster.policy(**rule("object.metadata.name == 'a'"))
    cluster.database("b")
    cluster.judged("b")
    stop_the_evaluator()
    cluster.database("a")
    held, compliance = cluster.plan("a"), cluster.judged("a")
    clock.forward(FIRST_WAIT)
    after = cluster.plan("a")

    assert compliance.denied
    assert held.step is None
    assert held.verdict is not None
    assert (held.verdict.reason, held.verdict.reconciling, held.verdict.stalled) == ("PolicyViolated", True, False)
    assert held.look_again == NOW + FIRST_WAIT
    assert isinstance(after.step, ClaimInstance)


def test_an_expression_that_never_answers_stalls_who_has_no_claim(cluster: Cluster, clock: Clock) -> None:
    cluster.database("a", params=LARGE)
    cluster.policy(**rule(ENDLESS))
    cluster.plan("a")
    clock.forward(PATIENCE)
    held = cluster.plan("a")

    assert held.verdict is not None
    assert held.verdict.stalled
    assert "cannot be evaluated" in held.verdict.message


def test_a_database_of_the_same_name_inherits_no_verdict(cluster: Cluster) -> None:
    cluster.policy(**rule("object.spec.endpoint == 'spare'", "use the spare one"))
    cluster.database("a")
    cluster.claim("a")
    before = cluster.judged("a")
    stop_the_evaluator()
    cluster.database("a", metadata={"uid": "another"})
    found: Compliance = cluster.world.judge.compliance(cluster.world.databases[0].values()[0], claimed=True)

    assert before.denied
    assert found.as_told
