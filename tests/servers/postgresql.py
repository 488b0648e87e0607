"""A private PostgreSQL from the machine's packages: own folder, own port, own TLS files.

Never touches the system's cluster. As root it runs the server as user `postgres`, who must be able to enter the folder.

    python -m tests.servers.postgresql start  DIR [--port N] [--listen ADDRESS] [--name HOST]…
    python -m tests.servers.postgresql status DIR
    python -m tests.servers.postgresql stop   DIR
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql_programs import TEMPORARY_PREFIX, Missing, binaries, free_port, give, run, template

__all__ = ["Missing", "Options", "PostgreSQL", "binaries", "free_port"]

START_SECONDS = 30

HBA = (
    "local all all trust",
    "hostssl all all 0.0.0.0/0 scram-sha-256",
    "hostssl all all ::/0 scram-sha-256",
)
"""The socket is in a folder that only the server's user (and root) may enter."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is set up."""

    port: int
    listen: str = "127.0.0.1"
    """Addresses, separated by commas."""
    log_statements: bool = False

    def settings(self, folder: Path) -> dict[str, str]:
        """Its part of postgresql.conf."""
        return {
            "port": str(self.port),
            "listen_addresses": self.listen,
            "unix_socket_directories": str(folder),
            "log_statement": "all" if self.log_statements else "none",
            "max_connections": "100",
            "shared_buffers": "32MB",
            "fsync": "off",
            "full_page_writes": "off",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
        }


class PostgreSQL:
    """One server, in `folder`; as a context manager it is started, and in the end stopped."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.data = folder / "data"

    @classmethod
    def temporary(cls, **options: Any) -> Self:
        """A server in a new folder that goes away with this process."""
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        (folder / "owner").write_text(str(os.getpid()))
        server = cls(folder, Options(**{"port": free_port(), **options}))
        atexit.register(server.remove)
        return server

    @property
    def port(self) -> int:
        return self.options.port

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's process, None when it does not run."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
            return None
        return pid

    def start(self, certificate: KeyPair | None = None, client_ca: Path | None = None) -> None:
        """Create it if there is nothing yet, and start it; returns when it takes connections."""
        if not self.data.exists():
            self._create()
        settings = self.options.settings(self.folder)
        if certificate is not None:
            settings |= self._tls(certificate, client_ca)
        self._write("postgresql.auto.conf", "".join(f"{key} = '{value}'\n" for key, value in settings.items()))
        self._control("start", "-w", "-t", str(START_SECONDS), "-l", self.log)

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        give(self.folder)
        subprocess.run(["cp", "-r", "--reflink=auto", str(template()), str(self.data)], check=True)
        for path in (self.data, *self.data.rglob("*")):
            give(path)
        self.data.chmod(0o700)
        self.hba()

    def _tls(self, certificate: KeyPair, client_ca: Path | None) -> dict[str, str]:
        self._write("server.crt", certificate.certificate.read_text())
        self._write("server.key", certificate.key.read_text())
        settings = {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
        if client_ca is not None:
            self._write("client-ca.crt", client_ca.read_text())
            settings["ssl_ca_file"] = "client-ca.crt"
        return settings

    def _write(self, name: str, text: str) -> None:
        path = self.data / name
        path.touch()
        path.chmod(0o600)
        path.write_text(text)
        give(path)

    def _control(self, *arguments: str | Path) -> None:
        result = run([binaries() / "pg_ctl", "-D", self.data, *arguments], capture_output=True)
        if result.returncode:
            tail = "\n".join(self.log.read_text().splitlines()[-20:]) if self.log.exists() else ""
            raise RuntimeError(f"pg_ctl {arguments[0]}: {result.stdout}{result.stderr}\n{tail}")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it if it runs; `mode` as of pg_ctl."""
        if self.pid is not None:
            self.resume()
            self._control("stop", "-w", "-m", mode)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Freeze it with all its sessions: it holds its connections and answers nothing."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def _processes(self) -> list[int]:
        postmaster = self.pid
        if postmaster is None:
            return []
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]

    def hba(self, *rules: str) -> None:
        """Put rules in front of pg_hba.conf's own; takes effect with the next start or `reload`."""
        self._write("pg_hba.conf", "\n".join((*rules, *HBA)) + "\n")

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

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL did not do what it was told")
            time.sleep(0.01)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _psql(command: Sequence[str | Path], script: str) -> subprocess.CompletedProcess[str]:
    """As the caller: root may enter the socket's folder too."""
    return subprocess.run([str(part) for part in command], input=script, text=True, capture_output=True)


def _sweep() -> None:
    """Remove temporary servers whose process was killed before it could."""
    for owner in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*/owner"):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if not Path(f"/proc/{int(owner.read_text())}").exists():
                PostgreSQL(owner.parent, Options(port=0)).remove()


# Command line: a server that outlives the command, for the demo.


def _start(folder: Path, options: Options, names: Sequence[str]) -> None:
    """Start the server of a folder; its CA is `folder/tls/ca.crt`."""
    server = PostgreSQL(folder, options)
    if server.pid is None:
        authority = Authority(folder / "tls")
        server.start(authority.issue("server", names))
        (folder / "options.json").write_text(json.dumps(asdict(options)))
    print(f"PostgreSQL listens on {options.listen}:{options.port}; its CA is {folder / 'tls' / 'ca.crt'}")


def _known(folder: Path) -> PostgreSQL:
    try:
        options = Options(**json.loads((folder / "options.json").read_text()))
    except FileNotFoundError:
        raise Missing(f"there is no server in {folder}") from None
    return PostgreSQL(folder, options)


def main(arguments: Sequence[str]) -> int:
    """The commands above; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.postgresql", description=__doc__)
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=5433)
    parser.add_argument("--listen", default="127.0.0.1", help="addresses, separated by commas")
    parser.add_argument("--name", action="append", help="a host name or address for the certificate")
    parser.add_argument("--log-statements", action="store_true")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    try:
        if given.command == "start":
            options = Options(given.port, given.listen, given.log_statements)
            _start(folder, options, given.name or ["localhost", *given.listen.split(",")])
            return 0
        server = _known(folder)
        if given.command == "stop":
            server.stop("fast")
    except (Missing, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"port {server.port}: {'stopped' if server.pid is None else f'process {server.pid}'}")
    return 0 if given.command == "stop" or server.pid is not None else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
