"""The database engines: one module each, and the only modules that import a DBMS driver.

A Job imports the one that it needs: an unused driver costs 30 to 150 ms of its start-up.
"""

from __future__ import annotations

from importlib import import_module

from api.engines import Driver
from api.reasons import Reason
from provisioner_job.drivers.contract import Connect
from provisioner_job.errors import Failure

_MODULES = {
    Driver.POSTGRES: "postgresql",
    Driver.MARIADB: "mariadb",
    Driver.MYSQL: "mariadb",
    Driver.SQLSERVER: "sqlserver",
}


def load(driver: str) -> Connect:
    """Import one engine's module and give its `connect`; thread-safe, so that it can overlap other waiting.

    driver: `spec.driver` of a class. Raises Failure(DRIVER_MISSING) when this image cannot serve it.
    """
    try:
        name = _MODULES[Driver(driver)]
    except (ValueError, KeyError):
        served = ", ".join(sorted(_MODULES))
        raise Failure(
            Reason.DRIVER_MISSING, f"this release has no driver for {driver!r}; it serves: {served}"
        ) from None
    try:
        module = import_module(f"{__name__}.{name}")
    except ImportError as error:
        raise Failure(
            Reason.DRIVER_MISSING,
            f"the Job's image lacks a library of the {driver} driver: {error.name or 'unknown'}; rebuild the image",
        ) from error
    connect: Connect = module.connect
    return connect
