"""Where MariaDB's programs are, and how they initialise a data folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.servers.programs import Programs

PROGRAMS = Programs("MariaDB", "mariadb-server", "mysql", "dbaas-my-")
_PATHS = ("/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")


def program(name: str) -> Path:
    """One of them."""
    found = shutil.which(name, path=str(PROGRAMS.chosen or os.pathsep.join(_PATHS)))
    if found is None:
        raise PROGRAMS.missing
    return Path(found)


def is_mysql() -> bool:
    """Whether the chosen programs are MySQL's."""
    return PROGRAMS.chosen is not None and not (PROGRAMS.chosen / "mariadbd").exists()


def daemon() -> Path:
    """The server."""
    return program("mysqld" if is_mysql() else "mariadbd")


def template() -> Path:
    """A data folder whose root has no password."""
    said = PROGRAMS.run([daemon(), "--version"], check=True, capture_output=True).stdout
    return PROGRAMS.template(said.split("Ver ")[1].split()[0], _initialise)


def _initialise(data: Path) -> None:
    if is_mysql():
        command = (daemon(), "--no-defaults", "--initialize-insecure", f"--datadir={data}")
        PROGRAMS.run(command, check=True, capture_output=True)
        return
    options = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db")
    PROGRAMS.run(
        [program("mariadb-install-db"), *options, "--innodb-log-file-size=8M", f"--datadir={data}"],
        check=True,
        capture_output=True,
    )
