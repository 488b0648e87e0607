"""What the tests of the MariaDB driver share: a server with an account on it, a schema, calls of what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from api.operation import Server
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Login, Session
from tests.integration.site import LoginSite
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority, KeyPair

connect = load("mariadb")


@dataclass(frozen=True)
class MariaDBSite(LoginSite):
    """A server, and an account on it that may do nothing by itself."""

    server: MariaDB
    authority: Authority
    stranger: Authority
    """A CA that nobody trusts."""
    good: KeyPair
    username: str = "operator"
    password: str = field(default="correct horse 'battery' \\ staple 🐘", repr=False)

    def make_account(self, demands: str = "") -> None:
        """Make the account, or what it was, again; `demands` is the rest of CREATE USER."""
        self.server.execute(f"DROP USER IF EXISTS {self.username}")
        self.server.execute(f"CREATE USER {self.username} IDENTIFIED BY %s {demands}", [self.password])

    @property
    def usual(self) -> Login:
        """See `LoginSite`."""
        server = Server("my", "127.0.0.1", self.server.port, "")
        return Login(server, self.username, self.password, str(self.authority.file))

    def open(self, login: Login) -> Session:
        """See `LoginSite`."""
        return connect(login)

    def running(self, text: str, seconds: float = 0) -> bool:
        """Whether a session runs a statement with this text, and has for so long."""
        return bool(
            self.server.execute(
                "SELECT ID FROM information_schema.PROCESSLIST"
                " WHERE ID <> CONNECTION_ID() AND INFO LIKE %s AND TIME >= %s",
                [f"%{text}%", seconds],
            )
        )


@dataclass(frozen=True)
class MariaDBSchema:
    """A schema whose procedures the account may execute."""

    name: str
    server: MariaDB

    def define(self, *statements: str) -> None:
        """Run statements as root in this schema."""
        for statement in statements:
            self.server.execute(statement, database=self.name)

    def procedure(self, signature: str, body: str, characteristics: str = "") -> None:
        """Make `signature`, such as `p(a text)`, with the statements of this body."""
        self.define(f"CREATE PROCEDURE {signature} {characteristics} BEGIN {body}; END")


def links(failure: BaseException) -> Iterator[BaseException]:
    """A failure and everything that is chained to it."""
    link: BaseException | None = failure
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
