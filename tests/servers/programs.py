"""A DBMS's programs from this machine's packages: as whom they run, and an initialised data folder made with them."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubernetes-dbaas"


class Missing(Exception):
    """What the machine lacks, and how to get it."""


def free_ports(count: int) -> list[int]:
    """As many ports on which nobody listens now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def free_port() -> int:
    """A port on which nobody listens now."""
    return free_ports(1)[0]


@dataclass(frozen=True)
class Programs:
    """Those of one engine."""

    engine: str
    package: str
    user: str
    """As whom the server runs where the caller is root: no server wants to."""
    temporary_prefix: str
    """Of folders that go away with the process that made them."""

    @property
    def chosen(self) -> Path | None:
        """The folder of other programs than the machine's packages, which `DBAAS_<ENGINE>_BIN` names."""
        named = os.environ.get(self._variable)
        return Path(named) if named else None

    @property
    def _variable(self) -> str:
        return f"DBAAS_{self.engine.upper()}_BIN"

    @property
    def missing(self) -> Missing:
        """They are not installed."""
        if self.chosen is not None:
            return Missing(f"{self._variable}: {self.chosen} has no {self.engine}")
        return Missing(f"{self.engine} is not installed; apt-get install {self.package}")

    def _server_user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self.user).pw_name
        except KeyError:
            raise Missing(f"there is no user {self.user}; apt-get install {self.package}") from None

    def give(self, path: Path) -> None:
        """Make the server's user its owner."""
        if (user := self._server_user()) is not None:
            shutil.chown(path, user, user)

    def identity(self) -> dict[str, Any]:
        """Options of subprocess for a program that is to run as the server's user, with nothing of our environment."""
        options: dict[str, Any] = {
            "cwd": "/",
            "stdin": subprocess.DEVNULL,
            "env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        }
        user = self._server_user()
        return options if user is None else options | {"user": user, "group": user, "extra_groups": []}

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one of them as the server's user, to its end."""
        return subprocess.run([str(part) for part in command], text=True, **self.identity(), **options)

    def template(self, version: str, initialise: Callable[[Path], object]) -> Path:
        """An initialised data folder: made once, copied ever after. `initialise` is given the path to make it at."""
        name = self.engine.lower()
        made = CACHE / f"{name}-{version}"
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                with tempfile.TemporaryDirectory(prefix=self.temporary_prefix) as scratch:
                    self.give(Path(scratch))
                    initialise(Path(scratch) / "data")
                    partial = made.with_suffix(".partial")
                    shutil.rmtree(partial, ignore_errors=True)
                    shutil.copytree(Path(scratch) / "data", partial)
                    partial.rename(made)
        return made
