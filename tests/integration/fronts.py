"""The three engines as a login meets them: how each is told to present itself, and an impostor of each."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from provisioner_job.drivers.contract import Session
from provisioner_job.errors import Failure
from tests.integration.mariadb_site import MariaDBSite
from tests.integration.postgresql_site import Site
from tests.integration.sqlserver_site import PASSWORD, SqlServerSite, double_site
from tests.integration.tds.packets import Encryption
from tests.integration.tds.requests import scrambled
from tests.servers.mariadb import MariaDB
from tests.servers.mariadb_impostor import MariaDBImpostor
from tests.servers.pki import Authority, KeyPair
from tests.servers.postgresql_impostor import PostgreSQLImpostor

Changes = Mapping[str, Any]
"""Fields of a Login or its Server that lead to what was set up."""
Told = Callable[[], bool]
"""Whether an impostor was told anything of a login."""


@dataclass(frozen=True)
class Front(ABC):
    """One engine. What is set up is undone when its context ends."""

    site: Any
    engine: ClassVar[str]
    release: ClassVar[str]
    """With which its server's version begins."""
    hosts: ClassVar[tuple[str, ...]] = ("127.0.0.1", "localhost", "::1")
    """Where it listens, and what its certificate carries."""

    def __str__(self) -> str:
        return self.engine

    @property
    def authority(self) -> Authority:
        """Whom its endpoint trusts."""
        authority: Authority = self.site.authority
        return authority

    @property
    def stranger(self) -> Authority:
        """Whom nobody trusts."""
        stranger: Authority = self.site.stranger
        return stranger

    @property
    def port(self) -> int:
        """Where the server listens that shows certificates."""
        port: int = self.site.server.port
        return port

    @property
    def certificate(self) -> KeyPair:
        """What the server shows."""
        good: KeyPair = self.site.good
        return good

    @property
    def username(self) -> str:
        username: str = self.site.username
        return username

    def connect(self, **changes: Any) -> Session:
        session: Session = self.site.connect(**changes)
        return session

    def refusal(self, **changes: Any) -> Failure:
        failure: Failure = self.site.refusal(**changes)
        return failure

    @abstractmethod
    def showing(self, certificate: KeyPair) -> AbstractContextManager[Changes]:
        """The server shows this certificate."""

    @abstractmethod
    def plain(self) -> AbstractContextManager[Changes]:
        """The server has no TLS."""

    @abstractmethod
    def of_yesterday(self) -> AbstractContextManager[Changes]:
        """The server speaks nothing newer than TLS 1.2."""

    @abstractmethod
    def demanding_certificate(self) -> AbstractContextManager[Changes]:
        """The account needs a client's certificate of the authority, with its own name."""

    @abstractmethod
    def impostor(self, certificate: KeyPair | None) -> AbstractContextManager[tuple[Changes, Told]]:
        """Somebody who wants the password; without a certificate: who took the offer of TLS away."""


class PostgreSQLFront(Front):
    """The real one, reconfigured while it runs."""

    engine = "postgresql"
    release = "PostgreSQL 1"
    site: Site

    @contextmanager
    def _restored(self) -> Iterator[Changes]:
        try:
            yield {}
        finally:
            self.site.server.hba()
            self.site.server.configure({"ssl": "on", "ssl_max_protocol_version": ""})
            self.site.server.present(self.site.good)

    @contextmanager
    def showing(self, certificate: KeyPair) -> Iterator[Changes]:
        with self._restored() as changes:
            self.site.server.present(certificate)
            yield changes

    @contextmanager
    def plain(self) -> Iterator[Changes]:
        with self._restored() as changes:
            self.site.server.hba(f"host all {self.username} 127.0.0.1/32 scram-sha-256")
            self.site.server.configure({"ssl": "off"})
            yield changes

    @contextmanager
    def of_yesterday(self) -> Iterator[Changes]:
        with self._restored() as changes:
            self.site.server.configure({"ssl_max_protocol_version": "TLSv1.2"})
            yield changes

    @contextmanager
    def demanding_certificate(self) -> Iterator[Changes]:
        with self._restored() as changes:
            self.site.server.hba(f"hostssl all {self.username} 127.0.0.1/32 cert")
            self.site.server.reload()
            yield changes

    @contextmanager
    def impostor(self, certificate: KeyPair | None) -> Iterator[tuple[Changes, Told]]:
        with PostgreSQLImpostor(certificate) as impostor:
            yield {"port": impostor.port}, lambda: impostor.heard != b""


