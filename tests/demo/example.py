"""The example that the demo applies: its files, and what they call things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from api.binding import secret_name

FOLDER = Path("examples")
"""From the work tree, where the demo's commands are typed."""


@dataclass(frozen=True)
class Example:
    """Names in the files of one engine."""

    engine: str
    """Their folder below examples/."""
    endpoint: str
    account: str
    """The Secret with the operator's account."""
    authority: str
    """The Secret with the server's CA."""
    database: str
    pod: str
    container: str

    @classmethod
    def read(cls, engine: str) -> Example:
        """Read the files."""
        endpoint, pod = _one(engine, "endpoint.yaml"), _one(engine, "pod.yaml")
        return cls(
            engine=engine,
            endpoint=endpoint["metadata"]["name"],
            account=endpoint["spec"]["credentialsSecretRef"]["name"],
            authority=endpoint["spec"]["tls"]["caSecretRef"]["name"],
            database=_one(engine, "database.yaml")["metadata"]["name"],
            pod=pod["metadata"]["name"],
            container=pod["spec"]["containers"][0]["name"],
        )

    @property
    def secret(self) -> str:
        """What the Pod binds."""
        return secret_name(self.database)

    def file(self, name: str) -> str:
        """The path of one of its files, as a person types it."""
        return str(_file(self.engine, name))


def _file(engine: str, name: str) -> Path:
    return FOLDER / engine / name


def _one(engine: str, name: str) -> Any:
    [document] = [found for found in yaml.safe_load_all(_file(engine, name).read_text("utf-8")) if found]
    return document
