"""The seam between a Job's story and a database engine: what a driver is given, and what it must keep.

Every driver keeps these promises, whatever its engine:
- the server is verified as the endpoint demands before a password is sent;
- values are bound, never written into a statement; names are resolved or quoted by the engine's rules;
- every wait ends: connecting, locking and calling each have a time limit, on the server and here;
- only `Failure` escapes, in words that hold no secret and nothing that a server quotes from its statements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from api.operation import Connection, Server

if TYPE_CHECKING:  # for probes alone: an Operation's Job does without the import
    from api.probe import Inspection

Result: TypeAlias = Mapping[str, str]
"""Result keys and their texts, in the server's order; NULL is ""."""


class Login(NamedTuple):
    """Whom to connect to, as whom, and what the connection must prove."""

    server: Server
    username: str
    password: str
    ca_file: str | None = None
    """Path of the PEM file to trust; `server.ca_bundle` comes first; with neither, the image's public CAs."""
    client_certificate: tuple[str, str] | None = None
    """Paths of a PEM certificate (with its chain) and of its private key."""
    connect_timeout: timedelta = timedelta(seconds=10)
    """For everything until the server has accepted the login: name resolution, TCP, TLS, authentication."""

    def __repr__(self) -> str:
        # Without the password.
        return f"Login({self.username!r} at {self.server!r})"


class Argument(NamedTuple):
    """One argument; a name of digits ("0", "1", …) is a position, any other is the procedure's own name for it."""

    name: str
    value: str

    def __repr__(self) -> str:
        # The value may be a password.
        return f"Argument({self.name!r})"


class Procedure(NamedTuple):
    """One call of a stored procedure."""

    name: str
    """As the class gives it: `create_database`, `dbaas.create_database`, `dbaas."Create"`."""
    arguments: tuple[Argument, ...] = ()
    timeout: timedelta = timedelta(seconds=60)
    """For the whole call; then it is cancelled on the server."""
    returns: bool = True
    """Whether its result matters: False (a delete) reads it to the end, believes errors only, and gives {}."""
    silent: bool = False
    """Whether it may return nothing, which gives {}: a rotate, for the create after it says the rest."""


class Session(Protocol):
    """One connection, logged in and verified. Used by one thread, except `cancel`."""

    @property
    def connection(self) -> Connection:
        """What the connection turned out to be, for the auditor; costs nothing to ask for."""

    def lock(self, identity: str, timeout: timedelta) -> None:
        """Hold the server-side lock of this identity until the session ends.

        identity: already normalised; two sessions with the same text exclude each other, whatever its length.
        Raises Failure(LOCK_TIMEOUT) when another session still holds it after `timeout`.
        """

    def call(self, procedure: Procedure) -> Result:
        """Call it, read every result to the end, and give the last one as key → text.

        Raises Failure, not `entered` where that is sure: PROCEDURE_MISSING, PROCEDURE_AMBIGUOUS, PERMISSION_DENIED and
        most ARGUMENTS_INVALID before anything ran; PROCEDURE_FAILED, TIMEOUT, INTERRUPTED, DEADLOCK, LOCK_TIMEOUT,
        CONNECTION_LOST when it may have had an effect; RESULT_INVALID when its result has, or will have, another shape;
        ALREADY_EXISTS when the server says that the database, or its login, that the procedure creates is there.
        """

    def inspect(self, name: str) -> Inspection:
        """What the catalogue tells of the procedure that this name means, without calling it.

        Raises Failure: PROCEDURE_MISSING for a name that is none, or that nothing has which the account can see;
        CONNECTION_LOST, TIMEOUT, PROCEDURE_FAILED when the catalogue does not answer.
        """

    def cancel(self) -> None:
        """Cancel on the server what runs now; whoever waits for it gets Failure(INTERRUPTED).

        Callable from another thread and from a signal handler; returns within a few seconds, raises nothing, and may be
        called when nothing runs: then the next `lock` or `call` fails so.
        """

    def close(self) -> None:
        """End the session and its lock; raises nothing, may be called twice."""


Connect: TypeAlias = Callable[[Login], Session]
"""Raises Failure with the reasons for network, TLS and login."""
