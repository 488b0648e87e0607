"""The caches, what belongs to what in them, and whom a change concerns. Reads; never writes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance, Metadata
from api.labels import (
    LABEL_DATABASE,
    LABEL_DATABASE_NAMESPACE,
    LABEL_ENDPOINT,
    LABEL_OPERATION_TYPE,
    LABEL_PROBE_BASIS,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    PROBE_TYPE,
)
from api.reasons import ConditionReason
from api.resources import (
    CLASSES,
    DATABASES,
    ENDPOINTS,
    INSTANCES,
    JOBS,
    NAMESPACES,
    OPERATIONS,
    PODS,
    POLICIES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from api.templates import TemplateError
from controller.basis import endpoint_digest
from controller.compliance import UNCONCERNED
from controller.judge import Judge
from controller.knowledge import Knowledge, heard_at, lost_with, probed_by
from controller.ledger import Entry
from controller.manifests import password_name
from controller.observed import Account, JobState, Namespace, Observed, OperatorSecret, PendingPod, ProbePod, Start
from controller.request import Request
from controller.standing import login_of, standing_of
from kube.cache import Cache
from kube.client import Client, Object
from policy.rules import DatabasePolicy

Key = tuple[str, str]
"""(namespace, name) of a Database."""
MOST_DELETIONS = 10_000
"""Deleted Databases that are remembered as such: far more than can wait for their end at a time."""
NAMELESS = Metadata("")
_WAITS = {
    ConditionReason.NAME_TAKEN,
    ConditionReason.QUOTA_EXCEEDED,
    ConditionReason.POLICY_VIOLATED,
    ConditionReason.POLICY_WARNED,
}
"""Reasons of who may fare better once another Database is gone."""
OURS = f"{MANAGED_BY}={MANAGED_BY_VALUE}"


class World:
    """Everything that the controller watches."""

    def __init__(self, client: Client, namespace: str, watch_namespaces: Iterable[str] = ()) -> None:
        self.databases = [
            Cache(
                client,
                DATABASES,
                Database.parse,
                namespace=watched,
                indexes={
                    "endpoint": lambda database: (database.endpoint,),
                    "namespace": lambda database: (database.metadata.namespace,),
                    # Few of many: whoever looks for them must not look at all.
                    "waiting on": lambda database: (database.endpoint,) if _waits(database) else (),
                    "waiting in": lambda database: (database.metadata.namespace,) if _waits(database) else (),
                },
            )
            for watched in (tuple(watch_namespaces) or (None,))
        ]
        self.classes = Cache(client, CLASSES, DatabaseClass.parse)
        self.endpoints = Cache(
            client,
            ENDPOINTS,
            DatabaseEndpoint.parse,
            indexes={
                "class": lambda endpoint: (endpoint.class_name,),
                "secret": lambda endpoint: endpoint.secret_names,
            },
        )
        self.instances = Cache(
            client,
            INSTANCES,
            DatabaseInstance.parse,
            indexes={
                "claim": _claims,
                "claim-namespace": lambda instance: (namespace for namespace, _ in _claims(instance)),
                "endpoint": lambda instance: (instance.endpoint,),
            },
        )
        self.namespaces = Cache(client, NAMESPACES, Namespace.parse)
        self.policies = Cache(client, POLICIES, DatabasePolicy.parse)
        self.judge = Judge(self)
        self.operations = Cache(
            client,
            OPERATIONS,
            Entry.parse,
            namespace=namespace,
            indexes={"database": lambda entry: (entry.database,), "instance": lambda entry: (entry.instance,)},
        )
        self.jobs = Cache(
            client, JOBS, JobState.parse, namespace=namespace, labels=OURS, indexes={"probe": _probed_endpoint}
        )
        self.accounts = Cache(
            client,
            SERVICE_ACCOUNTS,
            Account.parse,
            namespace=namespace,
            labels=OURS,
            indexes={"database": _labelled},
        )
        self.secrets = Cache(
            client, SECRETS, OperatorSecret.parse, namespace=namespace, indexes={"database": _labelled}
        )
        probes = f"{OURS},{LABEL_OPERATION_TYPE}={PROBE_TYPE}"
        self.probe_pods = Cache(client, PODS, ProbePod.parse, namespace=namespace, labels=probes)
        self.pending_pods = Cache(
            client,
            PODS,
            PendingPod.parse,
            namespace=namespace,
            labels=OURS,
            fields="status.phase=Pending",
            indexes={"job": lambda pod: (pod.job,)},
        )
        self._first_seen: dict[str, datetime] = {}
        """Jobs that have not finished, by name: since when this process knows of them."""
        self.knowledge = Knowledge()
        self._namespace = namespace
        self.missing_secrets: dict[Key, int] = {}
        """Databases whose Secret was found not whole: see `Observed.secret_missing_after`."""
        self.granted: set[str] = set()
        """Operations whose Jobs this process has seen to have their rights."""
        self._gone: OrderedDict[str, frozenset[str]] = OrderedDict()
        """Uids of Databases that went, the latest last, and of the instances that each claimed then."""
        for databases in self.databases:
            databases.on_change(self._remember_deletion)
        self.operations.on_change(self._learn_from_operation)
        self.probe_pods.on_change(self._learn_from_probe)
        self.jobs.on_change(self._learn_from_job)
        self.jobs.on_change(self._date_job)
        self.endpoints.on_change(self._forget_endpoint)

    def _remember_deletion(self, old: Database | None, new: Database | None) -> None:
        if old is None or (new is not None and new.metadata.uid == old.metadata.uid):
            return
        claims = self.instances.by("claim", _key(old))
        self._gone[old.metadata.uid] = frozenset(
            i.metadata.uid for i in claims if i.claim is not None and i.claim.uid == old.metadata.uid
        )
        while len(self._gone) > MOST_DELETIONS:
            self._gone.popitem(last=False)
        if new is None:
            self.missing_secrets.pop(_key(old), None)
            self.judge.forget(_key(old))

    def _learn_from_operation(self, old: Entry | None, entry: Entry | None) -> None:
        login = None if entry is None else login_of(entry)
        if entry is not None and login is not None and (old is None or old.running):
            at = heard_at(login.at, datetime.now(UTC), live=old is not None)
            self.knowledge.learn(entry.endpoint, replace(login, at=at))

    def _learn_from_probe(self, old: ProbePod | None, pod: ProbePod | None) -> None:
        probed = None if pod is None else probed_by(pod)
        if pod is not None and probed is not None and (old is None or not old.ended):
            live = old is not None and probed.report is not None
            at = heard_at(probed.login.at, datetime.now(UTC), live=live)
            self.knowledge.learn_probe(pod.endpoint, replace(probed, login=replace(probed.login, at=at)))

    def _learn_from_job(self, _: JobState | None, job: JobState | None) -> None:
        if job is None or LABEL_PROBE_BASIS not in job.metadata.labels:
            return
        probed = lost_with(job, job.metadata.labels[LABEL_PROBE_BASIS])
        if probed is not None:
            self.knowledge.learn_probe(job.metadata.labels.get(LABEL_ENDPOINT, ""), probed)

    def _date_job(self, old: JobState | None, job: JobState | None) -> None:
        known = job or old
        if known is None:
            return
        if job is None or job.finished:
            self._first_seen.pop(known.metadata.name, None)
        elif old is None or old.metadata.uid != job.metadata.uid:
            self._first_seen[job.metadata.name] = datetime.now(UTC)

    def _start(self, job: JobState) -> Start | None:
        """How far Kubernetes is with a Job's Pod; None for a Job that has finished."""
        since = self._first_seen.get(job.metadata.name)
        if since is None:
            return None
        pods = self.pending_pods.by("job", job.metadata.name)
        if pods:
            return Start(since, pods[0].obstacle or "its container is still being made", settled=False)
        obstacle = "no Pod could be made: quota, limits or an admission policy there refuse it" if job.podless else ""
        return Start(since, obstacle, settled=job.begun and not job.podless)

    def _forget_endpoint(self, old: DatabaseEndpoint | None, new: DatabaseEndpoint | None) -> None:
        if new is None and old is not None:
            self.knowledge.forget(old.metadata.name)

    def saw_deletion(self, uid: str, instance_uid: str) -> bool:
        """Whether a Database of this uid went while this process watched, and left this very instance behind.

        An instance of another uid came back with a backup: nothing tells what was made for it.
        """
        return instance_uid in self._gone.get(uid, frozenset())

    @property
    def caches(self) -> list[Cache[Any]]:
        """All of them."""
        return [
            *self.databases,
            self.classes,
            self.endpoints,
            self.instances,
            self.namespaces,
            self.policies,
            self.operations,
            self.jobs,
            self.accounts,
            self.secrets,
            self.probe_pods,
            self.pending_pods,
        ]

    def start(self) -> None:
        """Begin to watch."""
        for cache in self.caches:
            cache.start()

    def wait(self, stop: threading.Event) -> bool:
        """Wait until every cache is filled; False when `stop` came first."""
        while not all(cache.synced.is_set() for cache in self.caches):
            if stop.wait(0.02):
                return False
        return True

    @property
    def synced(self) -> bool:
        """Whether every cache has been filled once."""
        return all(cache.synced.is_set() for cache in self.caches)

    def database(self, key: Key) -> Database | None:
        """One Database by (namespace, name)."""
        namespace, name = key
        return next((found for cache in self.databases if (found := cache.get(name, namespace))), None)

    def remember_database(self, manifest: Object) -> None:
        """Take in a Database that a write has just returned."""
        for cache in self.databases:
            if cache.watches(manifest["metadata"]["namespace"]):
                cache.remember(manifest)

    def forget_database(self, gone: Database) -> None:
        """Drop a Database of which the API server has just said that it is gone."""
        for cache in self.databases:
            cache.forget(gone)

    def databases_by(self, index: str, value: Hashable) -> list[Database]:
        """Databases of an endpoint or a namespace."""
        return [database for cache in self.databases for database in cache.by(index, value)]

    def endpoint_secrets(self, endpoint: DatabaseEndpoint | None) -> dict[str, OperatorSecret | None]:
        """The Secrets that an endpoint names; None for one that does not exist."""
        names = () if endpoint is None else endpoint.secret_names
        return {name: self.secrets.get(name, self._namespace) for name in names}

    def orphans(self, key: Key) -> list[DatabaseInstance]:
        """Instances that a Database of this name claimed which is not the present one."""
        database = self.database(key)
        uid = "" if database is None else database.metadata.uid
        return [i for i in self.instances.by("claim", key) if i.claim is not None and i.claim.uid != uid]

    def observe(self, key: Key) -> Observed:
        """All about the present Database of this name, or about what is left of one."""
        database = self.database(key)
        uid = "" if database is None else database.metadata.uid
        claims = self.instances.by("claim", key)
        instance = next((i for i in claims if i.claim is not None and i.claim.uid == uid), None)
        former = next((i for i in claims if i is not instance and i.phase != "Released"), None)
        return self._observed(key, database, instance, former)

    def observe_orphan(self, key: Key, uid: str) -> Observed:
        """The same for an instance whose Database is gone."""
        claims = self.instances.by("claim", key)
        instance = next((i for i in claims if i.claim is not None and i.claim.uid == uid), None)
        return self._observed(key, None, instance, None)

    def _observed(
        self, key: Key, database: Database | None, instance: DatabaseInstance | None, former: DatabaseInstance | None
    ) -> Observed:
        endpoint_name = instance.endpoint if instance is not None else database.endpoint if database else ""
        endpoint = self.endpoints.get(endpoint_name)
        cls = self.classes.get(endpoint.class_name) if endpoint is not None else None
        entries = {entry.name: entry for entry in self.operations.by("database", key)}
        if instance is not None:
            entries |= {entry.name: entry for entry in self.operations.by("instance", instance.metadata.name)}
        own = [entry for entry in entries.values() if entry.database == key]
        passwords = {secret.metadata.name for secret in self.secrets.by("database", key)}
        secrets = self.endpoint_secrets(endpoint)
        jobs = {entry.name: job for entry in own if (job := self.jobs.get(entry.name, self._namespace)) is not None}
        basis = endpoint_digest(endpoint, secrets)
        seen = self.knowledge.of(endpoint_name, basis).login
        return Observed(
            key=key,
            database=database,
            namespace=self.namespaces.get(key[0]),
            endpoint=endpoint,
            standing=None if endpoint is None else standing_of(endpoint, basis, seen),
            cls=cls,
            compliance=UNCONCERNED
            if database is None
            else self.judge.compliance(database, claimed=instance is not None),
            secrets=secrets,
            instance=instance,
            former=former,
            witnessed=self._witnessed(former or instance, database),
            secret_missing_after=self.missing_secrets.get(key),
            namesake=None if instance is not None else self._namesake(database, endpoint, cls),
            entries=tuple(entries.values()),
            jobs=jobs,
            starts={name: start for name, job in jobs.items() if (start := self._start(job)) is not None},
            accounts=frozenset(
                entry.name for entry in own if self.accounts.get(entry.name, self._namespace) is not None
            ),
            strays=frozenset(
                account.metadata.name
                for account in self.accounts.by("database", key)
                if self.operations.get(account.metadata.name, self._namespace) is None
            ),
            ungranted=frozenset(entry.name for entry in own if entry.writes_secret and entry.name not in self.granted),
            passwords=frozenset(name for name in passwords if name in {password_name(entry) for entry in own}),
        )

    def _witnessed(self, instance: DatabaseInstance | None, database: Database | None) -> bool:
        if instance is None or (claim := instance.claim) is None:
            return False
        if database is not None and claim.uid == database.metadata.uid:
            return False
        return self.saw_deletion(claim.uid, instance.metadata.uid)

    def _namesake(
        self, database: Database | None, endpoint: DatabaseEndpoint | None, cls: DatabaseClass | None
    ) -> DatabaseInstance | None:
        """Who holds the instance that the Database would claim."""
        if database is None or endpoint is None or cls is None:
            return None
        request = Request(database, endpoint, cls)
        try:
            return self.instances.get(request.instance_name(request.freeze()))
        except TemplateError:
            return None


