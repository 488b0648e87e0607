"""Whatever stands in parameters, argument names and procedures' names: it arrives as it is, or it is refused.

Nothing else ever runs. What may run is learnt from calls with plain words; then no call may make the server run a
statement of another text. The servers say themselves what they ran: PostgreSQL's log of statements, MariaDB's general
log, and the record of the double that speaks for SQL Server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from api.classes import class_faults
from api.kinds import Database, DatabaseClass, DatabaseEndpoint
from api.reasons import Reason
from api.rendering import render_call, request_faults, template_values
from provisioner_job.drivers.contract import Argument, Procedure, Session
from provisioner_job.errors import Failure
from tests.integration.conftest import Pki
from tests.integration.grounds import Ground, MariaDBGround, PostgreSQLGround, SqlServerGround
from tests.integration.sqlserver_site import SqlServerSchema, Target, double_site, targets

pytestmark = pytest.mark.integration

PROCEDURES = (
    "plain", "Größe", 'a"b', "a`b", "a]b", "a'b); DROP TABLE t; --", "select", "%s $1 ? @p1", "{{ .Params.x }}",
)  # fmt: skip
FRAGMENTS = (
    "'", '"', "`", "[", "]", ";", "--", "#", "/*", "*/", "/*!", "\\", "\\'", "''", "$$", "$1", "%s", "%", "?", "@",
    "@given", "{{ .Params.value }}", "{{", "}}", "{", "}", "=", ",", "(", ")", ".", "\n", "\r\n", "\t", "\x1a", "\0",
    "\u2028", "\u02bc", "\uff07", "\u00bf'", "\ufeff", "0", "given", "plain", "test_0", " ", " OR 1=1",
    "; DROP TABLE t", "; SELECT pg_sleep(9)", "EXEC xp_cmdshell 'x'", "GO\n", "DELIMITER ;;", "UNION SELECT", "X'41'",
    "E'\\x27'", "DEFAULT", "NULL", "é", "🐘",
)  # fmt: skip
REFUSALS = {Reason.PROCEDURE_MISSING, Reason.PROCEDURE_AMBIGUOUS, Reason.ARGUMENTS_INVALID}
"""Each of them before anything was called."""

values = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join) | st.text()


@pytest.fixture(params=["postgresql", "mariadb", *targets(real=False)], ids=str)
def ground(pki: Pki, request: pytest.FixtureRequest) -> Iterator[Ground]:
    if isinstance(request.param, Target):
        with double_site(request.param, pki.authority, pki.stranger, pki.good) as site:
            yield SqlServerGround(site, SqlServerSchema("test_0", site))
    elif request.param == "postgresql":
        yield PostgreSQLGround(request.getfixturevalue("site"), request.getfixturevalue("schema"))
    else:
        yield MariaDBGround(request.getfixturevalue("mariadb"), request.getfixturevalue("mariadb_schema"))


def procedures(ground: Ground) -> st.SearchStrategy[str]:
    """Names: right ones, right ones with something in them, and anything."""
    right = st.sampled_from([ground.spelled(name) for name in PROCEDURES])
    spoilt = st.builds(
        lambda name, at, what: name[: at % (len(name) + 1)] + what + name[at % (len(name) + 1) :],
        right,
        st.integers(0, 99),
        st.sampled_from(FRAGMENTS),
    )
    return st.one_of(right, right, right, spoilt, values)


def arguments(ground: Ground) -> st.SearchStrategy[str]:
    right = st.just(ground.argument)
    return st.one_of(right, right, right, st.sampled_from(FRAGMENTS), values)


def admitted(ground: Ground, name: str, argument: str, value: str) -> Procedure | None:
    """What a Job is told to call; None when the class or the Database is refused."""
    create = {"name": name, "inputs": {argument: "{{ .Params.value }}"}, "timeout": "60s"}
    spec = {"driver": ground.driver, "identity": "{{ .Metadata.name }}", "operations": {"create": create}}
    cls = DatabaseClass.parse({"metadata": {"name": "c"}, "spec": spec})
    endpoint = DatabaseEndpoint.parse(
        {"metadata": {"name": "e"}, "spec": {"className": "c", "host": "h", "credentialsSecretRef": {"name": "s"}}}
    )
    metadata = {"name": "d", "namespace": "n", "uid": "u"}
    database = Database.parse({"metadata": metadata, "spec": {"endpoint": "e", "params": {"value": value}}})
    if class_faults(cls) or request_faults(database, cls, endpoint):
        return None
    call = render_call(cls, "create", template_values(database, cls, endpoint))
    rendered = tuple(Argument(text.name, text.template.render({})) for text in call.arguments)
    return Procedure(call.procedure, rendered, call.timeout)


def say_plain_words(ground: Ground, session: Session) -> None:
    """Calls that make the driver say all that it ever says, refused ones included."""
    plain = ground.spelled("plain")
    for name in PROCEDURES:
        for argument in (ground.argument, "0"):
            session.call(Procedure(ground.spelled(name), (Argument(argument, "x"),)))
    for name, argument in (
        (ground.spelled("absent"), ground.argument),
        ("absent", ground.argument),
        (plain, "absent"),
        (plain, "7"),
    ):
        with pytest.raises(Failure):
            session.call(Procedure(name, (Argument(argument, "x"),)))
    # Found in any schema, or in none without a database; and in another database, of which the double knows one.
    another = (f"elsewhere.{plain}", f"elsewhere.{ground.spelled('absent')}", "elsewhere..plain", "elsewhere..absent")
    for name in ("plain", *another):
        with contextlib.suppress(Failure):
            session.call(Procedure(name, (Argument(ground.argument, "x"),)))
    for few_or_many in ((), (Argument("0", "x"), Argument("1", "y"))):
        with pytest.raises(Failure):
            session.call(Procedure(plain, few_or_many))


def answer(session: Session, procedure: Procedure) -> dict[str, str] | Reason:
    """What came back, or why nothing did."""
    try:
        return dict(session.call(procedure))
    except Failure as failure:
        return failure.reason


def say_anything(ground: Ground, session: Session, examples: int) -> None:
    """Calls of which nothing is right but by chance."""
    right = {ground.spelled(name) for name in PROCEDURES}

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(procedures(ground), arguments(ground), values)
    def call(name: str, argument: str, value: str) -> None:
        asked = admitted(ground, name, argument, value)
        if asked is not None:
            assert (asked.name, [one.value for one in asked.arguments]) == (name, [value])
        # What admission refuses, no Job is told; the driver keeps its promise by itself all the same.
        procedure = asked or Procedure(name, (Argument(argument, value),))
        said = answer(session, procedure)
        event("reached" if isinstance(said, dict) else f"refused: {said}")
        assert said == {"said": value} or said in REFUSALS
        if name in right and argument == ground.argument and "\0" not in value:
            assert said == {"said": value}

    call()


def prove(ground: Ground, examples: int) -> None:
    for name in PROCEDURES:
        ground.define(name)
    with ground.recording() as statements, contextlib.closing(ground.connect()) as session:
        say_plain_words(ground, session)
        known = statements()
        say_anything(ground, session, examples)
        ran = statements()

    assert len(known) > len(PROCEDURES)
    assert ran - known == set()


def test_whatever_is_said_arrives_or_is_refused_and_nothing_else_ever_runs(ground: Ground) -> None:
    prove(ground, 80)


@pytest.mark.soak
def test_whatever_is_said_ten_thousand_times_nothing_else_ever_runs(ground: Ground) -> None:
    prove(ground, 3_500)
