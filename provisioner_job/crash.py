"""A defect's stack without what it may hold: types, files, lines and functions; no message, no local variable."""

from __future__ import annotations


def frames(error: BaseException) -> str:
    """The stack of an exception and of its causes, as text."""
    import traceback  # 5 ms, and hardly ever needed

    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        stack = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{stack}{type(current).__module__}.{type(current).__qualname__}\n")
        current = current.__cause__ or current.__context__
    return "caused by:\n".join(parts)
