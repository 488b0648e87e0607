"""The node's corner of the control groups: every container's process is in it, and nothing else."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.cluster.settings import CGROUP, ClusterError

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")


def make() -> None:
    """Make the node's group in every hierarchy; under version 2 with the controllers that kubelet expects."""
    for hierarchy, version in _hierarchies():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        if version == "cgroup2":
            for controller in CONTROLLERS:
                for folder in (hierarchy, group):
                    with suppress(OSError):
                        (folder / "cgroup.subtree_control").write_text(f"+{controller}", "ascii")


def unmake(seconds: float = 10.0) -> None:
    """Kill every process in the node's groups and remove them."""
    deadline = time.monotonic() + seconds
    while pids := _members():
        if time.monotonic() > deadline:
            raise ClusterError(f"containers' processes cannot be killed: {sorted(pids)}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for group in _groups():
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(FileNotFoundError):
                os.rmdir(folder)


def _members() -> set[int]:
    pids: set[int] = set()
    for group in _groups():
        for folder, _, _ in os.walk(group):
            with suppress(FileNotFoundError):
                pids.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text("ascii").split())
    return pids


def _groups() -> list[Path]:
    return [group for hierarchy, _ in _hierarchies() if (group := hierarchy / CGROUP).exists()]


def _hierarchies() -> list[tuple[Path, str]]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    return [(Path(fields[1]), fields[2]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]
