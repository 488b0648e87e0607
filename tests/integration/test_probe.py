"""A probe as it runs in its container: a file in, last words out, on a real server of each engine that there is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.labels import CA_DIRECTORY, CA_KEY, CREDENTIALS_DIRECTORY, PASSWORD_KEY, PROBE_FILE, USERNAME_KEY
from api.operation import Server
from api.probe import ProbeReport, ProbeSpec
from api.reasons import Reason
from provisioner_job import probe
from provisioner_job.drivers.contract import Login
from tests.integration.mariadb_site import MariaDBSchema, MariaDBSite
from tests.integration.postgresql_site import Schema, Site
from tests.integration.sqlserver_site import SqlServerSite

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Container:
    """What the kubelet would make for a probe."""

    folder: Path

    def run(self, driver: str, login: Login, procedures: Mapping[str, str], **server: object) -> ProbeReport:
        """Probe with the files of this login."""
        spec = ProbeSpec(driver, login.server._replace(**server), procedures)  # type: ignore[arg-type]
        files = {
            PROBE_FILE: spec.text(),
            f"{CREDENTIALS_DIRECTORY}/{USERNAME_KEY}": login.username,
            f"{CREDENTIALS_DIRECTORY}/{PASSWORD_KEY}": login.password,
        }
        if login.ca_file:
            files[f"{CA_DIRECTORY}/{CA_KEY}"] = Path(login.ca_file).read_text()
        for name, text in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)
        words = self.folder / "termination-log"

        assert probe.run(str(self.folder), str(words)) == probe.DONE
        return ProbeReport.parse(words.read_text())


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def events(said: str) -> list[str]:
    return [json.loads(line)["event"] for line in said.splitlines()]


def test_a_probe_of_postgresql_tells_server_tls_and_procedures(
    container: Container, site: Site, schema: Schema, capfd: pytest.CaptureFixture[str]
) -> None:
    schema.function("make() RETURNS text", "SELECT ''", "sql")
    report = container.run("postgres", site.login(), {"create": f"{schema.name}.make", "delete": "no_such_thing"})
    output = capfd.readouterr().out

    assert report.reason is Reason.SUCCEEDED
    assert report.connection["serverVersion"].startswith("PostgreSQL 1")
    assert report.connection["tlsVersion"] == "TLSv1.3"
    assert report.connection["peerCertificateNotAfter"].endswith("Z")
    assert report.procedures["create"].found is True
    assert report.procedures["create"].callable is True
    assert report.procedures["delete"].found is False
    assert "no_such_thing does not exist" in report.procedures["delete"].message
    assert events(output) == ["connected", "inspected", "inspected"]
    assert site.password not in output


def test_a_probe_of_mariadb_tells_server_tls_and_procedures(
    container: Container, mariadb: MariaDBSite, mariadb_schema: MariaDBSchema
) -> None:
    mariadb_schema.procedure("make()", "SELECT 1")
    report = container.run("mariadb", mariadb.login(), {"create": f"{mariadb_schema.name}.make"})

    assert report.reason is Reason.SUCCEEDED
    assert report.connection["serverVersion"].startswith("MariaDB 1")
    assert report.connection["tlsVersion"] == "TLSv1.3"
    assert report.procedures["create"].public is False


def test_a_probe_of_sql_server_tells_server_tls_and_procedures(container: Container, sqlserver: SqlServerSite) -> None:
    report = container.run("sqlserver", sqlserver.login(), {"create": "dbaas.no_such_thing"})

    assert report.reason is Reason.SUCCEEDED
    assert report.connection["serverVersion"].startswith("SQL Server 16.")
    assert report.connection["tlsVersion"].startswith("TLSv1.")
    assert report.procedures["create"].found is False


def test_a_probe_says_why_it_could_not_log_in(
    container: Container, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the same reason and words as an Operation; nothing of a password."""
    wrong = container.run("postgres", site.login(password="wr0ng-Passw0rd"), {"create": "p"})
    nobody = container.run("postgres", site.login(), {"create": "p"}, port=1)
    driverless = container.run("oracle", site.login(), {"create": "p"})
    output = capfd.readouterr().out

    assert wrong.reason is Reason.CREDENTIALS_REFUSED
    assert not wrong.connection
    assert not wrong.procedures
    assert nobody.reason is Reason.ENDPOINT_UNREACHABLE
    assert "127.0.0.1:1 cannot be reached: connection refused" in nobody.message
    assert driverless.reason is Reason.DRIVER_MISSING
    assert "wr0ng-Passw0rd" not in output
    assert set(events(output)) == {"failed"}


def test_a_probe_without_its_files_says_what_is_missing(
    container: Container, site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    words = container.folder / "words"
    code = probe.run(str(container.folder), str(words))
    server = Server("main", "127.0.0.1", site.server.port, "postgres")
    (container.folder / PROBE_FILE).write_text(ProbeSpec("postgres", server, {}).text())
    keyless = probe.run(str(container.folder), str(words))

    assert code == probe.UNUSABLE
    assert PROBE_FILE in capfd.readouterr().out
    assert keyless == probe.DONE
    assert ProbeReport.parse(words.read_text()).reason is Reason.ENDPOINT_INVALID
