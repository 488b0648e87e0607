"""What the environment may say."""

from __future__ import annotations

import pytest

from kube.environment import SettingsError
from webhook.settings import Settings

LEAST = {
    "DBAAS_NAMESPACE": "dbaas-system",
    "DBAAS_WEBHOOK_TLS_SECRET": "dbaas-webhook-tls",
    "DBAAS_RELEASE": "dbaas",
}


def test_namespace_secret_and_release_are_enough() -> None:
    settings = Settings.from_env(LEAST)

    assert settings == Settings(namespace="dbaas-system", tls_secret="dbaas-webhook-tls", configuration="dbaas")
    assert (settings.port, settings.metrics_port, settings.allow_insecure_endpoints) == (8443, 9090, False)


def test_everything_can_be_said() -> None:
    env = {
        **LEAST,
        "DBAAS_WATCH_NAMESPACES": "b, a,a",
        "DBAAS_WEBHOOK_PORT": "443",
        "DBAAS_METRICS_PORT": "9000",
        "DBAAS_LOG_LEVEL": "DEBUG",
        "DBAAS_ALLOW_INSECURE_ENDPOINTS": "true",
    }

    settings = Settings.from_env(env)

    assert settings.watch_namespaces == ("a", "b")
    assert (settings.port, settings.metrics_port, settings.log_level) == (443, 9000, "debug")
    assert settings.allow_insecure_endpoints


def test_all_that_is_wrong_is_named_at_once() -> None:
    env = {
        "DBAAS_WEBHOOK_PORT": "70000",
        "DBAAS_METRICS_PORT": "-1",
        "DBAAS_LOG_LEVEL": "loud",
        "DBAAS_ALLOW_INSECURE_ENDPOINTS": "perhaps",
        "DBAAS_WATCH_NAMESPACES": "A_B",
    }

    with pytest.raises(SettingsError) as raised:
        Settings.from_env(env)

    for variable in (*env, *LEAST):
        assert f"{variable}: " in str(raised.value)


def test_one_port_cannot_serve_both() -> None:
    with pytest.raises(SettingsError, match="DBAAS_METRICS_PORT: is the same as DBAAS_WEBHOOK_PORT"):
        Settings.from_env({**LEAST, "DBAAS_METRICS_PORT": "8443"})
