"""What controller and Job say to each other about a probe: where to look one way, what was seen the other.

A probe has no rights at all, so it can neither read an object nor write one: what it is to look at is mounted, and what
it saw is its container's last words, which the kubelet puts into the Pod's status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from api.operation import Server
from api.reasons import Reason

PROBE_VERSION = 1
"""`version` of both: a release reads its own only."""
LAST_WORDS = "/dev/termination-log"
"""Where a container leaves its last words (Kubernetes' terminationMessagePath)."""
LONGEST_WORDS = 4096
"""Bytes that the kubelet takes of them."""
CONNECTION_FACTS = ("serverVersion", "tlsVersion", "cipher", "peerCertificateSHA256", "peerCertificateNotAfter")
"""`status.connection` of an endpoint: the keys of `Connection.manifest()`."""
_SHORT, _SHORTEST = 300, 100
"""Characters to which sentences are cut when the whole is too long."""
_LONGEST_FACT = 200


class InvalidProbe(ValueError):
    """Not the agreed shape, or of another release."""


class ProbeSpec(NamedTuple):
    """Where to log in, and which procedures to look for there."""

    driver: str
    server: Server
    procedures: Mapping[str, str]
    """Operation type → the procedure's name as the class gives it."""

    def text(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "version": PROBE_VERSION,
                "driver": self.driver,
                "server": self.server.manifest(),
                "procedures": dict(self.procedures),
            },
            sort_keys=True,
        )

    @classmethod
    def parse(cls, text: str) -> ProbeSpec:
        """The inverse of `text`; raises InvalidProbe."""
        data = _object(text)
        try:
            procedures = {str(kind): str(name) for kind, name in data["procedures"].items()}
            return cls(str(data["driver"]), Server.parse(data["server"]), procedures)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidProbe(f"the probe cannot be read: {error}") from None


class Inspection(NamedTuple):
    """What a server's catalogue tells of one procedure; None where it does not tell."""

    found: bool | None
    callable: bool | None
    """Whether the endpoint's account may execute it."""
    public: bool | None
    """Whether every account of the server may."""
    message: str = ""
    """What is wrong and its cure, in a sentence; "" when nothing is."""

    def manifest(self) -> dict[str, Any]:
        """What is known, as JSON values."""
        known = {"found": self.found, "callable": self.callable, "public": self.public, "message": self.message or None}
        return {key: value for key, value in known.items() if value is not None}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Inspection:
        """The inverse of `manifest`; what has another type counts as not told."""
        found, usable, public = (
            value if isinstance(value, bool) else None for value in map(data.get, ("found", "callable", "public"))
        )
        return cls(found, usable, public, str(data.get("message", "")))


class ProbeReport(NamedTuple):
    """What a probe saw."""

    reason: Reason
    """SUCCEEDED: it has logged in."""
    message: str
    at: str
    """RFC 3339."""
    milliseconds: int = 0
    """What name resolution, TCP, TLS and login took together."""
    connection: Mapping[str, str] = {}
    """`Connection.manifest()`; empty when it has not logged in."""
    procedures: Mapping[str, Inspection] = {}
    """By operation type; empty when it has not logged in."""

    def words(self) -> bytes:
        """As UTF-8 JSON that the kubelet takes whole: what does not fit is cut from its sentences."""
        words = b""
        for limit in (None, _SHORT, _SHORTEST, 0):
            words = json.dumps(self._manifest(limit), ensure_ascii=False).encode(errors="replace")
            if len(words) <= LONGEST_WORDS:
                break
        return words

    def _manifest(self, limit: int | None) -> dict[str, Any]:
        procedures = {kind: one._replace(message=one.message[:limit]) for kind, one in self.procedures.items()}
        return {
            "version": PROBE_VERSION,
            "reason": self.reason.value,
            "message": self.message[:limit],
            "at": self.at,
            "milliseconds": self.milliseconds,
            "connection": {key: value[:_LONGEST_FACT] for key, value in self.connection.items()},
            "procedures": {kind: one.manifest() for kind, one in procedures.items()},
        }

    @classmethod
    def parse(cls, text: str) -> ProbeReport:
        """The inverse of `words`; raises InvalidProbe."""
        data = _object(text)
        try:
            return cls(
                reason=Reason(data["reason"]),
                message=str(data["message"]),
                at=str(data["at"]),
                milliseconds=int(data["milliseconds"]),
                connection={key: str(value) for key, value in data["connection"].items() if key in CONNECTION_FACTS},
                procedures={str(kind): Inspection.parse(one) for kind, one in data["procedures"].items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InvalidProbe(f"the report cannot be read: {error}") from None


def _object(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidProbe(f"it is not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("version") != PROBE_VERSION:
        raise InvalidProbe("it is of another release; controller and Job images must be of the same")
    return data
