"""Container images as files: what buildah builds in a storage of our own, and the archives it leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.cluster.cache import Cache, remove
from tests.cluster.mounts import can_overlay, unmount_under
from tests.cluster.progress import output

MOST_LAYERS = 150
"""Beyond so many layers the storage is emptied; it is only there for speed."""


@dataclass(frozen=True)
class Build:
    """One image to build: a context folder, the file that says how, and what its RUN steps may see.

    Neither `secrets` nor what is in `folders` (host → container) stays in the image.
    """

    name: str
    context: Path
    file: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    pull: bool = False


class Buildah:
    """buildah with its own storage inside the cache; the machine's other images are never seen."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._root = cache.folder / "buildah"

    def forget_unfinished(self) -> None:
        """Drop the working containers that a killed build left behind, and what it believed to be mounted."""
        self._root.mkdir(parents=True, exist_ok=True)
        unmount_under(self._root)
        remove(self._root / "run")
        subprocess.run([*self._command, "rm", "--all"], capture_output=True)

    def archive(self, build: Build, archive: Path, log: str) -> None:
        """Build an image and write it to a docker-archive file."""
        argv: list[str | Path] = [*self._command, "bud", "--layers", "--isolation", "chroot"]
        identity = archive.with_name(f"{archive.name}.id")
        argv += ["--iidfile", identity, "--file", build.file, *([] if build.pull else ["--pull-never"])]
        argv += ["--target", build.target] if build.target else []
        for name, value in build.arguments.items():
            argv += ["--build-arg", f"{name}={value}"]
        for name, path in build.secrets.items():
            argv += ["--secret", f"id={name},src={path}"]
        for folder, seen_as in build.folders.items():
            argv += ["--volume", f"{folder}:{seen_as}:ro"]
        self._cache.run(log, [*argv, build.context])
        built = identity.read_text("ascii").strip().removeprefix("sha256:")
        identity.unlink()
        output([*self._command, "push", "--quiet", built, f"docker-archive:{archive}:{build.name}"])

    def load(self, name: str, archive: Path) -> None:
        """Have an image in the storage, from its archive if it is not there."""
        if subprocess.run([*self._command, "inspect", "--type", "image", name], capture_output=True).returncode:
            output([*self._command, "pull", f"docker-archive:{archive}"])

    def prune(self) -> None:
        """Empty the storage when it has become large; the next build fills it again."""
        layers = self._root / "root" / f"{self._driver}-layers"
        if layers.exists() and len(list(layers.iterdir())) > MOST_LAYERS:
            subprocess.run([*self._command, "rmi", "--all", "--force"], capture_output=True)

    @cached_property
    def _command(self) -> list[str | Path]:
        root, run = self._root / "root", self._root / "run"
        return ["buildah", "--root", root, "--runroot", run, "--storage-driver", self._driver]

    @cached_property
    def _driver(self) -> str:
        return "overlay" if can_overlay(self._root) else "vfs"
