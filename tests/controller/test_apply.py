"""What cannot be undone is asked about once more at the API server itself: a cache may show an old world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.binding import secret_name
from api.kinds import Database, DatabaseInstance
from api.labels import DATABASE_UID, FINALIZER, LABEL_CREDENTIALS
from api.resources import DATABASES, INSTANCES, NAMESPACES, OPERATIONS, SECRETS
from controller.apply import Applier
from controller.request import Asked, Request, operation_spec
from controller.settings import Settings
from controller.slots import Limits, Slots
from controller.steps import ClaimInstance, DeleteInstance, RemoveFinalizer, StartOperation
from controller.world import World
from kube.client import Client
from kube.errors import Conflict, NotFound
from tests.chart.apiserver import render, running_api_server
from tests.controller.builders import KEY, OPERATOR, database_class, endpoint, observed
from tests.controller.test_parts import ENVIRONMENT
from tests.e2e.cluster import eventually

pytestmark = pytest.mark.integration

NAME = "db-instance"
SECRET = secret_name(KEY[1])
CREDENTIALS = {LABEL_CREDENTIALS: "true"}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of an API server that knows the kinds."""
    with running_api_server() as server:
        definitions = [m for m in yaml.safe_load_all(render()) if m and m["kind"] == "CustomResourceDefinition"]
        server.kubectl("apply", "-f", "-", text=yaml.safe_dump_all(definitions))
        configuration = Configuration()
        config.load_kube_config(config_file=str(server.kubeconfig), client_configuration=configuration)
        client = Client(configuration)
        for name in (OPERATOR, KEY[0]):
            client.create(NAMESPACES, {"metadata": {"name": name}})
        served = [DATABASES, INSTANCES, OPERATIONS]
        eventually(lambda: all(client.list(resource)[1] for resource in served), "the CRDs are served")
        yield client


class Leader:
    """One controller's hands, and what it knows: nothing but what it wrote or was told of."""

    def __init__(self, client: Client) -> None:
        settings = Settings.from_env(ENVIRONMENT)
        self.world = World(client, OPERATOR)
        self.applier = Applier(client, self.world, settings, Slots())


@pytest.fixture
def leader(client: Client) -> Leader:
    return Leader(client)


@pytest.fixture
def other(client: Client) -> Leader:
    """Who led before, or believes to lead."""
    return Leader(client)


@pytest.fixture
def database(client: Client) -> Iterator[Database]:
    metadata = {"name": KEY[1], "namespace": KEY[0], "finalizers": [FINALIZER]}
    yield Database.parse(client.create(DATABASES, {"metadata": metadata, "spec": {"endpoint": "main"}}))
    client.patch(DATABASES, KEY[1], {"metadata": {"finalizers": None}}, namespace=KEY[0])
    places = ((DATABASES, KEY[1], KEY[0]), (INSTANCES, NAME, None), (OPERATIONS, f"{NAME}-1-1", OPERATOR))
    for resource, name, namespace in places:
        try:
            client.delete(resource, name, namespace=namespace)
        except NotFound:
            continue


@pytest.fixture
def instance(client: Client, other: Leader, database: Database) -> DatabaseInstance:
    """The claim that the other leader has made."""
    frozen = Request(database, endpoint(), database_class()).freeze()
    other.applier.apply(KEY, ClaimInstance(NAME, database, frozen))
    return DatabaseInstance.parse(client.get(INSTANCES, NAME))


def test_a_claim_is_not_given_up_over_an_operation_that_was_not_seen(
    client: Client, leader: Leader, other: Leader, database: Database, instance: DatabaseInstance
) -> None:
    """Its call may be making the database at this moment."""
    secret = Request(database, endpoint(), database_class()).secret(instance)
    spec = operation_spec(observed(database=database, instance=instance), instance, Asked("create"), secret)
    leader.world.instances.remember(client.get(INSTANCES, NAME))
    other.applier.apply(KEY, StartOperation(spec, Limits(5, 0)))

    with pytest.raises(Conflict):
        leader.applier.apply(KEY, DeleteInstance(instance))

    assert client.get(INSTANCES, NAME)["metadata"]["uid"] == instance.metadata.uid
    assert [entry.instance for entry in leader.world.operations.values()] == [NAME]


def test_a_claim_that_all_is_known_about_is_given_up(
    client: Client, leader: Leader, instance: DatabaseInstance
) -> None:
    leader.world.instances.remember(client.get(INSTANCES, NAME))
    leader.applier.apply(KEY, DeleteInstance(instance))

    with pytest.raises(NotFound):
        client.get(INSTANCES, NAME)


@pytest.mark.parametrize(
    ("writer", "labels", "stays"),
    [("mine", CREDENTIALS, False), ("another", CREDENTIALS, True), ("mine", {}, True)],
    ids=["written for it", "written for another", "not written by a Job"],
)
def test_the_secret_of_a_claim_that_is_given_up_goes_too_though_it_belongs_to_nothing(
    client: Client, leader: Leader, instance: DatabaseInstance, writer: str, labels: dict[str, str], *, stays: bool
) -> None:
    """Backup tools bring Secrets back without their owner references."""
    assert instance.claim is not None
    uid = instance.claim.uid if writer == "mine" else writer
    metadata = {"name": SECRET, "namespace": KEY[0], "labels": labels, "annotations": {DATABASE_UID: uid}}
    client.create(SECRETS, {"metadata": metadata, "stringData": {"password": "p"}})
    leader.world.instances.remember(client.get(INSTANCES, NAME))
    leader.applier.apply(KEY, DeleteInstance(instance))
    left = [secret["metadata"]["name"] for secret in client.list(SECRETS, namespace=KEY[0])[0]]
    if stays:
        client.delete(SECRETS, SECRET, namespace=KEY[0])

    assert left == ([SECRET] if stays else [])


def test_a_database_is_not_let_go_while_a_claim_that_was_not_seen_is_its_own(
    client: Client, leader: Leader, database: Database, instance: DatabaseInstance
) -> None:
    with pytest.raises(Conflict):
        leader.applier.apply(KEY, RemoveFinalizer(database))

    assert client.get(DATABASES, KEY[1], namespace=KEY[0])["metadata"]["finalizers"] == [FINALIZER]
    assert leader.world.instances.get(NAME) == instance


def test_a_database_without_a_claim_is_let_go(client: Client, leader: Leader, database: Database) -> None:
    leader.applier.apply(KEY, RemoveFinalizer(database))

    assert client.get(DATABASES, KEY[1], namespace=KEY[0])["metadata"].get("finalizers") is None
