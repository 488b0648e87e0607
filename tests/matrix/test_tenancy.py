"""Tenants who try to be taken for others, on real servers: nobody gets at another's credentials or database.

The class names databases by a parameter or a label alone, as a careless one does, and there is no webhook. Each test
prints a row for each attempt (`pytest -s`): what was tried, what came of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from api.labels import ADOPT, ROTATE
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    INSTANCES,
    NAMESPACES,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    Resource,
)
from kube.client import Object
from kube.errors import NotFound
from tests.controller.test_tenancy import SAME
from tests.e2e.cluster import OPERATOR, eventually
from tests.e2e.order import Order
from tests.matrix.engines import Engine, class_spec
from tests.matrix.estate import Estate
from tests.servers.examples import FOLDER

pytestmark = pytest.mark.integration

VICTIM, ATTACKER = "team-a", "team-b"


@dataclass(frozen=True)
class Tenancy:
    """Two namespaces and one server."""

    estate: Estate
    engine: Engine
    template: str
    """What of a Database names its database."""

    @property
    def endpoint(self) -> str:
        return f"tenancy-{self.engine.name}"

    def offer(self) -> None:
        """The careless class, and two endpoints of the same server."""
        client, spec = self.estate.client, class_spec(self.engine)
        operations = {kind: {**call, "inputs": self._inputs(call)} for kind, call in spec["operations"].items()}
        named = {**spec, "identity": self.template, "operations": operations}
        client.create(CLASSES, {"metadata": {"name": self.endpoint}, "spec": named})
        example = yaml.safe_load((FOLDER / self.engine.name / "endpoint.yaml").read_text())["spec"]
        server = {
            "className": self.endpoint,
            "host": "127.0.0.1",
            "port": self.engine.server.port,
            "probe": {"every": "0s"},
        }
        for name in (self.endpoint, f"{self.endpoint}-other"):
            client.create(ENDPOINTS, {"metadata": {"name": name}, "spec": {**example, **server}})
        for name in (VICTIM, ATTACKER):
            with contextlib.suppress(NotFound):
                client.get(NAMESPACES, name)
                continue
            client.create(NAMESPACES, {"metadata": {"name": name}})

    def _inputs(self, call: Mapping[str, Any]) -> dict[str, str]:
        return {str(key): self.template for key in call["inputs"]}

    def withdraw(self) -> None:
        """All Databases, and then the endpoints and the class."""
        client = self.estate.client
        for namespace in (VICTIM, ATTACKER):
            for database in client.list(DATABASES, namespace=namespace)[0]:
                Order(client, namespace, database["metadata"]["name"]).delete_and_wait()
        for name in (self.endpoint, f"{self.endpoint}-other"):
            client.delete(ENDPOINTS, name)
        client.delete(CLASSES, self.endpoint)

    def order(self, namespace: str, name: str, *, endpoint: str = "", **content: Any) -> Order:
        """Apply a Database; `content` are `params`, `labels`, `annotations`, `deletionPolicy`."""
        metadata = {key: content.pop(key) for key in ("labels", "annotations") if key in content}
        manifest: Object = {
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"endpoint": endpoint or self.endpoint, **content},
        }
        self.estate.client.create(DATABASES, manifest)
        return Order(self.estate.client, namespace, name)


@contextlib.contextmanager
def tenancy(estate: Estate, engine: Engine, template: str) -> Iterator[Tenancy]:
    eventually(lambda: estate.controller.alive, "the controller runs")
    made = Tenancy(estate, engine, template)
    made.offer()
    yield made
    made.withdraw()


def test_what_a_server_takes_for_the_victims_gets_nothing(estate: Estate) -> None:
    """Letters that fold, blanks that are ignored, and another endpoint of the same server."""
    for engine in estate.engines:
        with tenancy(estate, engine, "of_{{ .Params.name }}") as made:
            victim = made.order(VICTIM, "shop", params={"name": "acme"})
            before = victim.wait_ready()
            for number, attempt in enumerate(SAME):
                if dict(attempt.endpoint).keys() - {"name"}:
                    continue  # ways to write a host name, which an address has not
                endpoint = f"{made.endpoint}-other" if attempt.endpoint else ""
                params = {"name": attempt.name}
                other = made.order(
                    ATTACKER, f"a{number}", endpoint=endpoint, params=params, annotations={ADOPT: "true"}
                )
                other.wait_reason("NameTaken")
                print(f"{engine.name:12} {attempt.what:28} NameTaken, no call, no Secret")

                assert (other.operations(), other.secret()) == ([], None), attempt.what
                other.delete_and_wait()

            assert victim.secret() == before
            assert engine.refuses(before) == ""


def test_who_takes_on_the_victims_label_and_rotates_rotates_their_own(estate: Estate) -> None:
    """And who is deleted with that label deletes their own."""
    for engine in estate.engines:
        with tenancy(estate, engine, "of_{{ .Metadata.labels.team }}") as made:
            victim = made.order(VICTIM, "shop", labels={"team": "acme"})
            attacker = made.order(ATTACKER, "shop", labels={"team": "evil"})
            before, first = victim.wait_ready(), attacker.wait_ready()
            taken_on = {"metadata": {"labels": {"team": "acme"}, "annotations": {ROTATE: "now"}}}
            estate.client.patch(DATABASES, "shop", taken_on, namespace=ATTACKER)
            eventually(lambda a=attacker: a.status.get("lastRotated"), "it rotated")  # type: ignore[misc]
            rotated = attacker.wait_ready()
            print(f"{engine.name:12} relabelled, then rotated     its own password is another, the victim's is not")

            assert (rotated["username"], rotated["database"]) == (first["username"], first["database"])
            assert rotated["password"] != first["password"]
            assert engine.refuses(rotated) == ""
            assert (victim.secret(), engine.refuses(before)) == (before, "")

            attacker.delete_and_wait()
            print(f"{engine.name:12} relabelled, then deleted     its own database is gone, the victim's is not")

            assert engine.present(first["database"]) == []
            assert (victim.secret(), engine.refuses(before)) == (before, "")


def test_a_namespace_made_anew_does_not_get_what_the_old_one_left(estate: Estate) -> None:
    """Its name may be another tenant's by now."""
    for engine in estate.engines:
        with tenancy(estate, engine, "of_{{ .Params.name }}") as made:
            name = f"leaver-{engine.name}"
            estate.client.create(NAMESPACES, {"metadata": {"name": name}})
            left = made.order(name, "shop", params={"name": "kept"}, deletionPolicy="Retain")
            before = left.wait_ready()
            estate.client.delete(NAMESPACES, name)
            eventually(lambda n=name: not exists(estate, n), "the namespace is gone")  # type: ignore[misc]
            # Kubernetes counts the moments at which things were made in whole seconds.
            eventually(lambda n=name: remade(estate, n), "it is made anew, and later")  # type: ignore[misc]
            heir = made.order(name, "shop", params={"name": "kept"}, annotations={ADOPT: "true"})
            heir.wait_reason("NameTaken")
            print(f"{engine.name:12} namespace deleted, made anew NameTaken, no call, no Secret")

            assert heir.secret() is None
            assert engine.refuses(before) == ""

            heir.delete_and_wait()
            instance = left.instance()
            assert instance is not None
            estate.client.patch(INSTANCES, instance["metadata"]["name"], {"spec": {"claimRef": None}})
            again = made.order(name, "shop", params={"name": "kept"}, annotations={ADOPT: "true"})
            handed_over = again.wait_ready()
            print(f"{engine.name:12} handed over by an admin      Ready")

            assert engine.refuses(handed_over) == ""
            again.delete_and_wait()
            estate.client.delete(NAMESPACES, name)


