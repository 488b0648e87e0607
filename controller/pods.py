"""The Pods of Jobs, of Operations and probes alike, as manifests. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.kinds import DatabaseEndpoint
from api.labels import (
    CA_DIRECTORY,
    CA_KEY,
    CLIENT_CERTIFICATE_DIRECTORY,
    CREDENTIALS_DIRECTORY,
    JOB_FILES,
    MANAGED_BY_VALUE,
    PASSWORD_KEY,
    TLS_CERTIFICATE_KEY,
    TLS_PRIVATE_KEY_KEY,
    USERNAME_KEY,
)
from controller.settings import JobTemplate

JOB_USER = 65532
FILES = "dbaas"
"""The name of the one volume: each costs start-up time."""


def pod_metadata(template: JobTemplate, labels: Mapping[str, str]) -> dict[str, Any]:
    """Labels and annotations: the chart's, and over them those that the operator goes by."""
    return {
        "labels": {
            **(template.labels or {}),
            **labels,
            "app.kubernetes.io/name": MANAGED_BY_VALUE,
            "app.kubernetes.io/component": "job",
        },
        "annotations": dict(template.annotations or {}),
    }


def pod_spec(
    template: JobTemplate,
    endpoint: DatabaseEndpoint,
    sources: Sequence[Mapping[str, Any]],
    container: Mapping[str, Any],
) -> dict[str, Any]:
    """A Pod of one container of the Job's image. sources: of its files; container: what it is told."""
    # What a Pod need not have, it need not wait for: 10 ms for another volume (a Job writes no file; /dev/shm would
    # take one), 15 ms for a group of files.
    security: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": JOB_USER,
        "runAsGroup": JOB_USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    # The files are root's, and this is the Pod's only container.
    mode = 0o444
    if endpoint.tls.client_certificate_secret:
        # libpq refuses a client key that others can read: root's file, readable by this group alone.
        security["fsGroup"], mode = JOB_USER, 0o440
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "securityContext": security,
        "containers": [
            {
                "name": "provisioner-job",
                "image": template.image,
                "imagePullPolicy": template.image_pull_policy,
                "volumeMounts": [{"name": FILES, "mountPath": JOB_FILES, "readOnly": True}],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "resources": dict(template.resources or {}),
                **container,
            }
        ],
        "volumes": [{"name": FILES, "projected": {"defaultMode": mode, "sources": list(sources)}}],
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in template.image_pull_secrets],
        "nodeSelector": dict(template.node_selector or {}),
        "tolerations": [dict(toleration) for toleration in template.tolerations],
        "priorityClassName": template.priority_class_name,
    }
    return pod | {key: value for key, value in optional.items() if value}


def account_sources(endpoint: DatabaseEndpoint) -> list[dict[str, Any]]:
    """The files that a login takes: the endpoint's account, its CA, its client certificate."""
    sources = [secret_source(endpoint.credentials_secret, CREDENTIALS_DIRECTORY, (USERNAME_KEY, PASSWORD_KEY))]
    if endpoint.tls.ca_secret:
        sources.append(secret_source(endpoint.tls.ca_secret, CA_DIRECTORY, (CA_KEY,)))
    if endpoint.tls.client_certificate_secret:
        keys = (TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY)
        sources.append(secret_source(endpoint.tls.client_certificate_secret, CLIENT_CERTIFICATE_DIRECTORY, keys))
    return sources


def secret_source(name: str, directory: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Keys of a Secret as files of a directory, for a projected volume."""
    return {"secret": {"name": name, "items": [{"key": key, "path": f"{directory}/{key}"} for key in keys]}}
