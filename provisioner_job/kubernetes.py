"""The API server as a Job sees it: one HTTPS connection, kept alive.

Knows requests, errors and patience; nothing of Operations or Secrets. (With the Kubernetes client the start-up would
take ten times as long.)
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from provisioner_job.https import Https, NoHttp
from provisioner_job.settings import Settings

T = TypeVar("T")
Json = Mapping[str, Any]
NOTHING: Json = MappingProxyType({})

_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"
_TRANSIENT = frozenset({0, 408, 429, 500, 502, 503, 504})
FIELD_MANAGER = "dbaas-job"
RIGHTS_SECONDS = 20.0
"""For how long a 403 may be that of an authorizer which has not read the Roles yet."""


class ApiError(Exception):
    """A refused or failed request.

    status: of HTTP; 0 when no answer came.
    reason: `NotFound`, `Conflict`, … of the Status object; the exception's type when no answer came.
    message: the API server's sentence; after a request with secrets in it, not to be shown.
    details: of the Status object.
    """

    def __init__(self, status: int, reason: str, message: str, details: Json = NOTHING) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or ())
        self.retry_after = float(details.get("retryAfterSeconds") or 0)

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} {self.reason}: {self.message}"

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later, nothing else having changed."""
        return self.status in _TRANSIENT


class ApiServer:
    """Requests with the Job's own token. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        context = ssl.create_default_context(cafile=settings.ca_file)
        # From Python 3.13 on by default; the CAs of many clusters lack an extension that it wants.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._connection = Https((settings.host, settings.port), context, settings.request_seconds)
        self._token_file = settings.token_file

    def get(self, path: str) -> Json:
        """Read one object. Raises ApiError."""
        return self._request("GET", path)

    def merge_patch(self, path: str, patch: Json, *, dry_run: bool = False) -> Json:
        """Merge `patch` into one object and give the whole. Raises ApiError."""
        return self._request("PATCH", path + ("?dryRun=All" if dry_run else ""), patch, _MERGE_PATCH)

    def apply(self, path: str, manifest: Json, *, force: bool, dry_run: bool = False) -> Json:
        """Server-side apply `manifest` as the Job's field manager. Raises ApiError.

        force: take over fields that another manager holds; without it they are a conflict (409).
        """
        query = f"?fieldManager={FIELD_MANAGER}&force={str(force).lower()}" + ("&dryRun=All" if dry_run else "")
        return self._request("PATCH", path + query, manifest, _APPLY_PATCH)

    def _request(self, method: str, path: str, body: Json | None = None, content_type: str = "") -> Json:
        reused = self._connection.connected
        try:
            return self._send(method, path, body, content_type)
        except ApiError as error:
            # An idle connection may have been closed by the other side. Every request here can be sent twice.
            if not reused or error.status:
                raise
        return self._send(method, path, body, content_type)

    def _send(self, method: str, path: str, body: Json | None, content_type: str) -> Json:
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            # The kubelet renews the file; a Job may wait for a lock longer than a token lives.
            with open(self._token_file, encoding="ascii") as file:
                headers["Authorization"] = f"Bearer {file.read().strip()}"
            data = None if body is None else json.dumps(body).encode()
            answer = self._connection.request(method, path, headers, data)
        except (OSError, NoHttp) as error:
            raise ApiError(0, type(error).__name__, "the API server gave no answer") from error
        return _read(answer.status, answer.body)


class Rights:
    """What is waited for: rights that an API server does not know yet, not those that somebody took away.

    Grants reach its authorizer a moment after they are made, and one that has just started knows none of them. Roles
    that went with their namespace do not come back.

    For one request and its repetitions. `denies(error)`: whether it is the authorizer that refused.
    """

    def __init__(self, denies: Callable[[ApiError], bool] = lambda error: error.status == 403) -> None:
        self._denies = denies
        self._denied_since: float | None = None

    def awaited(self, error: ApiError) -> bool:
        """Whether the same request may succeed later: for whatever passes, or while rights may still become known."""
        if error.transient or not self._denies(error):
            self._denied_since = None
            return error.transient
        now = time.monotonic()
        self._denied_since = self._denied_since or now
        return now - self._denied_since < RIGHTS_SECONDS


def _read(status: int, answer: bytes) -> Json:
    """The object of a successful answer. Raises ApiError for any other."""
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        # A load balancer speaks HTML.
        raise ApiError(status if status >= 400 else 0, "Unreadable", f"HTTP {status} without a JSON object")
    if status < 400:
        return document
    raise ApiError(
        status,
        str(document.get("reason") or "Unknown"),
        str(document.get("message") or f"HTTP {status}"),
        document.get("details") or NOTHING,
    )


def patiently(
    ask: Callable[[], T], seconds: float, again: Callable[[ApiError], bool] = lambda error: error.transient
) -> T:
    """Ask until it is answered; while `again` says so, and for so many seconds, repeat with growing, jittered pauses.

    Raises the last ApiError.
    """
    end = time.monotonic() + seconds
    pause = 0.1
    while True:
        try:
            return ask()
        except ApiError as error:
            import random  # 2 ms, and seldom needed

            wait = max(pause * (0.5 + random.random()), error.retry_after)  # noqa: S311 - jitter, no secret
            if not again(error) or time.monotonic() + wait > end:
                raise
        time.sleep(wait)
        pause = min(pause * 2, 5.0)
