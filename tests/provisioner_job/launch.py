"""The Job with the files of a test instead of a Pod's: `python launch.py FILES SERVICE_ACCOUNT STOP_SECONDS`."""

from __future__ import annotations

import os
import sys

from provisioner_job.job import run
from provisioner_job.settings import Settings

files, account, stop_seconds = sys.argv[1:]
settings = Settings.from_env(os.environ, files=files, service_account=account)
code = run(settings._replace(stop_seconds=float(stop_seconds), request_seconds=2, connect_seconds=3))
sys.stderr.flush()
os._exit(code)
