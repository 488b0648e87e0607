"""Names of procedures, and what `pg_proc` says about those that have them.

Pure: the driver sends the queries. An unqualified name is looked for in every schema but the system's, not along a
search path: who can create a function in some schema can then stop a call, by making its name ambiguous, but never
divert it.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

from api.reasons import Reason
from provisioner_job.drivers.postgresql_wire import Bound
from provisioner_job.errors import Failure

_PART = r'(?:"((?:[^"\x00]|"")+)"|([^\W\d][\w$]*))'
_NAME = re.compile(rf"(?:{_PART}\.)?{_PART}")

TEXT = 25
NAME = 19
_TEXT_ARRAY = 1009
_ANY_ARRAYS = ("anyarray", "anycompatiblearray")

LOOK_UP = """
SELECT json_agg(candidate) FROM (
  SELECT n.nspname AS schema, p.proname AS name, p.prokind AS kind, p.pronargdefaults AS defaults,
         p.prorettype = 'record'::regtype AND p.proallargtypes IS NULL AS shapeless,
         'refcursor'::regtype = p.prorettype OR EXISTS (
           SELECT FROM unnest(p.proallargtypes, p.proargmodes) AS a (type, mode)
            WHERE a.type = 'refcursor'::regtype AND a.mode IN ('o', 'b', 't')
         ) AS cursor,
         has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE') AS executable,
         has_schema_privilege('public', n.oid, 'USAGE') AND has_function_privilege('public', p.oid, 'EXECUTE')
           AS public,
         ARRAY(
           SELECT json_build_object('name', coalesce(p.proargnames[a.position], ''),
                                    'mode', coalesce(p.proargmodes[a.position], 'i'),
                                    'type', t.oid::bigint, 'type_name', format_type(t.oid, -1),
                                    'pseudo', t.typtype = 'p',
                                    'element', t.typelem::bigint)
             FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY AS a (type, position)
             JOIN pg_type t ON t.oid = a.type
            ORDER BY a.position
         ) AS parameters
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
   WHERE p.proname IN ($1, $2)
     AND CASE WHEN $3::text IS NULL THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
              ELSE n.nspname IN ($3, $4) END
   ORDER BY n.nspname, p.oid
) AS candidate
"""
"""Candidates as JSON for (name folded, name as written, schema folded or NULL, schema as written or NULL)."""

LIST_ALL = """
SELECT DISTINCT n.nspname, p.proname
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND p.prokind IN ('f', 'p')
   AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
 LIMIT 1000
"""
"""(schema, name) of everything that this account could call, to say what was perhaps meant."""


class Identifier(NamedTuple):
    """One part of a name; an unquoted one means `folded` where that exists, else what was written."""

    written: str
    folded: str

    @classmethod
    def read(cls, quoted: str | None, bare: str | None) -> Identifier | None:
        """From the two groups of _PART; None for neither."""
        if quoted is not None:
            exact = quoted.replace('""', '"')
            return cls(exact, exact)
        # PostgreSQL folds ASCII only, as bytes.lower does.
        return None if bare is None else cls(bare, bare.encode().lower().decode())


class Name(NamedTuple):
    """A procedure's name as a class gives it."""

    schema: Identifier | None
    procedure: Identifier

    @classmethod
    def parse(cls, text: str) -> Name:
        """Read `create_database`, `dbaas.create_database`, `dbaas."Create"`; raises Failure(PROCEDURE_MISSING)."""
        match = _NAME.fullmatch(text.strip())
        procedure = match and Identifier.read(match[3], match[4])
        if match is None or procedure is None:
            raise Failure(
                Reason.PROCEDURE_MISSING,
                f"{text[:80]!r} is no procedure name of PostgreSQL; write name or schema.name, in double quotes "
                "what is not letters, digits and underscores",
            )
        return cls(Identifier.read(match[1], match[2]), procedure)

    @property
    def bindings(self) -> tuple[Bound, ...]:
        """The values of LOOK_UP."""
        schema = self.schema
        return (
            Bound(self.procedure.folded, TEXT),
            Bound(self.procedure.written, TEXT),
            Bound(None if schema is None else schema.folded, TEXT),
            Bound(None if schema is None else schema.written, TEXT),
        )


class Parameter(NamedTuple):
    """A declared parameter."""

    name: str
    mode: Literal["i", "o", "b", "v", "t"]
    """pg_proc.proargmodes: IN, OUT, INOUT, VARIADIC, a column of RETURNS TABLE."""
    type: int
    type_name: str
    pseudo: bool
    element: int
    """OID of an array type's elements; 0 for others."""

    @property
    def is_input(self) -> bool:
        """Whether the caller gives it."""
        return self.mode in ("i", "b", "v")

    @property
    def bound_type(self) -> int:
        """The type to bind it as: the declared one; text where any type would do."""
        if not self.pseudo:
            return self.type
        return _TEXT_ARRAY if self.type_name in _ANY_ARRAYS else TEXT

    def __str__(self) -> str:
        mode = {"o": "OUT ", "b": "INOUT ", "v": "VARIADIC "}.get(self.mode, "")
        return f"{mode}{self.name} {self.type_name}".replace("  ", " ").strip()


class Candidate(NamedTuple):
    """A function or procedure of that name."""

    schema: str
    name: str
    kind: Literal["f", "p", "a", "w"]
    """pg_proc.prokind: function, procedure, aggregate, window function."""
    defaults: int
    """How many of its last inputs have a default."""
    shapeless: bool
    """Whether it returns `record` without saying which columns."""
    cursor: bool
    """Whether it returns cursors, which end with the transaction that the call is."""
    executable: bool
    public: bool
    """Whether every account of the server may execute it: what a new function allows unless it is revoked."""
    parameters: tuple[Parameter, ...]

    @classmethod
    def read(cls, row: dict[str, Any]) -> Candidate:
        """From one object of LOOK_UP."""
        return cls(**{**row, "parameters": tuple(Parameter(**parameter) for parameter in row["parameters"])})

    @property
    def inputs(self) -> tuple[Parameter, ...]:
        """What the caller gives, in order."""
        return tuple(parameter for parameter in self.parameters if parameter.is_input)

    def __str__(self) -> str:
        shown = ", ".join(str(parameter) for parameter in self.parameters if parameter.mode != "t")
        return f"{self.schema}.{self.name}({shown})"
