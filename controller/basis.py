"""What a request rests on, as a digest: when it changes, a request that was stuck is tried again at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, Metadata
from api.labels import ADOPT, RETRY

if TYPE_CHECKING:
    from controller.observed import Observed, OperatorSecret


def basis_of(observed: Observed) -> str:
    """`class.endpoint.database`, each a short digest of uids, generations, Secret versions and annotations.

    The annotations are `retry`, of the Database or of its endpoint, and the Database's `adopt`: none counts as an edit.
    """
    return ".".join(
        (
            class_digest(observed.cls),
            endpoint_digest(observed.endpoint, observed.secrets),
            _database_digest(observed.database),
        ),
    )


def endpoint_basis(basis: str) -> str:
    """The part of a basis, or of a probe's, that logins depend on."""
    parts = basis.split(".")
    return parts[1] if len(parts) in (2, 3) else ""


def probe_basis(
    cls: DatabaseClass | None, endpoint: DatabaseEndpoint | None, secrets: Mapping[str, OperatorSecret | None]
) -> str:
    """`class.endpoint`: what a probe's findings depend on. Fit for a label's value when both are there."""
    return f"{class_digest(cls)}.{endpoint_digest(endpoint, secrets)}"


def class_digest(cls: DatabaseClass | None) -> str:
    """The part that procedures depend on; "" without a class."""
    return "" if cls is None else _digest((cls.metadata.uid, str(cls.metadata.generation)))


def endpoint_digest(endpoint: DatabaseEndpoint | None, secrets: Mapping[str, OperatorSecret | None]) -> str:
    """The part that logins depend on; "" without an endpoint. secrets: those that it names."""
    if endpoint is None:
        return ""
    parts = [endpoint.metadata.uid, str(endpoint.metadata.generation), *_asked(endpoint.metadata, RETRY)]
    for name in endpoint.secret_names:
        secret = secrets.get(name)
        parts += [name, "" if secret is None else secret.metadata.resource_version]
    return _digest(parts)


def _database_digest(database: Database | None) -> str:
    if database is None:
        return ""
    metadata = database.metadata
    return _digest((metadata.uid, str(metadata.generation), *_asked(metadata, RETRY, ADOPT)))


def _asked(metadata: Metadata, *annotations: str) -> Iterator[str]:
    for key in annotations:
        if key in metadata.annotations:
            yield f"{key}={metadata.annotations[key]}"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
