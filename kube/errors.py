"""What the API server can answer instead of what was asked.

Knows HTTP status codes and `metav1.Status` reasons; decides nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class KubeError(Exception):
    """Any failed request; `message` is the API server's own sentence."""

    def __init__(self, message: str, *, code: int = 0, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details or {}


class Unavailable(KubeError):
    """No answer, or one that a later try may better: connection, timeout, 429, 5xx."""


class NotFound(KubeError):
    """404: no such object (or no such resource type)."""


class AlreadyExists(KubeError):
    """409 to a create: somebody has the name."""


class Conflict(KubeError):
    """409: the object changed since it was read."""


class Gone(KubeError):
    """410: the resource version is too old to watch from."""


class Forbidden(KubeError):
    """401 or 403: RBAC, an admission plugin, a quota, or a terminating namespace."""

    @property
    def namespace_terminating(self) -> bool:
        """Whether the namespace's going away is the whole reason."""
        causes = self.details.get("causes") or ()
        return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


class Invalid(KubeError):
    """400 or 422: the manifest is wrong; the causes are in `details`."""


def error_from_response(code: int, body: bytes) -> KubeError:
    """Turn a non-2xx answer into the error that it is."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, Mapping):
        status = {}
    message = status.get("message") or body[:200].decode(errors="replace") or f"HTTP {code}"
    reason = status.get("reason", "")
    kind = _error_class(code, reason)
    return kind(message, code=code, details=status.get("details"))


def _error_class(code: int, reason: str) -> type[KubeError]:
    if code == 409:
        return AlreadyExists if reason == "AlreadyExists" else Conflict
    if code == 429 or code >= 500:
        return Unavailable
    by_code: dict[int, type[KubeError]] = {
        400: Invalid,
        401: Forbidden,
        403: Forbidden,
        404: NotFound,
        410: Gone,
        422: Invalid,
    }
    return by_code.get(code, KubeError)
