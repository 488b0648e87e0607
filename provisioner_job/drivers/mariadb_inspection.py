"""What routines of a procedure's name, and the grants of everybody, mean to a probe. Pure; imported by probes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from api.probe import Inspection
from provisioner_job.drivers.mariadb_catalogue import Routine, quoted

GRANTS = "SHOW GRANTS FOR PUBLIC"
"""What every account may do (MariaDB 10.11 and later; any account may ask). MySQL has nothing of the kind."""
_QUOTED = r"`(?:[^`]|``)+`"
_GRANT = re.compile(rf"GRANT (.+?) ON (PROCEDURE )?(\*|{_QUOTED})\.(\*|{_QUOTED}) TO ")


def inspected(routines: Sequence[Routine], grants: Iterable[str] | None) -> Inspection:
    """What the catalogue tells of a name; `routines` have it and are not empty.

    grants: the answer to GRANTS; None: the server does not know the question.
    """
    procedure = next((one for one in routines if one.kind == "PROCEDURE"), None)
    if procedure is None:
        message = (
            f"{routines[0]} is a {routines[0].kind.lower()}, not a procedure; give it a procedure that CALL can take"
        )
        return Inspection(found=False, callable=False, public=None, message=message)
    if grants is None:
        # Who may see a routine may, as a rule, execute it.
        return Inspection(found=True, callable=None, public=None)
    place = next((place for place in map(_place, grants) if place and _covers(place, procedure)), None)
    if place is None:
        return Inspection(found=True, callable=None, public=False)
    target = f"PROCEDURE {place[0]}.{place[1]}" if place[1] != "*" else f"{place[0]}.*"
    return Inspection(
        found=True,
        callable=True,
        public=True,
        message=f"every account of the server may execute {procedure.schema}.{procedure.name}; "
        f"REVOKE EXECUTE ON {target} FROM PUBLIC",
    )


def _place(grant: str) -> tuple[str, str] | None:
    """Schema and procedure that a line allows to execute, as the server quotes them; `*` is every one."""
    match = _GRANT.match(grant)
    if match is None or not {"EXECUTE", "ALL PRIVILEGES"} & set(match[1].split(", ")):
        return None
    return (match[3], match[4]) if bool(match[2]) == (match[4] != "*") else None


def _covers(place: tuple[str, str], procedure: Routine) -> bool:
    schema, one = place
    if one != "*":
        return schema == quoted(procedure.schema) and one.lower() == quoted(procedure.name).lower()
    return (
        schema == "*" or re.fullmatch("".join(_pattern(schema[1:-1].replace("``", "`"))), procedure.schema) is not None
    )


def _pattern(text: str) -> Iterator[str]:
    """A schema's name in a grant on all of it, where `_` and `%` are wildcards unless a backslash precedes them."""
    for escaped, plain in re.findall(r"\\(.)|([\s\S])", text):
        yield {"_": ".", "%": ".*"}.get(plain, re.escape(escaped or plain))
