"""What a request rests on, as a digest: when it changes, a request that was stuck is tried again at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from api.kinds import Database, DatabaseClass, DatabaseEndpoint, Metadata
from api.labels import ADOPT, RETRY
from controller.observed import Observed


def basis_of(observed: Observed) -> str:
    """`class.endpoint.database`, each a short digest of uids, generations, Secret versions and annotations.

    The annotations are `retry`, of the Database or of its endpoint, and the Database's `adopt`: none counts as an edit.
    """
    return ".".join(
        (_class_digest(observed.cls), _endpoint_digest(observed), _database_digest(observed.database)),
    )


def endpoint_basis(basis: str) -> str:
    """The part of a basis that logins depend on."""
    return basis.split(".")[1] if basis.count(".") == 2 else ""


def _class_digest(cls: DatabaseClass | None) -> str:
    return "" if cls is None else _digest((cls.metadata.uid, str(cls.metadata.generation)))


def _endpoint_digest(observed: Observed) -> str:
    endpoint: DatabaseEndpoint | None = observed.endpoint
    if endpoint is None:
        return ""
    parts = [endpoint.metadata.uid, str(endpoint.metadata.generation), *_asked(endpoint.metadata, RETRY)]
    for name in endpoint.secret_names:
        secret = observed.secrets.get(name)
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
