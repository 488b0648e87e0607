"""What the sites of all engines share: an account whose login works, but for what a test changes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from api.operation import Server
from provisioner_job.drivers.contract import Login, Session
from provisioner_job.errors import Failure


class LoginSite(ABC):
    """A server, and an account on it."""

    @property
    @abstractmethod
    def usual(self) -> Login:
        """The login that works."""

    @abstractmethod
    def open(self, login: Login) -> Session:
        """Log in by the driver under test; raises its Failure."""

    def login(self, **changes: Any) -> Login:
        """The usual login; `changes` are fields of Login, or of its Server."""
        server = {name: changes.pop(name) for name in [*changes] if name in Server._fields}
        usual = self.usual
        return usual._replace(server=usual.server._replace(**server))._replace(**changes)

    def connect(self, **changes: Any) -> Session:
        """A session with such a login."""
        return self.open(self.login(**changes))

    def refusal(self, **changes: Any) -> Failure:
        """Why a login that must not work does not."""
        with pytest.raises(Failure) as caught:
            self.connect(**changes).close()
        return caught.value


@contextmanager
def sessions(site: LoginSite) -> Iterator[Callable[[], Session]]:
    """Opens sessions, which end with the block."""
    with ExitStack() as opened:

        def open_session() -> Session:
            session = site.connect()
            opened.callback(session.close)
            return session

        yield open_session
