"""A Job imports the driver of its engine and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api.reasons import Reason
from provisioner_job.drivers import load
from provisioner_job.errors import Failure

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("driver", ["oracle", "", "postgresql.evil", "os", "contract"])
def test_a_driver_that_there_is_not_is_named(driver: str) -> None:
    with pytest.raises(Failure) as caught:
        load(driver)

    assert caught.value.reason is Reason.DRIVER_MISSING
    assert repr(driver) in caught.value.message


def test_the_contract_costs_no_driver() -> None:
    script = "import sys; import provisioner_job.drivers; print('ctypes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_missing_library_is_named() -> None:
    script = (
        "import sys; sys.path[:] = [folder for folder in sys.path if 'site-packages' not in folder]\n"
        "from provisioner_job.drivers import load\n"
        "try: load('postgres')\n"
        "except Exception as error: print(error.reason, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("DriverMissing the Job's image lacks a library of the postgres driver: psycopg")
