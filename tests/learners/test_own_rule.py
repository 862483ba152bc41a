"""The example of docs/learners.md: a package adds a rule, which does what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "learners.md").read_text()
(FILE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(POINT,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)

#: Prints norms and relative errors, by parameter, of gradients of LIF neurons with one leak.
PROGRAM = """
import json, math
import numpy as np
from snnlab.learners import LearnerConfig
from zoo import gradients, make_stream, make_targets, model_config, relative_error

config = model_config(n_layer=1, detach_reset=True, tau_mem_sigma=0.0, tau_mem=10.0)
leak, stream, targets = math.exp(-1 / 10), make_stream(), make_targets()

def of(method, **options):
    return gradients(config, stream, targets, method=method, backend="auto", **options)[0]

def errors(a, b):
    return {name: relative_error(a[name], b[name]) for name in b}

leaky = of("leaky", etrace_decay=leak, chunk_size=7)
slow = of("leaky-traces", etrace_decay=0.5)
print(json.dumps({
    "name": LearnerConfig(method="leaky-traces").method,
    "norm": {name: float(np.linalg.norm(g)) for name, g in leaky.items()},
    "diag": errors(leaky, of("diag")),
    "bptt": errors(leaky, of("bptt")),
    "ottt": errors(slow, of("ottt", etrace_decay=0.5)),
    "other leak": errors(slow, leaky),
    "segments": errors(of("leaky", etrace_decay=leak, update_every=7, segments=(7, 7, 6)), leaky),
}))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the program prints where the page's package is installed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "leaky.py").write_text(FILE)
    about = folder / "leaky-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
    points = tomllib.loads(POINT)["project"]["entry-points"]["snnlab.rules"]
    lines = "".join(f"{name} = {where}\n" for name, where in points.items())
    (about / "entry_points.txt").write_text(f"[snnlab.rules]\n{lines}")
    paths = os.pathsep.join([str(folder), str(ROOT / "src"), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONPATH": paths}, cwd=folder,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_example_is_as_short_as_it_says() -> None:
    assert len(FILE.splitlines()) <= 40
    assert len(POINT.splitlines()) == 2


def test_the_line_gives_it_a_name(measured: dict) -> None:
    assert measured["name"] == "leaky"
    assert all(norm > 1e-2 for norm in measured["norm"].values())


@pytest.mark.parametrize("other", ["diag", "ottt", "segments"])
def test_it_is_what_the_equations_say(measured: dict, other: str) -> None:
    """With the neurons' own leak it is D-RTRL; on LIF neurons OTTT, whose traces are vectors."""
    assert max(measured[other].values()) < 1e-5


@pytest.mark.parametrize("other", ["bptt", "other leak"])
def test_it_is_nothing_else(measured: dict, other: str) -> None:
    hidden = [e for name, e in measured[other].items() if not name.startswith("readout")]
    assert len(hidden) == 1
    assert min(hidden) > 0.05
