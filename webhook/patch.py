"""The JSON patch (RFC 6902) that turns one manifest into another: minimal, and always the same for the same two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Step = dict[str, Any]
"""One operation: `op`, `path`, and `value` unless it removes."""


def difference(old: Any, new: Any, path: str = "") -> list[Step]:
    """The steps from `old` to `new`, by path. Lists grow at their end or are replaced whole."""
    return list(_steps(old, new, path))


def applied(whole: Any, steps: Iterable[Step]) -> Any:
    """`whole` after the steps that `difference` made for it; `whole` itself stays as it is."""
    for step in steps:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        whole = _changed(whole, parts, step)
    return whole


def _changed(place: Any, parts: list[str], step: Step) -> Any:
    if not parts:
        return step["value"]
    first, *rest = parts
    if isinstance(place, list):
        if first == "-":
            return [*place, step["value"]]
        index = int(first)
        return [*place[:index], _changed(place[index], rest, step), *place[index + 1 :]]
    if step["op"] == "remove" and not rest:
        return {key: value for key, value in place.items() if key != first}
    return {**place, first: _changed(place.get(first), rest, step)}


def _steps(old: Any, new: Any, path: str) -> Iterator[Step]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            place = f"{path}/{_escaped(key)}"
            if key not in new:
                yield {"op": "remove", "path": place}
            elif key not in old:
                yield {"op": "add", "path": place, "value": new[key]}
            else:
                yield from _steps(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        if _begins_with(new, old):
            yield from ({"op": "add", "path": f"{path}/-", "value": item} for item in new[len(old) :])
        else:
            yield {"op": "replace", "path": path, "value": new}
    elif old != new or type(old) is not type(new):
        yield {"op": "replace", "path": path, "value": new}


def _begins_with(new: list[Any], old: list[Any]) -> bool:
    # Not `==`, for which 1 is True.
    return len(old) <= len(new) and not any(difference(a, b) for a, b in zip(old, new, strict=False))


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
