"""Command lines in a process where JAX and what is slow to import cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Runs a script or module with each of several argument lists, where these cannot be imported.
CHILD = """
import contextlib, io, json, runpy, sys
for name in ("jax", "jaxlib", "brainstate", "brainpy", "brainunit", "brainevent", "torch",
             "numba", "matplotlib", "tonic", "optax", "orbax"):
    sys.modules[name] = None
target, lines = sys.argv[1], json.loads(sys.argv[2])
found = []
for line in lines:
    sys.argv[:] = [target, *line]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if target.endswith(".py"):
                runpy.run_path(target, run_name="__main__")
            else:
                runpy.run_module(target, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as left:
            code = left.code
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""


def without_jax(target: str, lines: Sequence[str | list[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each command line, all in one process without JAX."""
    given = json.dumps([line.split() if isinstance(line, str) else line for line in lines])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, target, given],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