def concerns(world: World, enqueue: Callable[[Key], None]) -> None:
    """Have every change enqueue the Databases that it may matter to."""

    def on(
        cache: Cache[Any],
        keys: Callable[[Any], Iterable[Key]],
        *,
        gone: bool = False,
        telling: Callable[[Any], object] | None = None,
    ) -> None:
        """`gone`: only what is gone matters; `telling`: only what changes that does."""

        def listener(old: Any, new: Any) -> None:
            if gone and new is not None:
                return
            if telling is not None and old is not None and new is not None and telling(old) == telling(new):
                return
            for version in (old, new):
                if version is not None:
                    for key in keys(version):
                        enqueue(key)

        cache.on_change(listener)

    for cache in world.databases:
        on(cache, lambda database: ((database.metadata.namespace, database.metadata.name),))
        on(cache, lambda database: _waiting(world, _key(database)[0], database.endpoint), gone=True)
    on(world.instances, lambda instance: (*_claims(instance), *_heirs(world, instance)))
    on(world.policies, lambda policy: _about(world, policy), telling=lambda policy: replace(policy, metadata=NAMELESS))
    on(world.operations, lambda entry: (entry.database,))
    for cache in (world.jobs, world.accounts):
        on(cache, _labelled)
    on(world.endpoints, lambda endpoint: _users(world, endpoint.metadata.name))
    on(world.classes, lambda cls: _class_users(world, cls.metadata.name))
    on(world.secrets, lambda secret: (*_labelled(secret), *_secret_users(world, secret.metadata.name)))
    on(world.namespaces, lambda namespace: map(_key, world.databases_by("namespace", namespace.metadata.name)))


