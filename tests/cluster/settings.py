"""What the cluster is called, where it lives and which addresses it takes: read once, never changed."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATABASE_NAMES = (
    "postgres.dbaas.test",
    "mariadb.dbaas.test",
    "sqlserver.dbaas.test",
    "db.dbaas.test",
    "wrong-name.dbaas.test",
)
"""What pods resolve to `Settings.host`, so that certificates of the tests' database servers carry names."""

KUBERNETES_VERSION = "1.34.4"
OLDEST_KUBERNETES = (1, 30)
NODE = "node"
BRIDGE = "dbaas0"
CGROUP = "dbaas-node"

PORTS = {
    "etcd": 12379,
    "etcd peers": 12380,
    "kube-apiserver": 16443,
    "kube-controller-manager": 20257,
    "kube-scheduler": 20259,
    "kubelet": 20250,
    "kubelet health": 20248,
    "kube-proxy health": 20256,
    "kube-proxy metrics": 20249,
    "coredns": 53,
    "coredns ready": 20253,
}
"""None of them is Kubernetes' own default, and all lie below the kernel's ephemeral range."""


class ClusterError(Exception):
    """Something a person can put right; the message names the cure."""


@dataclass(frozen=True)
class Settings:
    """One cluster. `state` lives while the node does; `cache` holds what is slow to build."""

    state: Path
    cache: Path
    pods: ipaddress.IPv4Network
    services: ipaddress.IPv4Network
    existing: bool
    kubeconfig_of_existing: str | None
    load_images: str | None
    base_image: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read DBAAS_* and XDG_CACHE_HOME; ClusterError for a value that cannot be meant."""
        kind = env.get("DBAAS_CLUSTER") or "own"
        if kind not in ("own", "existing"):
            raise ClusterError(f"DBAAS_CLUSTER={kind}: either leave it unset or say existing")
        home = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "/") / ".cache"
        state = Path(env.get("DBAAS_STATE") or "/var/lib/kubernetes-dbaas-node")
        if not state.is_absolute() or len(str(state)) > 60:
            raise ClusterError(f"DBAAS_STATE={state}: must be absolute and at most 60 characters (Unix sockets)")
        return cls(
            state=state,
            cache=Path(home).absolute() / "kubernetes-dbaas",
            pods=_network(env, "DBAAS_POD_NETWORK", "10.244.0.0/24"),
            services=_network(env, "DBAAS_SERVICE_NETWORK", "10.96.0.0/16"),
            existing=kind == "existing",
            kubeconfig_of_existing=env.get("KUBECONFIG") or None,
            load_images=env.get("DBAAS_LOAD_IMAGES") or None,
            base_image=env.get("DBAAS_BASE_IMAGE") or None,
        )

    @property
    def host(self) -> str:
        """The host's own address on the pods' bridge; `DATABASE_NAMES` resolve to it."""
        return str(self.pods[1])

    @property
    def api_address(self) -> str:
        """The first service address: what `kubernetes.default.svc` resolves to."""
        return str(self.services[1])

    @property
    def api(self) -> str:
        """Where the API server answers, seen from the host and from a pod."""
        return f"https://{self.host}:{PORTS['kube-apiserver']}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        if self.existing:
            first = (self.kubeconfig_of_existing or "~/.kube/config").split(":")[0]
            return Path(first).expanduser()
        return self.state / "kubeconfig"

    @property
    def bin(self) -> Path:
        """The folder with kubectl, helm and kubectl-kuttl."""
        return self.cache / "bin"


def _network(env: Mapping[str, str], name: str, default: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(env.get(name) or default)
    except ValueError as exc:
        raise ClusterError(f"{name}: {exc}") from exc
    if network.prefixlen > 24:
        raise ClusterError(f"{name}={network}: must be a /24 or wider")
    return network
