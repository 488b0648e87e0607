"""The files of examples/, installed for a test: as they are, but for names, addresses and the image."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from api.labels import LABEL_ENDPOINT_CREDENTIALS
from api.resources import CLASSES, DATABASES, ENDPOINTS, SECRETS
from kube.client import Object
from tests.e2e.cluster import MARK, OPERATOR
from tests.e2e.scene import Applied, Scene, account_manifest
from tests.servers.examples import ACCOUNT, DATABASE, FOLDER, OPERATOR_PASSWORD, install
from tests.servers.logins import LoginRefused, log_in
from tests.servers.pki import Authority


@dataclass(frozen=True)
class Site:
    """A server with the example procedures of its engine on it."""

    engine: str
    """The folder below examples/."""
    host: str
    """What pods connect to; the certificate is for it."""
    address: str
    """The same for this process."""
    port: int
    authority: Authority
    password: str = OPERATOR_PASSWORD
    """Of the operator's account."""

    def login(self, secret: Mapping[str, str], database: str = "") -> tuple[str, str]:
        """Log in as a Secret says, TLS verified; gives (user, database). Raises LoginRefused.

        database: another one than the Secret's.
        """
        wanted = {**secret, "database": database or secret["database"]}
        return log_in(self.engine, wanted, self.authority, self.address)

    def refuses(self, secret: Mapping[str, str], database: str = "") -> bool:
        """Whether it does not let these credentials in."""
        try:
            self.login(secret, database)
        except LoginRefused:
            return True
        return False


@dataclass(frozen=True)
class Examples:
    """A class and an endpoint from the examples of one engine."""

    scene: Scene
    site: Site
    name: str
    """Of both; nobody else's."""

    @classmethod
    def install(cls, scene: Scene) -> Examples:
        """PostgreSQL's, on the tests' server: procedures.sql as a DBA would run it, and `register`."""
        dbms, listen = scene.dbms, scene.dbms.server.options.listen
        install(dbms.server, loopback_host=listen)
        return cls.register(scene, Site("postgresql", dbms.host, listen, dbms.port, dbms.authority))

    @classmethod
    def register(cls, scene: Scene, site: Site) -> Examples:
        """Class, endpoint and their Secrets, as an administrator would make them."""
        examples = cls(scene, site, f"{scene.name}-example")
        cluster, name = scene.cluster, examples.name
        cluster.create(SECRETS, account_manifest(f"{name}-account", ACCOUNT, site.password))
        labels = {**MARK, LABEL_ENDPOINT_CREDENTIALS: "true"}
        metadata = {"name": f"{name}-ca", "namespace": OPERATOR, "labels": labels}
        cluster.create(SECRETS, {"metadata": metadata, "stringData": {"ca.crt": site.authority.pem}})
        cluster.create(CLASSES, examples._named("class.yaml"))
        cluster.create(ENDPOINTS, examples._endpoint())
        return examples

    def add_failing_procedure(self, says: str, returns: str = "void") -> str:
        """A function on the PostgreSQL that is called like the examples' own, and raises `says`; gives its name."""
        name = f"e2e_broken.fails_{secrets.token_hex(3)}"
        self.scene.dbms.server.execute(
            f"CREATE SCHEMA IF NOT EXISTS e2e_broken; GRANT USAGE ON SCHEMA e2e_broken TO {ACCOUNT};"
            f" CREATE FUNCTION {name}(k8s_name text) RETURNS {returns} LANGUAGE plpgsql"
            f" AS $$ BEGIN RAISE EXCEPTION '{says}'; END $$",
            database=DATABASE,
        )
        return name

    def _file(self, name: str) -> Object:
        manifest: Object = yaml.safe_load((FOLDER / self.site.engine / name).read_text())
        return manifest

    def _named(self, file: str) -> Object:
        manifest = self._file(file)
        manifest["metadata"] = {"name": self.name, "labels": dict(MARK)}
        return manifest

    def _endpoint(self) -> Object:
        manifest = self._named("endpoint.yaml")
        manifest["spec"] |= {
            "className": self.name,
            "host": self.site.host,
            "port": self.site.port,
            "credentialsSecretRef": {"name": f"{self.name}-account"},
            "tls": {"caSecretRef": {"name": f"{self.name}-ca"}},
            "probe": {"every": "0"},
        }
        return manifest

    def database(self, name: str = "", *, namespace: str = "", **spec: Any) -> Object:
        """database.yaml, in the scene's namespace and on the scene's endpoint, with fields of spec added."""
        manifest = self._file("database.yaml")
        manifest["metadata"]["namespace"] = namespace or self.scene.namespace
        manifest["metadata"]["name"] = name or manifest["metadata"]["name"]
        manifest["spec"] |= {"endpoint": self.name, **spec}
        return manifest

    def apply(self, name: str = "", *, namespace: str = "", **spec: Any) -> Applied:
        """Create that Database."""
        manifest = self.scene.cluster.create(DATABASES, self.database(name, namespace=namespace, **spec))
        return self.scene.applied(manifest["metadata"]["name"], manifest["metadata"]["namespace"])

    def change_class(self, **spec: Any) -> None:
        """Merge-patch its class's spec."""
        self.scene.cluster.patch(CLASSES, self.name, {"spec": spec})

    def pod(self, name: str) -> Object:
        """pod.yaml under another name, with the image under test."""
        manifest = self._file("pod.yaml")
        manifest["metadata"] = {"name": name, "namespace": self.scene.namespace}
        spec: dict[str, Any] = manifest["spec"]
        spec["containers"][0] |= {
            "image": self.scene.cluster.images["provisioner-job"],
            "imagePullPolicy": "IfNotPresent",
        }
        return manifest
