"""A Job's start-up is part of every answer time: it imports what its story needs, and no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COSTLY = {
    "argparse",
    "asyncio",
    "concurrent",
    "dataclasses",
    "email",
    "http",
    "inspect",
    "kubernetes",
    "logging",
    "marshmallow",
    "psycopg",
    "pymysql",
    "pyodbc",
    "random",
    "subprocess",
    "tempfile",
    "traceback",
    "urllib",
}
"""Modules of milliseconds each, and where they come from in most programs."""


def imported(script: str) -> set[str]:
    """The modules and packages that a fresh interpreter has after `script`, by the first part of their names."""
    script += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    # Without `site`, whose files may import anything on a developer's machine.
    paths = [ROOT, *(path for path in sys.path if path.endswith("site-packages"))]
    script = f"import sys; sys.path += {[str(path) for path in paths]}\n{script}"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_job_starts_with_little_of_the_standard_library_and_no_driver() -> None:
    assert imported("import provisioner_job.job") & COSTLY == set()


def test_a_job_for_postgresql_adds_libpq_and_nothing_else_that_costs() -> None:
    modules = imported("import provisioner_job.job, provisioner_job.drivers as d; d.load('postgres')")

    assert "ctypes" in modules
    assert modules & COSTLY == set()


def test_a_job_for_sql_server_adds_pyodbc_and_nothing_else_that_costs() -> None:
    modules = imported("import provisioner_job.job, provisioner_job.drivers as d; d.load('sqlserver')")

    assert modules & COSTLY == {"pyodbc"}
