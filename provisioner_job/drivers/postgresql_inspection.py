"""What the candidates for a procedure's name mean to a probe. Pure; imported by probes alone."""

from __future__ import annotations

from collections.abc import Sequence

from api.probe import Inspection
from provisioner_job.drivers.postgresql_catalogue import Candidate, Name
from provisioner_job.drivers.postgresql_resolution import as_meant, quoted


def inspected(name: str, candidates: Sequence[Candidate]) -> Inspection:
    """What the catalogue tells of `name`; `candidates` is not empty."""
    meant = [one for one in as_meant(Name.parse(name), candidates) if one.kind in ("f", "p")]
    if not meant:
        return Inspection(
            found=False,
            callable=False,
            public=None,
            message=f"{name} is an aggregate or window function, not a procedure",
        )
    public = [one for one in meant if one.public]
    if public:
        return Inspection(found=True, callable=True, public=True, message=_public(public[0]))
    if any(one.executable for one in meant):
        return Inspection(found=True, callable=True, public=False)
    message = (
        f"the endpoint's account may not call {meant[0]}; "
        f"GRANT EXECUTE on it, and USAGE on schema {meant[0].schema}, to that account"
    )
    return Inspection(found=True, callable=False, public=False, message=message)


def _public(one: Candidate) -> str:
    types = ", ".join(parameter.type_name for parameter in one.inputs)
    routine = f"{quoted(one.schema)}.{quoted(one.name)}({types})"
    return f"every account of the server may execute {one}; REVOKE EXECUTE ON ROUTINE {routine} FROM PUBLIC"
