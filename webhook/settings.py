"""What the webhook is told by its environment: read once, refused when it cannot be meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kube.environment import Environment
from kube.logs import LEVELS


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the operator runs and what the chart's values allow."""

    namespace: str
    """The operator's own."""
    tls_secret: str
    """The Secret, in that namespace, with the webhook's certificate and key."""
    configuration: str
    """What both webhook configurations are called."""
    watch_namespaces: tuple[str, ...] = ()
    """The namespaces whose Databases are served; empty: all."""
    port: int = 8443
    """TCP, TLS: reviews and probes."""
    metrics_port: int = 9090
    """TCP, plain HTTP: metrics and probes."""
    log_level: str = "info"
    allow_insecure_endpoints: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read the DBAAS_* variables; SettingsError names all that are wrong, not only the first."""
        read = Environment(env)
        settings = cls(
            namespace=read.name("DBAAS_NAMESPACE"),
            tls_secret=read.name("DBAAS_WEBHOOK_TLS_SECRET"),
            configuration=read.name("DBAAS_RELEASE"),
            watch_namespaces=read.namespaces("DBAAS_WATCH_NAMESPACES"),
            port=read.port("DBAAS_WEBHOOK_PORT", 8443),
            metrics_port=read.port("DBAAS_METRICS_PORT", 9090),
            log_level=read.choice("DBAAS_LOG_LEVEL", LEVELS, "info"),
            allow_insecure_endpoints=read.switch("DBAAS_ALLOW_INSECURE_ENDPOINTS"),
        )
        if settings.port == settings.metrics_port:
            read.fault("DBAAS_METRICS_PORT", "is the same as DBAAS_WEBHOOK_PORT")
        read.finish()
        return settings
