"""Decide, from what is observed, the next single write and what the Database's status should say. Pure.

An ordered chain of checks: each either settles the matter or leaves it to the next. A plan asks for one write; after
it the world is observed and planned anew, so that a crash between two writes is a pass like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from api.identity import normalise
from api.kinds import Database, DatabaseInstance, DeletionPolicy, RetryRule
from api.labels import ABANDON, ADOPTED_FROM, FINALIZER
from api.operation import SecretTarget
from api.parameters import parameter_faults
from api.reasons import ConditionReason, Outcome, Reason
from api.requests import MISSING_SECRET, RECOVERY
from api.templates import TemplateError
from controller.basis import basis_of, endpoint_basis
from controller.endpoints import secret_faults
from controller.ledger import Entry, exhausted, next_attempt
from controller.manifests import password_name
from controller.observed import Observed, Start
from controller.request import Asked, Request, completed, operation_spec, refrozen, takes_password
from controller.rotation import wish_of
from controller.slots import Limits
from controller.standing import Login, gate_of, healed
from controller.status import Verdict, ready, rotation_failed, stalled, working
from controller.steps import (
    AddFinalizer,
    AdoptInstance,
    ClaimInstance,
    ClearRotate,
    DeleteInstance,
    DeletePassword,
    Frozen,
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
from policy.patterns import matches

RELEASE = f"; spec.deletionPolicy: Retain lets it go without, as does an administrator's annotation {ABANDON}"
"""What a user can do about a deletion that does not succeed."""
CONTENDER_INTERVAL = timedelta(seconds=30)
"""How often a Database asks again for a claim, or for room, that somebody else has."""
START_PATIENCE = timedelta(seconds=20)
"""For a Job's Pod to run, before the user is told why it does not."""
START_INTERVAL = timedelta(seconds=30)
"""How often it is looked at then."""
MOST_HEALED = 5
"""Attempts until a server that answers others, and not this request, is no more taken at its word."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next write (None: nothing to write), what to tell the user, and when to look again without being told."""

    step: Step | None = None
    verdict: Verdict | None = None
    look_again: datetime | None = None


def plan(observed: Observed, now: datetime) -> Plan:
    """The whole decision about one Database: what is asked for first, then what is left lying about."""
    decided = _decide(observed, now)
    if decided.step is None and (step := _tidy(observed)) is not None:
        return replace(decided, step=step)
    silence = observed.compliance.silence
    if silence is None or (decided.look_again is not None and decided.look_again <= silence.ask_again):
        return decided
    return replace(decided, look_again=silence.ask_again)


def _decide(observed: Observed, now: datetime) -> Plan:
    database = observed.database
    if observed.former is not None and database is not None and not database.metadata.terminating:
        message = (
            "an earlier Database of this name is still being deleted; if its deletion cannot succeed, an administrator "
            f"ends it by setting spec.deletionPolicy of DatabaseInstance {observed.former.metadata.name} to Retain"
        )
        return Plan(verdict=working(ConditionReason.FORMER_DATABASE, message))
    if database is None or database.metadata.terminating:
        return _end(observed, now)
    if FINALIZER not in database.metadata.finalizers:
        return Plan(AddFinalizer(database))
    return _provide(observed, now)


