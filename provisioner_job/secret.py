"""The Secret that a user binds, decided: whose it is, what it will hold, and when credentials are lost. Pure.

An empty result means "unchanged". For a key of the Secret whose template refers to an empty result that means:

1. the Secret has a value there: it stays, whatever else the template says;
2. it has none, and the empty result is a declared credential: the credential is lost (see `provenance`);
3. it has none, and no declared credential is involved: the template is rendered with the empty text.

A rotation that leaves everything secret as it was has failed, unless its procedures returned it once more.

A declared credential that procedures have returned for this claim before is empty where the result leaves it out.

Without `secretFormat` every result key is a key of the Secret with the template `{{ .Result.key }}`; a declared
credential that the result leaves out altogether stays too, and is lost when somebody took it out. Keys that are neither
rendered nor kept are removed, if a Job wrote them; keys that somebody else added stay.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from api.binding import keys_text, keys_told
from api.labels import (
    DATABASE_UID,
    KEYS,
    LABEL_CREDENTIALS,
    LABEL_DATABASE,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    ROTATED_AT,
    SEQUENCE,
)
from api.operation import OperationSpec, SecretTarget, Text
from api.reasons import Reason
from api.resources import ROLES
from api.templates import Reference, Template, TemplateError, Values, refers_to_empty
from provisioner_job import provenance
from provisioner_job.audit import rfc3339
from provisioner_job.drivers.contract import Result
from provisioner_job.errors import Failure, shortened

COLLECTED_WITHIN = 3
"""Attempts for which another Database's Secret of this name may be one that is being collected."""
MOST_BYTES = 1024 * 1024
"""Of all values of a Secret together (Kubernetes API, MaxSecretSize)."""
PLACEHOLDER = b"placeholder"
"""What a trial writes instead of values."""
_KEY = re.compile(r"(?!\.\.)[-._a-zA-Z0-9]{1,253}")


class Present(NamedTuple):
    """The Secret as it stands before the Job writes it."""

    uid: str
    resource_version: str
    type: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: frozenset[str]
    """The uids that its owner references name."""
    immutable: bool
    data: Mapping[str, bytes]

    def __repr__(self) -> str:
        # Without the data.
        return f"Present(uid={self.uid!r}, resource_version={self.resource_version!r})"

    @classmethod
    def parse(cls, manifest: Mapping[str, Any]) -> Present:
        """Read a Secret."""
        metadata = manifest["metadata"]
        return cls(
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            type=manifest.get("type", ""),
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            owners=frozenset(owner["uid"] for owner in metadata.get("ownerReferences") or ()),
            immutable=bool(manifest.get("immutable", False)),
            data={key: b64decode(value or "") for key, value in (manifest.get("data") or {}).items()},
        )

    @property
    def sequence(self) -> int:
        """The request that last wrote it; 0 when that cannot be told."""
        text = self.annotations.get(SEQUENCE, "")
        return int(text) if text.isascii() and text.isdecimal() else 0

    @property
    def kept(self) -> Mapping[str, bytes]:
        """What it holds; a key that a Job wrote and that somebody took out is there without a value."""
        return {**dict.fromkeys(keys_told(self.annotations.get(KEYS, "")), b""), **self.data}


class Data(NamedTuple):
    """What the Secret will hold, and the names that it cannot hold."""

    values: Mapping[str, bytes]
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # Without the values.
        return f"Data(skipped={self.skipped!r})"


