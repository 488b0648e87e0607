"""A Job that would not know what to do refuses to start, and says everything that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner_job.settings import InvalidSettings, Settings

ENVIRONMENT = {
    "DBAAS_OPERATION": "dbi-1-1",
    "DBAAS_NAMESPACE": "dbaas-system",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
}


@pytest.fixture
def account(tmp_path: Path) -> str:
    """The files that the kubelet mounts."""
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x")
    return str(tmp_path)


def test_a_pods_environment_is_read(account: str) -> None:
    settings = Settings.from_env(ENVIRONMENT, files=account, service_account=account)

    assert (settings.operation, settings.namespace) == ("dbi-1-1", "dbaas-system")
    assert (settings.host, settings.port) == ("10.96.0.1", 443)
    assert Path(settings.token_file).name == "token"


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        Settings.from_env({"DBAAS_OPERATION": ""}, files=str(tmp_path / "no"), service_account=str(tmp_path))

    for name in (*ENVIRONMENT, "token", "ca.crt", "no is not a folder"):
        assert name in str(refusal.value)


@pytest.mark.parametrize("port", ["0", "65536", "https", "-1", "²"])
def test_a_port_that_is_none_is_refused(account: str, port: str) -> None:
    environment = ENVIRONMENT | {"KUBERNETES_SERVICE_PORT": port}

    with pytest.raises(InvalidSettings, match="KUBERNETES_SERVICE_PORT is not a port"):
        Settings.from_env(environment, files=account, service_account=account)