def _heirs(world: World, instance: DatabaseInstance) -> Iterator[Key]:
    """Who waits for a claim like this one to be given up."""
    yield from _waiting(world, "" if instance.claim is None else instance.claim.namespace, instance.endpoint)


def _waiting(world: World, namespace: str, endpoint: str) -> Iterator[Key]:
    """Who waits for a name or for room in a namespace or on an endpoint, in the order in which they came."""
    near = (*world.databases_by("waiting on", endpoint), *world.databases_by("waiting in", namespace))
    waiting = {_key(database): str(database.metadata.created_at) for database in near}
    yield from sorted(waiting, key=lambda key: (waiting[key], key))


def _waits(database: Database) -> bool:
    return any(condition["reason"] in _WAITS for condition in database.status.get("conditions") or ())


def _about(world: World, policy: DatabasePolicy) -> Iterator[Key]:
    """Which Databases a policy may be about."""
    for cache in world.databases:
        for database in cache.values():
            around = world.judge.peer((database.metadata.namespace, database.endpoint), 1)
            if policy.match.scope(around.labels, around.endpoint, around.class_name):
                yield _key(database)


def _key(database: Database) -> Key:
    return database.metadata.namespace, database.metadata.name


def _claims(instance: DatabaseInstance) -> tuple[Key, ...]:
    return () if instance.claim is None else ((instance.claim.namespace, instance.claim.name),)


def _probed_endpoint(job: JobState) -> tuple[str, ...]:
    labels = job.metadata.labels
    return (labels.get(LABEL_ENDPOINT, ""),) if LABEL_PROBE_BASIS in labels else ()


def _labelled(object_: Any) -> tuple[Key, ...]:
    labels = object_.metadata.labels
    if LABEL_DATABASE not in labels:
        return ()
    return ((labels.get(LABEL_DATABASE_NAMESPACE, ""), labels[LABEL_DATABASE]),)


def _users(world: World, endpoint: str) -> Iterator[Key]:
    yield from map(_key, world.databases_by("endpoint", endpoint))
    for instance in world.instances.by("endpoint", endpoint):
        yield from _claims(instance)


def _class_users(world: World, name: str) -> Iterator[Key]:
    for endpoint in world.endpoints.by("class", name):
        yield from _users(world, endpoint.metadata.name)


def _secret_users(world: World, name: str) -> Iterator[Key]:
    for endpoint in world.endpoints.by("secret", name):
        yield from _users(world, endpoint.metadata.name)
