"""From what a user asks to what an instance freezes and an Operation says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from api.binding import secret_name, secret_type
from api.classes import argument_name
from api.engines import ENGINES, Driver
from api.identity import normalise
from api.kinds import Database, DatabaseClass, DatabaseEndpoint, DatabaseInstance, DeletionPolicy, OperationType
from api.labels import ADOPT, ADOPTED_FROM, REQUESTED_BY, ROTATE_REQUESTED_BY
from api.operation import Call, DatabaseReference, OperationSpec, Owner, SecretTarget, Server, Text
from api.rendering import instance_name_for, render_call, render_identity, render_secret_format, template_values
from api.requests import annotation_value
from api.stamp import Stamp
from api.templates import Template
from controller.basis import basis_of
from controller.observed import Observed
from controller.steps import Frozen

OPERATION_TYPES: tuple[OperationType, ...] = ("create", "rotate", "delete")
CALLS = {"create": ("create",), "rotate": ("rotate", "create"), "delete": ("delete",)}
"""What each type of Operation calls, in order."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which type of Operation is asked for, and by what (`api.requests`; "": by the Database's being there)."""

    kind: str
    request: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """The request of one Database on one endpoint with one class, all of which exist."""

    database: Database
    endpoint: DatabaseEndpoint
    cls: DatabaseClass

    def freeze(self) -> Frozen:
        """Render everything that the instance is to keep; raises TemplateError."""
        values = template_values(self.database, self.cls, self.endpoint)
        return Frozen(
            endpoint=self.endpoint.metadata.name,
            class_name=self.cls.metadata.name,
            class_generation=self.cls.metadata.generation,
            driver=self.cls.driver.value,
            identity=render_identity(self.cls, values),
            calls=tuple(
                (kind, render_call(self.cls, kind, values)) for kind in OPERATION_TYPES if kind in self.cls.operations
            ),
            deletion_policy=self.cls.effective_deletion_policy(self.database),
        )

    def instance_name(self, frozen: Frozen) -> str:
        """The name under which the claim is made."""
        return instance_name_for(self.cls, self.endpoint, frozen.identity)

    def secret(self, instance: DatabaseInstance) -> SecretTarget:
        """The Secret that a create or rotate writes; raises TemplateError. The uid of its owner is not known yet."""
        values = template_values(self.database, self.cls, self.endpoint)
        return SecretTarget(
            name=secret_name(self.database.metadata.name),
            type=secret_type(self.cls.driver),
            format=render_secret_format(self.cls, values),
            credentials=self.cls.credentials,
            owner=Owner(instance.metadata.name, ""),
            former_uid=instance.metadata.annotations.get(ADOPTED_FROM, ""),
        )


def refrozen(instance: DatabaseInstance, policy: DeletionPolicy) -> Frozen:
    """The instance as it is, under another deletion policy."""
    return Frozen(
        endpoint=instance.endpoint,
        class_name=instance.class_name,
        class_generation=instance.class_generation,
        driver=instance.driver.value,
        identity=instance.identity,
        calls=tuple(instance.calls.items()),
        deletion_policy=policy,
    )


def completed(instance: DatabaseInstance, cls: DatabaseClass, frozen: Frozen) -> Frozen | None:
    """A bound instance with the operations that its class has gained since; None when it has gained none.

    Only while the class still means the same database, and only operations whose inputs cannot have changed meanwhile:
    what users may edit was not frozen for them.
    """
    if instance.driver != frozen.driver or normalise(instance.identity) != normalise(frozen.identity):
        return None
    gained = {
        kind: call
        for kind, call in frozen.calls
        if kind not in instance.calls and not _editable(cls.operations[kind].inputs.values())
    }
    if not gained:
        return None
    now = refrozen(instance, instance.deletion_policy)
    return replace(now, calls=(*now.calls, *gained.items()))


def _editable(sources: Iterable[str]) -> bool:
    """Whether a template among `sources` refers to labels or annotations."""
    references = (reference for source in sources for reference in Template.parse(source).references)
    return any(reference.path[:2] in (("Metadata", "labels"), ("Metadata", "annotations")) for reference in references)


