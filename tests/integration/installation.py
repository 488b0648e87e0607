"""The example procedures on a server, called by the operator's account as a Job would; and their databases, used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from api.operation import Server
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Argument, Login, Procedure, Result, Session
from provisioner_job.errors import Failure
from tests.servers import logins
from tests.servers.examples import ACCOUNT, DATABASE, OPERATOR_PASSWORD, Exemplary, install, present
from tests.servers.pki import Authority, KeyPair

BOTH = ["database", "login"]
"""What a database that was made is."""


@dataclass(frozen=True)
class Dialect:
    """What differs between the engines."""

    driver: str
    argument: str
    """Of each procedure."""
    wrong_password: str
    no_entry: str
    """What a server says to those who ask for a database that is not theirs."""
    refused_name: str
    """The code with which the procedures refuse a name."""
    rule: str
    """What they say then."""
    others: tuple[str, ...]
    """Databases and accounts that the procedures have not made."""
    misread: tuple[str, ...]
    """Names that could be misread, beside those that could be so everywhere."""
    longest: str


DIALECTS = {
    "postgresql": Dialect(
        driver="postgres",
        argument="k8s_name",
        wrong_password="password authentication failed",
        no_entry="permission denied for database",
        refused_name="42602",
        rule="up to 63 of a-z, 0-9",
        others=("postgres", "dbaas_provisioner", "dbaas_logins", "template1"),
        misread=('a"b_c', "a_" + "x" * 62),
        longest="a_" + "x" * 61,
    ),
    "mariadb": Dialect(
        driver="mariadb",
        argument="0",
        wrong_password="1045",
        no_entry="1044",
        refused_name="1644",
        rule="up to 64 characters",
        others=("mysql", "root", "dbaas_owner", "dbaas_operator"),
        misread=("a_`b", "a_" + "x" * 62, "nounderscore", "a_%", "a_b\\", "é_b", "_b", "a_", "a_b "),
        longest="a_" + "x" * 61,
    ),
}


@dataclass(frozen=True)
class Installation:
    """A server with the examples installed as a DBA would."""

    server: Exemplary
    authority: Authority
    login: Login = field(repr=False)
    """The operator's."""
    session: Session = field(repr=False)

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.server.engine]

    def call(self, operation: str, name: str) -> Result:
        arguments = (Argument(self.dialect.argument, name),)
        return self.session.call(
            Procedure(f"{DATABASE}.{operation}_database", arguments, timedelta(seconds=20), operation != "delete")
        )

    def refusal(self, operation: str, name: str) -> Failure:
        with pytest.raises(Failure) as caught:
            self.call(operation, name)
        return caught.value

    def beside(self) -> Installation:
        """The same in a session of its own, which the caller closes."""
        return replace(self, session=load(self.dialect.driver)(self.login))

    def secret(self, result: Mapping[str, str]) -> dict[str, str]:
        """What a Secret with this result says."""
        return {"host": "127.0.0.1", "port": str(self.server.port), **result}

    def logged_in(self, result: Mapping[str, str], database: str = "") -> Any:
        """A connection of the user to whom these are given. Raises LoginRefused."""
        secret = self.secret(result)
        return logins.connect(
            self.server.engine, {**secret, "database": database or secret["database"]}, self.authority
        )

    def as_operator(self) -> Any:
        """A connection of the operator's account, by a library that it may use as it likes."""
        return self.logged_in({"username": ACCOUNT, "password": OPERATOR_PASSWORD, "database": DATABASE})

    def present(self, name: str) -> list[str]:
        """Which of `database` and `login` there is under this name."""
        return present(self.server, name)


@contextmanager
def installation(server: Exemplary, authority: Authority, certificate: KeyPair) -> Iterator[Installation]:
    """On a server that is not running yet."""
    server.start(certificate)
    install(server)
    endpoint = Server("examples", "127.0.0.1", server.port, DATABASE)
    login = Login(endpoint, ACCOUNT, OPERATOR_PASSWORD, str(authority.file))
    session = load(DIALECTS[server.engine].driver)(login)
    yield Installation(server, authority, login, session)
    session.close()
