"""Objects for tests of the controller, as the API server would send them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance, Metadata
from api.labels import FINALIZER, LABEL_ENDPOINT_CREDENTIALS
from api.operation import OperationSpec, Report, operation_name
from api.reasons import Reason
from controller.ledger import Entry
from controller.manifests import frozen_manifest, operation_manifest
from controller.observed import JobState, Namespace, Observed, OperatorSecret
from controller.request import Request

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = ("team-a", "shop")
OPERATOR = "dbaas-system"
T = TypeVar("T")


def time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def metadata(name: str, namespace: str = "", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": time(NOW - timedelta(hours=1)),
        **more,
    }


def database(*, deleted: bool = False, finalizers: tuple[str, ...] = (FINALIZER,), **spec: Any) -> Database:
    more: dict[str, Any] = {"finalizers": list(finalizers)}
    if deleted:
        more["deletionTimestamp"] = time(NOW)
    return Database.parse(
        {"metadata": metadata("shop", "team-a", **more), "spec": {"endpoint": "main", "params": {}, **spec}}
    )


def database_class(generation: int = 1, operations: Mapping[str, Any] | None = None, **spec: Any) -> DatabaseClass:
    name = "{{ .Metadata.namespace }}-{{ .Metadata.name }}"
    operations = operations or {
        "create": {"name": "create_db", "inputs": {"name": name}, "timeout": "60s"},
        "delete": {"name": "delete_db", "inputs": {"name": name}, "timeout": "60s"},
    }
    return DatabaseClass.parse(
        {
            "metadata": metadata("postgres", generation=generation),
            "spec": {"driver": "postgres", "operations": operations, "identity": name, **spec},
        }
    )


def endpoint(generation: int = 1, **spec: Any) -> DatabaseEndpoint:
    return DatabaseEndpoint.parse(
        {
            "metadata": metadata("main", generation=generation),
            "spec": {
                "className": "postgres",
                "host": "postgres.example.test",
                "credentialsSecretRef": {"name": "main-account"},
                **spec,
            },
        }
    )


def account_secret(version: str = "1", **labels: str) -> OperatorSecret:
    labels = labels or {LABEL_ENDPOINT_CREDENTIALS: "true"}
    more = {"labels": labels, "resourceVersion": version}
    return OperatorSecret(
        Metadata.parse({"metadata": metadata("main-account", OPERATOR, **more)}), frozenset({"username", "password"})
    )


def instance(phase: str = "Pending", uid: str = "uid-team-a-shop", **frozen: Any) -> DatabaseInstance:
    rendered = replace(Request(database(), endpoint(), database_class()).freeze(), **frozen)
    return DatabaseInstance.parse(
        {
            "metadata": metadata("db-instance", creationTimestamp=time(NOW - timedelta(minutes=50))),
            "spec": {
                **frozen_manifest(rendered),
                "claimRef": {"namespace": "team-a", "name": "shop", "uid": uid},
            },
            "status": {"phase": phase},
        }
    )


def annotated(object_: T, key: str, value: str) -> T:
    """`object_` with one more annotation."""
    held: Any = object_
    annotations = {**held.metadata.annotations, key: value}
    changed: T = replace(held, metadata=replace(held.metadata, annotations=annotations))
    return changed


def job(name: str, finished: str = "", reason: str = "") -> JobState:
    return JobState(Metadata.parse({"metadata": metadata(name, OPERATOR)}), finished, reason, "", None)


def operation(spec: OperationSpec, report: Report | None = None) -> Entry:
    manifest = operation_manifest(spec, OPERATOR)
    name = operation_name(spec.instance, spec.sequence, spec.attempt)
    manifest["metadata"] = {**metadata(name, OPERATOR), **manifest["metadata"]}
    if report is not None:
        manifest["status"] = report.manifest()
    return Entry.parse(manifest)


def report(reason: Reason = Reason.SUCCEEDED, *, called: bool = True, at: datetime = NOW) -> Report:
    return Report(
        reason=reason,
        message="as reported",
        started_at=time(at),
        finished_at=time(at),
        called=called,
        reported_by="Job",
    )


def reported(entry: Entry, reason: Reason = Reason.SUCCEEDED, *, called: bool = True, at: datetime = NOW) -> Entry:
    return replace(
        entry,
        outcome=reason.outcome.value,
        reason=reason.value,
        message="as reported",
        called=called,
        started_at=at,
        finished_at=at,
    )


def observed(**parts: Any) -> Observed:
    given: dict[str, Any] = {
        "database": database(),
        "namespace": Namespace(Metadata.parse({"metadata": metadata("team-a")})),
        "endpoint": endpoint(),
        "cls": database_class(),
        "secrets": {"main-account": account_secret()},
        **parts,
    }
    return Observed(KEY, **given)
