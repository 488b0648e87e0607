"""For all tests: what hypothesis makes up is new on a developer's machine and the same in continuous integration."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True, deadline=None)
settings.register_profile("developer", print_blob=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "developer")
