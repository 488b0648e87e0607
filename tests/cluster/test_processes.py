"""Ending a component of the node: only then may another take its place."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.cluster.processes import Processes
from tests.servers.programs import free_port

LARGE = """
import socket, sys, time
memory = bytearray(200_000_000)
memory[::4096] = b"x" * len(memory[::4096])
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listens", flush=True)
time.sleep(600)
"""
"""Its memory takes a while to be given back, and its socket is closed after that."""


def test_what_was_killed_has_left_its_port(tmp_path: Path) -> None:
    processes, port = Processes("DBAAS_NODE", tmp_path), free_port()
    for _ in range(5):
        started = [sys.executable, "-c", LARGE, str(port)]
        env = {**os.environ, **processes.environment}
        with subprocess.Popen(started, env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            processes.kill(Path(sys.executable).name)

            socket.create_server(("127.0.0.1", port)).close()
