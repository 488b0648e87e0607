"""What the controller is told at its start: read once, refused whole when wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Self

from kube.client import REQUEST_TIMEOUT


class SettingsError(ValueError):
    """The environment lacks something or contradicts itself; the message names every fault."""


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
    issuer: Literal["controller", "cert-manager"]


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
        read = _Environment(environ)
        settings = cls(
            namespace=read.text("DBAAS_NAMESPACE"),
            release=read.text("DBAAS_RELEASE"),
            pod=read.text("DBAAS_POD_NAME"),
            log_level=read.text("DBAAS_LOG_LEVEL", "info").lower(),
            watch_namespaces=tuple(n for n in read.text("DBAAS_WATCH_NAMESPACES", "").split(",") if n),
            job=JobTemplate.parse(read.text("DBAAS_JOB_IMAGE"), read.json("DBAAS_JOB_TEMPLATE")),
            declared_secret=read.text("DBAAS_DECLARED_SECRET", ""),
            webhook=WebhookSettings(
                service=read.text("DBAAS_WEBHOOK_SERVICE"),
                configuration=read.text("DBAAS_WEBHOOK_CONFIGURATION"),
                ca_secret=read.text("DBAAS_WEBHOOK_CA_SECRET"),
                tls_secret=read.text("DBAAS_WEBHOOK_TLS_SECRET"),
                issuer="cert-manager"
                if read.text("DBAAS_CERTIFICATES", "controller") == "cert-manager"
                else "controller",
            ),
            keep_operations=timedelta(days=read.number("DBAAS_KEEP_OPERATIONS_DAYS", 90)),
            keep_operations_least=read.number("DBAAS_KEEP_OPERATIONS_LEAST", 20),
            inspect_secrets=timedelta(seconds=read.number("DBAAS_INSPECT_SECRETS_SECONDS", 3600)),
            allow_insecure_endpoints=read.text("DBAAS_ALLOW_INSECURE_ENDPOINTS", "false") == "true",
            request_seconds=read.number("DBAAS_REQUEST_SECONDS", int(REQUEST_TIMEOUT)),
            metrics_port=read.number("DBAAS_METRICS_PORT", 9090),
        )
        read.finish()
        return settings


class _Environment:
    """Collects faults instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name, default)
        if value is None:
            self._faults.append(f"{name} is not set")
            return ""
        return value

    def number(self, name: str, default: int) -> int:
        text = self._environ.get(name, str(default))
        if not text.isascii() or not text.isdigit():
            self._faults.append(f"{name} is {text!r}, not a number")
            return default
        return int(text)

    def json(self, name: str) -> Mapping[str, Any]:
        try:
            value = json.loads(self._environ.get(name, "{}"))
        except ValueError as error:
            self._faults.append(f"{name} is not JSON: {error}")
            return {}
        if not isinstance(value, dict):
            self._faults.append(f"{name} is not a JSON object")
            return {}
        return value

    def finish(self) -> None:
        if self._faults:
            raise SettingsError("; ".join(self._faults))
