"""A private server from the machine's packages: own folder, own port, own TLS files; what every engine's has."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.servers.pki import KeyPair
from tests.servers.programs import Programs, free_port

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is set up."""

    port: int
    listen: str = "127.0.0.1"
    """Addresses, separated by commas."""
    log_statements: bool = False


class Server(ABC):
    """One server, in `folder`; as a context manager it is removed in the end. Never the system's own.

    As root it runs as the user of its packages, who must be able to enter the folder.
    """

    programs: ClassVar[Programs]
    usual_port: ClassVar[int]
    """Of one that is started from the command line."""
    tls_settings: ClassVar[tuple[str, str, str]]
    """The configuration's names for certificate, key and clients' CA."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.data = folder / "data"

    @classmethod
    def temporary(cls, **options: Any) -> Self:
        """A server in a new folder that goes away with this process."""
        cls._sweep()
        folder = Path(tempfile.mkdtemp(prefix=cls.programs.temporary_prefix))
        (folder / "owner").write_text(str(os.getpid()))
        server = cls(folder, Options(**{"port": free_port(), **options}))
        atexit.register(server.remove)
        return server

    @classmethod
    def _sweep(cls) -> None:
        """Remove temporary servers whose process was killed before it could."""
        for owner in Path(tempfile.gettempdir()).glob(f"{cls.programs.temporary_prefix}*/owner"):
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                if not Path(f"/proc/{int(owner.read_text())}").exists():
                    cls(owner.parent, Options(port=0)).remove()

    @property
    def engine(self) -> str:
        """Whose driver, clients and tests are its own; a folder below examples/."""
        return self.programs.engine.lower()

    @property
    def examples(self) -> str:
        """The folder below examples/ with its procedures."""
        return self.engine

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.options.port

    @property
    def log(self) -> Path:
        """The server's log of errors and warnings."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        try:
            pid = int(self._pid_file.read_text().splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
            return None
        return pid

    @property
    @abstractmethod
    def _pid_file(self) -> Path: ...

    @abstractmethod
    def start(self, certificate: KeyPair | None = None, client_ca: Path | None = None) -> None:
        """Create it if there is nothing yet, and start it; returns when it takes connections.

        Without a certificate there is no TLS at all.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop it if it runs."""

    def shut_down(self) -> None:
        """Stop it as its DBA would."""
        self.stop()

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
        return [] if self.pid is None else [self.pid]

    def _create(self, template: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.programs.give(self.folder)
        subprocess.run(["cp", "-r", "--reflink=auto", str(template), str(self.data)], check=True)
        for path in (self.data, *self.data.rglob("*")):
            self.programs.give(path)

    def _tls(self, certificate: KeyPair, client_ca: Path | None) -> dict[str, str]:
        """Put its TLS files in place; gives the settings that name them."""
        files = [("server.crt", certificate.certificate), ("server.key", certificate.key)]
        if client_ca is not None:
            files.append(("client-ca.crt", client_ca))
        for name, source in files:
            self._write(self.folder / name, source.read_text())
        return {setting: str(self.folder / name) for setting, (name, _) in zip(self.tls_settings, files, strict=False)}

    def _write(self, path: Path, text: str) -> None:
        path.touch()
        path.chmod(0o600)
        path.write_text(text)
        self.programs.give(path)

    def _wait(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.programs.engine} did not do what it was told")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
