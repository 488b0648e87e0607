"""The Secret that a user binds: its name and type.

servicebinding.io, "Provisioned Service": `status.binding.name` names a Secret whose type is `servicebinding.io/<type>`.
"""

from __future__ import annotations

from collections.abc import Mapping

from api.engines import ENGINES, Driver

BINDING_TYPE_PREFIX = "servicebinding.io/"
KEYS_LIMIT = 16_384
"""Characters of `keys_text`: an object's annotations share 256 KiB, and a Secret must not be refused for them."""


def secret_name(database: str) -> str:
    """The Secret of the Database of this name, in the same namespace."""
    return f"{database}-credentials"


def secret_type(driver: Driver) -> str:
    """Its type: fixed per engine, because a Secret's type cannot change."""
    return BINDING_TYPE_PREFIX + ENGINES[driver].binding_type


def keys_text(data: Mapping[str, str | bytes]) -> str:
    """Names of the keys that have a value, as the annotation `KEYS` says them; "" when that takes too much."""
    text = ",".join(sorted(key for key, value in data.items() if value))
    return text if len(text) <= KEYS_LIMIT else ""


def keys_told(text: str) -> frozenset[str]:
    """The inverse of `keys_text`."""
    return frozenset(text.split(",")) - {""}
