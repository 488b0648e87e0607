"""The node's containerd: which images it holds, and what it leaves behind when it is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster.cache import remove
from tests.cluster.components import containerd_socket
from tests.cluster.mounts import can_overlay, unmount_under
from tests.cluster.progress import output
from tests.cluster.settings import Settings

SHIM_SOCKETS = "/run/containerd/s/"


class Containers:
    """containerd as the kubelet sees it: its own socket, the namespace k8s.io."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ctr = ["ctr", "--address", str(containerd_socket(settings)), "--namespace", "k8s.io"]

    def answer(self) -> bool:
        """Whether containerd is up."""
        return subprocess.run([*self._ctr, "version"], capture_output=True).returncode == 0

    def images(self) -> set[str]:
        """Return the names of the images that it holds."""
        return set(output([*self._ctr, "images", "list", "-q"]).split())

    def load(self, archive: Path) -> None:
        """Take the images of a docker-archive in."""
        recorded = (self._settings.state / "snapshotter").read_text("ascii")
        output([*self._ctr, "images", "import", "--snapshotter", recorded, str(archive)])

    def remove(self, names: list[str]) -> None:
        """Let go of images; containers made of them keep running."""
        if names:
            output([*self._ctr, "images", "remove", *names])


def choose_snapshotter(settings: Settings) -> str:
    """Return the snapshotter that this file system allows, and record it."""
    name = "overlayfs" if can_overlay(settings.state) else "native"
    (settings.state / "snapshotter").write_text(name, "ascii")
    return name


def unmake(settings: Settings) -> None:
    """Take away the mounts and sockets of containers whose processes are gone."""
    for address in settings.state.glob("run/io.containerd.runtime.v2.task/*/*/address"):
        socket = address.read_text("utf-8").removeprefix("unix://")
        if socket.startswith(SHIM_SOCKETS):
            remove(Path(socket))
    unmount_under(settings.state)