def carries(present: Present | None, spec: OperationSpec, target: SecretTarget) -> bool:
    """Judge the Secret of the target's name; whether it already carries this very request.

    Raises Failure: SECRET_CONFLICT when it is not this Database's, KUBERNETES_UNAVAILABLE when it goes away with an
    earlier Database of this name, OPERATION_SUPERSEDED when a later request has written it, SECRET_REFUSED when it is
    immutable.
    """
    if present is None:
        return False
    name = f"{spec.database.namespace}/{target.name}"
    ours = present.labels.get(LABEL_CREDENTIALS) == "true" and present.type == target.type
    writer = present.annotations.get(DATABASE_UID)
    owners = {spec.database.uid, target.former_uid} - {""}
    inherited = ours and writer != spec.database.uid
    if inherited and present.owners - {target.owner.uid} and spec.attempt <= COLLECTED_WITHIN:
        # It goes away with its owner when that one is deleted already; a retained one stays, and is told as a conflict.
        raise Failure(
            Reason.KUBERNETES_UNAVAILABLE,
            f"the Secret {name} of an earlier Database of this name has not been collected yet",
        )
    if not ours or writer not in owners:
        raise Failure(
            Reason.SECRET_CONFLICT,
            f"a Secret {name} that does not belong to this Database already exists and was not touched; "
            "remove or rename that Secret, or give the Database another name",
        )
    if present.sequence > spec.sequence:
        raise Failure(
            Reason.OPERATION_SUPERSEDED,
            f"the Secret {name} already carries request {present.sequence}, later than {spec.sequence}; "
            "nothing was called",
        )
    if present.sequence == spec.sequence:
        return True
    if present.immutable:
        raise Failure(
            Reason.SECRET_REFUSED,
            f"the Secret {name} is immutable, so new credentials could not be written; "
            "remove it, and it is written anew",
        )
    return False


def trial(target: SecretTarget, present: Present | None) -> dict[str, bytes]:
    """The keys that the Secret will have, as far as they are known before the call, with placeholders."""
    if target.format is not None:
        keys: Iterable[str] = (text.name for text in target.format)
    else:
        keys = (*target.credentials, *(present.data if present is not None else ()))
    return {key: PLACEHOLDER for key in keys if is_key(key)}


def sensitive_keys(target: SecretTarget) -> frozenset[str]:
    """The Secret's keys whose values are secret: those with a declared credential or a generated value in them."""
    if target.format is None:
        return frozenset(target.credentials)
    return frozenset(
        text.name
        for text in target.format
        if any(
            reference.root == "Generated" or (reference.root == "Result" and reference.path[1] in target.credentials)
            for reference in text.template.references
        )
    )


def merge(earlier: Result, later: Result) -> Result:
    """The results of two calls as one: the later wins, unless it is empty."""
    return {**earlier, **{key: value for key, value in later.items() if value or key not in earlier}}


def compose(spec: OperationSpec, target: SecretTarget, values: Values, kept: Mapping[str, bytes]) -> Data:
    """What the Secret will hold; `values` has `Result` and, if there is one, `Generated`; `kept`: see `Present.kept`.

    Raises Failure: TEMPLATE_INVALID with what the result has, CREDENTIALS_LOST, ALREADY_EXISTS, or RESULT_INVALID for
    more than a Secret can hold, for nothing that it can hold, and for a rotation that returned nothing new.
    """
    # One that was returned before, and now is not even mentioned, is as good as empty.
    values = {**values, "Result": {**dict.fromkeys(target.returned, ""), **values["Result"]}}
    data: dict[str, bytes] = {}
    gone: list[str] = []
    texts = _texts(target, values["Result"], kept)
    for text in texts:
        if not is_key(text.name):
            continue
        left_out = _left_out(text, target, values)
        if left_out or refers_to_empty(text.template, values):
            if value := kept.get(text.name):
                data[text.name] = value
                continue
            if left_out:
                gone.append(text.name)
                continue
            gone += (name for name in _credentials(text, target, values) if name not in gone)
        try:
            data[text.name] = text.template.render(values).encode()
        except TemplateError as error:
            raise Failure(Reason.TEMPLATE_INVALID, f"key {text.name} of the Secret: {error}") from None
    if gone:
        raise provenance.lost(spec, gone)
    if spec.type == "rotate" and _as_they_were(target, values, data, kept):
        raise _unrotated(spec)
    if not data and texts:
        raise _unusable(spec, texts)
    _check_size(spec, data)
    return Data(data, tuple(text.name for text in texts if not is_key(text.name)))


def _unusable(spec: OperationSpec, texts: Iterable[Text]) -> Failure:
    names = shortened(", ".join(text.name for text in texts), 200)
    return Failure(
        Reason.RESULT_INVALID,
        f"{spec.calls[-1].procedure} ran, but returned {names}, and no key of a Secret can be called so: "
        "let it name its columns, or the rows' keys, with letters, digits, '-', '_' and '.'",
    )


