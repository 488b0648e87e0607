"""What the controller is told at its start: read once, refused whole when wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from kube.client import REQUEST_TIMEOUT
from kube.environment import Environment
from kube.logs import LEVELS

ISSUERS = ("controller", "cert-manager")
"""Who makes the webhook's certificate."""


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """What every Job's Pod is given besides its Operation; from the chart's `jobs` values."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    resources: Mapping[str, Any] | None = None
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class_name: str = ""
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None

    @classmethod
    def parse(cls, image: str, template: Mapping[str, Any]) -> Self:
        """Read DBAAS_JOB_TEMPLATE."""
        return cls(
            image=image,
            image_pull_policy=template.get("imagePullPolicy") or "IfNotPresent",
            image_pull_secrets=tuple(
                secret if isinstance(secret, str) else secret["name"]
                for secret in template.get("imagePullSecrets") or ()
            ),
            resources=template.get("resources"),
            node_selector=template.get("nodeSelector"),
            tolerations=tuple(template.get("tolerations") or ()),
            priority_class_name=template.get("priorityClassName") or "",
            labels=template.get("labels"),
            annotations=template.get("annotations"),
        )


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Whose certificate to keep, and where."""

    service: str
    configuration: str
    """Name of the mutating and of the validating configuration."""
    ca_secret: str
    tls_secret: str
    issuer: str
    """One of `ISSUERS`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the controller's Deployment says."""

    namespace: str
    release: str
    pod: str
    log_level: str
    watch_namespaces: tuple[str, ...]
    """Empty: all."""
    job: JobTemplate
    declared_secret: str
    webhook: WebhookSettings
    keep_operations: timedelta
    keep_operations_least: int
    inspect_secrets: timedelta
    """In how long every user's Secret is looked at once."""
    allow_insecure_endpoints: bool
    request_seconds: int
    """How long to wait for an answer of the API server."""
    metrics_port: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the environment; raises SettingsError naming every variable that is missing or wrong."""
        read = Environment(environ)
        settings = cls(
            namespace=read.name("DBAAS_NAMESPACE"),
            release=read.name("DBAAS_RELEASE"),
            pod=read.name("DBAAS_POD_NAME"),
            log_level=read.choice("DBAAS_LOG_LEVEL", LEVELS, "info"),
            watch_namespaces=read.namespaces("DBAAS_WATCH_NAMESPACES"),
            job=JobTemplate.parse(read.text("DBAAS_JOB_IMAGE"), read.json("DBAAS_JOB_TEMPLATE")),
            declared_secret=read.name("DBAAS_DECLARED_SECRET", ""),
            webhook=WebhookSettings(
                service=read.name("DBAAS_WEBHOOK_SERVICE"),
                configuration=read.name("DBAAS_WEBHOOK_CONFIGURATION"),
                ca_secret=read.name("DBAAS_WEBHOOK_CA_SECRET"),
                tls_secret=read.name("DBAAS_WEBHOOK_TLS_SECRET"),
                issuer=read.choice("DBAAS_CERTIFICATES", ISSUERS, "controller"),
            ),
            keep_operations=timedelta(days=read.number("DBAAS_KEEP_OPERATIONS_DAYS", 90)),
            keep_operations_least=read.number("DBAAS_KEEP_OPERATIONS_LEAST", 20),
            inspect_secrets=timedelta(seconds=read.number("DBAAS_INSPECT_SECRETS_SECONDS", 3600)),
            allow_insecure_endpoints=read.switch("DBAAS_ALLOW_INSECURE_ENDPOINTS"),
            request_seconds=read.number("DBAAS_REQUEST_SECONDS", int(REQUEST_TIMEOUT)),
            metrics_port=read.port("DBAAS_METRICS_PORT", 9090),
        )
        read.finish()
        return settings
