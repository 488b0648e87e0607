"""A process that holds the lock of `killed` and may be at a call: what is left on a server when a Job is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from api.reasons import Reason
from provisioner_job.drivers.contract import Login, Session
from provisioner_job.errors import Failure

_PROGRAM = """
import json
import sys
from datetime import timedelta
from api.operation import Server
from provisioner_job.drivers import load
from provisioner_job.drivers.contract import Argument, Login, Procedure

driver, server, account, procedure, argument = json.loads(sys.stdin.readline())
session = load(driver)(Login(Server(*server), *account))
session.lock("killed", timedelta(seconds=5))
print("locked", flush=True)
session.call(Procedure(procedure, (Argument(argument, sys.stdin.readline().strip()),), timedelta(seconds=60)))
"""


@dataclass(frozen=True)
class Holder:
    """The process, once it has the lock."""

    process: subprocess.Popen[str]

    def call(self, seconds: float) -> None:
        """Begin the call, which is to take so long; returns at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds:g}\n")
        self.process.stdin.flush()

    def outlasts(self, session: Session) -> None:
        """What it does on the server has not ended with it: the lock is refused, and free some time later."""
        with pytest.raises(Failure) as refused:
            session.lock("killed", timedelta(seconds=0.3))
        session.lock("killed", timedelta(seconds=20))
        assert refused.value.reason is Reason.LOCK_TIMEOUT

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def holding(driver: str, login: Login, procedure: str, argument: str) -> Iterator[Holder]:
    """Start it; `argument` is the name of the procedure's one parameter, the seconds that it takes."""
    asked = [driver, login.server, (login.username, login.password, login.ca_file), procedure, argument]
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "locked\n"
        yield Holder(process)
        process.kill()
