"""A private MariaDB; `python -m tests.servers.mariadb --help` starts one that outlives the command."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.servers.command import main
from tests.servers.mariadb_programs import PROGRAMS, daemon, is_mysql, program, template
from tests.servers.pki import KeyPair
from tests.servers.server import Server

_MYSQL = {
    "mysqlx": "0",
    "secure-file-priv": "NULL",
    "log-bin-trust-function-creators": "1",
}
"""What MySQL is told besides, where its programs were chosen."""


class MariaDB(Server):
    """A `server.Server` in a folder of its own."""

    programs = PROGRAMS
    usual_port = 3307
    tls_settings = ("ssl-cert", "ssl-key", "ssl-ca")

    @property
    def examples(self) -> str:
        """See `Server`."""
        return "mysql" if is_mysql() else self.engine

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def statements(self) -> Path:
        """The general log, with `log_statements`."""
        return self.folder / "statements.log"

    def _settings(self) -> dict[str, str]:
        return {
            "datadir": str(self.data),
            "socket": str(self.folder / "socket"),
            "pid-file": str(self._pid_file),
            "log-error": str(self.log),
            "general-log": str(int(self.options.log_statements)),
            "general-log-file": str(self.statements),
            "port": str(self.port),
            "bind-address": self.options.listen,
            "skip-name-resolve": "1",
            "character-set-server": "utf8mb4",
            "innodb-buffer-pool-size": "32M",
            "loose-innodb-log-file-size": "8M",
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-fast-shutdown": "2",
            "max-connections": "100",
            "default-time-zone": "+00:00",
            # Tests break off many handshakes; their address is not to be blocked for it.
            "host-cache-size": "0",
        }

    def start(self, certificate: KeyPair | None = None, client_ca: Path | None = None, **settings: str) -> None:
        """See `Server`; settings: further options of my.cnf, with underscores for dashes."""
        if not self.data.exists():
            self._create(template())
        lines = self._settings() | (_MYSQL if is_mysql() else {})
        lines |= {name.replace("_", "-"): value for name, value in settings.items()}
        if certificate is not None:
            lines |= self._tls(certificate, client_ca)
        else:
            lines |= {"tls-version": ""} if is_mysql() else {"skip-ssl": "1"}
        self._write(
            self.folder / "my.cnf", "[mysqld]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
        )
        with (self.folder / "start.log").open("w") as output:
            process = subprocess.Popen(
                [str(daemon()), f"--defaults-file={self.folder / 'my.cnf'}"],
                stdout=output,
                stderr=output,
                start_new_session=True,
                **PROGRAMS.identity(),
            )
        self._wait(lambda: self._answers(process))

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            texts = [path.read_text() for path in (self.folder / "start.log", self.log) if path.exists()]
            raise RuntimeError("MariaDB did not start:\n" + "\n".join("".join(texts).splitlines()[-20:]))
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.folder / "socket")):
                return False
        # Collected when it ends; nobody else waits for it.
        process.returncode = 0
        return True

    def stop(self) -> None:
        """Stop it if it runs."""
        pid = self.pid
        if pid is None:
            return
        self.resume()
        os.kill(pid, signal.SIGTERM)
        try:
            self._wait(lambda: _ended(pid), 10)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._wait(lambda: _ended(pid))
        # A killed server leaves it behind.
        self._pid_file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        with contextlib.suppress(ProcessLookupError):
            if (pid := self.pid) is not None:
                os.kill(pid, signal.SIGKILL)
                self._wait(lambda: _ended(pid))
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set global variables that can change while it runs; the values are SQL."""
        for name, value in settings.items():
            self.execute(f"SET GLOBAL {name} = {value}")

    def present(self, certificate: KeyPair) -> None:
        """Show another certificate to those who connect from now on."""
        self._tls(certificate, None)
        self.execute("ALTER INSTANCE RELOAD TLS" if is_mysql() else "FLUSH SSL")

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement as root over the socket; gives its rows."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return [*cursor.fetchall()]

    def connect(self, database: str | None = None) -> Connection[Cursor]:
        """A session of root over the socket, which is to be closed."""
        return pymysql.connect(
            unix_socket=str(self.folder / "socket"),
            user="root",
            database=database,
            charset="utf8mb4",
            autocommit=True,
            ssl_disabled=True,
        )

    def client(self, *files: Path, database: str = "", variables: Mapping[str, str] | None = None) -> str:
        """Run SQL files with the `mariadb` program as root, as a DBA would; gives its output, and raises with it.

        variables: user variables that are set first.
        """
        # Newer clients of MariaDB want to verify a certificate even over the socket.
        command = [str(program("mysql"))] if is_mysql() else [str(program("mariadb")), "--skip-ssl"]
        command[1:1] = ["--no-defaults", "--batch", "--default-character-set=utf8mb4"]
        command += [f"--socket={self.folder / 'socket'}", "--user=root", *([database] if database else [])]
        assignments = "".join(
            f"SET @{name} = _utf8mb4 X'{value.encode().hex()}';\n" for name, value in (variables or {}).items()
        )
        script = assignments + "".join(file.read_text() + "\n" for file in files)
        # As the caller: root may enter the socket's folder too.
        result = subprocess.run(command, input=script, text=True, capture_output=True)
        if result.returncode:
            raise RuntimeError(f"mariadb: {result.stderr}")
        return result.stdout


def _ended(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(MariaDB, sys.argv[1:]))
