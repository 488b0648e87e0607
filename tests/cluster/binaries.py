"""The programs that are built from Go modules: Kubernetes in one binary, helm, KUTTL, pause."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.cache import Cache, digest, remove
from tests.cluster.go import Go
from tests.cluster.settings import KUBERNETES_VERSION, Settings

HERE = Path(__file__).parent
HELM_VERSION = "3.19.0"
_HELM = f"helm.sh/helm/v3/cmd/helm@v{HELM_VERSION}"
_HELM_FLAGS = ("-ldflags", f"-s -w -X helm.sh/helm/v3/internal/version.version=v{HELM_VERSION}")
NAMES = ("kube", "pause", "helm", "kubectl-kuttl")

_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_STAMP = "k8s.io/component-base/version.git"
KUBE_FLAGS = (
    "-trimpath",
    "-ldflags",
    f"-s -w -X {_STAMP}Version=v{KUBERNETES_VERSION} -X {_STAMP}Major={_MAJOR} -X {_STAMP}Minor={_MINOR}",
)


LINKS = ("kubectl", "helm", "kubectl-kuttl")


class Binaries:
    """Each method returns the path of a finished binary, built first if its sources or its Go changed."""

    def __init__(self, cache: Cache, go: Go) -> None:
        self._cache = cache
        self._go = go

    def kube(self) -> Path:
        """Every server of a node, and kubectl: the name it is called under chooses."""
        module = HERE / "kube"
        sources = (module / "go.mod", module / "go.sum", module / "main.go")
        key = digest(self._go.version, *KUBE_FLAGS, *sources)
        return self._cache.get("kube", key, lambda target: self._build("kube", module, target, *KUBE_FLAGS, "."))

    def pause(self) -> Path:
        """What holds a pod's namespaces."""
        module = HERE / "kube"
        flags = ("-trimpath", "-ldflags", "-s -w", "./pause")
        key = digest(self._go.version, *flags, module / "pause" / "main.go")
        return self._cache.get("pause", key, lambda target: self._build("pause", module, target, *flags))

    def kuttl(self) -> Path:
        """KUTTL, as its own module pins it."""
        module = HERE / "tools"
        key = digest(self._go.version, module / "go.mod", module / "go.sum")
        package = "github.com/kudobuilder/kuttl/cmd/kubectl-kuttl"
        return self._cache.get("kubectl-kuttl", key, lambda target: self._build("kuttl", module, target, package))

    def helm(self) -> Path:
        """Helm, whose own module pins what it is built from."""
        return self._cache.get("helm", digest(self._go.version, _HELM, *_HELM_FLAGS), self._install_helm)

    def _build(self, name: str, module: Path, target: Path, *args: str) -> None:
        argv: list[str | Path] = [self._go.path, "build", "-mod=readonly", "-o", target, *args]
        self._cache.run(name, argv, cwd=module, env=self._go.environment())

    def _install_helm(self, target: Path) -> None:
        folder = target.with_name("helm-bin")
        argv: list[str | Path] = [self._go.path, "install", "-trimpath", *_HELM_FLAGS, _HELM]
        self._cache.run("helm", argv, cwd=HERE, env=self._go.environment(GOBIN=str(folder)))
        shutil.move(folder / "helm", target)
        remove(folder)


def unlinked(settings: Settings) -> list[str]:
    """Return the command line tools that are not there yet."""
    return [name for name in LINKS if not (settings.bin / name).exists()]


def link(settings: Settings, kube: Path, helm: Path, kuttl: Path) -> None:
    """Give people and tests the three command line tools under their usual names."""
    settings.bin.mkdir(parents=True, exist_ok=True)
    for name, target in zip(LINKS, (kube, helm, kuttl), strict=True):
        fresh = settings.bin / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(settings.bin / name)