def operation_spec(
    observed: Observed, instance: DatabaseInstance, asked: Asked, secret: SecretTarget | None
) -> OperationSpec:
    """The next Operation on `instance`; the endpoint must exist."""
    kind = asked.kind
    endpoint = observed.endpoint
    if endpoint is None or instance.claim is None:
        raise ValueError("an Operation needs an endpoint and a claim")
    if secret is not None:
        returned = observed.ledger.returned
        secret = secret._replace(returned=tuple(name for name in secret.credentials if name in returned))
    sequence, attempt = observed.ledger.turn(kind, asked.request, instance.claim.uid)
    stamp = requester(observed, asked)
    spec = OperationSpec(
        type=kind,
        sequence=sequence,
        attempt=attempt,
        database=DatabaseReference(instance.claim.namespace, instance.claim.name, instance.claim.uid),
        instance=instance.metadata.name,
        instance_uid=instance.metadata.uid,
        identity=normalise(instance.identity),
        class_name=instance.class_name,
        driver=instance.driver.value,
        server=server_of(endpoint, instance.driver),
        calls=tuple(_current(instance.calls[name], observed.cls, name) for name in CALLS[kind]),
        secret=secret,
        requested_by=stamp.user,
        basis=basis_of(observed),
        request=asked.request,
        recoverable=observed.may_exist or adopts(observed.database),
        stamp=stamp,
    )
    return _bound(spec)


def _current(frozen: Call, cls: DatabaseClass | None, kind: str) -> Call:
    """The frozen call under the name and time limit that the class gives its procedure by now.

    The arguments stay as they were frozen, and so does everything when the class asks for other ones.
    """
    template = None if cls is None else cls.operations.get(kind)
    if template is None or {argument.name for argument in frozen.arguments} != {
        argument_name(key) for key in template.inputs
    }:
        return frozen
    return frozen._replace(procedure=template.name, timeout=template.timeout)


def requester(observed: Observed, asked: Asked) -> Stamp:
    """Who asked, as the webhook stamped it; an empty stamp for a deletion, which admission cannot stamp."""
    if observed.database is None or asked.kind == "delete":
        return Stamp()
    annotations = observed.database.metadata.annotations
    if annotation_value(asked.request) is not None:
        return Stamp.read(annotations.get(ROTATE_REQUESTED_BY, ""))
    return Stamp.read(annotations.get(REQUESTED_BY, ""))


def adopts(database: Database | None) -> bool:
    """Whether the Database asks for a database that existed before it."""
    return database is not None and database.metadata.annotations.get(ADOPT) == "true"


def server_of(endpoint: DatabaseEndpoint, driver: Driver) -> Server:
    """Where the Job is to connect."""
    engine = ENGINES[driver]
    tls = endpoint.tls
    return Server(
        endpoint=endpoint.metadata.name,
        host=endpoint.host,
        port=endpoint.port or engine.default_port,
        database=endpoint.database or engine.default_database,
        tls_mode=tls.mode,
        server_name=tls.server_name or "",
        minimum_tls_version=tls.minimum_version,
        ca_bundle=tls.ca_bundle or "",
    )


def _bound(spec: OperationSpec) -> OperationSpec:
    """Fill in what only the turn knows, and see whether a password has to be generated."""
    values = {"Operation": {"id": spec.id}}

    def bind(texts: tuple[Text, ...]) -> tuple[Text, ...]:
        return tuple(text._replace(template=text.template.bind(values)) for text in texts)

    calls = tuple(call._replace(arguments=bind(call.arguments)) for call in spec.calls)
    secret = spec.secret
    if secret is not None and secret.format is not None:
        secret = secret._replace(format=bind(secret.format))
    texts = [text for call in calls for text in call.arguments] + list((secret and secret.format) or ())
    return spec._replace(calls=calls, secret=secret, generated=any(_needs_password(text.template) for text in texts))


def takes_password(call: Call | None) -> bool:
    """Whether a procedure is given a generated password."""
    return call is not None and any(_needs_password(argument.template) for argument in call.arguments)


def _needs_password(template: Template) -> bool:
    return any(reference.root == "Generated" for reference in template.references)
