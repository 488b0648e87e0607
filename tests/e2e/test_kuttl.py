"""The KUTTL suite: the same promises, in the form in which users of Kubernetes operators read them."""

from __future__ import annotations

from pathlib import Path

from api.resources import CLASSES, ENDPOINTS
from tests.e2e.scene import Scene

SUITE = Path(__file__).parent / "kuttl"
NAME = "e2e-kuttl"


def test_the_kuttl_suite_passes(scene: Scene, tmp_path: Path) -> None:
    cls, endpoint = scene.class_manifest(), scene.endpoint_manifest(className=NAME)
    for resource, manifest in ((CLASSES, cls), (ENDPOINTS, endpoint)):
        manifest["metadata"]["name"] = NAME
        scene.cluster.create(resource, manifest)
    arguments = ("--config", str(SUITE / "kuttl-test.yaml"), "--namespace", scene.namespace, str(SUITE))
    # It leaves a kubeconfig where it runs.
    said = scene.cluster.run("kubectl-kuttl", "test", *arguments, folder=tmp_path)

    assert "PASS" in said.text
    assert [effect.procedure for effect in scene.dbms.effects(f"{scene.namespace}-shop")] == ["create", "delete"]
