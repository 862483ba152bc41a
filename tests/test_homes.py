"""A home that nobody can write to: caches of libraries go to a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = "import snnlab, os; print(os.environ.get('BRAINEVENT_CACHE_DIR', 'own'))"


def run(code: str, **env: str) -> subprocess.CompletedProcess:
    own = ("BRAINEVENT_CACHE_DIR", "MPLCONFIGDIR")
    clean = {k: v for k, v in os.environ.items() if k not in own}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean | env, capture_output=True, text=True, check=False)


def test_a_home_that_is_none(tmp_path: Path) -> None:
    found = run(CODE, HOME="/dev/null", TMPDIR=str(tmp_path)).stdout.strip()
    assert found.startswith(str(tmp_path))
    assert not list(tmp_path.iterdir())  # it went with the process


def test_a_home_is_used_and_a_wish_comes_first(tmp_path: Path) -> None:
    assert run(CODE, HOME=str(tmp_path)).stdout.strip() == "own"
    wish = str(tmp_path / "x")
    assert run(CODE, HOME="/dev/null", BRAINEVENT_CACHE_DIR=wish).stdout.strip() == wish


@pytest.mark.parametrize("home", ["/dev/null", "/proc/none"])
def test_help_needs_no_home(home: str) -> None:
    task = Path(__file__).resolve().parents[1] / "tasks" / "task-coba-ei-rsnn.py"
    code = f"import runpy, sys; sys.argv = ['t', '--help_all']; runpy.run_path({str(task)!r}, "
    done = run(code + "run_name='__main__')", HOME=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--w_ei_ratio" in done.stdout
