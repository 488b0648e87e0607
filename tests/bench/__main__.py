"""Measure and print: `python -m tests.bench [ROUNDS | admission]`. The rows also go to build/bench.json.

`admission` measures the webhook alone, which takes no cluster but its binaries.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubernetes import config
from kubernetes.client.configuration import Configuration

from api.resources import SECRETS
from kube.client import Client
from tests.bench import admission
from tests.bench.figures import Row, compared, table, write
from tests.bench.path import Bench
from tests.cluster import existing
from tests.cluster.bring_up import bring_up
from tests.cluster.images import base_image, images
from tests.cluster.settings import Settings
from tests.e2e import dbms as servers
from tests.e2e.cluster import OPERATOR, Cluster
from tests.e2e.release import install
from tests.e2e.scene import ACCOUNT, Scene, account_manifest

ROUNDS = 20
WARM_UP = 2
"""Rounds before the first that counts: image layers, page cache, connections."""
RESULT = Path(__file__).parents[2] / "build" / "bench.json"


@contextmanager
def prepared() -> Iterator[Bench]:
    """A cluster with the chart, and an endpoint on a private PostgreSQL."""
    settings = Settings.from_env(os.environ)
    (existing.check if settings.existing else bring_up)(settings)
    configuration = Configuration()
    config.load_kube_config(config_file=str(settings.kubeconfig), client_configuration=configuration)
    cluster = Cluster(settings, Client(configuration), images(settings))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        install(cluster, Path(folder))
        host = os.environ.get("DBAAS_TEST_HOST") or servers.NAME
        listen = host if settings.existing else settings.host
        dbms = servers.start(Path(folder) / "dbms", listen, host)
        cluster.delete(SECRETS, ACCOUNT, OPERATOR)
        cluster.create(SECRETS, account_manifest(ACCOUNT, dbms.username, dbms.password))
        scene = Scene.set_up(cluster, dbms)
        try:
            yield Bench(cluster.client, scene.namespace, scene.name, base_image(settings), listen)
        finally:
            scene.tear_down()
            dbms.server.remove()


def main(arguments: list[str]) -> int:
    """Measure the path from a Database to its Secret, and the webhook."""
    if arguments and not (arguments == ["admission"] or arguments[0].isdigit()):
        sys.stderr.write("usage: make bench [ARGS=ROUNDS | ARGS=admission]\n")
        return 2
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    measured = [] if arguments == ["admission"] else path_rows(int(arguments[0]) if arguments else ROUNDS)
    measured += admission.rows()
    write(measured, RESULT)
    said = f"load average before: {load}, on {os.cpu_count()} cores\nwritten to {RESULT.relative_to(Path.cwd())}"
    sys.stdout.write(f"\r{table(measured)}\n{said}\n")
    return 0


def path_rows(rounds: int) -> list[Row]:
    """The rows of the path from a Database to its Secret."""
    databases, jobs, packets = [], [], []
    with prepared() as bench:
        for number in range(-WARM_UP, rounds):
            database = bench.database_ready(f"bench-{number + WARM_UP}")
            job = bench.job_complete(f"noop-{number + WARM_UP}")
            packet = bench.first_packet(f"packet-{number + WARM_UP}")
            if number < 0:
                continue
            databases.append(database)
            jobs.append(job)
            packets.append(packet)
            sys.stdout.write(f"\rround {number + 1} of {rounds}")
            sys.stdout.flush()
    return [
        *compared("apply → Ready : bare Job create → Complete", databases, jobs, 0.28),
        *compared("apply → Ready : bare Job create → first packet", databases, packets, 1.5),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
