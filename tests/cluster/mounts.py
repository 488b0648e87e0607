"""What is mounted where, and whether the kernel mounts overlays there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.cluster.progress import output


def mounted_under(folder: Path) -> list[str]:
    """Return the mount points inside a folder, the latest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
        if point.startswith(f"{folder}{os.sep}"):
            found.append(point)
    return found[::-1]


def unmount_under(folder: Path) -> None:
    """Take every mount inside a folder away, even one that is in use."""
    points = mounted_under(folder)
    if points:
        output(["umount", "--lazy", *points])


def can_overlay(folder: Path) -> bool:
    """Whether the kernel mounts an overlay on this file system; inside some containers it does not."""
    trial = folder / f".overlay-{os.getpid()}"
    lower, upper, work, merged = (trial / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mount = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, merged], capture_output=True)
    if mount.returncode == 0:
        subprocess.run(["umount", merged], capture_output=True, check=True)
    shutil.rmtree(trial)
    return mount.returncode == 0
