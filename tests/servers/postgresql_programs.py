"""Where PostgreSQL's programs are, and how they initialise a data folder."""

from __future__ import annotations

from pathlib import Path

from tests.servers.programs import Programs

PROGRAMS = Programs("PostgreSQL", "postgresql", "postgres", "dbaas-pg-")
_PACKAGES = Path("/usr/lib/postgresql")


def binaries() -> Path:
    """The folder of the newest installed PostgreSQL's programs."""
    found = sorted(_PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise PROGRAMS.missing
    return found[-1].parent


def template() -> Path:
    """A data folder whose superuser is `postgres`."""
    return PROGRAMS.template(binaries().parent.name, _initialise)


def _initialise(data: Path) -> None:
    options = ("-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync")
    PROGRAMS.run([binaries() / "initdb", "-D", data, *options], check=True, capture_output=True)
