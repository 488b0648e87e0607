"""The chart's life: upgraded under load, not uninstalled while there are Databases, uninstalled, installed again.

The last test leaves the release as the others expect it.
"""

from __future__ import annotations

import json
from pathlib import Path

from api.resources import CLASSES, MUTATING_WEBHOOKS, NAMESPACES, VALIDATING_WEBHOOKS
from tests.e2e.cluster import DEPLOYMENTS, OPERATOR, PATIENCE, RELEASE, Cluster, eventually
from tests.e2e.release import CHART, delete_all_databases, install, upgrade
from tests.e2e.scene import CLASS, Scene


def test_the_chart_is_free_of_lint(cluster: Cluster) -> None:
    said = cluster.helm("lint", "--strict", str(CHART))

    assert "0 chart(s) failed" in said.out


def test_the_releases_own_test_passes(cluster: Cluster) -> None:
    said = cluster.helm("test", RELEASE, "--timeout", f"{PATIENCE}s")

    assert "Phase:          Succeeded" in said.out


def test_an_upgrade_disturbs_nobody(scene: Scene, cluster: Cluster, tmp_path: Path) -> None:
    """Databases stay Ready, and are made while webhook and controller are being replaced."""
    declared = f"{scene.name}-declared"
    before = scene.apply("before")
    secret = before.wait_ready()
    upgrade(cluster, tmp_path, {"classes": {declared: dict(CLASS)}, "logLevel": "debug"})
    meanwhile = [scene.apply(f"meanwhile-{number}") for number in range(3)]
    for component in ("webhook", "controller"):
        cluster.wait_rollout(component)

    for database in meanwhile:
        database.wait_ready()
    assert before.condition()["status"] == "True"
    assert before.secret() == secret
    assert all(len(database.effects) == 1 for database in (before, *meanwhile))
    eventually(lambda: cluster.get(CLASSES, declared), "the declared class is there")

    upgrade(cluster, tmp_path, {"logLevel": "debug"})
    eventually(lambda: cluster.get(CLASSES, declared) is None, "what is declared no more is gone")


def test_the_operator_is_not_uninstalled_while_there_are_databases_and_comes_back_clean(
    scene: Scene, cluster: Cluster, tmp_path: Path
) -> None:
    assert delete_all_databases(cluster) == []
    shop = scene.apply("shop")
    shop.wait_ready()
    refused = cluster.helm("uninstall", RELEASE, "--timeout", f"{PATIENCE}s", check=False)
    log = cluster.kubectl("logs", f"job/{RELEASE}-uninstall", "-n", OPERATOR).text

    assert refused.code != 0
    assert f"{scene.namespace}/shop" in log
    assert "Delete them first" in log
    assert cluster.get(DEPLOYMENTS, f"{RELEASE}-controller", OPERATOR) is not None

    # Helm calls the release `uninstalling` now, and upgrades it only when it was rolled back to where it is.
    revision = json.loads(cluster.helm("status", RELEASE, "-o", "json").out)["version"]
    cluster.helm("rollback", RELEASE, str(revision))
    install(cluster, tmp_path)
    assert shop.condition()["status"] == "True"

    shop.delete_and_wait()
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout", f"{PATIENCE}s")

    assert cluster.get(DEPLOYMENTS, f"{RELEASE}-controller", OPERATOR) is None
    for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
        assert cluster.get(resource, RELEASE) is None
    assert "databases.dbaas.bedag.ch" in cluster.kubectl("get", "crds", "-o", "name").out
    assert cluster.get(NAMESPACES, OPERATOR) is not None

    install(cluster, tmp_path)
    again = Scene.set_up(cluster, scene.dbms)
    assert again.apply("shop").wait_ready()["database"] == f"{again.namespace}-shop"
    again.tear_down()
