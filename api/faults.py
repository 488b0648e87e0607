"""What is wrong with a manifest: a field path and a sentence that says the cure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One violation; `path` is in Kubernetes' form, such as `spec.params.size`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
