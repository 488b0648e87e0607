"""The MariaDB programs of this machine's packages, and an initialised data folder made with them."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.servers.postgresql_programs import CACHE, Missing

PATHS = ("/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")
TEMPORARY_PREFIX = "dbaas-my-"


def program(name: str) -> Path:
    """One of MariaDB's programs."""
    found = shutil.which(name, path=os.pathsep.join(PATHS))
    if found is None:
        raise Missing("MariaDB is not installed; apt-get install mariadb-server")
    return Path(found)


def server_user() -> str | None:
    """As whom the server runs; None for the caller. MariaDB refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("mysql").pw_name
    except KeyError:
        raise Missing("there is no user mysql; apt-get install mariadb-server") from None


def give(path: Path) -> None:
    """Make the server's user its owner."""
    if (user := server_user()) is not None:
        shutil.chown(path, user, user)


def identity() -> dict[str, Any]:
    """Options of subprocess for a program that is to run as the server's user, in an empty environment."""
    options: dict[str, Any] = {
        "cwd": "/",
        "stdin": subprocess.DEVNULL,
        "env": {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    }
    user = server_user()
    if user is not None:
        options |= {"user": user, "group": user, "extra_groups": []}
    return options


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of the programs as the server's user, to its end."""
    return subprocess.run([str(part) for part in command], text=True, **identity(), **options)


def template() -> Path:
    """An initialised data folder, whose root has no password: made once, copied ever after."""
    version = (
        run([program("mariadbd"), "--version"], check=True, capture_output=True).stdout.split("Ver ")[1].split()[0]
    )
    made = CACHE / f"mariadb-{version}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "mariadb.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as scratch:
                give(Path(scratch))
                _install(Path(scratch) / "data")
                partial = made.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(Path(scratch) / "data", partial)
                partial.rename(made)
    return made


def _install(data: Path) -> None:
    options = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db")
    run(
        [program("mariadb-install-db"), *options, "--innodb-log-file-size=8M", f"--datadir={data}"],
        check=True,
        capture_output=True,
    )
