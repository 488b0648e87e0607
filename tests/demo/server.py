"""The demo's PostgreSQL: where it lives and listens, the operator's account on it, how to talk to it as its DBA."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.settings import ClusterError, Settings
from tests.servers.postgresql_programs import binaries

PORT = 15432
DATABASE = "dbaas"
"""Where the procedures are."""
NAME = "postgres.dbaas.test"
ACCOUNT = "dbaas_operator"


@dataclass(frozen=True)
class Server:
    """A private PostgreSQL in a folder of its own; it survives the demo."""

    folder: Path
    listen: tuple[str, ...]
    """Addresses: 127.0.0.1, where the procedures reach their own server, and the one that pods reach."""
    host: str
    """What the Jobs connect to; the certificate is for it."""

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """The server beside a cluster; ClusterError when it is not known how pods reach this machine."""
        # PostgreSQL's user must be able to enter: not below root's home.
        folder = Path("/var/lib/kubernetes-dbaas-demo") if os.geteuid() == 0 else settings.cache / "demo"
        if not settings.existing:
            return cls(folder, ("127.0.0.1", settings.host), NAME)
        host = os.environ.get("DBAAS_TEST_HOST", "")
        if not host:
            raise ClusterError("set DBAAS_TEST_HOST to the address at which pods of the cluster reach this machine")
        return cls(folder, ("127.0.0.1", host), host)

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
        return f"{self._command('start')} --listen {','.join(self.listen)} --port {PORT} --name {self.host}"

    @property
    def stop(self) -> str:
        """The command that stops it."""
        return self._command("stop")

    @property
    def psql(self) -> str:
        """psql as its DBA: over the socket, which only root and the server's user can reach."""
        return f"psql -X -h {self.data} -p {PORT} -U postgres"

    @property
    def serves_another(self) -> bool:
        """Whether it was started for another cluster, whose Pods call it otherwise: its certificate is wrong then."""
        return self._started_as.exists() and self._started_as.read_text() != self.host

    def prepare(self) -> None:
        """Make its folder, and choose the password of the operator's account, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._started_as.write_text(self.host)
        self.username.write_text(ACCOUNT)
        if not self.password.exists():
            self.password.touch(mode=0o600)
            self.password.write_text(secrets.token_urlsafe(24))

    @property
    def _started_as(self) -> Path:
        return self.folder / "host"

    def _command(self, verb: str) -> str:
        return f".venv/bin/python -m tests.servers.postgresql {verb} {self.data}"


def programs() -> Path:
    """The folder of PostgreSQL's programs, psql among them."""
    return binaries()
