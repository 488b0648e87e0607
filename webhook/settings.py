"""What the webhook is told by its environment: read once, refused when it cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kube.logs import LEVELS

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_SWITCH = {"": False, "false": False, "true": True}


class SettingsError(Exception):
    """An environment variable that is missing or wrong; the message names it."""


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
        faults: list[str] = []
        settings = cls(
            namespace=_name(env, "DBAAS_NAMESPACE", faults),
            tls_secret=_name(env, "DBAAS_WEBHOOK_TLS_SECRET", faults),
            configuration=_name(env, "DBAAS_RELEASE", faults),
            watch_namespaces=_names(env, "DBAAS_WATCH_NAMESPACES", faults),
            port=_port(env, "DBAAS_WEBHOOK_PORT", 8443, faults),
            metrics_port=_port(env, "DBAAS_METRICS_PORT", 9090, faults),
            log_level=_choice(env, "DBAAS_LOG_LEVEL", "info", faults),
            allow_insecure_endpoints=_switch(env, "DBAAS_ALLOW_INSECURE_ENDPOINTS", faults),
        )
        if settings.port == settings.metrics_port:
            faults.append("DBAAS_METRICS_PORT: is the same as DBAAS_WEBHOOK_PORT")
        if faults:
            raise SettingsError("; ".join(faults))
        return settings


def _name(env: Mapping[str, str], variable: str, faults: list[str]) -> str:
    value = env.get(variable, "")
    if not _NAME.fullmatch(value):
        faults.append(f"{variable}: {'must be set' if not value else f'{value!r} is no name of an object'}")
    return value


def _names(env: Mapping[str, str], variable: str, faults: list[str]) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in env.get(variable, "").split(",") if name.strip()}))
    faults.extend(f"{variable}: {name!r} is no name of a namespace" for name in names if not _NAME.fullmatch(name))
    return names


def _port(env: Mapping[str, str], variable: str, default: int, faults: list[str]) -> int:
    text = env.get(variable) or str(default)
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        faults.append(f"{variable}: {text!r} is no TCP port")
        return default
    return int(text)


def _choice(env: Mapping[str, str], variable: str, default: str, faults: list[str]) -> str:
    value = (env.get(variable) or default).lower()
    if value not in LEVELS:
        faults.append(f"{variable}: {value!r} is none of {', '.join(LEVELS)}")
    return value


def _switch(env: Mapping[str, str], variable: str, faults: list[str]) -> bool:
    value = env.get(variable, "").lower()
    if value not in _SWITCH:
        faults.append(f"{variable}: {value!r} is neither true nor false")
    return _SWITCH.get(value, False)
