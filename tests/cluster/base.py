"""The two images that everything stands on: a Debian with Python, and pause."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.cluster.buildah import Build, Buildah
from tests.cluster.cache import Cache, digest, remove

SUITE = "bookworm"
INCLUDE = "ca-certificates,python3,python3-venv"
LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")
PAUSE_IMAGE = "localhost/dbaas-pause:1"
NAMES = ("base.tar", "pause.tar")

_KEY = digest("1", SUITE, INCLUDE, *LEFT_OUT)
BASE_IMAGE = f"localhost/dbaas-base:{_KEY}"
"""What the project's images stand on where no registry is at hand."""


def base(cache: Cache, buildah: Buildah) -> Path:
    """Return the archive of `BASE_IMAGE`."""
    return cache.get("base.tar", _KEY, lambda target: _build_base(target, cache, buildah))


def pause(cache: Cache, buildah: Buildah, binary: Path) -> Path:
    """Return the archive of `PAUSE_IMAGE`."""

    def build(target: Path) -> None:
        context = cache.work / "pause"
        context.mkdir()
        shutil.copy(binary, context / "pause")
        text = 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n'
        (context / "Containerfile").write_text(text, "utf-8")
        buildah.archive(Build(PAUSE_IMAGE, context, context / "Containerfile"), target, "pause-image")

    return cache.get("pause.tar", digest(binary), build)


def _build_base(target: Path, cache: Cache, buildah: Buildah) -> None:
    root = cache.work / "debootstrap"
    argv: list[str | Path] = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, root, *_mirror()]
    cache.run("debootstrap", argv)
    for name in LEFT_OUT:
        remove(root / name)
        (root / name).mkdir()
    context = cache.work / "base"
    context.mkdir()
    (context / "Containerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["/bin/sh"]\n', "utf-8")
    tar: list[str | Path] = ["tar", "-C", root, "--numeric-owner", "-cf", context / "rootfs.tar", "."]
    cache.run("rootfs", tar)
    buildah.archive(Build(BASE_IMAGE, context, context / "Containerfile"), target, "base-image")


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses for the suite; debootstrap's own default where there is none."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", f"Codename: {SUITE}"]
    answer = subprocess.run([*asked, "Component: main"], capture_output=True, text=True)
    sites = [line for line in answer.stdout.split() if line.startswith("http")]
    return [os.environ.get("DBAAS_DEBIAN_MIRROR") or sites[0]] if sites else []
