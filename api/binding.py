"""The Secret that a user binds: its name and type.

servicebinding.io, "Provisioned Service": `status.binding.name` names a Secret whose type is `servicebinding.io/<type>`.
"""

from __future__ import annotations

from api.engines import ENGINES, Driver

BINDING_TYPE_PREFIX = "servicebinding.io/"


def secret_name(database: str) -> str:
    """The Secret of the Database of this name, in the same namespace."""
    return f"{database}-credentials"


def secret_type(driver: Driver) -> str:
    """Its type: fixed per engine, because a Secret's type cannot change."""
    return BINDING_TYPE_PREFIX + ENGINES[driver].binding_type
