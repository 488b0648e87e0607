"""TLS is one promise for three engines: a table of what is refused; whoever wants the password is told nothing.

Every refusal is tried twice: on a server that presents itself so, and on an impostor that would take the password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from api.reasons import Reason
from provisioner_job.errors import Failure
from tests.integration.fronts import Changes, Front
from tests.servers.pki import Authority, KeyPair

pytestmark = pytest.mark.integration

POSTGRESQL, MARIADB, SQLSERVER = "postgresql", "mariadb", "sqlserver"
ELSEWHERE = ("elsewhere.example.test", "10.9.9.9")


@dataclass(frozen=True)
class Presented:
    """A way for a server to present itself, and what must come of it."""

    name: str
    reason: Reason
    says: tuple[str, ...] = ()
    """Words of the message, with fields of the certificate."""
    names: tuple[str, ...] = ("127.0.0.1",)
    expires: timedelta = timedelta(days=30)
    begins: timedelta = timedelta(days=-30)
    trusted: bool = True
    plain: bool = False
    mode: str = "VerifyFull"

    def __str__(self) -> str:
        return self.name

    def certificate(self, authority: Authority, stranger: Authority) -> KeyPair | None:
        """What is shown; None: no TLS."""
        issuer = authority if self.trusted else stranger
        return None if self.plain else issuer.issue("presented", self.names, expires=self.expires, begins=self.begins)


REFUSED = (
    Presented("another CA", Reason.CERTIFICATE_NOT_TRUSTED, ("tls.caSecretRef", "{where}"), trusted=False),
    Presented("another CA, VerifyCA", Reason.CERTIFICATE_NOT_TRUSTED, trusted=False, mode="VerifyCA"),
    Presented(
        "another name",
        Reason.CERTIFICATE_NAME_MISMATCH,
        (", ".join(ELSEWHERE), "not for 127.0.0.1", "tls.serverName"),
        names=ELSEWHERE,
    ),
    Presented(
        "expired",
        Reason.CERTIFICATE_EXPIRED,
        ("{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}", "renew"),
        expires=timedelta(days=-2),
    ),
    Presented("not valid yet", Reason.CERTIFICATE_EXPIRED, ("not yet valid",), begins=timedelta(days=2)),
    Presented("no TLS", Reason.TLS_NOT_OFFERED, ("no password was sent",), plain=True),
    Presented("no TLS, VerifyCA", Reason.TLS_NOT_OFFERED, ("no password was sent",), plain=True, mode="VerifyCA"),
)


@dataclass(frozen=True)
class Shown:
    """A client's certificate, and what must come of it where one is required."""

    name: str
    certificate: Callable[[Front], KeyPair | None]
    reasons: dict[str, Reason | None] = field(hash=False)
    """Engine → why it is refused; None: it is let in."""

    def __str__(self) -> str:
        return self.name


REFUSED_BY_ALL: dict[str, Reason | None] = dict.fromkeys(
    (POSTGRESQL, MARIADB, SQLSERVER), Reason.CLIENT_CERTIFICATE_REFUSED
)
SHOWN = (
    Shown(
        "client certificate: right",
        lambda front: front.authority.issue("client", common_name=front.username),
        dict.fromkeys((POSTGRESQL, MARIADB, SQLSERVER)),
    ),
    Shown(
        "client certificate: missing",
        lambda _: None,
        # MariaDB has one sentence for everything that it does not like about a login.
        {**REFUSED_BY_ALL, MARIADB: Reason.CREDENTIALS_REFUSED},
    ),
    Shown(
        "client certificate: another CA's",
        lambda front: front.stranger.issue("client", common_name=front.username),
        REFUSED_BY_ALL,
    ),
    Shown(
        "client certificate: somebody else's",
        lambda front: front.authority.issue("foreign", common_name="somebody"),
        # A SQL Server that demands certificates takes any of its authority's: who it is, the password says.
        {**REFUSED_BY_ALL, MARIADB: Reason.CREDENTIALS_REFUSED, SQLSERVER: None},
    ),
)

Table = dict[tuple[str, str], str]
"""(row, column) → what came of it."""


