"""What was built before, by what it was built from: a folder of finished artefacts and nothing half done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.mounts import unmount_under
from tests.cluster.processes import Processes
from tests.cluster.progress import Argv, run, say

KEPT = 3
"""How many artefacts of one name survive pruning."""


class Cache:
    """A folder of artefacts called NAME-KEY; an artefact that exists is complete. Build only under `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artefacts = folder / "artefacts"
        self.logs = folder / "logs"
        self.work = folder / "work"
        self._builders = Processes("DBAAS_BUILD", folder)

    def get(self, name: str, key: str, build: Callable[[Path], None]) -> Path:
        """Return the artefact, built first if it is missing: `build` fills the path that it is given."""
        path = self.artefacts / f"{name}-{key}"
        if not path.exists():
            self.artefacts.mkdir(parents=True, exist_ok=True)
            unfinished = self.work / f"{name}-{key}"
            build(unfinished)
            unfinished.rename(path)
        os.utime(path)
        return path

    def prune(self, names: Iterable[str]) -> None:
        """Keep the few most recently used artefacts of each name."""
        for name in names:
            found = [path for path in self.artefacts.glob(f"{name}-*") if path.name.rpartition("-")[0] == name]
            for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
                remove(path)

    def run(self, name: str, argv: Argv, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        """Run a program of a build, its output in logs/NAME.log; ClusterError with the log's end if it fails."""
        marked = {**(os.environ if env is None else env), **self._builders.environment}
        run(argv, log=self.logs / f"{name}.log", cwd=cwd, env=marked)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One builder at a time, and an empty work folder: what a killed builder left behind is ended and removed."""
        with locked(self.folder / "lock"):
            self._builders.kill()
            unmount_under(self.work)
            remove(self.work)
            self.work.mkdir()
            try:
                yield
            finally:
                remove(self.work)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for the one who holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def digest(*parts: str | bytes | Path) -> str:
    """Return a short key for contents: text and bytes count as they are, a path by what its file holds."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:12]


def remove(path: Path) -> None:
    """Remove a file or a tree, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
