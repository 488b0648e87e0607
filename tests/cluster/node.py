"""The node on this machine: started afresh, judged, ended without a trace; each component on its own too."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from tests.cluster import cgroups, components, containers, mounts, network
from tests.cluster.api import Api, answers
from tests.cluster.cache import locked, remove
from tests.cluster.containers import Containers
from tests.cluster.pki import Pki
from tests.cluster.processes import Processes
from tests.cluster.progress import say, tail, wait_for
from tests.cluster.settings import PORTS, ClusterError, Settings

OURS = ".kubernetes-dbaas-node"
"""The file that says that a folder is a node's; no other folder is ever emptied."""
KEPT = (OURS, "lock", "logs")
READY = "ready.json"


def problems(settings: Settings) -> list[str]:
    """Say what is wrong with the node; nothing is wrong with a node that takes pods."""
    if found := _lasting_problems(settings):
        return found
    checks = {name: ready(name, settings) for name in ("kube-apiserver", "kubelet", "kube-proxy", "coredns")}
    return [f"{name} is not ready" for name, well in checks.items() if not well]


def _lasting_problems(settings: Settings) -> list[str]:
    """Those that do not pass by themselves."""
    if not (settings.state / READY).exists():
        return ["the node was not brought up"]
    running = {process.name: process for process in processes(settings).all()}
    found = [f"{name} does not run" for name in components.NAMES if name not in running]
    return found + [f"{name} is paused" for name in components.NAMES if name in running and running[name].stopped]


def _gets_well(settings: Settings) -> bool:
    """Whether nothing is wrong after a while: a busy machine, or another component's restart, keeps some from ready."""
    with contextlib.suppress(ClusterError):
        wait_for("the node to get well", lambda: _lasting_problems(settings) or not problems(settings))
    return not problems(settings)


def start(settings: Settings, kube: Path, archives: list[Path]) -> None:
    """Start a node from nothing, ending what is left of an earlier one; ClusterError says what failed."""
    _claim(settings)
    with locked(settings.state / "lock"):
        if _gets_well(settings):
            return
        _end(settings)
        remove(settings.state / "logs")
        network.check_free(settings)
        network.make(settings)
        cgroups.make()
        Pki(settings).make()
        components.write_files(settings, containers.choose_snapshotter(settings))
        (settings.state / "kube").symlink_to(kube)
        for name in ("etcd", "containerd", "kube-apiserver"):
            _start(name, settings)
        _wait_ready("containerd", settings)
        for archive in archives:
            Containers(settings).load(archive)
        _wait_ready("kube-apiserver", settings)
        for name in components.NAMES:
            if not processes(settings).named(name):
                _start(name, settings)
        for name in components.NAMES:
            _wait_ready(name, settings)
        ready = {"kube": os.fspath(kube), "kubeconfig": os.fspath(settings.kubeconfig)}
        (settings.state / READY).write_text(json.dumps(ready), "utf-8")


def end(settings: Settings) -> None:
    """End the node and everything that it made on this machine, except its logs."""
    if not settings.state.exists():
        return
    _claim(settings)
    with locked(settings.state / "lock"):
        _end(settings)


def restart(settings: Settings, name: str) -> None:
    """Kill a component and start it again; return when it is ready."""
    _check_name(name)
    with locked(settings.state / "lock"):
        processes(settings).kill(name)
        _start(name, settings)
        _wait_ready(name, settings)


def pause(settings: Settings, name: str) -> None:
    """Stop a component in its tracks: its sockets stay open and nobody answers."""
    _signal(settings, name, signal.SIGSTOP)


def resume(settings: Settings, name: str) -> None:
    """Let a paused component go on, and return when it is ready."""
    _signal(settings, name, signal.SIGCONT)
    _wait_ready(name, settings)


def ready(name: str, settings: Settings) -> bool:
    """Whether a component does its work, by its own account where it gives one."""
    match name:
        case "containerd":
            return Containers(settings).answer()
        case "kube-apiserver":
            return Api(settings).ready()
        case "kubelet":
            return answers(PORTS["kubelet health"], "/healthz") and Api(settings).node_ready()
        case "kube-proxy":
            return answers(PORTS["kube-proxy health"], "/healthz")
        case "coredns":
            return answers(PORTS["coredns ready"], "/ready")
        case _:
            return processes(settings).named(name) is not None


def check_may_run(settings: Settings) -> None:
    """ClusterError if this user may not start a node, or its folder is somebody else's."""
    state = settings.state
    if os.geteuid() != 0:
        raise ClusterError("a node needs root; or use another cluster: DBAAS_CLUSTER=existing and KUBECONFIG")
    if state.exists() and any(state.iterdir()) and not (state / OURS).exists():
        raise ClusterError(f"{state} holds something else: set DBAAS_STATE to a folder of its own")


def processes(settings: Settings) -> Processes:
    """The node's processes: its components, named as in `components.NAMES`, and what they started."""
    return Processes("DBAAS_NODE", settings.state)


def log(name: str, settings: Settings) -> Path:
    """Where a component's output goes."""
    return settings.state / "logs" / f"{name}.log"


def _claim(settings: Settings) -> None:
    check_may_run(settings)
    settings.state.mkdir(mode=0o755, parents=True, exist_ok=True)
    (settings.state / OURS).touch()


def _end(settings: Settings) -> None:
    (settings.state / READY).unlink(missing_ok=True)
    processes(settings).kill()
    cgroups.unmake()
    containers.unmake(settings)
    network.unmake(settings)
    left = mounts.mounted_under(settings.state)
    if left:
        raise ClusterError(f"still mounted: {', '.join(left)}")
    for path in settings.state.iterdir():
        if path.name not in KEPT:
            remove(path)


def _start(name: str, settings: Settings) -> None:
    path = log(name, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    env = {variable: value for variable, value in os.environ.items() if variable != "KUBECONFIG"}
    with path.open("ab") as out:
        subprocess.Popen(
            components.command_line(name, settings),
            executable=None if name == "containerd" else settings.state / "kube",
            cwd=settings.state,
            env={**env, **processes(settings).environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _wait_ready(name: str, settings: Settings) -> None:
    path = log(name, settings)
    try:
        wait_for(f"{name} to be ready", lambda: ready(name, settings), hint=f"its log is {path}")
    except ClusterError:
        say(tail(path))
        raise


def _signal(settings: Settings, name: str, number: signal.Signals) -> None:
    _check_name(name)
    process = processes(settings).named(name)
    if not process:
        raise ClusterError(f"{name} does not run; `python3 -m tests.cluster up` starts the node")
    processes(settings).send(process, number)


def _check_name(name: str) -> None:
    if name not in components.NAMES:
        raise ClusterError(f"no component {name!r}; there are {', '.join(components.NAMES)}")
