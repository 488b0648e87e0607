"""`python -m tests.demo ENGINE`: the whole path, in the commands that people would type. `… down` takes it away."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.cluster import node
from tests.cluster.images import images
from tests.cluster.settings import ClusterError, Settings
from tests.demo.example import Example
from tests.demo.server import SERVERS, Server
from tests.demo.terminal import CommandFailed, Terminal
from tests.servers.programs import Missing

RELEASE = "dbaas"
OPERATOR = "dbaas-system"
NAMESPACE = "demo"
DOWN = "down"
PARTS = {"webhook": "webhook", "controller": "controller", "job": "provisioner-job"}
"""Key under `images` of the chart's values → target of the Dockerfile."""


class Demo:
    """The steps, in their order. Each may be repeated, whatever an interrupted run left behind."""

    def __init__(self, settings: Settings, terminal: Terminal, server: Server) -> None:
        self.settings = settings
        self.terminal = terminal
        self.server = server
        self.example = Example.read(server.engine)
        self.images: dict[str, str] = {}

    def tell(self) -> None:
        """Everything."""
        terminal = self.terminal
        with terminal.step("A Kubernetes"):
            terminal.run("python3 -m tests.cluster up", seconds=3600)
        with terminal.step(f"A {self.server.title} outside of it, with TLS and the DBA's procedures"):
            self.database_server()
        with terminal.step("The operator's images"):
            terminal.say("\n$ python3 -m tests.cluster images")
            self.images = images(self.settings)
            terminal.say("\n".join(self.images.values()))
            if self.settings.existing and not self.settings.load_images:
                terminal.say("\n(the next step waits for the cluster to have them)")
        with terminal.step("The operator, by Helm"):
            self.operator()
        with terminal.step("The administrator registers the server"):
            self.endpoint()
        with terminal.step("A developer applies a Database"):
            self.apply()
        with terminal.step("A Pod uses it"):
            self.use()
        with terminal.step("What the auditor sees"):
            self.audit()
        with terminal.step("The developer deletes it"):
            self.delete()
        terminal.say(f"\n{terminal.table()}\n{self.next_steps()}")

    def database_server(self) -> None:
        """The private server, and the procedures in it."""
        terminal, server = self.terminal, self.server
        if server.serves_another:
            terminal.run(server.stop)
        server.prepare()
        terminal.run(server.start)
        for question, cure in server.missing():
            if terminal.ask(question).strip() != "1":
                terminal.run(cure)
        terminal.run(server.install(self.example.file("procedures.sql")))

    def operator(self) -> None:
        """The chart, with the images that were just built."""
        values = []
        for part, target in PARTS.items():
            repository, _, tag = self.images[target].rpartition(":")
            values.append(f"--set images.{part}.repository={repository},images.{part}.tag={tag}")
        command = f"helm upgrade --install {RELEASE} chart -n {OPERATOR} --create-namespace --wait --timeout 3m"
        self.terminal.run(" \\\n    ".join([command, *values]) + " \\\n    --hide-notes")

    def endpoint(self) -> None:
        """Account and CA as Secrets, the class, and the endpoint with this machine's address."""
        terminal, server, example = self.terminal, self.server, self.example
        create = f"kubectl -n {OPERATOR} create secret generic --dry-run=client -o yaml"
        label = "kubectl label --local -f - dbaas.bedag.ch/endpoint-credentials=true -o yaml"
        apply = "kubectl apply --server-side -f -"
        files = f"--from-file={server.username} --from-file={server.password}"
        terminal.run(f"{create} {example.account} {files} \\\n    | {label} | {apply}")
        terminal.run(f"{create} {example.authority} --from-file={server.authority} \\\n    | {apply}")
        terminal.run(f"kubectl apply -f {example.file('class.yaml')}")
        place = json.dumps({"spec": {"host": server.host, "port": server.port}})
        patch = f"kubectl patch --local -f {example.file('endpoint.yaml')} --type merge -p '{place}' -o yaml"
        terminal.run(f"{patch} \\\n    | kubectl apply -f -")
        terminal.run(f"kubectl wait --for=condition=Reachable databaseendpoint/{example.endpoint} --timeout=60s")
        terminal.run(f"kubectl get databaseendpoint {example.endpoint} -o wide")

    def apply(self) -> None:
        """A Database until it is Ready, and the Secret that came with it: keys, never values."""
        terminal, example = self.terminal, self.example
        kubectl = f"kubectl -n {NAMESPACE}"
        if not terminal.succeeds(f"kubectl get namespace {NAMESPACE}"):
            terminal.run(f"kubectl create namespace {NAMESPACE}")
        # What an interrupted demo left.
        terminal.ask(f"{kubectl} delete --ignore-not-found pod/{example.pod} database/{example.database}")
        terminal.run(f"{kubectl} apply -f {example.file('database.yaml')}")
        try:
            terminal.follow(f"{kubectl} get database {example.database} --watch", _ready, seconds=90)
        except CommandFailed:
            terminal.run(f"{kubectl} describe database {example.database}")
            raise
        terminal.run(f"{kubectl} describe secret {example.secret}")
        terminal.run(self.server.databases)

    def use(self) -> None:
        """A Pod that knows its database by the Secret alone."""
        terminal, example = self.terminal, self.example
        kubectl = f"kubectl -n {NAMESPACE}"
        image = self.images["provisioner-job"]
        place = f"kubectl set image --local -f {example.file('pod.yaml')} {example.container}={image} -o yaml"
        terminal.run(f"{place} \\\n    | {kubectl} apply -f -")
        done = "jsonpath={.status.phase}=Succeeded"
        terminal.run(f"{kubectl} wait --for='{done}' pod/{example.pod} --timeout=60s")
        terminal.run(f"{kubectl} logs {example.pod}")
        terminal.run(f"{kubectl} delete pod {example.pod} --now")

    def audit(self) -> None:
        """The Operation, and the log of its Job."""
        terminal, example = self.terminal, self.example
        kubectl = f"kubectl -n {OPERATOR}"
        found = f"kubectl -n {NAMESPACE} get database {example.database} -o jsonpath={{.status.lastOperation.name}}"
        operation = terminal.ask(found).strip()
        terminal.run(f"{kubectl} get operation {operation} -o wide")
        terminal.run(f"{kubectl} logs job/{operation}")

    def delete(self) -> None:
        """The Database goes, and with it the database."""
        terminal, example = self.terminal, self.example
        terminal.run(f"kubectl -n {NAMESPACE} delete database {example.database}")
        terminal.run(self.server.databases)
        terminal.run(f"kubectl -n {NAMESPACE} get databases,secrets")
        terminal.run(f"kubectl -n {OPERATOR} get operations -l dbaas.bedag.ch/database-namespace={NAMESPACE}")

    def next_steps(self) -> str:
        """What a person may want to type now."""
        tools = "" if self.settings.existing else '\n  eval "$(python3 -m tests.cluster env)"   # KUBECONFIG and PATH'
        example, database, endpoint = self.example, self.example.database, self.example.endpoint
        others = " or ".join(f"`make demo ENGINE={engine}`" for engine in SERVERS if engine != self.server.engine)
        return f"""
All of it is still there, except the Database. To go on:
{tools}
  kubectl -n {NAMESPACE} apply -f {example.file("database.yaml")}
  kubectl -n {NAMESPACE} get databases -o wide --watch
  kubectl -n {NAMESPACE} describe database {database}
  kubectl -n {OPERATOR} get operations -o wide
  kubectl explain database.spec

See it cope with a server that is away: stop it, apply another Database, look at its reason, start it again.

  {self.server.stop}
  sed 's/name: {database}/name: second/' {example.file("database.yaml")} | kubectl -n {NAMESPACE} apply -f -
  {self.server.start}

See it refuse: an endpoint that does not exist, and an endpoint that is in use.

  sed 's/endpoint: {endpoint}/endpoint: nowhere/' {example.file("database.yaml")} | kubectl -n {NAMESPACE} apply -f -
  kubectl delete databaseendpoint {endpoint}

docs/ has a guide for each role. The demo may be repeated; {others} shows the same on another engine.
`make demo-down` takes away what it made (before `make test`, which installs and uninstalls the operator), and
`make cluster-down` ends the node."""

    def take_away(self) -> None:
        """What the demo made: Databases first, then what they need, the server last. The operator stays."""
        terminal, example = self.terminal, self.example
        if self.settings.existing or not node.problems(self.settings):
            gone = "--ignore-not-found"
            terminal.run(f"kubectl delete namespace {NAMESPACE} {gone}")
            terminal.run(f"kubectl delete databaseendpoint {example.endpoint} {gone}")
            terminal.run(f"kubectl delete -f {example.file('class.yaml')} {gone}")
            terminal.run(f"kubectl -n {OPERATOR} delete secret {example.account} {example.authority} {gone}")
        if self.server.data.exists():
            terminal.run(self.server.stop)
            terminal.run(f"rm -rf {self.server.folder}")


