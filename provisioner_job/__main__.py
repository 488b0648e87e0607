"""Entry point of the image: `python -m provisioner_job` for an Operation, with the argument `probe` for a probe."""

from __future__ import annotations

import gc

# A process of a few hundred milliseconds; what it imports stays anyway.
gc.disable()

import os  # noqa: E402
import sys  # noqa: E402

from api.labels import PROBE_TYPE  # noqa: E402
from provisioner_job.job import run  # noqa: E402
from provisioner_job.settings import InvalidSettings, Settings  # noqa: E402

UNUSABLE = 2
"""Exit code: the Job was started wrongly."""


def main() -> int:
    """Run the Job of this environment; gives the exit code."""
    if sys.argv[1:] == [PROBE_TYPE]:
        from provisioner_job import probe  # an Operation's Job does without

        return probe.run()
    try:
        settings = Settings.from_env(os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"cannot start: {error}\n")
        return UNUSABLE
    return run(settings)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Nothing is buffered elsewhere; taking the interpreter down in order costs time and gains nothing.
    os._exit(code)
