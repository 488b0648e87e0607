"""The node's certificates and kubeconfigs: made afresh at every start, by openssl."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.progress import output
from tests.cluster.settings import NODE, Settings

DAYS = "365"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Identity:
    """A client of the API server, or a server that it calls: file name, subject, names it answers to."""

    name: str
    subject: str
    answers_to: str = ""


class Pki:
    """A folder of NAME.crt and NAME.key, all issued by its own ca.crt."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = settings.state / "pki"

    def crt(self, name: str) -> Path:
        """Where an identity's certificate is."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Where an identity's private key is."""
        return self.folder / f"{name}.key"

    def make(self) -> None:
        """Make the authority, every identity and the kubeconfigs of those that are clients."""
        self.folder.mkdir(mode=0o700, parents=True)
        request = ["openssl", "req", "-x509", *_NEW_KEY, "-days", DAYS, "-subj", "/CN=dbaas-node-ca"]
        output([*request, "-keyout", self.key("ca"), "-out", self.crt("ca")])
        for identity in self._identities():
            self._issue(identity)
        output(["openssl", "genpkey", "-algorithm", "RSA", "-out", self.key("tokens")])
        self._kubeconfig("admin", self._settings.kubeconfig)
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"):
            self._kubeconfig(name, self.kubeconfig(name))

    def kubeconfig(self, name: str) -> Path:
        """Where a component's kubeconfig is."""
        return self.folder / f"{name}.kubeconfig"

    def _identities(self) -> list[Identity]:
        host = self._settings.host
        names = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        names += ",DNS:kubernetes.default.svc.cluster.local"
        return [
            Identity("kube-apiserver", "/CN=kube-apiserver", f"{names},IP:{self._settings.api_address},IP:{host}"),
            Identity("kubelet", f"/O=system:nodes/CN=system:node:{NODE}", f"DNS:{NODE},IP:{host}"),
            Identity("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
            Identity("admin", "/O=system:masters/CN=kubernetes-admin"),
            Identity("kube-controller-manager", "/CN=system:kube-controller-manager"),
            Identity("kube-scheduler", "/CN=system:kube-scheduler"),
            Identity("kube-proxy", "/CN=system:kube-proxy"),
        ]

    def _issue(self, identity: Identity) -> None:
        extensions = self.folder / f"{identity.name}.ext"
        usage = "extendedKeyUsage=serverAuth,clientAuth\n"
        names = f"subjectAltName={identity.answers_to}\n" if identity.answers_to else ""
        extensions.write_text(usage + names, "ascii")
        request = self.folder / f"{identity.name}.csr"
        key: list[str | Path] = ["-keyout", self.key(identity.name), "-out", request]
        output(["openssl", "req", *_NEW_KEY, "-subj", identity.subject, *key])
        authority: list[str | Path] = [
            "-CA",
            self.crt("ca"),
            "-CAkey",
            self.key("ca"),
            "-CAcreateserial",
            "-days",
            DAYS,
        ]
        issued: list[str | Path] = ["-days", DAYS, "-extfile", extensions, "-out", self.crt(identity.name)]
        output(["openssl", "x509", "-req", "-in", request, *authority, *issued])

    def _kubeconfig(self, name: str, path: Path) -> None:
        def data(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode("ascii")

        cluster = {"server": self._settings.api, "certificate-authority-data": data(self.crt("ca"))}
        user = {"client-certificate-data": data(self.crt(name)), "client-key-data": data(self.key(name))}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "dbaas", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "dbaas", "context": {"cluster": "dbaas", "user": name}}],
            "current-context": "dbaas",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1) + "\n", "ascii")
