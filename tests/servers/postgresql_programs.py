"""Where PostgreSQL's programs are, and how they initialise a data folder."""

from __future__ import annotations

from pathlib import Path

from tests.servers.programs import Programs

PROGRAMS = Programs("PostgreSQL", "postgresql", "postgres", "dbaas-pg-")
_PACKAGES = Path("/usr/lib/postgresql")


def binaries() -> Path:
    """The folder of the chosen PostgreSQL's programs, or of the newest that is installed."""
    if PROGRAMS.chosen is not None:
        found = [*PROGRAMS.chosen.glob("initdb")]
    else:
        found = sorted(_PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if not found:
        raise PROGRAMS.missing
    return found[-1].parent


def template() -> Path:
    """A data folder whose superuser is `postgres`."""
    said = PROGRAMS.run([binaries() / "initdb", "--version"], check=True, capture_output=True).stdout
    return PROGRAMS.template(said.split("(PostgreSQL) ")[1].split(".")[0], _initialise)


def _initialise(data: Path) -> None:
    options = ("-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync")
    PROGRAMS.run([binaries() / "initdb", "-D", data, *options], check=True, capture_output=True)
