"""AdmissionReview `admission.k8s.io/v1`: the question as the API server puts it, and the answer in its form.

Knows the envelope only; what is in the object that it carries is judged elsewhere.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, Literal

from marshmallow import ValidationError

from api.faults import Fault
from api.resources import GROUP
from policy.evaluation import Violation
from webhook.envelope import REVIEW, REVIEW_VERSION
from webhook.patch import Step

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
Manifest = Mapping[str, Any]

LONGEST_WARNING = 120
"""Characters: what the API documentation of AdmissionResponse asks for."""
WARNING_LINES = 5
"""The most that one violation is told in; the API server passes on 4,096 characters in all, then cuts each."""
LONGEST_MESSAGE = 500
"""Characters of one fault's sentence: what it quotes of a manifest may be of any length."""


class MalformedReview(ValueError):
    """A request body that is no AdmissionReview; the message is one sentence without anything of the body's values."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the API server asks about: one operation of one user on one object."""

    uid: str
    operation: Operation
    kind: str
    """A kind of this operator's API group."""
    name: str
    """Empty while the API server has not generated it."""
    namespace: str
    """Empty for a cluster-wide object."""
    user: str
    """`userInfo.username`; under impersonation the user who is impersonated, as everywhere in Kubernetes."""
    groups: tuple[str, ...]
    dry_run: bool
    object: Manifest
    """As it would be stored; empty for DELETE."""
    old: Manifest
    """As it is stored; empty for CREATE."""

    @property
    def terminating(self) -> bool:
        """Whether the stored object is being deleted: then nobody touches it, so that a finalizer can come off."""
        # Not of the new object, where any user could write it.
        return self.operation == "UPDATE" and bool(self.old["metadata"].get("deletionTimestamp"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: allowed when nothing is wrong."""

    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()
    patch: tuple[Step, ...] = ()
    audit: Mapping[str, str] = field(default_factory=dict)
    """Annotations for the API server's audit log, by a key without prefix."""
    violations: tuple[Violation, ...] = ()
    """What policies had against it, whatever follows from that."""
    unavailable: str = ""
    """Why nothing could be decided, in which case nothing is allowed; a later try may be."""

    @property
    def allowed(self) -> bool:
        """Whether the API server may go on."""
        return not self.faults and not self.unavailable


_NEEDED = {"CREATE": ("object",), "UPDATE": ("object", "oldObject"), "DELETE": ("oldObject",), "CONNECT": ()}


def read_review(body: bytes) -> Request:
    """Read a request body; raises MalformedReview."""
    try:
        review = REVIEW.load(_json(body))
    except ValidationError as error:
        raise MalformedReview(f"this is no AdmissionReview: {_first_fault(error.messages)}") from None
    request = review["request"]
    if request["kind"]["group"] != GROUP:
        raise MalformedReview(f"request.kind.group: only objects of {GROUP} are reviewed here")
    for key in _NEEDED[request["operation"]]:
        if request[key] is None:
            raise MalformedReview(f"this is no AdmissionReview: request.{key}: Missing data for required field.")
    return Request(
        uid=request["uid"],
        operation=request["operation"],
        kind=request["kind"]["kind"],
        name=request["name"] or _own_name(request["object"]) or _own_name(request["oldObject"]),
        namespace=request["namespace"],
        user=request["userInfo"]["username"],
        groups=tuple(request["userInfo"]["groups"] or ()),
        dry_run=bool(request["dryRun"]),
        object=request["object"] or {},
        old=request["oldObject"] or {},
    )


def write_review(request: Request, verdict: Verdict) -> dict[str, Any]:
    """The AdmissionReview that answers `request`."""
    response: dict[str, Any] = {"uid": request.uid, "allowed": verdict.allowed}
    if verdict.faults:
        response["status"] = _invalid(request, verdict.faults)
    elif verdict.unavailable:
        response["status"] = {
            "status": "Failure",
            "code": 503,
            "reason": "ServiceUnavailable",
            "message": verdict.unavailable,
        }
    elif verdict.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = b64encode(json.dumps(verdict.patch).encode()).decode("ascii")
    if verdict.warnings:
        response["warnings"] = [line for warning in verdict.warnings for line in _lines(warning)]
    if verdict.audit:
        response["auditAnnotations"] = dict(verdict.audit)
    return {"apiVersion": REVIEW_VERSION, "kind": "AdmissionReview", "response": response}


def _lines(warning: str) -> list[str]:
    """A warning as several ones where it is too long for one: its end is the cure."""
    if len(warning) <= LONGEST_WARNING:
        return [warning]
    text = shortened(warning, WARNING_LINES * LONGEST_WARNING)
    return wrap(text, LONGEST_WARNING, subsequent_indent="… ", break_on_hyphens=False)[:WARNING_LINES]


def shortened(text: str, limit: int) -> str:
    """`text`, at most `limit` characters of it."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _invalid(request: Request, faults: Sequence[Fault]) -> dict[str, Any]:
    causes = [
        {"reason": "FieldValueInvalid", "field": fault.path, "message": shortened(fault.message, LONGEST_MESSAGE)}
        for fault in sorted(set(faults))
    ]
    # kubectl prints the causes, other clients the message: each has everything.
    sentences = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
    return {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": f'{request.kind} "{request.name}" is invalid: {sentences}',
        "details": {"name": request.name, "group": GROUP, "kind": request.kind, "causes": causes},
    }


def _json(body: bytes) -> Any:
    try:
        parsed = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_distinct)
        if b"\\u" in body:
            # Half a surrogate pair is JSON, but no text: it could be neither logged nor answered.
            json.dumps(parsed, ensure_ascii=False).encode()
    except MalformedReview:
        raise
    except (ValueError, RecursionError):
        raise MalformedReview("the body is not JSON in UTF-8") from None
    return parsed


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two they take: what is judged here might not be what is stored.
    whole = dict(pairs)
    if len(whole) < len(pairs):
        raise MalformedReview("the body has a key twice in one object")
    return whole


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _own_name(manifest: Manifest | None) -> str:
    return ((manifest or {}).get("metadata") or {}).get("name") or ""


def _first_fault(messages: Any, path: str = "") -> str:
    while isinstance(messages, Mapping) or (isinstance(messages, list) and messages):
        if isinstance(messages, list):
            # Sentences; or what a validator found, which is a tree again.
            messages = messages[0]
            continue
        key, messages = min(messages.items(), key=lambda item: str(item[0]))
        if key != "_schema":
            path += f".{shortened(str(key), 40)}" if path else shortened(str(key), 40)
    return f"{path}: {messages}" if path else str(messages)