def main(arguments: Sequence[str]) -> int:
    """Tell the demo on one engine, or take away what it left of any; gives the exit code."""
    if len(arguments) != 1 or arguments[0] not in {*SERVERS, DOWN}:
        given = " ".join(arguments) or "nothing"
        print(f"usage: python -m tests.demo {' | '.join([*SERVERS, DOWN])}, and not: {given}", file=sys.stderr)
        return 2
    try:
        settings = Settings.from_env(os.environ)
        with _alone(settings):
            if arguments[0] == DOWN:
                for demo in _left(settings):
                    demo.take_away()
            else:
                _demo(settings, SERVERS[arguments[0]].of(settings)).tell()
    except CommandFailed as failed:
        print(f"\nthe demo ends here: this failed\n  {failed}", file=sys.stderr)
        return 1
    except (ClusterError, Missing) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command begins again with what is there", file=sys.stderr)
        return 130
    return 0


def _ready(line: str) -> bool:
    return "True" in line.split()


def _demo(settings: Settings, server: Server) -> Demo:
    return Demo(settings, Terminal(_environment(settings, server)), server)


def _left(settings: Settings) -> list[Demo]:
    """The demos of all engines whose server is there."""
    servers = [server.of(settings) for server in SERVERS.values()]
    return [_demo(settings, server) for server in servers if server.folder.exists()]


def _environment(settings: Settings, server: Server) -> dict[str, str]:
    tools = f"{settings.bin}:{server.programs()}:{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": tools, "KUBECONFIG": str(settings.kubeconfig)}


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """The end-to-end tests install and remove the same release: one of them at a time."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    with (settings.cache / "e2e.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for the tests that use this cluster", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
