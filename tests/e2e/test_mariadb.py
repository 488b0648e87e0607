"""examples/mariadb on the real node, as its files are: create, use, rotate, delete."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest

from api.resources import SECRETS
from tests.e2e.cluster import Cluster
from tests.e2e.dbms import Dbms
from tests.e2e.examples import Examples, Site
from tests.e2e.release import delete_all_databases
from tests.e2e.scene import Scene
from tests.servers.examples import install
from tests.servers.mariadb import MariaDB
from tests.servers.pki import Authority

NAME = "mariadb.dbaas.test"


@pytest.fixture(scope="module")
def server(cluster: Cluster, dbms: Dbms) -> Iterator[MariaDB]:
    """A MariaDB that pods reach, with the example procedures installed as a DBA would."""
    with MariaDB.temporary(listen=dbms.server.options.listen) as server:
        yield server
        delete_all_databases(cluster)


@pytest.fixture(scope="module")
def site(server: MariaDB, dbms: Dbms, tmp_path_factory: pytest.TempPathFactory) -> Site:
    authority = Authority(tmp_path_factory.mktemp("mariadb"))
    address = dbms.server.options.listen
    # An address of somebody's cluster carries no name of ours.
    host = address if dbms.host == address else NAME
    server.start(authority.issue("good", [host, address]))
    install(server)
    return Site("mariadb", host, address, server.port, authority)


@pytest.fixture
def examples(scene: Scene, site: Site) -> Examples:
    return Examples.register(scene, site)


def databases(server: MariaDB) -> set[str]:
    return {str(name) for (name,) in server.execute("SHOW DATABASES")}


def accounts(server: MariaDB) -> set[str]:
    return {str(name) for (name,) in server.execute("SELECT User FROM mysql.global_priv")}


def test_the_examples_give_a_pod_its_database_and_deletion_leaves_nothing(
    cluster: Cluster, examples: Examples, server: MariaDB
) -> None:
    """Also while somebody is connected."""
    namespace, site = examples.scene.namespace, examples.site
    cluster.kubectl_apply(examples.database(), examples.pod("client"))
    shop = examples.scene.applied("shop")
    secret = shop.wait_ready()
    name = f"{namespace}_shop"

    assert secret == {
        "type": "mariadb",
        "provider": "kubernetes-dbaas",
        "host": site.host,
        "port": str(site.port),
        "database": name,
        "username": name,
        "password": secret["password"],
        "uri": f"mysql://{name}:{secret['password']}@{site.host}:{site.port}/{name}?ssl-mode=REQUIRED",
    }
    assert len(secret["password"]) >= 32
    assert name in databases(server) & accounts(server)
    manifest = cluster.get(SECRETS, shop.secret_name, namespace)
    assert manifest is not None
    assert manifest["type"] == "servicebinding.io/mariadb"
    assert cluster.wait_pod("client", namespace) == ("Succeeded", f"select 1 from {name} as {name}\n")

    with pymysql.connect(
        host=site.address,
        port=site.port,
        user=name,
        password=secret["password"],
        database=name,
        ssl_ca=str(site.authority.file),
    ) as connection:
        shop.delete_and_wait()

        with pytest.raises(pymysql.OperationalError):
            connection.cursor().execute("SELECT 1")
    assert name not in databases(server) | accounts(server)
    assert site.refuses(secret)
    shop.wait_nothing_remains()


def test_a_secret_opens_its_own_database_and_no_other(examples: Examples) -> None:
    """Nor another tenant's, though an underscore in a name is a wildcard in a GRANT."""
    site, second = examples.site, examples.scene.add_namespace("b")
    shop, orders, theirs = examples.apply("shop"), examples.apply("orders"), examples.apply("shop", namespace=second)
    secrets = {database.identity: database.wait_ready() for database in (shop, orders, theirs)}
    for secret in secrets.values():
        assert site.login(secret) == (secret["username"], secret["database"])
        others = {other["database"] for other in secrets.values()} - {secret["database"]}
        assert [name for name in (*others, "dbaas", "mysql", "sys") if not site.refuses(secret, name)] == []
    assert len({secret["password"] for secret in secrets.values()}) == 3


def test_a_rotated_password_replaces_the_old_one(examples: Examples) -> None:
    shop = examples.apply("shop")
    first = shop.wait_ready()
    second = shop.rotate()

    assert {key for key in first if first[key] != second[key]} == {"password", "uri"}
    assert examples.site.login(second) == (first["username"], first["database"])
    assert examples.site.refuses(first)
