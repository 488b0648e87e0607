"""A Go new enough for Kubernetes: the machine's own, or Go's toolchain module fetched with Debian's older Go."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import packages
from tests.cluster.cache import Cache
from tests.cluster.settings import ClusterError

OLDEST = (1, 25)
FETCHED = "1.26.8"
"""The release that is fetched where the machine has none that will do."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Go:
    """A Go command and its version."""

    path: Path
    version: str

    def environment(self, **more: str) -> dict[str, str]:
        """The environment to run it in: this Go and no other, static binaries."""
        kept = {name: value for name, value in os.environ.items() if name != "GOROOT"}
        return {**kept, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", **more}


def installed() -> Go | None:
    """Return the machine's own Go if it is new enough."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if not found:
        return None
    printed = _go(found, "version").stdout
    version = re.search(r"go((\d+)\.(\d+)[.\w]*)", printed)
    if not version or (int(version[2]), int(version[3])) < OLDEST:
        return None
    return Go(Path(found), version[1])


def go(cache: Cache) -> Go:
    """Return a Go that will do, fetching one if need be.

    Debian 12's own Go is too old for Kubernetes but knows how to fetch a module and to check it against
    Go's checksum database, and newer releases of Go are themselves published as a module.
    """
    own = installed()
    if own:
        return own
    folder = cache.get("go", FETCHED, lambda target: _fetch(target, cache))
    return Go(folder / "bin" / "go", FETCHED)


def _fetch(target: Path, cache: Cache) -> None:
    architecture = ARCHITECTURES.get(platform.machine())
    if not architecture:
        raise ClusterError(f"no Go for {platform.machine()}: install Go {FETCHED} yourself and put it in PATH")
    if not shutil.which("go"):
        packages.install(["golang-go"], cache.logs)
    module = f"golang.org/toolchain@v0.0.1-go{FETCHED}.linux-{architecture}"
    answer = _go(shutil.which("go") or "go", "mod", "download", "-json", module)
    try:
        source = Path(json.loads(answer.stdout)["Dir"])
    except (ValueError, KeyError) as exc:
        raise ClusterError(
            f"could not fetch {module}: {answer.stderr.strip() or answer.stdout.strip()}\n"
            f"  set GOPROXY to a module proxy that has it, or put Go {FETCHED} in PATH"
        ) from exc
    shutil.copytree(source, target)
    _undo_module_packing(target)


def _undo_module_packing(root: Path) -> None:
    """A module's archive keeps neither execute bits nor nested go.mod files; put both back."""
    for path in [root, *root.rglob("*")]:
        program = path.is_dir() or path.parent == root / "bin" or "tool" in path.relative_to(root).parts[:2]
        path.chmod(0o755 if program else 0o644)
    for path in list(root.rglob("_go.mod")):
        path.rename(path.with_name("go.mod"))


def _go(command: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "GOTOOLCHAIN": "local", "GO111MODULE": "on"}
    return subprocess.run([command, *args], capture_output=True, text=True, env=env, cwd="/")
