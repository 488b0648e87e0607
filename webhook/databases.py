"""What can be wrong with a Database: created, changed or deleted.

Pure checks of a request against the world, each yielding every fault that it finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from api.faults import Fault
from api.kinds import Database, DatabaseClass, DatabaseEndpoint
from api.labels import DEFAULTED_PARAMS, ROTATE
from api.listing import listed
from api.rendering import database_faults, identity_path, instance_name_for, render_identity, template_values
from api.templates import TemplateError
from policy.patterns import matches
from webhook.review import Request, shortened
from webhook.world import Namespace, World

_QUOTED = 40
"""Characters of a parameter's value in a sentence."""


def creation(request: Request, world: World) -> Iterator[Fault]:
    """A new Database: its endpoint and class are there, may be used, and can make it."""
    database = Database.parse(request.object)
    namespace = world.namespace(request.namespace)
    endpoint = world.endpoint(database.endpoint)
    if endpoint is None:
        usable = _usable_endpoints(namespace, world)
        yield Fault("spec.endpoint", f'there is no DatabaseEndpoint "{database.endpoint}"; {usable}')
        return
    allowed = _allows(endpoint, namespace)
    if not allowed:
        usable = _usable_endpoints(namespace, world)
        message = f'DatabaseEndpoint "{database.endpoint}" is not open to namespace "{request.namespace}"; {usable}'
        yield Fault("spec.endpoint", message)
    cls = world.database_class(endpoint.class_name)
    if cls is None:
        message = f'its DatabaseClass "{endpoint.class_name}" does not exist; ask an administrator to create it'
        yield Fault("spec.endpoint", message)
        return
    yield from database_faults(database, cls, endpoint, matches)
    yield from _deletion_policy_faults(database, cls)
    if allowed:
        yield from _collision(database, cls, endpoint, world)


def change(request: Request, world: World) -> Iterator[Fault]:
    """An update: what was decided at creation stays, and what changed is judged anew."""
    old, new = Database.parse(request.old), Database.parse(request.object)
    if new.endpoint != old.endpoint:
        message = (
            f'cannot be changed from "{old.endpoint}" to "{shortened(new.endpoint, 63)}": a database stays on the '
            "server that it was made on; apply a Database of another name there, copy the data, then delete this one"
        )
        yield Fault("spec.endpoint", message)
    for name in sorted(old.params.keys() | new.params.keys()):
        if old.params.get(name) != new.params.get(name):
            yield Fault(f"spec.params.{name}", _changed_parameter(old.params, new.params, name))
    if new.deletion_policy != old.deletion_policy and (cls := _class_of(old, world)):
        yield from _deletion_policy_faults(new, cls)


def explained(fault: Fault, request: Request) -> Fault:
    """`fault`, with a word on a parameter's value that a default gave: whoever asks sees nothing of it."""
    name = fault.path.removeprefix("spec.params.")
    if name == fault.path or request.operation != "CREATE":
        return fault
    defaulted = (request.object["metadata"].get("annotations") or {}).get(DEFAULTED_PARAMS, "")
    if name not in defaulted.split(",") or name not in (params := request.object["spec"].get("params") or {}):
        return fault
    source = f"{_quoted(params[name])} is the default of a policy or the class"
    return Fault(fault.path, f"{fault.message}; {source}: give a value of your own")


def deletion(request: Request, world: World) -> Iterator[Fault]:
    """A deletion: refused while protected, unless the whole namespace goes away."""
    spec = request.old.get("spec")
    if not isinstance(spec, dict) or not spec.get("deletionProtection"):
        return
    namespace = world.namespace_now(request.namespace)
    if namespace is not None and not namespace.metadata.terminating:
        patch = '{"spec":{"deletionProtection":false}}'
        command = f"kubectl patch database {request.name} -n {request.namespace} --type=merge -p '{patch}'"
        yield Fault("spec.deletionProtection", f"protects it from deletion; set it to false first: {command}")


def plan(request: Request, world: World) -> Iterator[str]:
    """What a dry-run creation would lead to, in words."""
    if not request.dry_run:
        return
    database = Database.parse(request.object)
    endpoint = world.endpoint(database.endpoint)
    cls = world.database_class(endpoint.class_name) if endpoint else None
    if endpoint and cls and (create := cls.operations.get("create")):
        yield f"would call {create.name} on endpoint {endpoint.metadata.name} ({endpoint.host}) for {request.user}"


def without_effect(request: Request, world: World) -> Iterator[str]:
    """What a Database asks of a class that cannot do it."""
    database = Database.parse(request.object)
    asked = {
        "spec.rotation.every": database.rotate_every is not None,
        f"the annotation {ROTATE}": ROTATE in database.metadata.annotations,
    }
    if any(asked.values()) and (cls := _class_of(database, world)) and "rotate" not in cls.operations:
        what = " and ".join(name for name, is_asked in asked.items() if is_asked)
        yield f"{what}: DatabaseClass {cls.metadata.name} has no rotate operation"


def _allows(endpoint: DatabaseEndpoint, namespace: Namespace | None) -> bool:
    return namespace is not None and endpoint.allowed_namespaces.matches(namespace.metadata.labels)


def _class_of(database: Database, world: World) -> DatabaseClass | None:
    endpoint = world.endpoint(database.endpoint)
    return world.database_class(endpoint.class_name) if endpoint else None


def _usable_endpoints(namespace: Namespace | None, world: World) -> str:
    names = sorted(e.metadata.name for e in world.endpoints() if _allows(e, namespace))
    if not names:
        return "no endpoint is open to this namespace; ask an administrator for one"
    return f"open to this namespace: {listed(names)}"


def _changed_parameter(old: Mapping[str, str], new: Mapping[str, str], name: str) -> str:
    if name not in old:
        what = "cannot be added"
    elif name not in new:
        what = f"cannot be removed (it is {_quoted(old[name])})"
    else:
        what = f"cannot be changed from {_quoted(old[name])} to {_quoted(new[name])}"
    return f"{what}: the database was made with it; apply a Database of another name, or delete this one and apply anew"


def _quoted(value: str) -> str:
    return f'"{shortened(value, _QUOTED)}"'


def _deletion_policy_faults(database: Database, cls: DatabaseClass) -> Iterator[Fault]:
    if database.deletion_policy == "Delete" and "delete" not in cls.operations:
        message = f'cannot be Delete, because DatabaseClass "{cls.metadata.name}" has no delete operation; use Retain'
        yield Fault("spec.deletionPolicy", message)


def _collision(database: Database, cls: DatabaseClass, endpoint: DatabaseEndpoint, world: World) -> Iterator[Fault]:
    """Whether another Database has what this one would be called on its server.

    Advisory: the controller's create of the instance decides. Says nothing of another tenant but that there is one.
    """
    try:
        identity = render_identity(cls, template_values(database, cls, endpoint))
    except TemplateError:
        return  # a fault already, of the templates
    holder = world.instance(instance_name_for(cls, endpoint, identity))
    own = (database.metadata.namespace, database.metadata.name)
    if holder is None or holder.claim is None or holder.claim == own:
        return
    namespace, name = holder.claim
    whose = f'Database "{name}"' if namespace == own[0] else "a Database of another namespace"
    message = f'what it would be called on the server of endpoint "{endpoint.metadata.name}" is taken by {whose}'
    yield Fault(identity_path(cls), f"{message}; choose another one")
