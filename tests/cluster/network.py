"""The node's bridge, routes and packet filter rules: made, checked for collisions, and taken away again."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.cache import remove
from tests.cluster.processes import listener
from tests.cluster.progress import output
from tests.cluster.settings import BRIDGE, PORTS, ClusterError, Settings

CNI_NETWORK = "dbaas"
CNI_CACHE = Path("/var/lib/cni/results")
KERNEL_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/bridge/bridge-nf-call-iptables",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
)
"""What the node or its kubelet changes, machine-wide; `down` puts them back."""

_OURS = re.compile(r"(KUBE|DBAAS)-[A-Z0-9-]+")


def check_free(settings: Settings) -> None:
    """ClusterError if a port, an address range or another Kubernetes is in the way."""
    for use, port in PORTS.items():
        holder = listener(port)
        if holder:
            raise ClusterError(f"port {port} ({use}) is held by {holder}: end it, then try again")
    for line in json.loads(output(["ip", "-json", "-4", "route"])):
        if line["dst"] == "default":
            continue
        taken = ipaddress.IPv4Network(line["dst"])
        for name, ours in (("DBAAS_POD_NETWORK", settings.pods), ("DBAAS_SERVICE_NETWORK", settings.services)):
            if taken.overlaps(ours):
                raise ClusterError(f"{ours} overlaps {taken} on {line['dev']}: set {name} to a free range")
    if ":KUBE-SERVICES" in output(["iptables-save"]):
        raise ClusterError("another Kubernetes runs on this machine (KUBE-SERVICES in iptables): stop it first")


def make(settings: Settings) -> None:
    """Make the bridge, the way to services, and what lets pods out and answers in."""
    _load_modules()
    kept = settings.state / "kernel-settings.json"
    if not kept.exists():
        kept.write_text(json.dumps({name: path.read_text("ascii") for name, path in _kernel_settings()}), "ascii")
    for name, path in _kernel_settings():
        if name.startswith("net/"):
            path.write_text("1", "ascii")
    for command in (
        f"link add {BRIDGE} type bridge",
        f"addr add {settings.host}/{settings.pods.prefixlen} dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add {settings.services} dev {BRIDGE} src {settings.host}",
    ):
        output(["ip", *command.split()])
    output(["iptables-restore", "--noflush", "--wait"], stdin=_rules(settings))


def unmake(settings: Settings) -> None:
    """Take everything of `make`, kube-proxy and the CNI plug-ins away, whatever of it is there."""
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)
    if ":DBAAS-FORWARD" in _saved("iptables"):  # else the KUBE- chains are somebody else's
        for family in ("ip6tables", "iptables"):
            script = removal(_saved(family))
            if script:
                output([f"{family}-restore", "--noflush", "--wait"], stdin=script)
    for result in CNI_CACHE.glob(f"{CNI_NETWORK}-*"):
        remove(result)
    kept = settings.state / "kernel-settings.json"
    if kept.exists():
        for name, value in json.loads(kept.read_text("ascii")).items():
            Path("/proc/sys", name).write_text(value, "ascii")
        kept.unlink()


def removal(saved: str) -> str:
    """Turn the output of iptables-save into the input of iptables-restore that removes only what is ours.

    Ours are the chains called KUBE-… and DBAAS-…, and the rules elsewhere that jump to one of them.
    """
    script: list[str] = []
    rules: list[str] = []
    chains: list[str] = []
    for line in saved.splitlines():
        words = line.split()
        if line.startswith("*"):
            table, rules, chains = line, [], []
        elif line.startswith(":") and _OURS.fullmatch(words[0][1:]):
            chains.append(words[0][1:])
        elif line.startswith("-A") and not _OURS.fullmatch(words[1]) and _OURS.fullmatch(_target(words)):
            rules.append("-D" + line[2:])
        elif line == "COMMIT" and (rules or chains):
            emptied = [f"-F {chain}" for chain in chains]
            script += [table, *rules, *emptied, *(f"-X {chain}" for chain in chains), "COMMIT"]
    return "\n".join(script) + "\n" if script else ""


def _saved(family: str) -> str:
    if not shutil.which(f"{family}-save"):
        return ""
    return subprocess.run([f"{family}-save"], capture_output=True, text=True).stdout


def _target(words: list[str]) -> str:
    return words[words.index("-j") + 1] if "-j" in words[:-1] else ""


def _rules(settings: Settings) -> str:
    return f"""*nat
:DBAAS-POSTROUTING - [0:0]
-A POSTROUTING -j DBAAS-POSTROUTING
-A DBAAS-POSTROUTING -s {settings.pods} ! -d {settings.pods} ! -o {BRIDGE} -j MASQUERADE
COMMIT
*filter
:DBAAS-FORWARD - [0:0]
-A FORWARD -j DBAAS-FORWARD
-A DBAAS-FORWARD -i {BRIDGE} -j ACCEPT
-A DBAAS-FORWARD -o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def _kernel_settings() -> list[tuple[str, Path]]:
    return [(name, path) for name in KERNEL_SETTINGS if (path := Path("/proc/sys", name)).exists()]


def _load_modules() -> None:
    modprobe = shutil.which("modprobe", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    for module in ("overlay", "br_netfilter"):
        if modprobe:
            subprocess.run([modprobe, module], capture_output=True)
    if not Path("/proc/sys/net/bridge").exists():
        raise ClusterError("the kernel has no br_netfilter: install kmod and the kernel's modules")
