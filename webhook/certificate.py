"""The webhook's own certificate: read from one Secret, followed while it is renewed, served to new connections.

Key material is in memory, and for the moment of loading in a file that nobody else can read.
"""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from api.kinds import Manifest, Metadata
from api.labels import TLS_CERTIFICATE_KEY, TLS_PRIVATE_KEY_KEY
from api.resources import SECRETS
from kube.cache import Cache
from kube.client import Client

log = logging.getLogger(__name__)

MEMORY = Path("/dev/shm")  # noqa: S108 - memory, and files in it are made with mode 0600
"""Where files are that never reach a disk."""


@dataclass(frozen=True, slots=True)
class TlsSecret:
    """A Secret of type `kubernetes.io/tls`; a key that is missing is empty."""

    metadata: Metadata
    certificate: bytes
    """PEM, the chain included."""
    private_key: bytes = field(repr=False)
    """PEM."""

    @classmethod
    def parse(cls, manifest: Manifest) -> TlsSecret:
        """Read a Secret manifest."""
        data = manifest.get("data") or {}
        return cls(
            metadata=Metadata.parse(manifest),
            certificate=b64decode(data.get(TLS_CERTIFICATE_KEY, "")),
            private_key=b64decode(data.get(TLS_PRIVATE_KEY_KEY, "")),
        )


class Certificate:
    """The certificate of a Secret that may not exist yet, as an SSL context. Safe from any thread."""

    def __init__(self, client: Client, namespace: str, name: str, expires: Callable[[float], None]) -> None:
        """`expires` is told when each certificate ends that comes into use, in seconds since 1970."""
        self._expires = expires
        self._context: ssl.SSLContext | None = None
        self._served: tuple[bytes, bytes] | None = None
        # One name only: all that the webhook may read.
        self._cache = Cache(client, SECRETS, TlsSecret.parse, namespace=namespace, fields=f"metadata.name={name}")
        self._cache.on_change(self._changed)

    def start(self) -> None:
        """Begin to follow the Secret, on a thread of this process."""
        self._cache.start()

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate to serve."""
        return self._context is not None

    @property
    def chain(self) -> bytes:
        """What is served, PEM; empty while there is nothing."""
        return self._served[0] if self._served else b""

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is to be wrapped in; raises LookupError while there is none."""
        if self._context is None:
            raise LookupError("no certificate has been loaded yet")
        return self._context

    def _changed(self, _old: TlsSecret | None, new: TlsSecret | None) -> None:
        if new is None:
            log.warning("the certificate's Secret was deleted; the last certificate stays in use")
            return
        pair = (new.certificate, new.private_key)
        if pair == self._served:
            return
        try:
            context, expiry = server_context(*pair), expiry_of(new.certificate)
        except (ValueError, OSError) as error:
            log.error(  # noqa: TRY400 - a traceback could quote what was read
                "the certificate's Secret cannot be used; the last certificate stays in use",
                extra={"secret": new.metadata.name, "error": type(error).__name__},
            )
            return
        self._context, self._served = context, pair
        self._expires(expiry)
        log.info("serving a certificate", extra={"secret": new.metadata.name, "expires": expiry})


def server_context(certificate: bytes, private_key: bytes) -> ssl.SSLContext:
    """A server's context for a PEM chain and key, TLS 1.2 or later.

    Raises ValueError or OSError (`ssl.SSLError`) for a pair that is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python loads a key from a file only.
    folder = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=folder, prefix="dbaas-") as pair:
        pair.write(private_key.rstrip() + b"\n" + certificate)
        pair.flush()
        # A key under a pass phrase would have it asked on a terminal.
        context.load_cert_chain(pair.name, password=_no_pass_phrase)
    return context


def expiry_of(certificate: bytes) -> float:
    """When the first certificate of a PEM chain ends, in seconds since 1970; ValueError when it is none."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def _no_pass_phrase() -> str:
    raise ValueError("the private key has a pass phrase")
