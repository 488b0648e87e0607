"""What the examples' classes put into a Secret is a service binding, and each of its ways to log in works.

servicebinding.io, "Well-known Secret Entries" and "Provisioned Service".
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from api.binding import secret_name
from api.engines import ENGINES
from api.kinds import Database, DatabaseClass, DatabaseEndpoint
from api.operation import DatabaseReference
from controller.request import Request
from provisioner_job import secret
from provisioner_job.calls import procedure
from provisioner_job.drivers.contract import Session
from provisioner_job.errors import Failure
from tests.controller.builders import instance
from tests.integration.conftest import Pki
from tests.integration.installation import Installation
from tests.integration.sqlserver_site import Target, double_site, targets
from tests.integration.tds.examples import Examples
from tests.provisioner_job.operations import SPEC
from tests.servers.examples import ACCOUNT, DATABASE, FOLDER, OPERATOR_PASSWORD
from tests.servers.logins import LoginRefused, log_in
from tests.servers.mariadb import MariaDB

pytestmark = pytest.mark.integration

ENTRIES = {"type", "provider", "host", "port", "username", "password", "database", "uri"}
NAMESPACE = "team-a"
ODD = "p@ss:w/o?r#d &=%41+ 'é\" \\"
"""A password that a URI must not take for parts of itself."""


@dataclass(frozen=True)
class Place:
    """A server with the example procedures on it."""

    engine: str
    port: int
    session: Session = field(repr=False)
    """The operator's."""
    log_in: Callable[[Mapping[str, str]], tuple[str, str]]
    """Who one is with these entries, and where. Raises LoginRefused."""
    change_password: Callable[[str, str], object]

    def __str__(self) -> str:
        return self.engine

    def example(self, kind: str) -> dict[str, Any]:
        manifest: dict[str, Any] = yaml.safe_load((FOLDER / self.engine / f"{kind}.yaml").read_text())
        return manifest

    def binding(self, name: str, **result: str) -> dict[str, Any]:
        """The Secret that a Job would write for the Database of the examples under this name; with other results."""
        manifest, server = self.example("database"), self.example("endpoint")
        manifest["metadata"] |= {"name": name, "namespace": NAMESPACE, "uid": SPEC.database.uid}
        server["spec"] |= {"host": "127.0.0.1", "port": self.port}
        cls = DatabaseClass.parse(self.example("class"))
        asked = Request(Database.parse(manifest), DatabaseEndpoint.parse(server), cls)
        target, calls = asked.secret(instance()), dict(asked.freeze().calls)
        reference = DatabaseReference(NAMESPACE, name, SPEC.database.uid)
        spec = SPEC._replace(database=reference, driver=cls.driver.value, calls=(calls["create"],), secret=target)
        returned = self.session.call(procedure(spec, calls["create"], {}, 20))
        data = secret.compose(spec, target, {"Result": {**returned, **result}}, {})
        assert data.skipped == ()
        return secret.manifest(spec, target, None, data.values, datetime.now(UTC))


def _of_installation(installed: Installation) -> Place:
    server = installed.server

    def change_password(name: str, password: str) -> None:
        if isinstance(server, MariaDB):
            server.execute(f"ALTER USER `{name}`@`%%` IDENTIFIED BY %s", [password])
        else:
            quoted = password.replace("'", "''")
            server.execute(f"ALTER ROLE \"{name}\" PASSWORD '{quoted}'")

    def enter(entries: Mapping[str, str]) -> tuple[str, str]:
        return log_in(server.engine, entries, installed.authority)

    return Place(server.engine, server.port, installed.session, enter, change_password)


@contextmanager
def _of_double(target: Target, pki: Pki) -> Iterator[Place]:
    with double_site(target, pki.authority, pki.stranger, pki.good) as site:
        Examples.install(site.world, OPERATOR_PASSWORD)

        def enter(entries: Mapping[str, str]) -> tuple[str, str]:
            account = {"username": entries["username"], "password": entries["password"]}
            place = {"host": entries["host"], "port": int(entries["port"]), "database": entries["database"]}
            try:
                site.connect(**place, **account).close()
            except Failure as failure:
                raise LoginRefused(failure.message) from None
            return entries["username"], entries["database"]

        session = site.connect(username=ACCOUNT, password=OPERATOR_PASSWORD, database=DATABASE)
        yield Place("sqlserver", site.server.port, session, enter, site.world.accounts.__setitem__)
        session.close()


@pytest.fixture(params=["postgresql", "mariadb", *targets(real=False)], ids=str)
def place(pki: Pki, request: pytest.FixtureRequest) -> Iterator[Place]:
    if isinstance(request.param, Target):
        with _of_double(request.param, pki) as double:
            yield double
    else:
        yield _of_installation(request.getfixturevalue(f"{request.param}_installation"))


def entries_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in manifest["data"].items()}


def read(uri: str) -> dict[str, str]:
    """The entries that a URI stands for, as the engine's own programs read it."""
    parts = urlsplit(uri)
    if parts.scheme == "postgresql":
        # libpq itself.
        said = conninfo_to_dict(uri)
        return {key: str(said[name]) for key, name in LIBPQ.items()}
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return {
        "host": parts.hostname or "",
        "port": str(parts.port),
        "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": options["database"] if parts.scheme == "sqlserver" else unquote(parts.path[1:]),
    }


LIBPQ = {"host": "host", "port": "port", "username": "user", "password": "password", "database": "dbname"}
SCHEMES = {"postgresql": "postgresql", "mariadb": "mysql", "sqlserver": "sqlserver"}
"""Engine → what libraries call it in a URI."""


def test_the_secret_is_a_binding_of_the_engines_type(place: Place) -> None:
    manifest = place.binding("bound")
    entries = entries_of(manifest)
    driver = DatabaseClass.parse(place.example("class")).driver

    assert set(entries) == ENTRIES
    assert all(entries.values())
    assert manifest["type"] == f"servicebinding.io/{entries['type']}"
    assert entries["type"] == ENGINES[driver].binding_type
    assert manifest["metadata"]["name"] == secret_name("bound")


def test_its_entries_and_its_uri_say_the_same_and_log_in(place: Place) -> None:
    entries = entries_of(place.binding("usable"))
    said = read(entries["uri"])

    assert urlsplit(entries["uri"]).scheme == SCHEMES[place.engine]
    assert said == {key: entries[key] for key in said}
    for way in (entries, said):
        assert place.log_in(way) == (entries["username"], entries["database"])
    with pytest.raises(LoginRefused):
        place.log_in({**said, "password": "another"})


def test_a_uri_carries_any_password(place: Place) -> None:
    """The examples make plain ones; a DBA's own procedures may not."""
    username = entries_of(place.binding("oddly"))["username"]
    place.change_password(username, ODD)
    entries = entries_of(place.binding("oddly", password=ODD))
    said = read(entries["uri"])

    assert entries["password"] == said["password"] == ODD
    assert place.log_in(said) == (username, entries["database"])