def _check_size(spec: OperationSpec, data: Mapping[str, bytes]) -> None:
    # The API server would close the connection on far too much, as it does when it is in trouble.
    size = sum(map(len, data.values()))
    if size > MOST_BYTES:
        largest = max(data, key=lambda key: len(data[key]))
        raise Failure(
            Reason.RESULT_INVALID,
            f"{spec.calls[-1].procedure} ran, but returned too much: the Secret would hold {size} bytes, "
            f"{len(data[largest])} of them in key {largest}, and no Secret holds more than {MOST_BYTES}",
        )


def _as_they_were(target: SecretTarget, values: Values, data: Mapping[str, bytes], kept: Mapping[str, bytes]) -> bool:
    """Whether a declared credential came back empty, and all that is secret is what the Secret has held before."""
    secrets = [key for key in sensitive_keys(target) if key in data]
    empty = any(not values["Result"].get(name) for name in target.credentials)
    return bool(secrets) and empty and all(data[key] == kept.get(key) for key in secrets)


def _unrotated(spec: OperationSpec) -> Failure:
    """Silence here would leave a Secret that perhaps does not log in any more, and call it rotated."""
    names = " and ".join(dict.fromkeys(call.procedure for call in spec.calls))
    return Failure(
        Reason.RESULT_INVALID,
        f"{names} have run, but returned no new credential; the Secret keeps what it had, which may not work any more: "
        "let the rotate procedure return what it has set",
    )


def manifest(
    spec: OperationSpec, target: SecretTarget, present: Present | None, data: Mapping[str, bytes], now: datetime
) -> dict[str, Any]:
    """The Secret for server-side apply. With the uid and version of what is there, so that nothing else is hit.

    An existing Secret keeps its owners, or goes on having none: to change them takes the right to delete the Secret
    where the admission plugin OwnerReferencesPermissionEnforcement is on (OpenShift), and a Job does not have that.
    """
    existing = present is not None and present.uid
    owned = present is None or not existing or target.owner.uid in present.owners
    annotations = {DATABASE_UID: spec.database.uid, SEQUENCE: str(spec.sequence)}
    if keys := keys_text(data):
        annotations[KEYS] = keys
    if spec.type == "rotate":
        annotations[ROTATED_AT] = rfc3339(now)
    elif present is not None and ROTATED_AT in present.annotations:
        annotations[ROTATED_AT] = present.annotations[ROTATED_AT]
    metadata: dict[str, Any] = {
        "name": target.name,
        "namespace": spec.database.namespace,
        "labels": {
            LABEL_CREDENTIALS: "true",
            LABEL_DATABASE: spec.database.name,
            MANAGED_BY: MANAGED_BY_VALUE,
        },
        "annotations": annotations,
    }
    if present is not None and existing:
        metadata |= {"uid": present.uid, "resourceVersion": present.resource_version}
    if owned:
        metadata["ownerReferences"] = [
            {
                "apiVersion": ROLES.api_version,
                "kind": ROLES.kind,
                "name": target.owner.name,
                "uid": target.owner.uid,
            }
        ]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": target.type,
        "data": {key: b64encode(value).decode() for key, value in data.items()},
    }


def is_key(name: str) -> bool:
    """Whether a Secret can have this key (apimachinery, IsConfigMapKey)."""
    return name != "." and _KEY.fullmatch(name) is not None


def _texts(target: SecretTarget, result: Mapping[str, Any], kept: Mapping[str, bytes]) -> tuple[Text, ...]:
    if target.format is not None:
        return target.format
    names = [*result, *(name for name in target.credentials if name not in result and name in kept)]
    return tuple(Text(name, Template((Reference(("Result", name)),))) for name in names)


def _left_out(text: Text, target: SecretTarget, values: Values) -> bool:
    """Whether the result, passed through, has no such key; `_texts` asks for it because the Secret has it."""
    return target.format is None and text.name not in values["Result"]


def _credentials(text: Text, target: SecretTarget, values: Values) -> list[str]:
    """The declared credentials that the text refers to and that came back empty."""
    return [
        reference.path[1]
        for reference in text.template.references
        if reference.root == "Result" and reference.path[1] in target.credentials and reference.lookup(values) == ""
    ]
