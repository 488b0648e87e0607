"""The node's components: how each is called, and the files each reads. Nothing here starts anything."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.base import PAUSE_IMAGE
from tests.cluster.network import CNI_NETWORK
from tests.cluster.pki import Pki
from tests.cluster.settings import BRIDGE, CGROUP, DATABASE_NAMES, NODE, PORTS, Settings

NAMES = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)
"""In the order in which they start."""


def command_line(name: str, settings: Settings) -> list[str]:
    """Return a component's whole command line, program name first."""
    pki = Pki(settings)
    if name in ("containerd", "kubelet", "kube-proxy", "coredns"):
        return [name, *_CONFIGURED[name](settings)]
    flags = {
        "etcd": _etcd,
        "kube-apiserver": _apiserver,
        "kube-controller-manager": _controller_manager,
        "kube-scheduler": _scheduler,
    }[name](settings, pki)
    return [name, *(f"--{flag}={value}" for flag, value in flags.items())]


def write_files(settings: Settings, snapshotter: str) -> None:
    """Write the configuration files that the command lines name."""
    folder = settings.state / "config"
    (folder / "cni").mkdir(parents=True)
    (settings.state / "manifests").mkdir()
    files = {
        "containerd.toml": _containerd_toml(settings, snapshotter),
        "kubelet.json": json.dumps(_kubelet_configuration(settings), indent=1),
        "kube-proxy.json": json.dumps(_proxy_configuration(settings), indent=1),
        "Corefile": _corefile(settings),
        f"cni/{CNI_NETWORK}.conflist": json.dumps(_cni(settings), indent=1),
    }
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")


def containerd_socket(settings: Settings) -> Path:
    """Where containerd answers."""
    return settings.state / "run" / "containerd.sock"


def _etcd(settings: Settings, pki: Pki) -> dict[str, object]:
    client, peer = (f"http://127.0.0.1:{PORTS[port]}" for port in ("etcd", "etcd peers"))
    return {
        "data-dir": settings.state / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }


def _apiserver(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "etcd-servers": f"http://127.0.0.1:{PORTS['etcd']}",
        "bind-address": settings.host,
        "advertise-address": settings.host,
        "secure-port": PORTS["kube-apiserver"],
        "tls-cert-file": pki.crt("kube-apiserver"),
        "tls-private-key-file": pki.key("kube-apiserver"),
        "client-ca-file": pki.crt("ca"),
        "kubelet-client-certificate": pki.crt("kubelet-client"),
        "kubelet-client-key": pki.key("kubelet-client"),
        "kubelet-certificate-authority": pki.crt("ca"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-signing-key-file": pki.key("tokens"),
        "service-account-key-file": pki.key("tokens"),
        "service-cluster-ip-range": settings.services,
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
        # OpenShift has the second one: setting an owner reference that blocks deletion needs a right.
        "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
    }


def _controller_manager(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "kubeconfig": pki.kubeconfig("kube-controller-manager"),
        "bind-address": "127.0.0.1",
        "secure-port": PORTS["kube-controller-manager"],
        "service-account-private-key-file": pki.key("tokens"),
        "root-ca-file": pki.crt("ca"),
        "cluster-signing-cert-file": pki.crt("ca"),
        "cluster-signing-key-file": pki.key("ca"),
        "use-service-account-credentials": "true",
        "leader-elect": "false",
    }


def _scheduler(settings: Settings, pki: Pki) -> dict[str, object]:
    return {
        "kubeconfig": pki.kubeconfig("kube-scheduler"),
        "bind-address": "127.0.0.1",
        "secure-port": PORTS["kube-scheduler"],
        "leader-elect": "false",
    }


def _config(settings: Settings, name: str) -> Path:
    return settings.state / "config" / name


_CONFIGURED = {
    "containerd": lambda settings: [f"--config={_config(settings, 'containerd.toml')}"],
    "kubelet": lambda settings: [
        f"--config={_config(settings, 'kubelet.json')}",
        f"--kubeconfig={Pki(settings).kubeconfig('kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={settings.host}",
        f"--root-dir={settings.state / 'kubelet'}",
        f"--cert-dir={settings.state / 'kubelet' / 'pki'}",
    ],
    "kube-proxy": lambda settings: [
        f"--config={_config(settings, 'kube-proxy.json')}",
        f"--hostname-override={NODE}",
    ],
    "coredns": lambda settings: ["-conf", str(_config(settings, "Corefile"))],
}


def _kubelet_configuration(settings: Settings) -> dict[str, object]:
    pki = Pki(settings)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.host,
        "port": PORTS["kubelet"],
        "healthzPort": PORTS["kubelet health"],
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(pki.crt("ca"))}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.crt("kubelet")),
        "tlsPrivateKeyFile": str(pki.key("kubelet")),
        "containerRuntimeEndpoint": f"unix://{containerd_socket(settings)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "clusterDomain": "cluster.local",
        "clusterDNS": [settings.host],
        "staticPodPath": str(settings.state / "manifests"),
        "podLogsDir": str(settings.state / "pod-logs"),
        "volumePluginDir": str(settings.state / "kubelet" / "volume-plugins"),
        "failSwapOn": False,
        # No registry to fetch an image from again, and somebody else's files may well fill the disk.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def _proxy_configuration(settings: Settings) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": str(settings.pods),
        "clientConnection": {"kubeconfig": str(Pki(settings).kubeconfig("kube-proxy"))},
        "healthzBindAddress": f"127.0.0.1:{PORTS['kube-proxy health']}",
        "metricsBindAddress": f"127.0.0.1:{PORTS['kube-proxy metrics']}",
        "conntrack": {"maxPerCore": 0, "min": 0},  # the machine's own limits stay
    }


def _containerd_toml(settings: Settings, snapshotter: str) -> str:
    state = settings.state
    return f"""version = 2
root = "{state}/containerd"
state = "{state}/run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{containerd_socket(settings)}"
[debug]
  level = "warn"
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{state}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/config/cni"
"""


def _cni(settings: Settings) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(settings.state / "cni"),
        "ranges": [[{"subnet": str(settings.pods), "gateway": settings.host}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": [bridge]}


def _corefile(settings: Settings) -> str:
    names = "\n".join(f"    {settings.host} {name}" for name in DATABASE_NAMES)
    return f""".:{PORTS["coredns"]} {{
  bind {settings.host}
  ready 127.0.0.1:{PORTS["coredns ready"]}
  errors
  cache 5
  hosts {{
{names}
    fallthrough cluster.local in-addr.arpa
  }}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {settings.kubeconfig} dbaas
  }}
}}
"""
