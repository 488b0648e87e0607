"""What a name that nothing has may have been meant for."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 5


def there_is(wanted: str, known: Iterable[tuple[str, str]]) -> str:
    """`; there is SCHEMA.NAME, …` for what comes close to `wanted` (in lower case), "" when nothing does.

    known: (schema, name) of what the account could call.
    """
    from difflib import get_close_matches  # imported where a call has failed: it costs start-up time

    known = sorted(known)
    names = {name.lower() for _, name in known}
    close = [wanted] if wanted in names else get_close_matches(wanted, names, _SHOWN)
    similar = [f"{schema}.{name}" for schema, name in known if name.lower() in close]
    return f"; there is {', '.join(similar[:_SHOWN])}" if similar else ""
