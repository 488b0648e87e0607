"""Servers that outlive the command that starts them, for the demo.

python -m tests.servers.ENGINE start  DIR [--port N] [--listen ADDRESS] [--name HOST]…
python -m tests.servers.ENGINE status DIR
python -m tests.servers.ENGINE stop   DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.servers.pki import Authority
from tests.servers.programs import Missing
from tests.servers.server import Options, Server


def main(kind: type[Server], arguments: Sequence[str]) -> int:
    """The commands above; gives the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.servers.{kind.__name__.lower()}", description=__doc__)
    parser.add_argument("command", choices=("start", "status", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=kind.usual_port)
    parser.add_argument("--listen", default="127.0.0.1", help="addresses, separated by commas")
    parser.add_argument("--name", action="append", help="a host name or address for the certificate")
    parser.add_argument("--log-statements", action="store_true")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    try:
        if given.command == "start":
            options = Options(given.port, given.listen, given.log_statements)
            _start(kind(folder, options), given.name or ["localhost", *given.listen.split(",")])
            return 0
        server = _known(kind, folder)
        if given.command == "stop":
            server.shut_down()
    except (Missing, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"port {server.port}: {'stopped' if server.pid is None else f'process {server.pid}'}")
    return 0 if given.command == "stop" or server.pid is not None else 3


def _start(server: Server, names: Sequence[str]) -> None:
    """Start the server of a folder; its CA is `folder/tls/ca.crt`."""
    tls, options = server.folder / "tls", server.options
    if server.pid is None:
        server.start(Authority(tls).issue("server", names))
        (server.folder / "options.json").write_text(json.dumps(asdict(options)))
    print(f"{server.programs.engine} listens on {options.listen}:{options.port}; its CA is {tls / 'ca.crt'}")


def _known(kind: type[Server], folder: Path) -> Server:
    try:
        options = Options(**json.loads((folder / "options.json").read_text()))
    except FileNotFoundError:
        raise Missing(f"there is no server in {folder}") from None
    return kind(folder, options)
