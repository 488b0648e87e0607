"""The two shapes that a procedure's result may have, for every engine.

Pure. Says columns and counts when it is another shape, and never a value: keys and values may have been swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn, TypeAlias

from api.reasons import Reason
from provisioner_job.drivers.contract import Result
from provisioner_job.errors import Failure

EXPECTED = "return rows of two columns `key` and `value`, or exactly one row of any columns"


_Row: TypeAlias = Sequence[str | None]


class ResultSet(NamedTuple):
    """What a call gave as one result set; without columns there was none."""

    columns: Sequence[str] = ()
    rows: Sequence[_Row] = ()
    total: int | None = None
    """Rows that the server gave, when `rows` leaves some out."""

    @property
    def is_pairs(self) -> bool:
        """Whether its columns are `key` and `value`."""
        return sorted(column.casefold() for column in self.columns) == ["key", "value"]

    def __repr__(self) -> str:
        # The rows may hold passwords.
        return f"ResultSet({self.columns!r})"


def read_result(rows: ResultSet, outputs: ResultSet | None = None, *, silent: bool = False) -> Result:
    """Key → text of what a procedure returned.

    rows: the last result set that has columns. outputs: the procedure's OUT parameters as one row, if it has any: they
    join the rows, whichever of the two holds the password, and a key of both is the parameter. Rows that are no result
    are only what the procedure looked at on its way then, for its declaration says what it returns.
    silent: a procedure that returns nothing, or no row, gives {}.
    Raises Failure(RESULT_INVALID).
    """
    if outputs is not None:
        return {**_beside_outputs(rows), **_read(outputs)}
    if silent and not rows.rows:
        return {}
    return _read(rows)


def _beside_outputs(rows: ResultSet) -> Result:
    try:
        return _read(rows)
    except Failure:
        if rows.is_pairs and rows.rows:
            raise
        return {}


def _read(one: ResultSet) -> Result:
    columns, rows = one.columns, one.rows
    count = len(rows) if one.total is None else one.total
    if not columns:
        _refuse("it returned nothing")
    described = f"{count} row{'' if count == 1 else 's'} of columns {', '.join(columns)}"
    if count > len(rows):
        _refuse(f"it returned {described}")
    if one.is_pairs:
        return _from_pairs(columns, rows, described)
    if count != 1:
        _refuse(f"it returned {described}")
    if len({*columns}) < len(columns) or "" in columns:
        _refuse(f"it returned {described}: columns need distinct names")
    return {column: value or "" for column, value in zip(columns, rows[0], strict=True)}


def _from_pairs(columns: Sequence[str], rows: Sequence[_Row], described: str) -> Result:
    key_column = [column.casefold() for column in columns].index("key")
    if not rows:
        _refuse(f"it returned {described}")
    result: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        key = row[key_column]
        if not key:
            _refuse(f"it returned {described}: row {number} has no key")
        if key in result:
            first = [*result].index(key) + 1
            _refuse(f"it returned {described}: row {number} has the same key as row {first}")
        result[key] = row[1 - key_column] or ""
    return result


def _refuse(what: str) -> NoReturn:
    raise Failure(Reason.RESULT_INVALID, f"{what}; let the procedure {EXPECTED}")
