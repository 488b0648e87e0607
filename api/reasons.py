"""Outcomes and reasons: the words in which a Job reports and a Database explains itself.

A reason decides its outcome: the same fault is never retried here and given up there.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """`status.outcome` of an Operation."""

    SUCCEEDED = "Succeeded"
    RETRY = "Retry"
    """May heal by itself: tried again with backoff."""
    STALLED = "Stalled"
    """Wrong until someone changes something: tried again at once on such a change, else slowly."""


class Reason(StrEnum):
    """`reason` of an Operation and of a Database's conditions; each belongs to one outcome."""

    SUCCEEDED = "Succeeded"

    # Retry: the server or the network.
    ENDPOINT_UNREACHABLE = "EndpointUnreachable"
    CONNECTION_LOST = "ConnectionLost"
    SERVER_NOT_READY = "ServerNotReady"
    TOO_MANY_CONNECTIONS = "TooManyConnections"
    RESOURCES_EXHAUSTED = "ResourcesExhausted"
    # Retry: the call.
    DEADLOCK = "Deadlock"
    LOCK_TIMEOUT = "LockTimeout"
    TIMEOUT = "Timeout"
    PROCEDURE_FAILED = "ProcedureFailed"
    # Retry: the Job and its cluster.
    INTERRUPTED = "Interrupted"
    JOB_LOST = "JobLost"
    JOB_NOT_STARTED = "JobNotStarted"
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable"
    CRASHED = "Crashed"

    # Stalled: TLS and login.
    CREDENTIALS_REFUSED = "CredentialsRefused"
    CERTIFICATE_NOT_TRUSTED = "CertificateNotTrusted"
    CERTIFICATE_NAME_MISMATCH = "CertificateNameMismatch"
    CERTIFICATE_EXPIRED = "CertificateExpired"
    TLS_NOT_OFFERED = "TLSNotOffered"
    TLS_VERSION_REFUSED = "TLSVersionRefused"
    TLS_FAILED = "TLSFailed"
    CLIENT_CERTIFICATE_REFUSED = "ClientCertificateRefused"
    DATABASE_MISSING = "DatabaseMissing"
    PERMISSION_DENIED = "PermissionDenied"
    # Stalled: the procedure and its result.
    PROCEDURE_MISSING = "ProcedureMissing"
    PROCEDURE_AMBIGUOUS = "ProcedureAmbiguous"
    ARGUMENTS_INVALID = "ArgumentsInvalid"
    RESULT_INVALID = "ResultInvalid"
    TEMPLATE_INVALID = "TemplateInvalid"
    # Stalled: the Secret.
    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - a reason's name
    SECRET_REFUSED = "SecretRefused"  # noqa: S105
    CREDENTIALS_LOST = "CredentialsLost"
    # Stalled: whose database it is.
    ALREADY_EXISTS = "AlreadyExists"
    # Stalled: the configuration.
    ENDPOINT_INVALID = "EndpointInvalid"
    DRIVER_MISSING = "DriverMissing"
    OPERATION_INVALID = "OperationInvalid"
    OPERATION_SUPERSEDED = "OperationSuperseded"

    @property
    def outcome(self) -> Outcome:
        """What follows from it."""
        if self is Reason.SUCCEEDED:
            return Outcome.SUCCEEDED
        return Outcome.RETRY if self in _RETRY else Outcome.STALLED

    @property
    def of_endpoint(self) -> bool:
        """Whether whoever else logs in to the same endpoint would fare the same."""
        return self in _OF_ENDPOINT


_RETRY = frozenset(
    {
        Reason.ENDPOINT_UNREACHABLE,
        Reason.CONNECTION_LOST,
        Reason.SERVER_NOT_READY,
        Reason.TOO_MANY_CONNECTIONS,
        Reason.RESOURCES_EXHAUSTED,
        Reason.DEADLOCK,
        Reason.LOCK_TIMEOUT,
        Reason.TIMEOUT,
        Reason.PROCEDURE_FAILED,
        Reason.INTERRUPTED,
        Reason.JOB_LOST,
        Reason.JOB_NOT_STARTED,
        Reason.KUBERNETES_UNAVAILABLE,
        Reason.CRASHED,
    }
)

_OF_ENDPOINT = frozenset(
    {
        Reason.ENDPOINT_UNREACHABLE,
        Reason.SERVER_NOT_READY,
        Reason.CREDENTIALS_REFUSED,
        Reason.CERTIFICATE_NOT_TRUSTED,
        Reason.CERTIFICATE_NAME_MISMATCH,
        Reason.CERTIFICATE_EXPIRED,
        Reason.TLS_NOT_OFFERED,
        Reason.TLS_VERSION_REFUSED,
        Reason.TLS_FAILED,
        Reason.CLIENT_CERTIFICATE_REFUSED,
        Reason.DATABASE_MISSING,
    }
)


class ConditionReason(StrEnum):
    """Reasons of a Database's conditions that no Operation reported."""

    PROVISIONED = "Provisioned"
    ROTATION_FAILED = "RotationFailed"
    """Ready is True: the Secret is as it was."""
    PROVISIONING = "Provisioning"
    WAITING_FOR_SLOT = "WaitingForSlot"
    WAITING_FOR_ENDPOINT = "WaitingForEndpoint"
    """Nobody has logged in to the endpoint as it is now: one tries, the others wait."""
    DELETING = "Deleting"
    ENDPOINT_MISSING = "EndpointMissing"
    CLASS_MISSING = "ClassMissing"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    TEMPLATE_INVALID = "TemplateInvalid"
    IDENTITY_CHANGED = "IdentityChanged"
    NAME_TAKEN = "NameTaken"
    PARAMETERS_INVALID = "ParametersInvalid"
    POLICY_VIOLATED = "PolicyViolated"
    QUOTA_EXCEEDED = "QuotaExceeded"
    POLICY_WARNED = "PolicyWarned"
    """PolicyCompliant is True: only policies that warn or audit have something against it."""
    COMPLIANT = "Compliant"
    FORMER_DATABASE = "FormerDatabase"
    KUBERNETES_REFUSED = "KubernetesRefused"


class EndpointReason(StrEnum):
    """Reasons of a DatabaseEndpoint's conditions that neither a probe nor an Operation reported."""

    VALID = "Valid"
    INVALID = "Invalid"
    REACHED = "Reached"
    PROCEDURES_FOUND = "ProceduresFound"
    PROCEDURES_MISSING = "ProceduresMissing"
    """Missing, or the endpoint's account may not execute them."""
    GRANTED_TO_FEW = "GrantedToFew"
    GRANTED_TO_PUBLIC = "GrantedToPublic"
    NOT_TOLD = "NotTold"
    """The server's catalogue does not say."""


CONDITION_READY = "Ready"
CONDITION_RECONCILING = "Reconciling"
CONDITION_STALLED = "Stalled"
CONDITION_POLICY_COMPLIANT = "PolicyCompliant"
# Of a DatabaseEndpoint, besides Ready.
CONDITION_REACHABLE = "Reachable"
CONDITION_PROCEDURES_FOUND = "ProceduresFound"
CONDITION_PROCEDURES_PRIVATE = "ProceduresPrivate"
