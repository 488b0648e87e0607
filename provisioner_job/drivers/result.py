"""The two shapes that a procedure's result may have, for every engine.

Pure. Says columns and counts when it is another shape, and never a value: keys and values may have been swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from api.reasons import Reason
from provisioner_job.drivers.contract import Result
from provisioner_job.errors import Failure

EXPECTED = "return rows of two columns `key` and `value`, or exactly one row of any columns"


def read_result(columns: Sequence[str], rows: Sequence[Sequence[str | None]], count: int | None = None) -> Result:
    """Key → text of a result set.

    columns, rows: of the last result set that has columns; no columns means that there was none.
    count: rows that the server gave, when `rows` leaves some out.
    Raises Failure(RESULT_INVALID).
    """
    count = len(rows) if count is None else count
    if not columns:
        _refuse("it returned nothing")
    described = f"{count} row{'' if count == 1 else 's'} of columns {', '.join(columns)}"
    if count > len(rows):
        _refuse(f"it returned {described}")
    if sorted(column.casefold() for column in columns) == ["key", "value"]:
        return _from_pairs(columns, rows, described)
    if count != 1:
        _refuse(f"it returned {described}")
    if len({*columns}) < len(columns) or "" in columns:
        _refuse(f"it returned {described}: columns need distinct names")
    return {column: value or "" for column, value in zip(columns, rows[0], strict=True)}


def _from_pairs(columns: Sequence[str], rows: Sequence[Sequence[str | None]], described: str) -> Result:
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
