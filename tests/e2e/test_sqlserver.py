"""examples/sqlserver on the real node, with the driver of the Job's image, against a double that speaks TDS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.resources import ENDPOINTS, SECRETS
from tests.e2e.cluster import OPERATOR, Cluster, eventually
from tests.e2e.dbms import Dbms
from tests.e2e.examples import Examples, Site
from tests.e2e.release import delete_all_databases
from tests.e2e.scene import Scene
from tests.integration.tds.examples import Examples as Installed
from tests.integration.tds.server import Behaviour, Server
from tests.servers.examples import OPERATOR_PASSWORD
from tests.servers.pki import Authority

NAME = "sqlserver.dbaas.test"


@pytest.fixture(scope="module")
def site(dbms: Dbms, tmp_path_factory: pytest.TempPathFactory) -> Site:
    address = dbms.server.options.listen
    # An address of somebody's cluster carries no name of ours.
    host = address if dbms.host == address else NAME
    return Site("sqlserver", host, address, 0, Authority(tmp_path_factory.mktemp("sqlserver")))


@pytest.fixture(scope="module")
def server(cluster: Cluster, site: Site) -> Iterator[Server]:
    """Presents itself with a certificate of the site's authority."""
    with Server(Behaviour(site.authority.issue("good", [site.host])), listen=site.address) as server:
        yield server
        delete_all_databases(cluster)


@pytest.fixture(scope="module")
def installed(server: Server) -> Installed:
    """The example procedures, installed as a DBA would."""
    return Installed.install(server.world, OPERATOR_PASSWORD)


@pytest.fixture
def examples(scene: Scene, site: Site, server: Server, installed: Installed) -> Examples:
    return Examples.register(scene, Site(site.engine, site.host, site.address, server.port, site.authority))


def test_the_examples_create_rotate_and_delete(
    cluster: Cluster, examples: Examples, server: Server, installed: Installed
) -> None:
    shop = examples.apply("shop")
    secret = shop.wait_ready()
    name = f"{examples.scene.namespace}_shop"

    assert secret == {
        "type": "sqlserver",
        "provider": "kubernetes-dbaas",
        "host": examples.site.host,
        "port": str(server.port),
        "database": name,
        "username": name,
        "password": server.world.accounts[name],
        "uri": f"sqlserver://{name}:{secret['password']}@{examples.site.host}:{server.port}?database={name}&encrypt=true",
    }
    manifest = cluster.get(SECRETS, shop.secret_name, examples.scene.namespace)
    assert manifest is not None
    assert manifest["type"] == "servicebinding.io/sqlserver"

    rotated = shop.rotate()

    assert rotated["password"] == server.world.accounts[name] != secret["password"]

    shop.delete_and_wait()

    assert not installed.holds(name)
    shop.wait_nothing_remains()


@pytest.mark.parametrize("reason", ["CertificateNotTrusted", "CertificateNameMismatch"])
def test_nothing_secret_is_sent_to_a_server_that_is_another(
    cluster: Cluster, examples: Examples, server: Server, reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And once the endpoint is right, it goes on by itself."""
    name, logins = examples.name, len(server.world.logins)
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    wrong, right = (
        ({"ca.crt": stranger.pem}, {"ca.crt": examples.site.authority.pem})
        if reason == "CertificateNotTrusted"
        else ("wrong-name.dbaas.test", examples.site.host)
    )

    def change(value: object) -> None:
        if isinstance(value, dict):
            cluster.patch(SECRETS, f"{name}-ca", {"stringData": value}, OPERATOR)
        else:
            cluster.patch(ENDPOINTS, name, {"spec": {"host": value}})

    change(wrong)
    shop = examples.apply("shop")
    eventually(lambda: shop.condition().get("reason") == reason, f"its reason is {reason}")

    assert len(server.world.logins) == logins

    change(right)
    shop.wait_ready()
    # Its login would be counted with those of the next.
    shop.delete_and_wait()
