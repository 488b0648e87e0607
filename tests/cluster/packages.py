"""Debian's packages: which are needed, which are missing, and their installation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.progress import run
from tests.cluster.settings import ClusterError

NEEDED = {
    "buildah": "buildah",
    "ca-certificates": "update-ca-certificates",
    "conntrack": "conntrack",
    "containerd": "containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "debootstrap": "debootstrap",
    "ethtool": "ethtool",
    "iproute2": "ip",
    "ipset": "ipset",
    "iptables": "iptables",
    "mount": "umount",
    "openssl": "openssl",
    "runc": "runc",
    "socat": "socat",
}
"""Package → the program that tells that it is there, whichever way it came."""


def missing() -> list[str]:
    """Return the packages whose program is not on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [package for package, program in NEEDED.items() if not shutil.which(program, path=path)]


def install(packages: list[str], logs: Path) -> None:
    """Install packages; one that cannot be had is a ClusterError that names it."""
    if not shutil.which("apt-get"):
        raise ClusterError(f"not Debian: install what these packages hold by other means: {' '.join(packages)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["dpkg", "--audit"], capture_output=True).stdout:
        run(["dpkg", "--configure", "-a"], log=logs / "dpkg.log", env=env)
    run(["apt-get", "update", "-q"], log=logs / "apt-update.log", env=env)
    argv = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages]
    run(argv, log=logs / "apt-install.log", env=env)
