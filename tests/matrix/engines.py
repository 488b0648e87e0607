"""The servers of the matrices: each with the example procedures on it, as a DBA would install them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.servers import examples
from tests.servers.logins import LoginRefused, log_in
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority
from tests.servers.postgresql import PostgreSQL


@dataclass(frozen=True, eq=False)
class Engine:
    """A server."""

    server: examples.Exemplary
    authority: Authority

    @property
    def name(self) -> str:
        """Of its folder below examples/."""
        return self.server.engine

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def present(self, name: str) -> list[str]:
        """Which of `database` and `login` there is under this name."""
        return examples.present(self.server, name)

    def refuses(self, secret: Mapping[str, str]) -> str:
        """Why a user with this Secret cannot log in; "" when they can."""
        try:
            log_in(self.name, secret, self.authority)
        except LoginRefused as refused:
            return str(refused)
        return ""


def class_spec(engine: Engine) -> dict[str, Any]:
    """The example's class, tried again quickly."""
    spec: dict[str, Any] = yaml.safe_load((examples.FOLDER / engine.name / "class.yaml").read_text())["spec"]
    operations = {kind: {**call, "timeout": "20s"} for kind, call in spec["operations"].items()}
    return {**spec, "operations": operations, "retry": {"limit": 20, "backoff": "1s"}}


@contextlib.contextmanager
def running_engines(authority: Authority) -> Iterator[list[Engine]]:
    """All of them."""
    certificate = authority.issue("server", ["127.0.0.1"])
    with PostgreSQL.temporary() as postgresql, MariaDB.temporary() as mariadb:
        engines = [Engine(postgresql, authority), Engine(mariadb, authority)]
        for engine in engines:
            engine.server.start(certificate)
            examples.install(engine.server)
        yield engines
