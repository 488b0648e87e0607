"""Imports the driver beside the first requests: that takes longer than they do."""

from __future__ import annotations

import threading

from provisioner_job import drivers
from provisioner_job.drivers.contract import Connect


class Loading:
    """One driver's import, under way in a thread of its own."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        self._connect: Connect | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="driver", daemon=True)
        self._thread.start()

    def wait(self) -> Connect:
        """The driver's `connect`; raises what its import raised."""
        self._thread.join()
        if self._connect is None:
            raise self._error or AssertionError("the import has ended with neither")
        return self._connect

    def _run(self) -> None:
        try:
            self._connect = drivers.load(self._driver)
        except BaseException as error:
            # It is raised again where it is waited for.
            self._error = error
