"""Start the controller: settings, caches, leadership, work. Losing leadership ends the process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from controller.chores import Chores
from controller.inspection import Inspection
from controller.metrics import Metrics
from controller.reconcile import Reconciler
from controller.server import serve
from controller.settings import Settings
from controller.uninstall import uninstall
from controller.world import World, concerns
from kube import logs
from kube.client import Client
from kube.environment import SettingsError
from kube.lease import Lease, LeaseName

log = logging.getLogger("controller")

LOST_LEADERSHIP = 3
"""Exit code; the kubelet starts the container anew, as a candidate."""


def main(arguments: list[str]) -> int:
    """Run until SIGTERM or until leadership is lost; returns the exit code."""
    try:
        if arguments == ["uninstall"]:
            return uninstall(Client.from_environment(), os.environ)
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"the controller cannot start: {error}\n")
        return 2
    logs.configure(settings.log_level)
    client, metrics, stop = Client.from_environment(settings.request_seconds), Metrics(), threading.Event()
    world = World(client, settings.namespace, settings.watch_namespaces)
    reconciler = Reconciler(client, world, settings, metrics)
    chores = Chores(client, world, settings, metrics)
    period = settings.inspect_secrets.total_seconds()
    inspection = Inspection(client, world, period, reconciler.queue.add)
    concerns(world, reconciler.queue.add)
    serve(settings.metrics_port, metrics.registry, lambda: world.synced)
    world.start()

    def terminate(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)
    lease = Lease(client, LeaseName(settings.namespace, f"{settings.release}-controller", settings.pod))

    def work() -> None:
        metrics.leader.set(1)
        log.info("leading")
        reconciler.run()
        chores.run()
        inspection.run()

    threading.Thread(target=_lead, args=(lease, world, work), name="lease", daemon=True).start()
    stop.wait()
    reconciler.stop()
    lease.release()
    return 0


def _lead(lease: Lease, world: World, work: Callable[[], None]) -> None:
    """Wait for the lead, work, and end the process when it is lost: a former leader must not write another line."""
    try:
        # A candidate keeps its caches warm, so that taking over costs no list.
        world.wait(threading.Event())
        lease.acquire()
        work()
        lost = lease.hold()
    except Exception:
        log.exception("leadership ended")
        lost = True
    if lost:
        logging.shutdown()
        os._exit(LOST_LEADERSHIP)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
