"""The PostgreSQL programs of this machine's packages, and an initialised data folder made with them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PACKAGES = Path("/usr/lib/postgresql")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubernetes-dbaas"
TEMPORARY_PREFIX = "dbaas-pg-"


class Missing(Exception):
    """What the machine lacks, and how to get it."""


def binaries() -> Path:
    """The folder of the newest installed PostgreSQL's programs."""
    found = sorted(PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise Missing("PostgreSQL is not installed; apt-get install postgresql")
    return found[-1].parent


def server_user() -> str | None:
    """As whom the server's programs run; None for the caller. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise Missing("there is no user postgres; apt-get install postgresql") from None


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def give(path: Path) -> None:
    """Make the server's user its owner."""
    if (user := server_user()) is not None:
        shutil.chown(path, user, user)


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of the server's programs as the server's user, with nothing of the caller's environment."""
    user = server_user()
    if user is not None:
        options |= {"user": user, "group": user, "extra_groups": []}
    return subprocess.run(
        [str(part) for part in command],
        cwd="/",
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        **options,
    )


def template() -> Path:
    """An initialised data folder: made once, copied ever after."""
    made = CACHE / f"postgresql-{binaries().parent.name}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "postgresql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with _owned_temporary_folder() as scratch:
                locale = ("-E", "UTF8", "--locale=C.UTF-8")
                initdb: list[str | Path] = [binaries() / "initdb", "-D", scratch / "data", "-U", "postgres", *locale]
                run([*initdb, "--auth=trust", "--no-sync"], check=True, capture_output=True)
                partial = made.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(scratch / "data", partial)
                partial.rename(made)
    return made


@contextlib.contextmanager
def _owned_temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    give(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