def _provide(observed: Observed, now: datetime) -> Plan:
    """Bring about that the Database's database exists and its Secret is there."""
    request = _request(observed)
    if isinstance(request, Verdict):
        return _keep_if_bound(observed, request, now)
    instance = observed.instance
    try:
        frozen = request.freeze()
        name = request.instance_name(frozen)
        secret = None if instance is None else request.secret(instance)
    except TemplateError as error:
        return _keep_if_bound(observed, stalled(ConditionReason.TEMPLATE_INVALID, str(error)), now)
    if instance is None:
        counted = observed.compliance.counted
        return _held_back(observed, request, now) or _claim(
            observed, ClaimInstance(name, request.database, frozen, counted), now
        )
    if (running := _running(observed, instance, now)) is not None:
        return running
    if (change := _refreeze(observed, instance, frozen)) is not None:
        return change
    return _fulfil(observed, request.database, Wanted(instance, secret), now)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim, and the Secret that it owes (None: it is to be deleted)."""

    instance: DatabaseInstance
    secret: SecretTarget | None


def _fulfil(observed: Observed, database: Database, wanted: Wanted, now: datetime) -> Plan:
    """Go on from what the ledger says was done for this Database."""
    instance, last = wanted.instance, observed.ledger.last
    if last is None and instance.phase == "Bound":
        # Somebody deleted its Operations.
        return _keep(observed, database, wanted, now)
    if last is None or last.database_uid != database.metadata.uid or last.type == "delete":
        # Nothing yet, or done for the Database that held the claim before.
        return _start(observed, wanted, Asked("create"), now)
    if not last.succeeded:
        return _mend(observed, database, wanted, now)
    if instance.phase != "Bound":
        return Plan(SetPhase(instance, "Bound"), ready(last))
    return _keep(observed, database, wanted, now)


def _keep(observed: Observed, database: Database, wanted: Wanted, now: datetime) -> Plan:
    """See that what was provided is still there, and serve what asks for a rotation."""
    if _secret_is_missing(observed):
        # A create may leave a password as it is, and is given another one; a rotate sets what it is given.
        kind = "rotate" if takes_password(wanted.instance.calls.get("rotate")) else "create"
        return _start(observed, wanted, Asked(kind, MISSING_SECRET), now)
    return _rotate(observed, database, wanted, now)


def _secret_is_missing(observed: Observed) -> bool:
    missing, success = observed.secret_missing_after, observed.ledger.last_success
    return missing is not None and (success is None or success.sequence <= missing)


def _mend(observed: Observed, database: Database, wanted: Wanted, now: datetime) -> Plan:
    """After a failure: recover lost credentials, try again, or keep what still works."""
    instance, failed = wanted.instance, observed.ledger.last
    if failed is None:
        raise ValueError("nothing has failed")
    if failed.type == "create" and failed.reason == Reason.CREDENTIALS_LOST and "rotate" in instance.calls:
        return _start(observed, wanted, Asked("rotate", RECOVERY), now)
    if failed.type != "rotate" or failed.request in (RECOVERY, MISSING_SECRET) or instance.phase != "Bound":
        return _again(observed, wanted, failed, now)
    # A rotation that may have changed something is seen through, whether it is still asked for or not.
    if any(entry.may_have_acted for entry in observed.ledger.attempts(failed)):
        return _rotate_again(observed, wanted, failed, now)
    return _keep(observed, database, wanted, now)


def _rotate_again(observed: Observed, wanted: Wanted, failed: Entry, now: datetime) -> Plan:
    """Try a failed rotation again; meanwhile the Database is as Ready as its Secret is there."""
    again = _again(observed, wanted, failed, now)
    if again.look_again is None or _secret_is_missing(observed):
        return again
    return replace(again, verdict=_still_earlier(failed))


def _still_earlier(failed: Entry) -> Verdict:
    message = f"the Secret still carries the earlier credentials; their rotation failed: {failed.message}"
    return rotation_failed(message, failed)


def _rotate(observed: Observed, database: Database, wanted: Wanted, now: datetime) -> Plan:
    """Serve what asks for a rotation; else there is nothing to do."""
    wish, last = wish_of(observed, database, now), observed.ledger.last
    if wish.clear:
        return Plan(ClearRotate(database), ready(observed.ledger.last_success))
    if wish.request is None:
        return Plan(verdict=ready(observed.ledger.last_success), look_again=wish.next_at)
    if "rotate" not in wanted.instance.calls:
        message = f"rotation is asked for, but DatabaseClass {wanted.instance.class_name!r} has no rotate operation"
        return Plan(verdict=rotation_failed(message, last))
    if last is not None and not last.succeeded and last.request == wish.request:
        return _rotate_again(observed, wanted, last, now)
    return _start(observed, wanted, Asked("rotate", wish.request), now)


def _keep_if_bound(observed: Observed, verdict: Verdict, now: datetime) -> Plan:
    """A database that exists stays usable while its class or endpoint is being mended."""
    instance = observed.instance
    if instance is not None and (running := _running(observed, instance, now)) is not None:
        return running
    database = observed.database
    if instance is None or instance.phase != "Bound" or database is None:
        return Plan(verdict=verdict)
    if wish_of(observed, database, now).request is not None:
        return Plan(verdict=rotation_failed(f"rotation is asked for, but {verdict.message}", observed.ledger.last))
    return Plan(verdict=ready(observed.ledger.last_success))


def _request(observed: Observed) -> Request | Verdict:
    """The request, or why there is none."""
    database, endpoint, cls, namespace = observed.database, observed.endpoint, observed.cls, observed.namespace
    if database is None:
        raise ValueError("a request needs a Database")
    if endpoint is None:
        return stalled(
            ConditionReason.ENDPOINT_MISSING,
            f"DatabaseEndpoint {database.endpoint!r} does not exist; it goes on as soon as it is there",
        )
    if cls is None:
        return stalled(
            ConditionReason.CLASS_MISSING,
            f"DatabaseClass {endpoint.class_name!r} of endpoint {database.endpoint!r} does not exist; "
            "it goes on as soon as it is there",
        )
    # Admission judged the labels of then; a claim is made under the labels of now.
    if observed.instance is None and (
        namespace is None or not endpoint.allowed_namespaces.matches(namespace.metadata.labels)
    ):
        return stalled(
            ConditionReason.NAMESPACE_NOT_ALLOWED,
            f"DatabaseEndpoint {database.endpoint!r} does not allow namespace {observed.key[0]!r}; "
            "its spec.allowedNamespaces says which labels it asks for",
        )
    return Request(database, endpoint, cls)


def _held_back(observed: Observed, request: Request, now: datetime) -> Plan | None:
    """What admission would refuse is held back before its claim: it may have come while the webhook was away."""
    if faults := parameter_faults(request.cls, request.database.params, matches):
        message = "; ".join(f"{fault.path}: {fault.message}" for fault in faults)
        message += "; delete this Database and apply it anew"
        return Plan(verdict=stalled(ConditionReason.PARAMETERS_INVALID, message))
    found = observed.compliance
    if found.denied:
        verdict = (working if found.undecided else stalled)(found.reason, found.message)
        return Plan(verdict=verdict, look_again=now + CONTENDER_INTERVAL)
    return None


def _claim(observed: Observed, claim: ClaimInstance, now: datetime) -> Plan:
    holder = observed.namesake
    if holder is None:
        return Plan(claim, working(ConditionReason.PROVISIONING, "claiming the database's name on its server"))
    own = holder.claim is not None and (holder.claim.namespace, holder.claim.name) == observed.key
    if holder.phase == "Released" and own and _namespace_is_younger(observed, holder):
        message = (
            f"a namespace {observed.key[0]!r} that was deleted has left the database of this name; an administrator "
            f"hands it over by removing spec.claimRef of DatabaseInstance {holder.metadata.name}"
        )
        return Plan(verdict=stalled(ConditionReason.NAME_TAKEN, message), look_again=now + CONTENDER_INTERVAL)
    if holder.phase == "Released" and (own or holder.claim is None):
        return Plan(
            AdoptInstance(holder, claim.database, claim.counted),
            working(ConditionReason.PROVISIONING, "taking over what was retained"),
        )
    # Not a word about the other: it may be another tenant's.
    message = (
        f"endpoint {claim.frozen.endpoint!r} already holds a database of this name for somebody else; "
        "apply this Database under another name"
    )
    return Plan(verdict=stalled(ConditionReason.NAME_TAKEN, message), look_again=now + CONTENDER_INTERVAL)


def _namespace_is_younger(observed: Observed, holder: DatabaseInstance) -> bool:
    """Whether the claim was made in an earlier namespace of this name, which may have been another tenant's.

    A restored backup has its namespaces before its claims, or an administrator to hand them over.
    """
    namespace, claimed_at = observed.namespace, holder.metadata.created_at
    if namespace is None or namespace.metadata.created_at is None or claimed_at is None:
        return True
    return namespace.metadata.created_at > claimed_at


def _running(observed: Observed, instance: DatabaseInstance, now: datetime) -> Plan | None:
    """An Operation under way is seen to its end, whatever is wanted by now."""
    entry = observed.ledger.last
    if entry is None or not entry.running:
        return None
    verdict = _verdict_while(observed, instance, entry)
    job = observed.jobs.get(entry.name)
    start = observed.starts.get(entry.name)
    if job is None:
        return Plan(_start_job(observed, entry), verdict)
    if job.finished:
        started = "DeadlineExceeded" not in job.reason
        message = f"Job {entry.name} ended without a report ({job.reason or job.finished}): {job.message}"[:500]
        if started:
            return Plan(ReportLost(entry, Reason.JOB_LOST, message), verdict)
        message += "; its image, quota, and room on the nodes decide whether its Pod starts"
        return Plan(ReportLost(entry, Reason.JOB_NOT_STARTED, message), verdict)
    step = GrantRights(entry) if entry.name in observed.ungranted else None
    if start is None:
        return Plan(step, verdict)
    if now < start.since + START_PATIENCE:
        return Plan(step, verdict, start.since + START_PATIENCE)
    if start.obstacle:
        verdict = _verdict_unstarted(observed, verdict, entry, start)
    return Plan(step, verdict, None if start.settled else now + START_INTERVAL)


def _verdict_unstarted(observed: Observed, verdict: Verdict, entry: Entry, start: Start) -> Verdict:
    """What to tell of an Operation whose Job has no process: who could help would not look there."""
    obstacle = " ".join(start.obstacle.split())[:500]
    message = f"the Pod of Job {entry.name} in namespace {entry.metadata.namespace} has not started: {obstacle}"
    if verdict.ready:
        return rotation_failed(f"the Secret still carries the earlier credentials; {message}", entry)
    deleting = observed.database is not None and observed.database.metadata.terminating
    return working(Reason.JOB_NOT_STARTED, message + (RELEASE if deleting else ""), entry=entry, deleting=deleting)


def _start_job(observed: Observed, entry: Entry) -> Step:
    """Start the Job, unless the endpoint is not any more what the Operation was made from.

    The Operation says which server, the endpoint of now which account would be sent there.
    """
    endpoint = observed.endpoint
    # With its account there may have been a Job, which somebody deleted.
    called = entry.name in observed.accounts
    if endpoint is None:
        message = "its DatabaseEndpoint was removed before the Job started"
        return ReportLost(entry, Reason.ENDPOINT_INVALID, message, called)
    if endpoint_basis(entry.basis) != endpoint_basis(basis_of(observed)):
        message = _missing_secret(observed) or "its DatabaseEndpoint was changed before the Job started"
        return ReportLost(entry, Reason.ENDPOINT_INVALID, message, called)
    return StartJob(entry, endpoint)


def _verdict_while(observed: Observed, instance: DatabaseInstance, entry: Entry) -> Verdict:
    failed = next((e for e in reversed(observed.ledger.attempts(entry)) if not e.running), None)
    if observed.database is not None and observed.database.metadata.terminating:
        if failed is None or entry.type != "delete":
            return working(ConditionReason.DELETING, f"Operation {entry.name} ({entry.type}) is under way")
        said = f"attempt {entry.attempt} is under way; the last one: {failed.message}{RELEASE}"
        return working(failed.reason, said, entry=failed, deleting=True)
    if instance.phase == "Bound" and not _secret_is_missing(observed):
        # What a failed rotation said stays until the next has ended: one event, not two an attempt.
        return ready(observed.ledger.last_success or entry) if failed is None else _still_earlier(failed)
    if failed is None:
        return working(ConditionReason.PROVISIONING, f"Operation {entry.name} is under way")
    # The reason stays until an attempt brings another: a server that is away is one event, not two a minute.
    return working(failed.reason, f"attempt {entry.attempt} is under way; the last one: {failed.message}", entry=failed)


def _refreeze(observed: Observed, instance: DatabaseInstance, frozen: Frozen) -> Plan | None:
    """Take over another deletion policy, and an edited class until the database exists.

    Only the class's editing counts: relabelling a Database must not change whom its procedures act on.
    """
    policy = _policy(observed, instance)
    if policy != instance.deletion_policy:
        return Plan(UpdateInstance(instance, refrozen(instance, policy)))
    if instance.phase == "Bound" or ADOPTED_FROM in instance.metadata.annotations:
        gained = None if observed.cls is None else completed(instance, observed.cls, frozen)
        return None if gained is None else Plan(UpdateInstance(instance, gained))
    if not _class_edited(observed, instance) or _same_calls(instance, frozen):
        return None
    if _same_identity(instance, frozen):
        return Plan(UpdateInstance(instance, replace(frozen, deletion_policy=policy)))
    if not observed.may_exist:
        return Plan(DeleteInstance(instance))
    message = (
        f"DatabaseClass {frozen.class_name!r} was edited and now names another database than the one that "
        "this Database has begun to create; undo the edit, or delete the Database and apply it again"
    )
    return Plan(verdict=stalled(ConditionReason.IDENTITY_CHANGED, message))


def _class_edited(observed: Observed, instance: DatabaseInstance) -> bool:
    cls = observed.cls
    if cls is None:
        return False
    metadata = cls.metadata
    recreated = bool(
        metadata.created_at and instance.metadata.created_at and metadata.created_at > instance.metadata.created_at
    )
    return recreated or (metadata.name, metadata.generation) != (instance.class_name, instance.class_generation)


def _same_calls(instance: DatabaseInstance, frozen: Frozen) -> bool:
    return dict(frozen.calls) == dict(instance.calls) and _same_identity(instance, frozen)


def _same_identity(instance: DatabaseInstance, frozen: Frozen) -> bool:
    return instance.driver == frozen.driver and normalise(instance.identity) == normalise(frozen.identity)


def _again(observed: Observed, wanted: Wanted, failed: Entry, now: datetime) -> Plan:
    """Try a failed request again, when it is time."""
    retry = observed.cls.retry if observed.cls is not None else RetryRule()
    failed = failed.dated(now)
    due = next_attempt(observed.ledger, failed, basis_of(observed), retry)
    if healed(observed.standing, failed) and len(observed.ledger.attempts(failed)) <= MOST_HEALED:
        due = None
    if due is None or due <= now:
        return _start(observed, wanted, Asked(failed.type, failed.request), now)
    deleting = failed.type == "delete"
    given_up = failed.outcome == Outcome.STALLED or exhausted(observed.ledger, failed, retry)
    message = failed.message + RELEASE if deleting else failed.message
    verdict = (stalled if given_up else working)(failed.reason, message, entry=failed, deleting=deleting)
    return Plan(verdict=verdict, look_again=due)


def _start(observed: Observed, wanted: Wanted, asked: Asked, now: datetime) -> Plan:
    endpoint, instance = observed.endpoint, wanted.instance
    deleting = asked.kind == "delete"
    if endpoint is None:
        message = f"DatabaseEndpoint {instance.endpoint!r} does not exist; it goes on as soon as it is there"
        message += RELEASE if deleting else ""
        return Plan(verdict=stalled(ConditionReason.ENDPOINT_MISSING, message, deleting=deleting))
    if missing := _missing_secret(observed):
        message = missing + RELEASE if deleting else missing
        return Plan(verdict=stalled(Reason.ENDPOINT_INVALID, message, deleting=deleting))
    gate = gate_of(endpoint, observed.standing, now)
    if gate.bar is not None:
        return Plan(verdict=_barred(observed, wanted, asked, gate.bar), look_again=gate.until)
    spec = operation_spec(observed, instance, asked, None if deleting else wanted.secret)
    limits = Limits(endpoint.max_concurrent_jobs, endpoint.operations_per_minute)
    message = f"starting Operation {asked.kind} on {instance.endpoint!r}"
    if instance.phase == "Bound" and asked.kind == "rotate" and asked.request != MISSING_SECRET:
        return Plan(StartOperation(spec, limits, gate.alone), ready(observed.ledger.last_success))
    reason = ConditionReason.DELETING if deleting else ConditionReason.PROVISIONING
    return Plan(StartOperation(spec, limits, gate.alone), working(reason, message))


def _barred(observed: Observed, wanted: Wanted, asked: Asked, bar: Login) -> Verdict:
    """What to tell of a request that waits for its endpoint: what the last who tried was told."""
    deleting, last = asked.kind == "delete", observed.ledger.last
    message = f"{bar.message}; it goes on by itself as soon as somebody can log in" + (RELEASE if deleting else "")
    if asked.kind == "rotate" and wanted.instance.phase == "Bound" and not _secret_is_missing(observed):
        return rotation_failed(f"rotation is asked for, but {message}", last)
    entry = None if last is None or last.succeeded else last
    verdict = stalled if bar.reason.outcome == Outcome.STALLED else working
    return verdict(bar.reason, message, entry=entry, deleting=deleting)


def _missing_secret(observed: Observed) -> str:
    """What is wrong with the Secrets that the endpoint names; "" when nothing is."""
    faults = secret_faults(observed.endpoint, observed.secrets) if observed.endpoint is not None else []
    return "; ".join(faults)


def _end(observed: Observed, now: datetime) -> Plan:
    """Bring about that nothing is left, or that what is to be retained is left alone."""
    instance, database = observed.instance, observed.database
    if instance is None:
        return _let_go(observed)
    if ABANDON in instance.metadata.annotations or (database is not None and ABANDON in database.metadata.annotations):
        return _abandon(observed, instance)
    if (running := _running(observed, instance, now)) is not None:
        return running
    policy = _policy(observed, instance)
    if policy != instance.deletion_policy:
        return Plan(UpdateInstance(instance, refrozen(instance, policy)))
    last = observed.ledger.last
    if last is None and _unexplained(observed, instance):
        # Nothing says that nothing was made: a claim that came back without its Operations.
        return _release(observed, instance)
    if not observed.may_exist or (last is not None and last.type == "delete" and last.succeeded):
        return Plan(DeleteInstance(instance), working(ConditionReason.DELETING, "giving up the claim"))
    if policy == "Retain" or "delete" not in instance.calls or _unexplained(observed, instance):
        return _release(observed, instance)
    if instance.phase != "Deleting":
        return Plan(SetPhase(instance, "Deleting"), working(ConditionReason.DELETING, "deleting the database"))
    wanted = Wanted(instance, None)
    if last is not None and last.type == "delete":
        return _again(observed, wanted, last, now)
    return _start(observed, wanted, Asked("delete"), now)


def _abandon(observed: Observed, instance: DatabaseInstance) -> Plan:
    """Give the claim up without a call. A Job under way is told that nobody waits for it."""
    verdict = working(ConditionReason.DELETING, "abandoned: nothing is called")
    last = observed.ledger.last
    if last is not None and last.running:
        message = f"abandoned by the annotation {ABANDON}"
        return Plan(ReportLost(last, Reason.OPERATION_SUPERSEDED, message), verdict)
    return Plan(DeleteInstance(instance), verdict)


def _unexplained(observed: Observed, instance: DatabaseInstance) -> bool:
    """Whether a Database is gone without its deletion ever having been seen: a restored backup, for all we know.

    A deletion that went its way has left the phase Deleting before the Database went.
    """
    return observed.database is None and instance.phase != "Deleting" and not observed.witnessed


def _release(observed: Observed, instance: DatabaseInstance) -> Plan:
    """Retain: the database stays, and so does the claim, so that nobody else gets it."""
    if instance.phase != "Released":
        return Plan(SetPhase(instance, "Released"), working(ConditionReason.DELETING, "the database is retained"))
    return _let_go(observed)


def _let_go(observed: Observed) -> Plan:
    database = observed.database
    if database is not None and FINALIZER in database.metadata.finalizers:
        return Plan(RemoveFinalizer(database))
    return Plan()


def _policy(observed: Observed, instance: DatabaseInstance) -> DeletionPolicy:
    """What the Database says as long as it is there; what was frozen, afterwards."""
    database = observed.database
    if database is None or database.deletion_policy is None:
        return instance.deletion_policy
    return database.deletion_policy


def _tidy(observed: Observed) -> Step | None:
    """Take back rights and passwords that no running Operation needs, and close what no claim waits for."""
    for entry in observed.entries:
        if entry.name in observed.accounts and not entry.running:
            return RevokeRights(entry)
        if _stray(observed, entry):
            message = "no claim waits for it any more"
            return ReportLost(entry, Reason.JOB_LOST, message, called=entry.name in observed.accounts)
    if observed.strays:
        return RevokeStray(min(observed.strays), observed.key[0])
    last = observed.ledger.last
    needed = {password_name(entry) for entry in observed.entries if entry.running}
    if last is not None and not last.succeeded:
        needed.add(password_name(last))
    for name in sorted(observed.passwords - needed):
        return DeletePassword(name)
    return None


def _stray(observed: Observed, entry: Entry) -> bool:
    """Whether nobody else will ever close it: it runs for a claim that is gone, and has no Job.

    It would keep a slot of its endpoint for ever; a backup restored without its statuses is full of such.
    """
    job, instance = observed.jobs.get(entry.name), observed.instance
    ended = job is None or bool(job.finished)
    return entry.running and ended and (instance is None or entry.instance_uid != instance.metadata.uid)
