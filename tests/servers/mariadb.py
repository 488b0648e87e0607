"""A private MariaDB from the machine's packages: own folder, own port, own TLS files.

Never touches the system's server. As root it runs the server as user `mysql`, who must be able to enter the folder.

    python -m tests.servers.mariadb start  DIR [--port N] [--listen ADDRESS] [--name HOST]…
    python -m tests.servers.mariadb status DIR
    python -m tests.servers.mariadb stop   DIR
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pymysql

from tests.servers.mariadb_programs import TEMPORARY_PREFIX, give, identity, program, template
from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql_programs import Missing, free_port

__all__ = ["MariaDB", "Missing", "Options", "free_port"]

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is set up."""

    port: int
    listen: str = "127.0.0.1"
    """Addresses, separated by commas."""
    log_statements: bool = False

    def settings(self, folder: Path) -> dict[str, str]:
        """Its part of my.cnf."""
        return {
            "datadir": str(folder / "data"),
            "socket": str(folder / "socket"),
            "pid-file": str(folder / "pid"),
            "log-error": str(folder / "server.log"),
            "general-log": str(int(self.log_statements)),
            "general-log-file": str(folder / "statements.log"),
            "port": str(self.port),
            "bind-address": self.listen,
            "skip-name-resolve": "1",
            "character-set-server": "utf8mb4",
            "innodb-buffer-pool-size": "32M",
            "innodb-log-file-size": "8M",
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-fast-shutdown": "2",
            "max-connections": "100",
            "default-time-zone": "+00:00",
            # Tests break off many handshakes; their address is not to be blocked for it.
            "host-cache-size": "0",
        }


class MariaDB:
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
        """The server's log of errors and warnings."""
        return self.folder / "server.log"

    @property
    def statements(self) -> Path:
        """The general log, with `log_statements`."""
        return self.folder / "statements.log"

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        try:
            pid = int((self.folder / "pid").read_text())
            os.kill(pid, 0)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        return pid

    def start(self, certificate: KeyPair | None = None, client_ca: Path | None = None, **settings: str) -> None:
        """Create it if there is nothing yet, and start it; returns when it takes connections.

        settings: further options of my.cnf, with underscores for dashes.
        """
        if not self.data.exists():
            self._create()
        lines = self.options.settings(self.folder)
        # Without a certificate there is no TLS at all.
        lines |= self._tls(certificate, client_ca) if certificate is not None else {"skip-ssl": "1"}
        lines |= {name.replace("_", "-"): value for name, value in settings.items()}
        self._write("my.cnf", "[mariadbd]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items()))
        with (self.folder / "start.log").open("w") as output:
            process = subprocess.Popen(
                [str(program("mariadbd")), f"--defaults-file={self.folder / 'my.cnf'}"],
                stdout=output,
                stderr=output,
                start_new_session=True,
                **identity(),
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

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        give(self.folder)
        subprocess.run(["cp", "-r", "--reflink=auto", str(template()), str(self.data)], check=True)
        for path in (self.data, *self.data.rglob("*")):
            give(path)

    def _tls(self, certificate: KeyPair, client_ca: Path | None) -> dict[str, str]:
        self._write("server.crt", certificate.certificate.read_text())
        self._write("server.key", certificate.key.read_text())
        settings = {"ssl-cert": str(self.folder / "server.crt"), "ssl-key": str(self.folder / "server.key")}
        if client_ca is not None:
            self._write("client-ca.crt", client_ca.read_text())
            settings["ssl-ca"] = str(self.folder / "client-ca.crt")
        return settings

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch()
        path.chmod(0o600)
        path.write_text(text)
        give(path)

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
        (self.folder / "pid").unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        with contextlib.suppress(ProcessLookupError):
            if (pid := self.pid) is not None:
                os.kill(pid, signal.SIGKILL)
                self._wait(lambda: _ended(pid))
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Freeze it: it holds its connections and answers nothing."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGCONT)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Set global variables that can change while it runs; the values are SQL."""
        for name, value in settings.items():
            self.execute(f"SET GLOBAL {name} = {value}")

    def present(self, certificate: KeyPair) -> None:
        """Show another certificate to those who connect from now on."""
        self._tls(certificate, None)
        self.execute("FLUSH SSL")

    def _wait(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("MariaDB did not do what it was told")
            time.sleep(0.02)

    def execute(
        self, statement: str, parameters: Sequence[object] | None = None, *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Run one statement as root over the socket; gives its rows."""
        with (
            pymysql.connect(
                unix_socket=str(self.folder / "socket"),
                user="root",
                database=database,
                charset="utf8mb4",
                autocommit=True,
                ssl_disabled=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, parameters)
            return [*cursor.fetchall()]

    def client(self, *files: Path, database: str = "", variables: Mapping[str, str] | None = None) -> str:
        """Run SQL files with the `mariadb` program as root, as a DBA would; gives its output, and raises with it.

        variables: user variables that are set first.
        """
        command = [str(program("mariadb")), "--no-defaults", "--batch", "--default-character-set=utf8mb4"]
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _ended(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def _sweep() -> None:
    """Remove temporary servers whose process was killed before it could."""
    for owner in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*/owner"):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if not Path(f"/proc/{int(owner.read_text())}").exists():
                MariaDB(owner.parent, Options(port=0)).remove()


# Command line: a server that outlives the command, for the demo.


def _start(folder: Path, options: Options, names: Sequence[str]) -> None:
    """Start the server of a folder; its CA is `folder/tls/ca.crt`."""
    server = MariaDB(folder, options)
    if server.pid is None:
        authority = Authority(folder / "tls")
        server.start(authority.issue("server", names))
        (folder / "options.json").write_text(json.dumps(asdict(options)))
    print(f"MariaDB listens on {options.listen}:{options.port}; its CA is {folder / 'tls' / 'ca.crt'}")


def _known(folder: Path) -> MariaDB:
    try:
        options = Options(**json.loads((folder / "options.json").read_text()))
    except FileNotFoundError:
        raise Missing(f"there is no server in {folder}") from None
    return MariaDB(folder, options)


def main(arguments: Sequence[str]) -> int:
    """The commands above; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.mariadb", description=__doc__)
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=3307)
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
            server.stop()
    except (Missing, RuntimeError, OSError, pymysql.Error) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"port {server.port}: {'stopped' if server.pid is None else f'process {server.pid}'}")
    return 0 if given.command == "stop" or server.pid is not None else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
