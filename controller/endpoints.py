"""Whether an endpoint can be used: its class, its Secrets, its settings. Pure but for the one status write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.kinds import DatabaseClass, DatabaseEndpoint
from api.labels import (
    CA_KEY,
    LABEL_ENDPOINT_CREDENTIALS,
    PASSWORD_KEY,
    TLS_CERTIFICATE_KEY,
    TLS_PRIVATE_KEY_KEY,
    USERNAME_KEY,
)
from api.reasons import CONDITION_READY
from controller.observed import OperatorSecret
from controller.status import rfc3339


def secret_faults(endpoint: DatabaseEndpoint, secrets: Mapping[str, OperatorSecret | None]) -> list[str]:
    """What is wrong with the Secrets that an endpoint names, as sentences with the cure."""
    tls = endpoint.tls
    faults = _faults(
        "spec.credentialsSecretRef", endpoint.credentials_secret, (USERNAME_KEY, PASSWORD_KEY), secrets, sent=True
    )
    if tls.client_certificate_secret:
        keys = (TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY)
        reference = "spec.tls.clientCertificateSecretRef"
        faults += _faults(reference, tls.client_certificate_secret, keys, secrets, sent=True)
    if tls.ca_secret:
        faults += _faults("spec.tls.caSecretRef", tls.ca_secret, (CA_KEY,), secrets, sent=False)
    return faults


def _faults(
    field: str, name: str, keys: tuple[str, ...], secrets: Mapping[str, OperatorSecret | None], *, sent: bool
) -> list[str]:
    secret = secrets.get(name)
    if secret is None:
        return [f"{field}: Secret {name!r} does not exist in the operator's namespace; create it there"]
    faults = [f"{field}: Secret {name!r} has no key {key!r}; add it" for key in keys if key not in secret.keys]
    # Without the label, who may write endpoints could have any Secret of this namespace sent to a host of theirs.
    if sent and secret.metadata.labels.get(LABEL_ENDPOINT_CREDENTIALS) != "true":
        faults.append(f'{field}: Secret {name!r} lacks the label {LABEL_ENDPOINT_CREDENTIALS}: "true"; add it')
    return faults


def endpoint_faults(
    endpoint: DatabaseEndpoint,
    cls: DatabaseClass | None,
    secrets: Mapping[str, OperatorSecret | None],
    *,
    allow_insecure: bool,
) -> list[str]:
    """Everything that keeps an endpoint from being used."""
    faults = []
    if cls is None:
        faults.append(f"spec.className: DatabaseClass {endpoint.class_name!r} does not exist; apply it")
    if endpoint.tls.mode == "Disabled" and not allow_insecure:
        faults.append(
            "spec.tls.mode: Disabled sends passwords in clear text; use VerifyFull, "
            "or set the chart's allowInsecureEndpoints if you must"
        )
    return faults + secret_faults(endpoint, secrets)


def endpoint_status(endpoint: DatabaseEndpoint, faults: list[str], now: datetime) -> dict[str, Any] | None:
    """The status to merge, or None when it says so already."""
    status = "False" if faults else "True"
    condition = {
        "type": CONDITION_READY,
        "status": status,
        "reason": "Invalid" if faults else "Valid",
        "message": "; ".join(faults) if faults else "its class and its Secrets are there",
        "observedGeneration": endpoint.metadata.generation,
    }
    conditions = endpoint.status.get("conditions") or ()
    former = next((c for c in conditions if c["type"] == CONDITION_READY), None)
    if former is not None and {**former, "lastTransitionTime": None} == {**condition, "lastTransitionTime": None}:
        return None
    since = former["lastTransitionTime"] if former is not None and former["status"] == status else rfc3339(now)
    others = [c for c in conditions if c["type"] != CONDITION_READY]
    return {
        "observedGeneration": endpoint.metadata.generation,
        "conditions": [{**condition, "lastTransitionTime": since}, *others],
    }
