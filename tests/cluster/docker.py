"""Container images as files, built by Docker: for a cluster of one's own on a machine without buildah."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.buildah import Build
from tests.cluster.cache import Cache
from tests.cluster.progress import output


class Docker:
    """Docker with BuildKit; folders of wheels cannot be mounted into its builds."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def archive(self, build: Build, archive: Path, log: str) -> None:
        """Build an image and write it to a docker-archive file."""
        argv: list[str | Path] = ["docker", "build", "--tag", build.name, "--file", build.file]
        argv += ["--target", build.target] if build.target else []
        for name, value in build.arguments.items():
            argv += ["--build-arg", f"{name}={value}"]
        for name, path in build.secrets.items():
            argv += ["--secret", f"id={name},src={path}"]
        self._cache.run(log, [*argv, build.context])
        output(["docker", "save", "--output", archive, build.name])

    def prune(self) -> None:
        """Leave Docker's storage alone: it is the user's."""
