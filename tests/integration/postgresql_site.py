"""What the tests of the PostgreSQL driver share: a server with an account on it, a schema."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.operation import Server
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Login, Session
from tests.integration.site import LoginSite
from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql import PostgreSQL

connect = load("postgres")


@dataclass(frozen=True)
class Site(LoginSite):
    """A server, and an account on it that may do nothing by itself."""

    server: PostgreSQL
    authority: Authority
    stranger: Authority
    """A CA that nobody trusts."""
    good: KeyPair
    username: str = "operator"
    password: str = field(default="correct horse 'battery' \\ staple", repr=False)

    @property
    def usual(self) -> Login:
        """See `LoginSite`."""
        server = Server("pg", "127.0.0.1", self.server.port, "postgres")
        return Login(server, self.username, self.password, str(self.authority.file))

    def open(self, login: Login) -> Session:
        """See `LoginSite`."""
        return connect(login)

    def running(self, text: str) -> bool:
        """Whether a session of the account runs a statement with this text."""
        return bool(
            self.server.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE usename = %s AND state = 'active' AND position(%s IN query) > 0",
                [self.username, text],
            )
        )


@dataclass(frozen=True)
class Schema:
    """A schema that the account may use; what is made in it is dropped with it."""

    name: str
    server: PostgreSQL

    def define(self, *statements: str) -> None:
        """Run statements as superuser, with this schema alone on the search path."""
        for statement in statements:
            self.server.execute(f"SET search_path = {self.name}; {statement}")

    def function(self, signature: str, body: str, language: str = "plpgsql") -> None:
        """Make `signature`, such as `f(a text) RETURNS text`, with this body."""
        self.define(f"CREATE FUNCTION {signature} LANGUAGE {language} AS $body$ {body} $body$")

    def procedure(self, signature: str, body: str) -> None:
        """Make a procedure with this body."""
        self.define(f"CREATE PROCEDURE {signature} LANGUAGE plpgsql AS $body$ {body} $body$")
