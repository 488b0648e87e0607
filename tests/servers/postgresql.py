"""A private PostgreSQL; `python -m tests.servers.postgresql --help` starts one that outlives the command."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from tests.servers.command import main
from tests.servers.pki import KeyPair
from tests.servers.postgresql_programs import PROGRAMS, binaries, template
from tests.servers.server import START_SECONDS, Server

HBA = (
    "local all all trust",
    "hostssl all all 0.0.0.0/0 scram-sha-256",
    "hostssl all all ::/0 scram-sha-256",
)
"""The socket is in a folder that only the server's user (and root) may enter."""


class PostgreSQL(Server):
    """A `server.Server` in a folder of its own."""

    programs = PROGRAMS
    usual_port = 5433
    tls_settings = ("ssl_cert_file", "ssl_key_file", "ssl_ca_file")

    @property
    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def statements(self) -> Path:
        """The log of all statements, with `log_statements`."""
        return self.log

    def _settings(self) -> dict[str, str]:
        return {
            "port": str(self.port),
            "listen_addresses": self.options.listen,
            "unix_socket_directories": str(self.folder),
            "log_statement": "all" if self.options.log_statements else "none",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "fsync": "off",
            "full_page_writes": "off",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
        }

    def start(self, certificate: KeyPair | None = None, client_ca: Path | None = None) -> None:
        """See `Server`."""
        if not self.data.exists():
            self._create(template())
            self.data.chmod(0o700)
            self.hba()
        settings = self._settings()
        if certificate is not None:
            settings |= {"ssl": "on", **self._tls(certificate, client_ca)}
        self._write(
            self.data / "postgresql.auto.conf", "".join(f"{key} = '{value}'\n" for key, value in settings.items())
        )
        self._control("start", "-w", "-t", str(START_SECONDS), "-l", self.log)

    def _control(self, *arguments: str | Path) -> None:
        result = PROGRAMS.run([binaries() / "pg_ctl", "-D", self.data, *arguments], capture_output=True)
        if result.returncode:
            tail = "\n".join(self.log.read_text().splitlines()[-20:]) if self.log.exists() else ""
            raise RuntimeError(f"pg_ctl {arguments[0]}: {result.stdout}{result.stderr}\n{tail}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it if it runs; `mode` as of pg_ctl."""
        if self.pid is not None:
            self.resume()
            self._control("stop", "-w", "-m", mode)

    def shut_down(self) -> None:
        """As its DBA would: sessions are ended, and data are on disk."""
        self.stop("fast")

    def _processes(self) -> list[int]:
        postmaster = self.pid
        if postmaster is None:
            return []
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def hba(self, *rules: str) -> None:
        """Put rules in front of pg_hba.conf's own; takes effect with the next start or `reload`."""
        self._write(self.data / "pg_hba.conf", "\n".join((*rules, *HBA)) + "\n")

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set parameters that a reload can change."""
        with self._administrator("postgres") as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        self.reload()

    def present(self, certificate: KeyPair) -> None:
        """Show another certificate to those who connect from now on."""
        self._tls(certificate, None)
        self.reload()

    def reload(self) -> None:
        """Read the configuration again; returns when new connections see it."""
        [(loaded,)] = self.execute("SELECT pg_conf_load_time()")
        self.execute("SELECT pg_reload_conf()")
        self._wait(lambda: self.execute("SELECT pg_conf_load_time()")[0][0] > loaded)

    @contextlib.contextmanager
    def _administrator(self, database: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run statements as superuser over the socket; gives the rows of the last one."""
        with self._administrator(database) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def psql(self, *files: Path, database: str = "postgres", variables: Mapping[str, str] | None = None) -> str:
        """Run SQL files with psql as superuser; gives its output, and raises with it."""
        command: list[str | Path] = [binaries() / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-h", self.folder]
        command += ["-p", str(self.port), "-U", "postgres", "-d", database]
        for name, value in (variables or {}).items():
            command += ["-v", f"{name}={value}"]
        script = "".join(file.read_text() + "\n" for file in files)
        result = _psql(command, script)
        if result.returncode:
            raise RuntimeError(f"psql: {result.stderr}")
        return result.stdout


def _psql(command: Sequence[str | Path], script: str) -> subprocess.CompletedProcess[str]:
    """As the caller: root may enter the socket's folder too."""
    return subprocess.run([str(part) for part in command], input=script, text=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(PostgreSQL, sys.argv[1:]))
