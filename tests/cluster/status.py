"""What runs, since when, in which version; what is missing and how to get it."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.cluster import binaries, components, existing, go, node, packages
from tests.cluster.api import Api
from tests.cluster.containers import Containers
from tests.cluster.settings import Settings


def report(settings: Settings) -> int:
    """Print the state of the cluster; return 0 only if it is healthy."""
    if settings.existing:
        existing.check(settings)
        return 0
    wrong = node.problems(settings)
    running = {process.name: process for process in node.processes(settings).all()}
    for name in components.NAMES:
        process = running.get(name)
        if not process:
            print(f"  {name:<24} -")
            continue
        since = datetime.fromtimestamp(process.started, UTC).isoformat(timespec="seconds")
        print(f"  {name:<24} {'paused' if process.stopped else 'runs'} since {since}, pid {process.pid}")
    if "kube-apiserver" in running and not running["kube-apiserver"].stopped:
        print(f"Kubernetes  {Api(settings).version() or 'does not answer'}")
    if "containerd" in running and not running["containerd"].stopped:
        ours = sorted(image for image in Containers(settings).images() if "dbaas" in image)
        print("images      " + "\n            ".join(ours or ["none yet: python3 -m tests.cluster images"]))
    print(f"kubeconfig  {settings.kubeconfig}")
    print(f"tools       {settings.bin}")
    for line in missing(settings):
        print(f"missing     {line}")
    for line in wrong:
        print(f"problem     {line}")
    print("healthy" if not wrong else "not healthy: python3 -m tests.cluster up starts it afresh")
    return 1 if wrong else 0


def missing(settings: Settings) -> list[str]:
    """Say what `up` would have to fetch or build, and what a person could do instead."""
    lines = []
    absent = packages.missing()
    if absent:
        lines.append(f"packages: `up` installs them as root, or: apt-get install {' '.join(absent)}")
    if not go.installed() and not (settings.cache / "artefacts" / f"go-{go.FETCHED}").exists():
        lines.append(f"Go {'.'.join(map(str, go.OLDEST))}: `up` fetches {go.FETCHED} with Debian's golang-go")
    tools = binaries.unlinked(settings)
    if tools:
        lines.append(f"{', '.join(tools)}: `up` builds them")
    return lines
