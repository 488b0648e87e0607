"""What is mounted for a Job: the endpoint's login, its TLS files, and the generated password. Never logs any of it."""

from __future__ import annotations

import os

from api.labels import (
    CA_DIRECTORY,
    CA_KEY,
    CLIENT_CERTIFICATE_DIRECTORY,
    CREDENTIALS_DIRECTORY,
    GENERATED_DIRECTORY,
    PASSWORD_KEY,
    TLS_CERTIFICATE_KEY,
    TLS_PRIVATE_KEY_KEY,
    USERNAME_KEY,
)
from api.operation import Server
from api.reasons import Reason
from provisioner_job.drivers.contract import Login
from provisioner_job.errors import Failure


class Mounts:
    """The folder of a Job's files; every file is read when it is asked for."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def login(self, server: Server) -> Login:
        """How to log in to `server`. Raises Failure(ENDPOINT_INVALID) naming the key that is missing or no text."""
        certificate = self._path(CLIENT_CERTIFICATE_DIRECTORY, TLS_CERTIFICATE_KEY)
        key = self._path(CLIENT_CERTIFICATE_DIRECTORY, TLS_PRIVATE_KEY_KEY)
        present = [os.path.isfile(path) for path in (certificate, key)]
        if any(present) and not all(present):
            raise Failure(
                Reason.ENDPOINT_INVALID,
                f"the Secret of the client certificate needs both keys {TLS_CERTIFICATE_KEY} and {TLS_PRIVATE_KEY_KEY}",
            )
        ca_file = self._path(CA_DIRECTORY, CA_KEY)
        return Login(
            server=server,
            username=self._text(CREDENTIALS_DIRECTORY, USERNAME_KEY, "the endpoint's credentials Secret"),
            password=self._text(CREDENTIALS_DIRECTORY, PASSWORD_KEY, "the endpoint's credentials Secret"),
            ca_file=ca_file if os.path.isfile(ca_file) else None,
            client_certificate=(certificate, key) if all(present) else None,
        )

    def generated(self) -> dict[str, str]:
        """`.Generated` of the templates. Raises Failure(OPERATION_INVALID) when it is not mounted."""
        try:
            return {PASSWORD_KEY: self._text(GENERATED_DIRECTORY, PASSWORD_KEY, "the generated Secret")}
        except Failure as failure:
            raise Failure(Reason.OPERATION_INVALID, failure.message) from None

    def _path(self, *parts: str) -> str:
        return os.path.join(self._folder, *parts)

    def _text(self, folder: str, key: str, secret: str) -> str:
        try:
            with open(self._path(folder, key), encoding="utf-8", newline="") as file:
                # `kubectl create secret --from-file` takes an editor's last newline along; no password means it.
                text = file.read().rstrip("\r\n")
        except FileNotFoundError:
            raise Failure(Reason.ENDPOINT_INVALID, f"{secret} has no key {key}") from None
        except UnicodeDecodeError:
            raise Failure(Reason.ENDPOINT_INVALID, f"key {key} of {secret} is not UTF-8 text") from None
        if not text:
            raise Failure(Reason.ENDPOINT_INVALID, f"key {key} of {secret} is empty")
        return text
