"""The project's three images: named by what goes into them, built if new, handed to the cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import ssl
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster import base, existing
from tests.cluster.buildah import Build, Buildah
from tests.cluster.cache import Cache, digest
from tests.cluster.containers import Containers
from tests.cluster.docker import Docker
from tests.cluster.node import problems
from tests.cluster.progress import Timings, say
from tests.cluster.settings import ClusterError, Settings

ROOT = Path(__file__).parents[2]
TARGETS = {
    "webhook": ("api", "policy", "kube", "webhook"),
    "controller": ("api", "policy", "kube", "controller"),
    "provisioner-job": ("api", "provisioner_job"),
}
"""Target of the Dockerfile → the packages that go in."""
FILES = ("Dockerfile", ".dockerignore", "pyproject.toml")
PUBLIC_BASE = "python:3.13-slim"


def images(settings: Settings | None = None) -> dict[str, str]:
    """Return target → image name (`dbaas/webhook:0123456789ab`), each of them built and in the cluster."""
    settings = settings or Settings.from_env(os.environ)
    cache = Cache(settings.cache)
    with cache.lock():
        context = _context(cache.work / "context")
        names = {target: f"dbaas/{target}:{_tag(target, context, settings)}" for target in TARGETS}
        archives = _archives(names, context, settings)
        cache.prune(f"{target}.tar" for target in TARGETS)
    if settings.existing:
        existing.load(list(archives.values()), settings)
    elif wrong := problems(settings):
        say(f"built, but there is no node to hand them to: {wrong[0]}")
    else:
        _hand_over(names, archives, settings)
    return names


def base_image(settings: Settings | None = None) -> str:
    """Return the image that the others stand on, for pods that need a Python and nothing else."""
    settings = settings or Settings.from_env(os.environ)
    return settings.base_image or (PUBLIC_BASE if settings.existing else base.BASE_IMAGE)


def _context(folder: Path) -> Path:
    """Copy what goes in: what is named, hashed and built is the same, though somebody may be typing."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for package in {package for packages in TARGETS.values() for package in packages}:
        if not (ROOT / package).is_dir():
            raise ClusterError(f"{ROOT / package} is missing: run this in a whole work tree")
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _tag(target: str, context: Path, settings: Settings) -> str:
    files = [path for package in TARGETS[target] for path in (context / package).rglob("*") if path.is_file()]
    sources = [context / name for name in FILES] + sorted(files)
    named = [part for path in sources for part in (str(path.relative_to(context)), path)]
    return digest(base_image(settings), *named)


def _archives(names: dict[str, str], context: Path, settings: Settings) -> dict[str, Path]:
    """Return target → docker-archive; builds those that the cache does not have, side by side."""
    cache = Cache(settings.cache)
    found = {target: cache.artefacts / f"{target}.tar-{name.rpartition(':')[2]}" for target, name in names.items()}
    absent = [target for target, path in found.items() if not path.exists()]
    if absent:
        say(f"building {', '.join(names[target] for target in absent)}")
        builder = _builder(cache, settings)
        recipe = _Recipe(context, _secrets(cache.work / "secrets"), base_image(settings))
        timings = Timings()

        def build(target: str) -> None:
            make = partial(builder.archive, recipe.build(target, names[target]), log=f"image-{target}")
            cache.get(f"{target}.tar", names[target].rpartition(":")[2], make)

        timings.side_by_side({f"image {target}": partial(build, target) for target in absent})
        say(timings.table())
        builder.prune()
    for path in found.values():
        os.utime(path)
    return found


def _builder(cache: Cache, settings: Settings) -> Buildah | Docker:
    if settings.existing and existing.builder() == "docker":
        return Docker(cache)
    buildah = Buildah(cache)
    buildah.forget_unfinished()
    if base_image(settings) == base.BASE_IMAGE:
        buildah.load(base.BASE_IMAGE, base.base(cache, buildah))
    return buildah


def _hand_over(names: dict[str, str], archives: dict[str, Path], settings: Settings) -> None:
    containers = Containers(settings)
    held = containers.images()
    absent = [target for target, name in names.items() if not any(image.endswith(f"/{name}") for image in held)]
    Timings().side_by_side({f"load {target}": partial(containers.load, archives[target]) for target in absent})


@dataclass(frozen=True)
class _Recipe:
    """What the three builds have in common."""

    context: Path
    secrets: dict[str, Path]
    base: str

    def build(self, target: str, name: str) -> Build:
        version = tomllib.loads((self.context / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        return Build(
            name=name,
            context=self.context,
            file=self.context / "Dockerfile",
            target=target,
            arguments={"BASE_IMAGE": self.base, "VERSION": version},
            secrets=self.secrets,
            folders=_folders_of_pip(),
            pull=self.base != base.BASE_IMAGE,
        )


def _secrets(folder: Path) -> dict[str, Path]:
    """Write what pip on this machine knows (index, authorities) where a build sees it and no image keeps it."""
    moved = _folders_of_pip()
    lines = [
        f"{name}={shlex.quote(' '.join(moved.get(word, word) for word in value.split()))}\n"
        for name, value in _variables_of_pip().items()
    ]
    folder.mkdir(mode=0o700)
    variables = folder / "pip.env"
    variables.write_text("".join(lines), "utf-8")
    secrets = {"pip.env": variables}
    configuration = (os.environ.get("PIP_CONFIG_FILE"), "~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf")
    trust = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile)
    for name, candidates in (("pip.conf", configuration), ("certificates", trust)):
        paths = [Path(candidate).expanduser() for candidate in candidates if candidate]
        if first := next((path for path in paths if path.is_file()), None):
            secrets[name] = first
    return secrets


def _folders_of_pip() -> dict[str, str]:
    """The folders of wheels that PIP_FIND_LINKS and the like name, and where a build sees each."""
    words = {word for value in _variables_of_pip().values() for word in value.split() if word.startswith("/")}
    folders = sorted(word for word in words if Path(word).is_dir() and any(Path(word).iterdir()))
    return {folder: f"/run/wheels-{number}" for number, folder in enumerate(folders)}


def _variables_of_pip() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
