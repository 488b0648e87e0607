"""The command line: `python3 -m tests.cluster COMMAND`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from tests.cluster import components, existing, node, status
from tests.cluster.bring_up import bring_up
from tests.cluster.images import images
from tests.cluster.progress import say
from tests.cluster.settings import ClusterError, Settings

COMMANDS = {
    "up": "bring the cluster up, or check the existing one (DBAAS_CLUSTER=existing)",
    "images": "build the project's images and hand them to the cluster",
    "status": "say what runs and what is missing; exit code 0 only if healthy",
    "kubeconfig": "print the kubeconfig's path",
    "env": "print lines for eval: KUBECONFIG and PATH",
    "restart": "kill one component and start it again",
    "pause": "stop one component (SIGSTOP)",
    "resume": "let a paused component go on (SIGCONT)",
    "down": "end the node and take everything of it away",
}
OF_A_COMPONENT = ("restart", "pause", "resume")


def main(argv: list[str]) -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments.command, getattr(arguments, "component", ""), Settings.from_env(os.environ))
    except ClusterError as exc:
        say(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: str, component: str, settings: Settings) -> int:
    if settings.existing and command in (*OF_A_COMPONENT, "down"):
        raise ClusterError(f"{command} is for the node that `up` started, not for a cluster of yours")
    match command:
        case "up":
            (existing.check if settings.existing else bring_up)(settings)
        case "images":
            for target, name in images(settings).items():
                print(f"{target} {name}")
        case "status":
            return status.report(settings)
        case "kubeconfig":
            print(settings.kubeconfig)
        case "env":
            print(f"export KUBECONFIG={shlex.quote(str(settings.kubeconfig))}")
            print(f'export PATH={shlex.quote(str(settings.bin))}:"$PATH"')
        case "down":
            node.end(settings)
        case _:
            getattr(node, command)(settings, component)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster", description="A Kubernetes to test against.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in OF_A_COMPONENT:
            command.add_argument("component", choices=components.NAMES)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
