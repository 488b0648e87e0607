"""The objects that the controller creates, as manifests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from api.kinds import DatabaseEndpoint
from api.labels import (
    GENERATED_DIRECTORY,
    LABEL_DATABASE,
    LABEL_DATABASE_NAMESPACE,
    LABEL_ENDPOINT,
    LABEL_INSTANCE,
    LABEL_OPERATION_TYPE,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    NAMESPACE_ENV,
    OPERATION_ENV,
    PASSWORD_KEY,
)
from api.operation import OperationSpec, SecretTarget, operation_name
from api.resources import API_VERSION, OPERATIONS
from controller.ledger import Entry
from controller.pods import account_sources, pod_metadata, pod_spec, secret_source
from controller.settings import JobTemplate
from controller.steps import ClaimInstance, Frozen

JOB_MARGIN = timedelta(minutes=10)
"""Beyond the operation's timeout: for the image, and for a Secret and a report that wait for an API server that is away
(four minutes each). A deadline kill deletes the Pod with its log, so it comes last."""


def instance_manifest(claim: ClaimInstance) -> dict[str, Any]:
    """A DatabaseInstance that claims."""
    metadata = claim.database.metadata
    return {
        "metadata": {
            "name": claim.name,
            "labels": {
                MANAGED_BY: MANAGED_BY_VALUE,
                LABEL_DATABASE: metadata.name,
                LABEL_DATABASE_NAMESPACE: metadata.namespace,
            },
        },
        "spec": {
            **frozen_manifest(claim.frozen),
            "claimRef": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid},
        },
    }


def frozen_manifest(frozen: Frozen) -> dict[str, Any]:
    """The part of an instance's spec that is rendered from the request."""
    return {
        "endpoint": frozen.endpoint,
        "className": frozen.class_name,
        "classGeneration": frozen.class_generation,
        "driver": frozen.driver,
        "identity": frozen.identity,
        "operations": {kind: call.manifest() for kind, call in frozen.calls},
        "deletionPolicy": frozen.deletion_policy,
    }


def operation_manifest(spec: OperationSpec, namespace: str) -> dict[str, Any]:
    """An Operation in the operator's namespace."""
    return {
        "metadata": {
            "name": operation_name(spec.instance, spec.sequence, spec.attempt),
            "namespace": namespace,
            "labels": {
                MANAGED_BY: MANAGED_BY_VALUE,
                LABEL_DATABASE: spec.database.name,
                LABEL_DATABASE_NAMESPACE: spec.database.namespace,
                LABEL_INSTANCE: spec.instance,
                LABEL_ENDPOINT: spec.server.endpoint[:63].rstrip("-."),
                LABEL_OPERATION_TYPE: spec.type,
            },
        },
        "spec": spec.manifest(),
    }


def account_manifest(entry: Entry, namespace: str) -> dict[str, Any]:
    """The ServiceAccount of one Job. Made first and removed last: it marks that rights may exist.

    So it does not go with its Operation: one that somebody deletes leaves its Job's rights behind.
    """
    return {"metadata": {**_metadata(entry), "namespace": namespace}}


def role_manifest(entry: Entry) -> dict[str, Any]:
    """What a Job may do in its user's namespace: write one Secret, by name."""
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [entry.secret],
        "verbs": ["create", "get", "patch"],
    }
    return {"metadata": {**_metadata(entry), "namespace": entry.database[0]}, "rules": [rule]}


def role_binding_manifest(entry: Entry, namespace: str) -> dict[str, Any]:
    """Gives that Role to the Job's ServiceAccount."""
    return {
        "metadata": {**_metadata(entry), "namespace": entry.database[0]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": entry.name},
        "subjects": [{"kind": "ServiceAccount", "name": entry.name, "namespace": namespace}],
    }


def reader_manifest(spec: OperationSpec, secret: SecretTarget) -> dict[str, Any]:
    """The Role through which the controller looks after the user's Secret; the Secret's owner too.

    It lives as long as the claim does: deleted, it takes the Secret along. One that does not belong to it (backup tools
    restore no owner references) is deleted by name, which is no more than deleting the Role does.
    """
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret.name], "verbs": ["delete", "get"]}
    return {"metadata": _reader_metadata(spec), "rules": [rule]}


def reader_binding_manifest(spec: OperationSpec, account: str, namespace: str) -> dict[str, Any]:
    """Gives that Role to the controller's ServiceAccount."""
    return {
        "metadata": _reader_metadata(spec),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": spec.instance},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def _reader_metadata(spec: OperationSpec) -> dict[str, Any]:
    labels = {
        MANAGED_BY: MANAGED_BY_VALUE,
        LABEL_DATABASE: spec.database.name,
        LABEL_DATABASE_NAMESPACE: spec.database.namespace,
        LABEL_INSTANCE: spec.instance,
    }
    return {"name": spec.instance, "namespace": spec.database.namespace, "labels": labels}


def password_name(entry: Entry) -> str:
    """The Secret of a generated password: one for all attempts of a sequence."""
    return f"{entry.instance}-{entry.sequence}"


def password_manifest(entry: Entry, namespace: str, password: str) -> dict[str, Any]:
    """A generated password; immutable, so that every attempt finds the same."""
    metadata = {**_metadata(entry), "name": password_name(entry), "namespace": namespace}
    return {"metadata": metadata, "immutable": True, "type": "Opaque", "stringData": {PASSWORD_KEY: password}}


def job_manifest(entry: Entry, endpoint: DatabaseEndpoint, namespace: str, template: JobTemplate) -> dict[str, Any]:
    """The Job of one Operation. `backoffLimit: 0`: a retry is a new Operation."""
    deadline = entry.timeout + JOB_MARGIN
    return {
        "metadata": {**_metadata(entry), "namespace": namespace, "ownerReferences": [_owner(entry)]},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(deadline.total_seconds()),
            "template": {
                "metadata": pod_metadata(template, _metadata(entry)["labels"]),
                "spec": {**_pod(entry, endpoint, namespace, template), "serviceAccountName": entry.name},
            },
        },
    }


def _pod(entry: Entry, endpoint: DatabaseEndpoint, namespace: str, template: JobTemplate) -> dict[str, Any]:
    sources = account_sources(endpoint)
    if entry.generated:
        sources.append(secret_source(password_name(entry), GENERATED_DIRECTORY, (PASSWORD_KEY,)))
    told = [{"name": OPERATION_ENV, "value": entry.name}, {"name": NAMESPACE_ENV, "value": namespace}]
    return pod_spec(template, endpoint, sources, {"env": told})


def _metadata(entry: Entry) -> dict[str, Any]:
    namespace, name = entry.database
    labels = {
        MANAGED_BY: MANAGED_BY_VALUE,
        LABEL_DATABASE: name,
        LABEL_DATABASE_NAMESPACE: namespace,
        LABEL_INSTANCE: entry.instance,
        LABEL_OPERATION_TYPE: entry.type,
    }
    return {"name": entry.name, "labels": labels}


def _owner(entry: Entry) -> Mapping[str, Any]:
    # No blockOwnerDeletion: it would ask for a right on operations/finalizers, and nothing waits for these.
    return {
        "apiVersion": API_VERSION,
        "kind": OPERATIONS.kind,
        "name": entry.name,
        "uid": entry.metadata.uid,
    }
