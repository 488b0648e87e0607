"""The files of examples/postgresql, installed for a test: as they are, but for names, addresses and the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from api.labels import LABEL_ENDPOINT_CREDENTIALS
from api.resources import CLASSES, ENDPOINTS, SECRETS
from kube.client import Object
from tests.e2e.cluster import MARK, OPERATOR
from tests.e2e.scene import Scene, account_manifest

FOLDER = Path(__file__).parents[2] / "examples" / "postgresql"
OPERATOR_PASSWORD = "the example's 'operator' password"
_DATABASE = "dbaas"


def example(name: str) -> Object:
    """The manifest in one of the files."""
    manifest: Object = yaml.safe_load((FOLDER / name).read_text())
    return manifest


@dataclass(frozen=True)
class Examples:
    """A class and an endpoint from the examples, on the tests' server."""

    scene: Scene
    name: str
    """Of both; nobody else's."""

    @classmethod
    def install(cls, scene: Scene) -> Examples:
        """Run procedures.sql as a DBA would, and register class and endpoint as an administrator would."""
        examples = cls(scene, f"{scene.name}-example")
        server = scene.dbms.server
        if _DATABASE not in scene.dbms.databases():
            server.execute(f"CREATE DATABASE {_DATABASE}")
        variables = {"operator_password": OPERATOR_PASSWORD, "loopback_host": server.options.listen}
        server.psql(FOLDER / "procedures.sql", database=_DATABASE, variables=variables)
        cluster, name = scene.cluster, examples.name
        cluster.create(SECRETS, account_manifest(f"{name}-account", "dbaas_operator", OPERATOR_PASSWORD))
        labels = {**MARK, LABEL_ENDPOINT_CREDENTIALS: "true"}
        metadata = {"name": f"{name}-ca", "namespace": OPERATOR, "labels": labels}
        cluster.create(SECRETS, {"metadata": metadata, "stringData": {"ca.crt": scene.dbms.authority.pem}})
        cluster.create(CLASSES, examples._named("class.yaml"))
        cluster.create(ENDPOINTS, examples._endpoint())
        return examples

    def _named(self, file: str) -> Object:
        manifest = example(file)
        manifest["metadata"] = {"name": self.name, "labels": dict(MARK)}
        return manifest

    def _endpoint(self) -> Object:
        manifest = self._named("endpoint.yaml")
        manifest["spec"] |= {
            "className": self.name,
            "host": self.scene.dbms.host,
            "port": self.scene.dbms.port,
            "credentialsSecretRef": {"name": f"{self.name}-account"},
            "tls": {"caSecretRef": {"name": f"{self.name}-ca"}},
        }
        return manifest

    def database(self) -> Object:
        """database.yaml, in the scene's namespace and on the scene's endpoint."""
        manifest = example("database.yaml")
        manifest["metadata"]["namespace"] = self.scene.namespace
        manifest["spec"]["endpoint"] = self.name
        return manifest

    def pod(self, name: str) -> Object:
        """pod.yaml under another name, with the image under test."""
        manifest = example("pod.yaml")
        manifest["metadata"] = {"name": name, "namespace": self.scene.namespace}
        spec: dict[str, Any] = manifest["spec"]
        spec["containers"][0] |= {
            "image": self.scene.cluster.images["provisioner-job"],
            "imagePullPolicy": "IfNotPresent",
        }
        return manifest
