"""What an endpoint's status says: whether it can be used, whether one can log in there, what was found there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from api.kinds import DatabaseClass, DatabaseEndpoint, conditions_of
from api.labels import (
    CA_KEY,
    LABEL_ENDPOINT_CREDENTIALS,
    PASSWORD_KEY,
    TLS_CERTIFICATE_KEY,
    TLS_PRIVATE_KEY_KEY,
    USERNAME_KEY,
)
from api.probe import Inspection
from api.reasons import (
    CONDITION_PROCEDURES_FOUND,
    CONDITION_PROCEDURES_PRIVATE,
    CONDITION_REACHABLE,
    CONDITION_READY,
    EndpointReason,
)
from controller.knowledge import Probed
from controller.observed import OperatorSecret
from controller.standing import Standing
from controller.status import MESSAGE_LIMIT, turned_at


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


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of an endpoint as it is now."""

    faults: tuple[str, ...]
    """What keeps it from being used."""
    standing: Standing | None
    """None: nobody has tried to log in yet."""
    basis: str = ""
    """`probe_basis` of now."""
    probed: Probed | None = None
    """The last probe, at this very basis."""


def endpoint_status(endpoint: DatabaseEndpoint, findings: Findings, now: datetime) -> dict[str, Any] | None:
    """The status to merge, or None when it says so already.

    What nobody has looked at since the endpoint changed stays as it was said of the endpoint before.
    """
    former = conditions_of(endpoint.status)
    wanted = {**former, **{c.type: c.manifest(endpoint, former, now) for c in _conditions(findings)}}
    status: dict[str, Any] = {
        "observedGeneration": endpoint.metadata.generation,
        "conditions": [wanted[kind] for kind in sorted(wanted, key=_rank)],
    }
    basis = {}
    if findings.standing is not None:
        basis["login"] = findings.standing.login.basis
    report = None if findings.probed is None else findings.probed.report
    if findings.probed is not None and report is not None:
        basis["probe"] = findings.probed.basis
    if basis:
        status["basis"] = {**(endpoint.status.get("basis") or {}), **basis}
    if report is not None and report.connection:
        status["connection"] = dict(report.connection)
    if all(endpoint.status.get(key) == value for key, value in status.items()):
        return None
    # Merged over the last connection's facts: what this one does not have is to go.
    if "connection" in status:
        status["connection"] = dict.fromkeys(endpoint.status.get("connection") or ()) | status["connection"]
    return status


_ORDER = (CONDITION_READY, CONDITION_REACHABLE, CONDITION_PROCEDURES_FOUND, CONDITION_PROCEDURES_PRIVATE)


def _rank(kind: str) -> tuple[int, str]:
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind)


class _Condition(NamedTuple):
    type: str
    status: str
    reason: str
    message: str
    since: datetime | None = None

    def manifest(self, endpoint: DatabaseEndpoint, former: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        return {
            "type": self.type,
            "status": self.status,
            "reason": self.reason,
            "message": self.message[:MESSAGE_LIMIT],
            "observedGeneration": endpoint.metadata.generation,
            "lastTransitionTime": turned_at(former.get(self.type), self.status, self.since or now),
        }


def _conditions(findings: Findings) -> Iterator[_Condition]:
    faults, standing = findings.faults, findings.standing
    if faults:
        yield _Condition(CONDITION_READY, "False", EndpointReason.INVALID, "; ".join(faults))
    else:
        yield _Condition(CONDITION_READY, "True", EndpointReason.VALID, "its class and its Secrets are there")
    if standing is not None:
        login = standing.login
        reached = login.reachable == "True"
        reason, message = (
            (EndpointReason.REACHED, "the last login succeeded") if reached else (login.reason, login.message)
        )
        yield _Condition(CONDITION_REACHABLE, login.reachable, reason, message, standing.since)
    report = None if findings.probed is None else findings.probed.report
    if report is not None and report.procedures:
        yield _procedures_found(report.procedures)
        yield _procedures_private(report.procedures)


def _procedures_found(procedures: Mapping[str, Inspection]) -> _Condition:
    faults = [
        f"{kind}: {one.message}"
        for kind, one in sorted(procedures.items())
        if one.found is False or one.callable is False
    ]
    if faults:
        return _Condition(CONDITION_PROCEDURES_FOUND, "False", EndpointReason.PROCEDURES_MISSING, "; ".join(faults))
    unknown = [f"{kind}: {one.message}" for kind, one in sorted(procedures.items()) if one.found is None]
    if unknown:
        return _Condition(CONDITION_PROCEDURES_FOUND, "Unknown", EndpointReason.NOT_TOLD, "; ".join(unknown))
    message = f"the server has what the class names ({', '.join(sorted(procedures))}), and the account may call it"
    return _Condition(CONDITION_PROCEDURES_FOUND, "True", EndpointReason.PROCEDURES_FOUND, message)


def _procedures_private(procedures: Mapping[str, Inspection]) -> _Condition:
    faults = [f"{kind}: {one.message}" for kind, one in sorted(procedures.items()) if one.public]
    if faults:
        return _Condition(CONDITION_PROCEDURES_PRIVATE, "False", EndpointReason.GRANTED_TO_PUBLIC, "; ".join(faults))
    told = [kind for kind, one in sorted(procedures.items()) if one.public is False]
    if not told:
        message = "the server does not tell who else may call its procedures"
        return _Condition(CONDITION_PROCEDURES_PRIVATE, "Unknown", EndpointReason.NOT_TOLD, message)
    message = f"not everybody who can log in may call them ({', '.join(told)})"
    return _Condition(CONDITION_PROCEDURES_PRIVATE, "True", EndpointReason.GRANTED_TO_FEW, message)
