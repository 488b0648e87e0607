"""Processes known by a mark in their environment: no stale pid file, no mistaken identity."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.settings import ClusterError


@dataclass(frozen=True)
class Process:
    """One running process. `name` is the name it was called under."""

    pid: int
    name: str
    started: float
    stopped: bool


class Processes:
    """The processes with one mark; every question is answered from /proc, at the moment it is asked."""

    def __init__(self, mark: str, value: Path) -> None:
        self._mark = f"{mark}={value}".encode()
        self.environment = {mark: str(value)}

    def all(self) -> list[Process]:
        """Return every process with the mark; children inherit it."""
        return [process for pid in _pids() if (process := self._read(pid))]

    def named(self, name: str) -> Process | None:
        """Return the process that was called under this name, if it runs."""
        return next((process for process in self.all() if process.name == name), None)

    def send(self, process: Process, number: signal.Signals) -> None:
        """Signal exactly this process: a pid that has gone to another in the meantime is left alone."""
        with self._held(process) as handle:
            if handle is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)

    def kill(self, *names: str, seconds: float = 10.0) -> None:
        """End the processes of these names, or all if none is given; when it returns, their ports are free."""
        deadline = time.monotonic() + seconds
        while found := [process for process in self.all() if not names or process.name in names]:
            with ExitStack() as stack:
                held = {process: stack.enter_context(self._held(process)) for process in found}
                ending = {process: handle for process, handle in held.items() if handle is not None}
                for handle in ending.values():
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                # Its memory goes first, and with it all that /proc says of it; its sockets are open for a while yet.
                left = [process for process, handle in ending.items() if not _ended(handle, deadline)]
            if left:
                raise ClusterError(f"cannot end {', '.join(f'{p.name} ({p.pid})' for p in left)}")

    @contextmanager
    def _held(self, process: Process) -> Iterator[int | None]:
        """A pidfd of exactly this process; None if it is gone."""
        try:
            handle = os.pidfd_open(process.pid)
        except ProcessLookupError:
            yield None
            return
        try:
            now = self._read(process.pid)
            yield handle if now and now.started == process.started else None
        finally:
            os.close(handle)

    def _read(self, pid: int) -> Process | None:
        folder = Path("/proc", str(pid))
        try:
            if self._mark not in (folder / "environ").read_bytes().split(b"\0"):
                return None
            argv0 = (folder / "cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace")
            after_name = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        started = _boot_time() + int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return Process(pid, Path(argv0).name, started, stopped=after_name[0] == "T")


def _ended(handle: int, deadline: float) -> bool:
    """Whether the process of a pidfd ends in time, with all that it had open."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def listener(port: int) -> str | None:
    """Say which process listens on a TCP port; None if the port is free."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net", table), port)}
    if not inodes:
        return None
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for pid in _pids():
        with suppress(OSError):
            if any(os.readlink(entry.path) in sockets for entry in os.scandir(f"/proc/{pid}/fd")):
                return f"{Path(f'/proc/{pid}/comm').read_text('utf-8').strip()} (pid {pid})"
    return "a process that does not show itself"


def _listening(table: Path, port: int) -> Iterator[str]:
    if not table.exists():
        return
    for line in table.read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
            yield fields[9]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _boot_time() -> float:
    for line in Path("/proc/stat").read_text("ascii").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ClusterError("/proc/stat does not say when the machine booted")