def test_a_restored_backup_finds_its_databases_again(estate: Estate) -> None:
    """Every uid is another and no status came back; the databases were there all the time. None is deleted."""
    for engine in estate.engines:
        with tenancy(estate, engine, "of_{{ .Params.name }}") as made:
            shop = made.order(VICTIM, "shop", params={"name": "acme"})
            before = shop.wait_ready()
            estate.controller.kill()
            kept = [backed_up(estate, *where) for where in belongings(shop)]
            for (resource, name, namespace), _ in kept:
                unbind(estate, resource, name, namespace)
            for (resource, _, _), manifest in kept:
                estate.client.create(resource, manifest)
            estate.controller.start()
            after = shop.wait_ready()
            print(f"{engine.name:12} restored with other uids      Ready, and the Secret logs in")

            assert (after["username"], after["database"]) == (before["username"], before["database"])
            assert engine.refuses(after) == ""

            shop.delete_and_wait()

            assert engine.present(before["database"]) == []
            eventually(lambda s=shop: s.secret() is None, "the Secret is gone")  # type: ignore[misc]


Place = tuple[Resource, str, str | None]


def belongings(order: Order) -> list[Place]:
    """What a backup of the user's namespace and of the claims has, in the order in which it is restored."""
    instance = order.instance()
    assert instance is not None
    return [
        (INSTANCES, instance["metadata"]["name"], None),
        (ROLES, instance["metadata"]["name"], order.namespace),
        (ROLE_BINDINGS, instance["metadata"]["name"], order.namespace),
        (SECRETS, order.secret_name, order.namespace),
        (DATABASES, order.name, order.namespace),
    ]


def backed_up(estate: Estate, resource: Resource, name: str, namespace: str | None) -> tuple[Place, Object]:
    """It, as a backup keeps it: without what the API server gave it, and without status."""
    found = estate.client.get(resource, name, namespace=namespace)
    given = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
    metadata = {key: value for key, value in found["metadata"].items() if key not in given}
    kept = {key: value for key, value in found.items() if key not in ("metadata", "status")}
    return (resource, name, namespace), {**kept, "metadata": metadata}


def unbind(estate: Estate, resource: Resource, name: str, namespace: str | None) -> None:
    """Gone at once, whoever holds it: the cluster was lost."""
    with contextlib.suppress(NotFound):
        estate.client.patch(resource, name, {"metadata": {"finalizers": None}}, namespace=namespace)
        estate.client.delete(resource, name, namespace=namespace)
    for operation in estate.client.list(OPERATIONS, namespace=OPERATOR)[0]:
        if name == operation["spec"]["databaseRef"]["name"]:
            estate.client.delete(OPERATIONS, operation["metadata"]["name"], namespace=OPERATOR)


def exists(estate: Estate, namespace: str) -> bool:
    with contextlib.suppress(NotFound):
        estate.client.get(NAMESPACES, namespace)
        return True
    return False


def remade(estate: Estate, namespace: str) -> bool:
    """Make the namespace, unless it is there; whether it is younger than every claim."""
    if not exists(estate, namespace):
        estate.client.create(NAMESPACES, {"metadata": {"name": namespace}})
    born = estate.client.get(NAMESPACES, namespace)["metadata"]["creationTimestamp"]
    claims = estate.client.list(INSTANCES)[0]
    if all(claim["metadata"]["creationTimestamp"] < born for claim in claims):
        return True
    estate.client.delete(NAMESPACES, namespace)
    return False