class MariaDBFront(Front):
    """The real one; what it cannot change while it runs, another one has."""

    engine = "mariadb"
    release = "MariaDB 1"
    site: MariaDBSite

    @contextmanager
    def showing(self, certificate: KeyPair) -> Iterator[Changes]:
        self.site.server.present(certificate)
        try:
            yield {}
        finally:
            self.site.server.present(self.site.good)

    @contextmanager
    def _another(self, certificate: KeyPair | None, tls_version: str = "TLSv1.2,TLSv1.3") -> Iterator[Changes]:
        with MariaDB.temporary() as server:
            server.start(certificate, tls_version=tls_version)
            replace(self.site, server=server).make_account()
            yield {"port": server.port}

    def plain(self) -> AbstractContextManager[Changes]:
        return self._another(None)

    def of_yesterday(self) -> AbstractContextManager[Changes]:
        return self._another(self.site.good, tls_version="TLSv1.2")

    @contextmanager
    def demanding_certificate(self) -> Iterator[Changes]:
        self.site.make_account(f"REQUIRE SUBJECT '/CN={self.username}'")
        try:
            yield {}
        finally:
            self.site.make_account()

    @contextmanager
    def impostor(self, certificate: KeyPair | None) -> Iterator[tuple[Changes, Told]]:
        with MariaDBImpostor(certificate, "mysql_clear_password") as impostor:
            yield {"port": impostor.port}, lambda: impostor.heard != b""


class SqlServerFront(Front):
    """The double, one for each thing that it is told; so it is its own impostor."""

    engine = "sqlserver"
    release = "SQL Server 16.0.4135.4 Developer Edition (64-bit)"
    hosts = ("127.0.0.1", "localhost")
    site: SqlServerSite

    def __str__(self) -> str:
        library = self.site.target.library
        return f"{self.engine} by {library.name if library else 'no driver'}"

    @contextmanager
    def _double(self, **behaviour: Any) -> Iterator[SqlServerSite]:
        site = self.site
        with double_site(site.target, site.authority, site.stranger, site.good) as double:
            for name, value in behaviour.items():
                setattr(double.behaviour, name, value)
            yield double

    @contextmanager
    def _changed(self, **behaviour: Any) -> Iterator[Changes]:
        with self._double(**behaviour) as double:
            yield {"port": double.server.port}

    def showing(self, certificate: KeyPair) -> AbstractContextManager[Changes]:
        return self._changed(certificate=certificate)

    def plain(self) -> AbstractContextManager[Changes]:
        return self._changed(encryption=Encryption.NOT_SUPPORTED)

    def of_yesterday(self) -> AbstractContextManager[Changes]:
        return self._changed(newest_tls=ssl.TLSVersion.TLSv1_2)

    def demanding_certificate(self) -> AbstractContextManager[Changes]:
        return self._changed(client_ca=self.authority.file)

    @contextmanager
    def impostor(self, certificate: KeyPair | None) -> Iterator[tuple[Changes, Told]]:
        """Who takes the offer away would encrypt the login alone: what a driver by itself might not notice."""
        with self._double(
            encryption=Encryption.OFF if certificate is None else Encryption.ON,
            certificate=certificate or self.site.good,
        ) as double:

            def told() -> bool:
                assert double.double is not None
                double.double.wait_idle()
                spoken = (scrambled(PASSWORD), PASSWORD.encode("utf-16-le"), PASSWORD.encode())
                return bool(double.world.logins) or any(text in bytes(double.world.in_clear) for text in spoken)

            yield {"port": double.server.port}, told
