"""`python -m webhook`: read the environment, log as JSON, serve until told to end.

`python -m webhook check FILE…` judges files instead, and serves nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from kube import logs
from kube.environment import SettingsError
from webhook.settings import Settings


def main() -> None:
    """Run the webhook, or the check of files; exits with what is wrong with its environment when something is."""
    if sys.argv[1:2] == ["check"]:
        from webhook import check

        try:
            status = check.main(sys.argv[2:])
            sys.stdout.flush()
        except BrokenPipeError:
            # Who reads has read enough (`| head`). Python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        sys.exit(status)
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        sys.exit(f"webhook: {error}")
    logs.configure(settings.log_level)
    owner = os.getpid()
    folder = tempfile.mkdtemp(prefix="dbaas-metrics-")
    # The Prometheus client decides when it is imported whether it counts for several processes.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from webhook.server import Server

    try:
        Server(settings).run()
    finally:
        # Workers, which are forked, leave through here too.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
