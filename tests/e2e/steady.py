"""One request after another, from a thread of its own: whether something that happens meanwhile fails any."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from kube.errors import KubeError
from tests.e2e.cluster import eventually

_PAUSE = 0.02


class Steadily:
    """Asks while it is entered, and keeps what came of the requests that failed."""

    def __init__(self, ask: Callable[[int], object]) -> None:
        """`ask` is given the request's number; its KubeError is a refusal."""
        self.answers = 0
        self.refusals: list[str] = []
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="steadily", daemon=True)

    def _run(self) -> None:
        while not self._over.wait(_PAUSE):
            try:
                self._ask(self.answers)
            except KubeError as error:
                self.refusals.append(error.message)
            self.answers += 1

    def wait_more(self, number: int = 20) -> None:
        """Wait until it has asked so many times more, begun from now on."""
        enough = self.answers + number + 1
        eventually(lambda: self.answers >= enough, f"{number} more answers")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
