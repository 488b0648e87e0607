"""What a name's candidates, and the grants to `public`, mean to a probe. Pure; imported by probes alone."""

from __future__ import annotations

from collections.abc import Sequence

from api.probe import Inspection
from provisioner_job.drivers.sqlserver_catalogue import KINDS, Candidate, Name, quoted

EVERYTHING, OBJECT, SCHEMA = "0", "1", "3"
"""sys.database_permissions.class: on the database, on an object, on a schema."""


def granted_to_public(name: Name, one: Candidate) -> tuple[str, tuple[str, ...]]:
    """The query for the classes of the grants by which everybody may execute it, and the values of its `?`.

    Everybody is a member of `public`, whose principal is 0 in every database, and sees what that is granted.
    """
    schema = f"SELECT s.schema_id FROM {name.prefix}sys.schemas AS s WHERE s.name = ?"  # noqa: S608 - all is quoted
    text = (
        f"SELECT CONVERT(varchar(3), g.class) FROM {name.prefix}sys.database_permissions AS g"  # noqa: S608
        " WHERE g.grantee_principal_id = 0 AND g.type = N'EX' AND g.state IN (N'G', N'W') AND (g.class = 0"
        f" OR (g.class = 3 AND g.major_id = ({schema}))"
        f" OR (g.class = 1 AND g.major_id = (SELECT o.object_id FROM {name.prefix}sys.all_objects AS o"
        f" WHERE o.schema_id = ({schema}) AND o.name = ?)))"
    )
    return text, (one.schema, one.schema, one.name)


def inspected(found: Sequence[Candidate], grants: Sequence[str]) -> Inspection:
    """What the catalogue tells of a name; `found` has it and is not empty.

    grants: the answer to `granted_to_public` for `chosen(found)`.
    """
    one = chosen(found)
    if one is None:
        kind = KINDS.get(found[0].kind, "function")
        return Inspection(
            found=False,
            callable=False,
            public=None,
            message=f"{found[0].schema}.{found[0].name} is a {kind}, not a procedure",
        )
    target = f"{quoted(one.schema)}.{quoted(one.name)}"
    if grants:
        places = {EVERYTHING: "", SCHEMA: f" ON SCHEMA::{quoted(one.schema)}", OBJECT: f" ON {target}"}
        revoke = "; ".join(f"REVOKE EXECUTE{places.get(grant, '')} FROM public" for grant in sorted(set(grants)))
        return Inspection(
            found=True, callable=True, public=True, message=f"every user of the database may execute {target}; {revoke}"
        )
    if one.executable:
        return Inspection(found=True, callable=True, public=False)
    return Inspection(
        found=True,
        callable=False,
        public=False,
        message=f"the endpoint's account may not call {one}; GRANT EXECUTE on it to that account",
    )


def chosen(found: Sequence[Candidate]) -> Candidate | None:
    """The procedure that a call would mean, executable or not; None when there is none."""
    procedures = [one for one in found if one.is_callable]
    return next((one for one in procedures if one.executable), procedures[0] if procedures else None)
