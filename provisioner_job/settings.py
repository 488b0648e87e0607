"""What a Job is started with: read once from the environment; a Job that would not know what to do refuses to start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from api.labels import JOB_FILES, NAMESPACE_ENV, OPERATION_ENV

SERVICE_ACCOUNT_FILES = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a Pod's token and the API server's CA (Kubernetes documentation, "Service Accounts")."""
REQUEST_SECONDS = 10.0
"""For one answer of the API server."""
CONNECT_SECONDS = 15.0
"""Beside an operation's timeout: for the Secret's check, the connection and the login."""
STOP_SECONDS = 22.0
"""From SIGTERM until what runs is cancelled; a Pod is killed after 30 s (terminationGracePeriodSeconds)."""
_HOST_ENV = "KUBERNETES_SERVICE_HOST"
_PORT_ENV = "KUBERNETES_SERVICE_PORT"


class InvalidSettings(ValueError):
    """The environment does not say what to do; the message names everything that is missing."""


class Settings(NamedTuple):
    """Whom to ask, and where the files are; no secret is among it."""

    operation: str
    namespace: str
    """The operator's own: Operations live there."""
    host: str
    port: int
    token_file: str
    ca_file: str
    files: str
    """Folder of the endpoint's credentials and TLS files, in the layout of `api.labels`."""
    request_seconds: float = REQUEST_SECONDS
    stop_seconds: float = STOP_SECONDS
    connect_seconds: float = CONNECT_SECONDS

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, files: str = JOB_FILES, service_account: str = SERVICE_ACCOUNT_FILES
    ) -> Settings:
        """Read a Pod's environment; raises InvalidSettings with every fault at once."""
        names = (OPERATION_ENV, NAMESPACE_ENV, _HOST_ENV, _PORT_ENV)
        faults = [f"{name} is not set" for name in names if not environ.get(name)]
        port = environ.get(_PORT_ENV, "")
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            faults.append(f"{_PORT_ENV} is not a port")
        token_file, ca_file = (os.path.join(service_account, name) for name in ("token", "ca.crt"))
        faults += [f"{path} is not a file" for path in (token_file, ca_file) if not os.path.isfile(path)]
        if not os.path.isdir(files):
            faults.append(f"{files} is not a folder")
        if faults:
            raise InvalidSettings("; ".join(faults))
        return cls(
            operation=environ[OPERATION_ENV],
            namespace=environ[NAMESPACE_ENV],
            host=environ[_HOST_ENV],
            port=int(port),
            token_file=token_file,
            ca_file=ca_file,
            files=files,
        )
