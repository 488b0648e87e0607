"""Carry out one step against the API server. Each is safe to repeat; none decides anything."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api.binding import secret_name
from api.kinds import Claim, Database, DatabaseInstance
from api.labels import (
    ADOPTED_FROM,
    DATABASE_UID,
    FINALIZER,
    LABEL_CREDENTIALS,
    LABEL_DATABASE,
    LABEL_DATABASE_NAMESPACE,
    LABEL_INSTANCE,
    ROTATE,
)
from api.operation import OperationSpec, Owner, Report, operation_name
from api.reasons import Reason
from api.resources import (
    DATABASES,
    INSTANCES,
    JOBS,
    OPERATIONS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from controller.ledger import Entry
from controller.manifests import (
    account_manifest,
    frozen_manifest,
    instance_manifest,
    job_manifest,
    operation_manifest,
    password_manifest,
    password_name,
    reader_binding_manifest,
    reader_manifest,
    role_binding_manifest,
    role_manifest,
)
from controller.settings import Settings
from controller.slots import Key, Slots, Turn
from controller.status import rfc3339
from controller.steps import (
    AddFinalizer,
    AdoptInstance,
    ClaimInstance,
    ClearRotate,
    DeleteInstance,
    DeletePassword,
    GrantRights,
    RemoveFinalizer,
    ReportLost,
    RevokeRights,
    RevokeStray,
    SetPhase,
    StartJob,
    StartOperation,
    Step,
    UpdateInstance,
)
from controller.world import World
from kube.client import Client
from kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound

REFUSALS = (Forbidden, Invalid, NotFound)
"""Answers that the same request will get again."""
PASSWORD_BYTES = 24
"""Of entropy in a generated password: 32 characters of URL-safe base64."""


class NoSlot(Exception):
    """The endpoint bears no more Jobs now; ask again after `seconds`, or when a slot is free."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Applier:
    """The only place that writes for the reconciler."""

    def __init__(self, client: Client, world: World, settings: Settings, slots: Slots) -> None:
        self._client = client
        self._world = world
        self._settings = settings
        self._slots = slots
        self._counting = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="grant")

    def apply(self, key: Key, step: Step) -> None:
        """Do what `step` says; raises KubeError, or NoSlot."""
        match step:
            case AddFinalizer(database):
                self._set_finalizers(database, [*database.metadata.finalizers, FINALIZER])
            case RemoveFinalizer(database):
                self._confirm_unclaimed(database)
                self._set_finalizers(database, [name for name in database.metadata.finalizers if name != FINALIZER])
            case ClaimInstance():
                with self._room(key, counted=step.counted):
                    self._claim(step)
            case AdoptInstance(instance, database, counted):
                with self._room(key, counted=counted):
                    self._adopt(instance, database)
            case ClearRotate(database):
                self._clear_rotate(database)
            case UpdateInstance(instance, frozen):
                patch = {"spec": frozen_manifest(frozen), **_version(instance.metadata.resource_version)}
                self._world.instances.remember(self._client.patch(INSTANCES, instance.metadata.name, patch))
            case SetPhase(instance, phase):
                patch = {"status": {"phase": phase}, **_version(instance.metadata.resource_version)}
                answer = self._client.patch(INSTANCES, instance.metadata.name, patch, subresource="status")
                self._world.instances.remember(answer)
            case DeleteInstance(instance):
                self._give_up(instance)
            case StartOperation():
                self._start_operation(key, step)
            case StartJob():
                self._start_job(step)
            case GrantRights(entry):
                self._grant(entry)
                self._granted(entry)
            case ReportLost():
                self._report_lost(step)
            case RevokeRights():
                self._revoke(step)
            case RevokeStray(name, namespace):
                self._revoke_stray(name, namespace)
            case DeletePassword(name):
                self._delete_password(name)

    def _set_finalizers(self, database: Database, finalizers: list[str]) -> None:
        metadata = database.metadata
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata.resource_version}}
        try:
            answer = self._client.patch(DATABASES, metadata.name, patch, namespace=metadata.namespace)
        except NotFound:
            # An earlier answer got lost: its last finalizer is off, and it is gone.
            self._world.forget_database(database)
            return
        self._world.remember_database(answer)

    @contextmanager
    def _room(self, key: Key, *, counted: bool) -> Iterator[None]:
        """While a claim is made that a quota counts, no other is: else two would have the last room."""
        if not counted:
            yield
            return
        with self._counting:
            if self._world.observe(key).compliance.denied:
                raise Conflict("another Database has taken the room that there was")
            yield

    def _claim(self, step: ClaimInstance) -> None:
        # The one decision whose ground no resourceVersion can vouch for: a Database that was deleted a moment ago
        # must not be claimed for by a controller whose watch lags.
        metadata = step.database.metadata
        present = self._client.get(DATABASES, metadata.name, namespace=metadata.namespace)["metadata"]
        if present["uid"] != metadata.uid or "deletionTimestamp" in present:
            raise Conflict(f"Database {metadata.namespace}/{metadata.name} is not what it was")
        try:
            answer = self._client.create(INSTANCES, instance_manifest(step))
        except AlreadyExists:
            # Who has it is needed to tell the user; the watch may be a moment behind.
            answer = self._client.get(INSTANCES, step.name)
        self._world.instances.remember(answer)

    def _adopt(self, instance: DatabaseInstance, database: Database) -> None:
        metadata = database.metadata
        former = "" if instance.claim is None else instance.claim.uid
        patch = {
            "metadata": {
                "resourceVersion": instance.metadata.resource_version,
                "annotations": {ADOPTED_FROM: former or None},
                "labels": {LABEL_DATABASE: metadata.name, LABEL_DATABASE_NAMESPACE: metadata.namespace},
            },
            "spec": {"claimRef": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid}},
        }
        answer = self._client.patch(INSTANCES, instance.metadata.name, patch)
        pending = {"status": {"phase": "Pending"}, **_version(answer["metadata"]["resourceVersion"])}
        answer = self._client.patch(INSTANCES, instance.metadata.name, pending, subresource="status")
        self._world.instances.remember(answer)

    def _clear_rotate(self, database: Database) -> None:
        metadata = database.metadata
        patch = {"metadata": {"annotations": {ROTATE: None}, "resourceVersion": metadata.resource_version}}
        answer = self._client.patch(DATABASES, metadata.name, patch, namespace=metadata.namespace)
        self._world.remember_database(answer)

    def _give_up(self, instance: DatabaseInstance) -> None:
        name, claim = instance.metadata.name, instance.claim
        self._confirm_ledger(name)
        if claim is not None:
            # These first: the Secret belongs to the Role, and nobody would know of either once the instance is gone.
            self._delete_secret(claim, {claim.uid, instance.metadata.annotations.get(ADOPTED_FROM, "")} - {""})
            self._delete(ROLE_BINDINGS, name, namespace=claim.namespace)
            self._delete(ROLES, name, namespace=claim.namespace)
        self._delete(INSTANCES, name, uid=instance.metadata.uid)
        self._world.instances.forget(instance)

    def _delete_secret(self, claim: Claim, writers: Set[str]) -> None:
        """Delete the claim's Secret, if it was written for one of these Databases. Nobody grants it: there is none."""
        name = secret_name(claim.name)
        try:
            metadata = self._client.metadata(SECRETS, name, namespace=claim.namespace)
        except (Forbidden, NotFound):
            return
        ours = (metadata.get("labels") or {}).get(LABEL_CREDENTIALS) == "true"
        if ours and (metadata.get("annotations") or {}).get(DATABASE_UID) in writers:
            self._delete(SECRETS, name, namespace=claim.namespace, uid=metadata["uid"])

    def _confirm_ledger(self, instance: str) -> None:
        """Raise Conflict if an Operation under this name is newer than the one that was decided on.

        A claim that was given up cannot be had back, and a watch that nobody knows to be dead shows an old world.
        """
        labels, namespace = f"{LABEL_INSTANCE}={instance}", self._settings.namespace
        for manifest in self._client.list(OPERATIONS, namespace=namespace, labels=labels)[0]:
            metadata = manifest["metadata"]
            known = self._world.operations.get(metadata["name"], namespace)
            if known is None or known.metadata.resource_version != metadata["resourceVersion"]:
                self._world.operations.remember(manifest)
                raise Conflict(f"Operation {metadata['name']} has changed since it was decided on")

    def _confirm_unclaimed(self, database: Database) -> None:
        """Raise Conflict if this Database still claims an instance, for which nobody would delete any more."""
        metadata = database.metadata
        labels = f"{LABEL_DATABASE}={metadata.name},{LABEL_DATABASE_NAMESPACE}={metadata.namespace}"
        for manifest in self._client.list(INSTANCES, labels=labels)[0]:
            instance = self._world.instances.remember(manifest)
            if instance.claim is not None and instance.claim.uid == metadata.uid and instance.phase != "Released":
                raise Conflict(f"DatabaseInstance {instance.metadata.name} is still claimed")

    def _start_operation(self, key: Key, step: StartOperation) -> None:
        spec = step.spec
        name = operation_name(spec.instance, spec.sequence, spec.attempt)
        endpoint = spec.server.endpoint
        turn = Turn(key, name, deletes=spec.type == "delete")
        limits = replace(step.limits, jobs=1) if step.alone else step.limits
        wait = self._slots.request(endpoint, turn, limits, time.monotonic())
        if wait is not None:
            raise NoSlot(wait)
        try:
            answer = self._client.create(OPERATIONS, operation_manifest(self._owned(spec), self._settings.namespace))
        except KubeError:
            # Its answer may have got lost, and a watch have brought what was made.
            if self._world.operations.get(name, self._settings.namespace) is None:
                self._slots.give_back(endpoint, turn)
            raise
        self._world.operations.remember(answer)

    def _owned(self, spec: OperationSpec) -> OperationSpec:
        """`spec` with the uid of its Secret's owner, which is made if it is not there."""
        secret = spec.secret
        if secret is None:
            return spec
        account = f"{self._settings.release}-controller"
        binding = reader_binding_manifest(spec, account, self._settings.namespace)
        bound = self._pool.submit(self._ensure, ROLE_BINDINGS, binding)
        role = self._ensure(ROLES, reader_manifest(spec, secret))
        bound.result()
        owner = Owner(role["metadata"]["name"], role["metadata"]["uid"])
        return spec._replace(secret=secret._replace(owner=owner))

    def _start_job(self, step: StartJob) -> None:
        entry, namespace = step.entry, self._settings.namespace
        self._world.accounts.remember(self._ensure(SERVICE_ACCOUNTS, account_manifest(entry, namespace)))
        if entry.generated:
            password = secrets.token_urlsafe(PASSWORD_BYTES)
            self._ensure(SECRETS, password_manifest(entry, namespace, password))
        job = self._pool.submit(self._create, JOBS, job_manifest(entry, step.endpoint, namespace, self._settings.job))
        # Beside the Job: its container takes a hundred times as long to start, and waits for its rights.
        try:
            refused = self._grant(entry)
        except KubeError:
            # The Job may be at its call: it stays, and gets its rights in the next pass.
            self._world.jobs.remember(job.result()[0])
            raise
        manifest, created = job.result()
        if refused is None or not created:
            # One that was there before says itself what it lacks.
            self._world.jobs.remember(manifest)
            self._granted(entry)
            return
        self._delete(JOBS, entry.name, namespace=namespace, uid=manifest["metadata"]["uid"])
        if isinstance(refused, NotFound) or (isinstance(refused, Forbidden) and refused.namespace_terminating):
            message = f"namespace {entry.database[0]!r} is going away: its Secret cannot be written"
            self._report(entry.name, Reason.SECRET_REFUSED, message, called=False)
            return
        raise refused

    def _grant(self, entry: Entry) -> Forbidden | Invalid | NotFound | None:
        """Let the Job write its Secret; the API server's refusal, if it refuses. Raises KubeError for what may heal."""
        if not entry.writes_secret:
            return None
        binding = role_binding_manifest(entry, self._settings.namespace)
        bound = self._pool.submit(self._ensure, ROLE_BINDINGS, binding)
        try:
            self._ensure(ROLES, role_manifest(entry))
            bound.result()
        except REFUSALS as error:
            return error
        return None

    def _granted(self, entry: Entry) -> None:
        """Take rights back at once that came too late: another leader may have seen the Operation end before."""
        if not entry.writes_secret:
            return
        self._world.granted.add(entry.name)
        try:
            present = self._client.get(OPERATIONS, entry.name, namespace=self._settings.namespace)
        except NotFound:
            self._revoke(RevokeRights(entry))
            return
        if not self._world.operations.remember(present).running:
            self._revoke(RevokeRights(entry))

    def _ensure(self, resource: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
        return self._create(resource, manifest)[0]

    def _create(self, resource: Resource, manifest: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What there is of this name, and whether it was made now."""
        try:
            return self._client.create(resource, manifest), True
        except AlreadyExists:
            metadata = manifest["metadata"]
            return self._client.get(resource, metadata["name"], namespace=metadata.get("namespace")), False

    def _report_lost(self, step: ReportLost) -> None:
        self._report(step.entry.name, step.reason, step.message, called=step.called)

    def _report(self, operation: str, reason: Reason, message: str, *, called: bool) -> None:
        now = rfc3339(datetime.now(UTC))
        report = Report(
            reason=reason, message=message, started_at=now, finished_at=now, called=called, reported_by="Controller"
        )
        try:
            answer = self._client.patch(
                OPERATIONS,
                operation,
                {"status": report.manifest()},
                namespace=self._settings.namespace,
                subresource="status",
            )
        except (Invalid, NotFound):
            # The Job has reported after all, and a report cannot be overwritten; or nobody needs it any more.
            answer = self._client.get(OPERATIONS, operation, namespace=self._settings.namespace)
        self._world.operations.remember(answer)

    def _revoke(self, step: RevokeRights) -> None:
        entry = step.entry
        self._revoke_all(entry.name, entry.database[0] if entry.writes_secret else "")

    def _revoke_stray(self, name: str, namespace: str) -> None:
        operator = self._settings.namespace
        try:
            # Its account may have come before it, by another watch.
            self._world.operations.remember(self._client.get(OPERATIONS, name, namespace=operator))
        except NotFound:
            password = name.rpartition("-")[0]
            others = self._world.operations.by("instance", password.rpartition("-")[0])
            if not any(password_name(entry) == password for entry in others):
                self._delete_password(password)
            self._revoke_all(name, namespace)

    def _revoke_all(self, name: str, namespace: str) -> None:
        """namespace: of the Role; "" for none."""
        if namespace:
            self._delete(ROLE_BINDINGS, name, namespace=namespace)
            self._delete(ROLES, name, namespace=namespace)
        self._world.granted.discard(name)
        self._delete(SERVICE_ACCOUNTS, name, namespace=self._settings.namespace)
        if (account := self._world.accounts.get(name, self._settings.namespace)) is not None:
            self._world.accounts.forget(account)

    def _delete_password(self, name: str) -> None:
        self._delete(SECRETS, name, namespace=self._settings.namespace)
        if (secret := self._world.secrets.get(name, self._settings.namespace)) is not None:
            self._world.secrets.forget(secret)

    def _delete(self, resource: Resource, name: str, *, namespace: str | None = None, uid: str = "") -> None:
        try:
            self._client.delete(resource, name, namespace=namespace, uid=uid)
        except NotFound:
            return


def _version(resource_version: str) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": resource_version}}
