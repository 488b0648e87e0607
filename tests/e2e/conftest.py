"""The cluster with the operator in it, a PostgreSQL beside it, and a scene of its own for each test.

Fixtures: `cluster` (tests/e2e/cluster.py), `dbms` (dbms.py) and `scene` (scene.py). Environment: what tests/cluster
reads; DBAAS_TEST_HOST, the address at which pods of an existing cluster reach this machine; and
DBAAS_TEST_RELEASE=installed, which takes the operator as it is installed instead of building and installing it anew.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.resources import SECRETS
from kube.client import Client
from kube.errors import KubeError
from tests.cluster.images import ROOT, images
from tests.cluster.settings import ClusterError, Settings
from tests.e2e import dbms as servers
from tests.e2e.cluster import OPERATOR, Cluster
from tests.e2e.dbms import Dbms
from tests.e2e.examples import Examples
from tests.e2e.release import delete_all_databases, install, installed_images, sweep
from tests.e2e.scene import ACCOUNT, Scene, account_manifest

HERE = Path(__file__).parent
LAST = "test_install.py"
"""Takes the release away and brings it back: nothing else may need it meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is below, and run what reinstalls the operator last."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
    items.sort(key=lambda item: item.path == HERE / LAST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show, with a failure, what a person would have looked up in the cluster."""
    report = yield
    scene = getattr(item, "funcargs", {}).get("scene")
    if report.when == "call" and report.failed and isinstance(scene, Scene):
        report.sections.append(("the cluster", _told(scene)))
    return report


def _told(scene: Scene) -> str:
    try:
        return scene.describe()
    except (AssertionError, KubeError, psycopg.Error) as error:
        # The test's own failure is what is wanted.
        return f"nothing can be told of it: {error}"


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings.from_env(os.environ)


@pytest.fixture(scope="session")
def cluster(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster with the operator installed from this work tree; one run at a time has it."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "e2e.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A process of its own: the node that it may start is not this one's child.
        up = subprocess.run([sys.executable, "-m", "tests.cluster", "up"], cwd=ROOT)
        assert up.returncode == 0, "there is no cluster to test on; what it lacks is said above"
        configuration = Configuration()
        config.load_kube_config(config_file=str(settings.kubeconfig), client_configuration=configuration)
        cluster = Cluster(settings, Client(configuration))
        if os.environ.get("DBAAS_TEST_RELEASE") == "installed":
            cluster.images.update(installed_images(cluster))
        else:
            cluster.images.update(images(settings))
            install(cluster, tmp_path_factory.mktemp("release"))
        sweep(cluster, seconds=5)
        yield cluster
        sweep(cluster)


@pytest.fixture(scope="session")
def dbms(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dbms]:
    """A PostgreSQL that pods reach, and the operator's account on it."""
    settings = cluster.settings
    host = os.environ.get("DBAAS_TEST_HOST", "") if settings.existing else servers.NAME
    if not host:
        raise ClusterError("set DBAAS_TEST_HOST to the address at which pods of the cluster reach this machine")
    listen = host if settings.existing else settings.host
    dbms = servers.start(tmp_path_factory.mktemp("dbms"), listen, host)
    cluster.delete(SECRETS, ACCOUNT, OPERATOR)
    cluster.create(SECRETS, account_manifest(ACCOUNT, dbms.username, dbms.password))
    yield dbms
    forced = sweep(cluster)
    dbms.server.remove()
    assert forced == [], "in these namespaces a Database did not go away by itself"


@pytest.fixture
def second(cluster: Cluster, dbms: Dbms, tmp_path: Path) -> Iterator[Dbms]:
    """A server that may be stopped without harm to other tests; it has the same account."""
    second = servers.start(tmp_path / "second", dbms.server.options.listen, dbms.host)
    yield second
    delete_all_databases(cluster)
    second.server.remove()


@pytest.fixture
def scene(cluster: Cluster, dbms: Dbms) -> Iterator[Scene]:
    """A namespace, a class and an endpoint of the test's own."""
    scene = Scene.set_up(cluster, dbms)
    yield scene
    scene.tear_down()


@pytest.fixture
def examples(scene: Scene) -> Examples:
    """The files of examples/postgresql, on the tests' server."""
    return Examples.install(scene)
