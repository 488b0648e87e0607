"""From a bare machine to a healthy node: packages, Go, binaries, base images, then the node itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster import base, binaries, node, packages
from tests.cluster.binaries import Binaries
from tests.cluster.buildah import Buildah
from tests.cluster.cache import Cache
from tests.cluster.go import go
from tests.cluster.progress import Timings, say
from tests.cluster.settings import Settings


@dataclass(frozen=True)
class Parts:
    """What a node is made of, ready to start."""

    kube: Path
    archives: list[Path]


def bring_up(settings: Settings) -> None:
    """Return with a healthy node; at once if there is one already."""
    if not node.problems(settings) and not binaries.unlinked(settings):
        say(f"the node is up; export KUBECONFIG={settings.kubeconfig}")
        return
    node.check_may_run(settings)
    timings = Timings()
    cache = Cache(settings.cache)
    with cache.lock():
        absent = packages.missing()
        if absent:
            say(f"installing {' '.join(absent)}")
            with timings.part("Debian packages"):
                packages.install(absent, cache.logs)
        parts = _build(settings, cache, timings)
    say("starting the node")
    with timings.part("node"):
        node.start(settings, parts.kube, parts.archives)
    say(timings.table())
    say(f"the node is up; export KUBECONFIG={settings.kubeconfig}")


def _build(settings: Settings, cache: Cache, timings: Timings) -> Parts:
    buildah = Buildah(cache)
    with timings.part("Go"):
        built = Binaries(cache, go(cache))
    buildah.forget_unfinished()
    timings.side_by_side(
        {
            "base image": lambda: base.base(cache, buildah),
            "helm": built.helm,
            "kube (servers and kubectl)": built.kube,
            "kuttl": built.kuttl,
            "pause image": lambda: base.pause(cache, buildah, built.pause()),
        }
    )
    binaries.link(settings, built.kube(), built.helm(), built.kuttl())
    parts = Parts(built.kube(), [base.base(cache, buildah), base.pause(cache, buildah, built.pause())])
    cache.prune([*binaries.NAMES, *base.NAMES, "go"])
    return parts
