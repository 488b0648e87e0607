"""What the procedures of examples/sqlserver do, on the double: logins, the databases that they own, new passwords."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.integration.tds.procedures import Blocked, Counted, Event, Raised, Rows, Waits
from tests.integration.tds.world import World

OPERATOR = "dbaas_operator"
DATABASE = "dbaas"
_LASTS = Waits(0.2)
"""From what a procedure does to what it says: whatever befalls the server then costs the answer alone."""
_RESULT = {"key": "nvarchar(8)", "value": "nvarchar(128)"}
_STRANGER = Raised(50003, "a login or database of this name exists already, and was not made by dbaas.create_database")
_UNKNOWN = Raised(50004, "there is no database of this name made by dbaas.create_database")


@dataclass
class Examples:
    """procedures.sql, installed on a double."""

    world: World
    made: set[str] = field(default_factory=set)
    """dbaas_internal.databases."""

    @classmethod
    def install(cls, world: World, password: str) -> Examples:
        """Run procedures.sql with the operator's password."""
        examples = cls(world)
        world.accounts[OPERATOR] = password
        world.databases.add(DATABASE)
        scripts = {"create": examples._create, "rotate": examples._rotate, "delete": examples._delete}
        for verb, script in scripts.items():
            world.define("dbaas", f"{verb}_database", "@k8s_name nvarchar(128)", script)
        return examples

    def holds(self, name: str) -> bool:
        """Whether there is anything of this name."""
        return name in self.made or name in self.world.accounts or name in self.world.databases

    def _create(self, values: Mapping[str, Any]) -> Iterator[Event]:
        yield Blocked()
        name, password = str(values["k8s_name"]), ""
        if name not in self.made:
            if self.holds(name):
                yield _STRANGER
                return
            password = self._password()
            self.made.add(name)
            self.world.databases.add(name)
            self.world.accounts[name] = password
        yield _LASTS
        yield Rows(_RESULT, [("username", name), ("password", password), ("database", name)])

    def _rotate(self, values: Mapping[str, Any]) -> Iterator[Event]:
        yield Blocked()
        name = str(values["k8s_name"])
        if name not in self.made:
            yield _UNKNOWN
            return
        self.world.accounts[name] = self._password()
        yield _LASTS
        yield Rows(_RESULT, [("username", name), ("password", self.world.accounts[name])])

    def _delete(self, values: Mapping[str, Any]) -> Iterator[Event]:
        yield Blocked()
        name = str(values["k8s_name"])
        if name in self.made:
            self.world.databases.discard(name)
            self.world.accounts.pop(name, None)
            self.made.discard(name)
        yield _LASTS
        yield Counted(0)

    @staticmethod
    def _password() -> str:
        return f"k-{secrets.token_hex(32).upper()}"
