"""What Tab answers, as the shell asks it, in a process without JAX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snnlab.cli import main as cli
from snnlab.errors import UsageError

pytest.importorskip("argcomplete", reason="of the dependencies: pip install -e .")
ASKED = """
import runpy, sys
for name in ("jax", "brainstate", "torch", "numpy", "matplotlib", "optax"):
    sys.modules[name] = None
sys.argv[:] = ["snnlab"]
runpy.run_module("snnlab", run_name="__main__", alter_sys=True)
"""
ANSWERS = {
    "snnlab co": {"configs", "compare", "completion"},
    "snnlab run long-term-dependency --config es": {"es-d-rtrl", "es-d-rtrl-4000"},
    "snnlab run image-classification --method dia": {"diag"},
    "snnlab reproduce nmnist": {"nmnist-es-d-rtrl", "nmnist-bptt", "nmnist-800-recordings"},
    "snnlab reproduce t": {"table"},
    "snnlab data prepare s": {"shd", "ssc", "spoken-digits", "sc", "sequential-digits"},
}


@pytest.mark.parametrize("line", ANSWERS)
def test_tab_answers(line: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = {
        "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out), "_ARGCOMPLETE_IFS": "\n",
    }  # fmt: skip
    code = ASKED if "data" not in line else ASKED.replace('"numpy", ', "")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, cwd=tmp_path, check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {word.strip() for word in out.read_text().splitlines()} == ANSWERS[line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_of_a_shell(shell: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "snnlab" in capsys.readouterr().out


def test_another_shell_is_refused() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'zsh'\?"):
        cli.main(["completion", "zsh2"])
