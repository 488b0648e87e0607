"""A cluster that somebody else runs: is it reachable, new enough, and are the tools at hand?"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.cluster.progress import output, say
from tests.cluster.settings import OLDEST_KUBERNETES, ClusterError, Settings

TOOLS = {
    "kubectl": "part of every Kubernetes distribution",
    "helm": "helm 3.14 or newer, from helm's releases or your package manager",
}
LOADERS = (
    ("kind", "kind load image-archive {}"),
    ("k3d", "k3d image import {}"),
    ("minikube", "minikube image load {}"),
)


def check(settings: Settings) -> None:
    """ClusterError that names every reason why the tests cannot use the cluster."""
    path = f"{settings.bin}:{os.environ.get('PATH', '')}"
    wrong = [f"{name} is not in PATH: {cure}" for name, cure in TOOLS.items() if not shutil.which(name, path=path)]
    if not builder():
        wrong.append("neither buildah nor docker is in PATH: one of them builds the images")
    kubectl = shutil.which("kubectl", path=path)
    if kubectl:
        wrong += _unfit(kubectl, settings)
    if wrong:
        raise ClusterError("the existing cluster cannot be used:\n" + "\n".join(f"  {line}" for line in wrong))


def builder() -> str | None:
    """Return the program that builds images here."""
    return next((name for name in ("buildah", "docker") if shutil.which(name)), None)


def load(archives: list[Path], settings: Settings) -> None:
    """Hand image archives to the cluster by DBAAS_LOAD_IMAGES, or say which commands would."""
    if settings.load_images:
        for archive in archives:
            argv = [word.replace("{}", str(archive)) for word in shlex.split(settings.load_images)]
            say(shlex.join(argv))
            output(argv)
        return
    say("give the cluster these images, by the command that fits it (or set DBAAS_LOAD_IMAGES to it, with {}):")
    for name, command in LOADERS:
        for archive in archives:
            say(f"  {name + ':':<10} {command.replace('{}', str(archive))}")


def _unfit(kubectl: str, settings: Settings) -> list[str]:
    argv = [kubectl, "--kubeconfig", str(settings.kubeconfig), "--request-timeout=10s", "version", "-o", "json"]
    asked = subprocess.run(argv, capture_output=True, text=True)
    if asked.returncode != 0:
        return [f"the cluster of {settings.kubeconfig} does not answer: {asked.stderr.strip()}; set KUBECONFIG"]
    server = json.loads(asked.stdout)["serverVersion"]
    version = (int(server["major"]), int(server["minor"].rstrip("+")))
    if version < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        return [f"it runs Kubernetes {server['gitVersion']}; {oldest} is the oldest that will do"]
    say(f"Kubernetes {server['gitVersion']} of {settings.kubeconfig} answers")
    return []
