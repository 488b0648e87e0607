"""The demo's database servers: where each lives and listens, the operator's account on it, how its DBA talks to it."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.cluster.settings import ClusterError, Settings
from tests.servers import mariadb_programs, postgresql_programs

ACCOUNT = "dbaas_operator"


@dataclass(frozen=True)
class Server(ABC):
    """A private server in a folder of its own; it survives the demo."""

    engine: ClassVar[str]
    """Its folder below examples/, and its module in tests/servers."""
    title: ClassVar[str]
    port: ClassVar[int]
    name: ClassVar[str]
    """What the demo's own node calls this machine when it means this server."""

    folder: Path
    listen: tuple[str, ...]
    """Addresses: 127.0.0.1, where procedures reach their own server, and the one that pods reach."""
    host: str
    """What the Jobs connect to; the certificate is for it."""

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """The server beside a cluster; ClusterError when it is not known how pods reach this machine."""
        # The server's user must be able to enter: not below root's home.
        root = Path("/var/lib/kubernetes-dbaas-demo") if os.geteuid() == 0 else settings.cache / "demo"
        folder = root / cls.engine
        if not settings.existing:
            return cls(folder, ("127.0.0.1", settings.host), cls.name)
        host = os.environ.get("DBAAS_TEST_HOST", "")
        if not host:
            raise ClusterError("set DBAAS_TEST_HOST to the address at which pods of the cluster reach this machine")
        return cls(folder, ("127.0.0.1", host), host)

    @staticmethod
    @abstractmethod
    def programs() -> Path:
        """The folder of the engine's programs, the DBA's client among them."""

    @property
    @abstractmethod
    def client(self) -> str:
        """The DBA's client: over the socket, which only root and the server's user can reach."""

    @property
    @abstractmethod
    def databases(self) -> str:
        """The command that lists the databases."""

    @abstractmethod
    def install(self, procedures: str) -> str:
        """The command that installs the procedures in this file, and gives the operator's account its password."""

    def missing(self) -> Sequence[tuple[str, str]]:
        """What must be there before that: (a command that prints 1 when it is, the command that makes it)."""
        return ()

    @property
    def data(self) -> Path:
        """The server's own folder."""
        return self.folder / "server"

    @property
    def authority(self) -> Path:
        """The CA certificate that its clients trust, PEM."""
        return self.data / "tls" / "ca.crt"

    @property
    def username(self) -> Path:
        """A file with the name of the operator's account."""
        return self.folder / "username"

    @property
    def password(self) -> Path:
        """A file with the password of the operator's account."""
        return self.folder / "password"

    @property
    def start(self) -> str:
        """The command that starts it; nothing happens if it runs."""
        return f"{self._command('start')} --listen {','.join(self.listen)} --port {self.port} --name {self.host}"

    @property
    def stop(self) -> str:
        """The command that stops it."""
        return self._command("stop")

    @property
    def serves_another(self) -> bool:
        """Whether it was started for another cluster, whose Pods call it otherwise: its certificate is wrong then."""
        return self._started_as.exists() and self._started_as.read_text() != self.host

    def prepare(self) -> None:
        """Make its folder, and choose the password of the operator's account, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder.parent, self.folder):
            folder.chmod(0o755)
        self._started_as.write_text(self.host)
        self.username.write_text(ACCOUNT)
        if not self.password.exists():
            self.password.touch(mode=0o600)
            self.password.write_text(secrets.token_urlsafe(24))

    @property
    def _started_as(self) -> Path:
        return self.folder / "host"

    def _command(self, verb: str) -> str:
        return f".venv/bin/python -m tests.servers.{self.engine} {verb} {self.data}"


class PostgreSQL(Server):
    """PostgreSQL: its procedures are in a database that the DBA makes for them."""

    engine = "postgresql"
    title = "PostgreSQL"
    port = 15432
    name = "postgres.dbaas.test"

    @staticmethod
    def programs() -> Path:
        return postgresql_programs.binaries()

    @property
    def client(self) -> str:
        return f"psql -X -h {self.data} -p {self.port} -U postgres"

    @property
    def databases(self) -> str:
        columns = "datname AS database, datdba::regrole AS owner"
        return f'{self.client} -c "SELECT {columns} FROM pg_database WHERE NOT datistemplate ORDER BY oid"'

    def missing(self) -> Sequence[tuple[str, str]]:
        query = "SELECT 1 FROM pg_database WHERE datname = 'dbaas'"
        return [(f'{self.client} -Atc "{query}"', f"{self.client} -c 'CREATE DATABASE dbaas'")]

    def install(self, procedures: str) -> str:
        return f'{self.client} -q -d dbaas -v operator_password="$(cat {self.password})" -f {procedures}'


class MariaDB(Server):
    """MariaDB: the procedures' file makes the database that they are in."""

    engine = "mariadb"
    title = "MariaDB"
    port = 13306
    name = "mariadb.dbaas.test"

    @staticmethod
    def programs() -> Path:
        return mariadb_programs.program("mariadb").parent

    @property
    def client(self) -> str:
        return f"mariadb --no-defaults --socket={self.data}/socket --user=root"

    @property
    def databases(self) -> str:
        return f"{self.client} --table -e 'SHOW DATABASES'"

    def install(self, procedures: str) -> str:
        password = f"\"SET @operator_password = '$(cat {self.password})';\""
        return f"(echo {password}; cat {procedures}) \\\n    | {self.client}"


SERVERS: Mapping[str, type[Server]] = {server.engine: server for server in (PostgreSQL, MariaDB)}
"""By the name of the engine."""
