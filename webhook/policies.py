"""DatabasePolicies at admission: the question that a request puts to them, and a policy's own soundness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from api.faults import Fault
from api.kinds import DatabaseClass, DatabaseEndpoint
from api.labels import ROTATE
from api.listing import listed
from api.parameters import value_faults
from policy.evaluation import Violation, defaults_for, evaluate
from policy.patterns import covers_whole, matches
from policy.question import Peer, Question
from policy.rules import DatabasePolicy
from policy.soundness import policy_doubts, policy_faults
from webhook.review import Manifest, Request
from webhook.selectors import selector_faults
from webhook.world import Use, World


def faults(manifest: Manifest) -> Iterator[Fault]:
    """What is wrong with a policy in itself."""
    yield from policy_faults(DatabasePolicy.parse(manifest))
    selector = (manifest["spec"].get("match") or {}).get("namespaceSelector")
    if selector:
        yield from selector_faults(selector, "spec.match.namespaceSelector")


def warnings(manifest: Manifest) -> Iterator[str]:
    """What is allowed, and may be meant otherwise."""
    policy = DatabasePolicy.parse(manifest)
    yield from (f"{doubt.path}: {doubt.message}" for doubt in policy_doubts(policy))
    for name, rule in policy.params.items():
        if rule.pattern is not None and not covers_whole(rule.pattern):
            yield f"spec.params[{name}].pattern: may be found in a part of the value; begin it with ^ and end it with $"


def missing(request: Request, world: World) -> Iterator[str]:
    """What a policy names and there is none of: mistyped, it would concern nobody, or allow nothing."""
    policy = DatabasePolicy.parse(request.object)
    named = {
        "spec.match.endpoints: there is no DatabaseEndpoint": (policy.match.endpoints, world.endpoint),
        "spec.match.classes: there is no DatabaseClass": (policy.match.classes, world.database_class),
        "spec.allowedEndpoints: there is no DatabaseEndpoint": (policy.allowed_endpoints, world.endpoint),
    }
    for sentence, (names, found) in named.items():
        if unknown := sorted(name for name in names if found(name) is None):
            yield f"{sentence} {listed(unknown)} yet"
    yield from _untaken(policy, world)


def _untaken(policy: DatabasePolicy, world: World) -> Iterator[str]:
    """Parameters that the classes which it is about do not know, and defaults that they refuse."""
    classes = _classes_matched(policy, world)
    for name, rule in policy.params.items():
        takes = [(c, cls.params[name]) for c, cls in sorted(classes.items()) if cls.params and name in cls.params]
        default = rule.default
        if default is not None and (refusing := [c for c, its in takes if any(value_faults(its, default, matches))]):
            who = f"DatabaseClass {listed(refusing)} {'refuses' if len(refusing) == 1 else 'refuse'} it"
            yield f"spec.params[{name}].default: {who}; who gives no value of their own is refused"
    known = {name for cls in classes.values() for name in cls.params or {}}
    # A class that declares no parameters takes any.
    choosy = classes and all(cls.params is not None for cls in classes.values())
    if choosy and (unknown := sorted(policy.params.keys() - known)):
        do, know = ("does", "it knows") if len(classes) == 1 else ("do", "they know")
        told = f"{know} {listed(sorted(known))}" if known else f"{know} none"
        yield f"spec.params[{listed(unknown)}]: which DatabaseClass {listed(sorted(classes))} {do} not know; {told}"


def _classes_matched(policy: DatabasePolicy, world: World) -> dict[str, DatabaseClass]:
    """The classes that its match names or that the endpoints have which it names, as far as there are any."""
    endpoints = (world.endpoint(name) for name in policy.match.endpoints)
    names = policy.match.classes or [endpoint.class_name for endpoint in endpoints if endpoint is not None]
    found = {name: world.database_class(name) for name in names}
    return {name: cls for name, cls in found.items() if cls is not None}


def violations(request: Request, world: World) -> list[Violation]:
    """What the policies have against a request about a Database of the right shape."""
    policies = world.policies()
    if not policies:
        return []
    found = evaluate(policies, _question(request, world))
    if found and request.operation == "DELETE":
        namespace = world.namespace_now(request.namespace)
        # Whoever deletes a namespace is not asked about what is in it.
        if namespace is None or namespace.metadata.terminating:
            return []
    return found


def defaults(request: Request, world: World) -> dict[str, str]:
    """The defaults of class and policies for a Database that is created; its shape was judged by nobody yet."""
    return defaults_for(world.policies(), _question(request, world))


def groups_named(world: World) -> frozenset[str]:
    """The groups that some policy is about: what the controller must know of a requester to judge again."""
    return frozenset(group for policy in world.policies() for group in policy.match.groups)


def _question(request: Request, world: World) -> Question:
    manifest = request.object or request.old
    spec = manifest.get("spec")
    name = spec.get("endpoint") if isinstance(spec, dict) else None
    endpoint = world.endpoint(name) if isinstance(name, str) else None
    namespace = world.namespace(request.namespace)
    return Question(
        operations=_operations(request),
        name=request.name,
        namespace=request.namespace,
        user=request.user,
        groups=request.groups,
        dry_run=request.dry_run,
        object=request.object if isinstance(spec, dict) else {**request.object, "spec": {}},
        old=request.old,
        labels=namespace.metadata.labels if namespace else {},
        endpoint=endpoint,
        cls=world.database_class(endpoint.class_name) if endpoint else None,
        usage=_Usage(request, endpoint, world),
    )


def _operations(request: Request) -> frozenset[str]:
    asked, before = (
        (m.get("metadata", {}).get("annotations") or {}).get(ROTATE) for m in (request.object, request.old)
    )
    rotates = request.operation == "UPDATE" and asked is not None and asked != before
    return frozenset({request.operation, "ROTATE"} if rotates else {request.operation})


@dataclass(frozen=True, slots=True)
class _Usage:
    """The other Databases, as the caches know them: a moment ago."""

    request: Request
    endpoint: DatabaseEndpoint | None
    world: World

    def in_namespace(self) -> Iterable[Peer]:
        """See `Usage`."""
        return self._peers(self.world.databases_in(self.request.namespace))

    def on_endpoint(self) -> Iterable[Peer]:
        """See `Usage`."""
        return self._peers(self.world.databases_on(self.endpoint.metadata.name)) if self.endpoint else ()

    def _peers(self, uses: Iterable[Use]) -> Iterator[Peer]:
        own = (self.request.namespace, self.request.name)
        for use in uses:
            if (use.metadata.namespace, use.metadata.name) == own:
                continue
            namespace = self.world.namespace(use.metadata.namespace)
            cls = self._class_of(use)
            labels = namespace.metadata.labels if namespace else {}
            yield Peer(labels, use.endpoint, cls.metadata.name if cls else "")

    def _class_of(self, use: Use) -> DatabaseClass | None:
        endpoint = self.world.endpoint(use.endpoint)
        return self.world.database_class(endpoint.class_name) if endpoint else None