@pytest.fixture(scope="module")
def table(pytestconfig: pytest.Config) -> Iterator[Table]:
    cells: Table = {}
    yield cells
    capture: Any = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("", *drawn(cells), sep="\n")


def drawn(cells: Table) -> list[str]:
    """The table's lines."""
    columns = list(dict.fromkeys(column for _, column in cells))
    lines = [("TLS", columns)]
    for row in dict.fromkeys(row for row, _ in cells):
        lines.append((row, [cells.get((row, column), "-") for column in columns]))
    return [f"{row:<38}" + "".join(f"{cell:<28}" for cell in line).rstrip() for row, line in lines]


def test_a_server_that_is_right_is_let_in_and_what_it_is_is_told(front: Front, table: Table) -> None:
    session = front.connect()
    session.close()
    facts = session.connection
    table["right", str(front)] = f"in, {facts.tls_version}"

    assert facts.tls_version in ("TLSv1.2", "TLSv1.3")
    assert facts.cipher
    assert facts.peer_certificate_sha256


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_server_that_is_not_the_endpoints_is_refused_and_nobody_is_told_the_password(
    front: Front, table: Table, case: Presented
) -> None:
    certificate = case.certificate(front.authority, front.stranger)
    set_up = front.plain() if certificate is None else front.showing(certificate)
    with set_up as changes:
        failure = front.refusal(tls_mode=case.mode, **changes)
        where = f"127.0.0.1:{changes.get('port', front.port)}"
    with front.impostor(certificate) as (changes, told):
        impostor = front.refusal(tls_mode=case.mode, **changes)
        heard = told()
    table[case.name, str(front)] = failure.reason.value
    if certificate is None:
        table[case.name.replace("no TLS", "the offer of TLS taken away"), str(front)] = impostor.reason.value

    assert (failure.reason, impostor.reason, heard) == (case.reason, case.reason, False)
    assert not failure.retryable
    for words in case.says:
        shown = words.format(where=where, certificate=certificate.parsed if certificate else None)
        assert shown in failure.message


def test_an_impostor_who_is_trusted_is_told(front: Front) -> None:
    """Or it would prove nothing that the others hear nothing."""
    with front.impostor(front.certificate) as (changes, told):
        with suppress(Failure):
            front.connect(**changes).close()

        assert told()


def test_another_name_is_accepted_where_only_the_ca_is_verified(front: Front, table: Table) -> None:
    with front.showing(front.authority.issue("elsewhere", ELSEWHERE)) as changes:
        session = front.connect(tls_mode="VerifyCA", **changes)
    session.close()
    table["another name, VerifyCA", str(front)] = f"in, {session.connection.tls_version}"

    assert session.connection.tls_version
    assert session.connection.peer_certificate_not_after


def test_tls_that_is_older_than_demanded_is_refused(front: Front, table: Table) -> None:
    with front.of_yesterday() as changes:
        failure = front.refusal(minimum_tls_version="1.3", **changes)
        session = front.connect(**changes)
    session.close()
    table["TLS 1.2, where 1.3 is demanded", str(front)] = failure.reason.value

    assert failure.reason is Reason.TLS_VERSION_REFUSED
    assert "TLS 1.3" in failure.message
    assert session.connection.tls_version == "TLSv1.2"


@pytest.mark.parametrize("case", SHOWN, ids=str)
def test_a_client_certificate_is_shown_where_one_is_required(front: Front, table: Table, case: Shown) -> None:
    own = case.certificate(front)
    shown: Changes = {} if own is None else {"client_certificate": (str(own.certificate), str(own.key))}
    reason = case.reasons[front.engine]
    with front.demanding_certificate() as changes:
        if reason is None:
            front.connect(**changes, **shown).close()
        else:
            failure = front.refusal(**changes, **shown)
            assert failure.reason is reason
            assert "certificate" in failure.message
    table[case.name, str(front)] = reason.value if reason else "in"


def test_tls_disabled_connects_in_clear_and_says_so(front: Front, table: Table) -> None:
    with front.plain() as changes:
        session = front.connect(tls_mode="Disabled", **changes)
    session.close()
    table["no TLS, Disabled", str(front)] = "in, in clear"

    assert session.connection.tls_version == ""
    assert session.connection.peer_certificate_sha256 == ""
