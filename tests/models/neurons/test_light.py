"""Descriptions are read by the command line, which must not wait for JAX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import snnlab

#: Imports each module of ``models/neurons`` and draws values, in a process without JAX. The
#: package's ``__init__`` is left out: it is not what is tested.
PROGRAM = """
import importlib, inspect, pathlib, pkgutil, sys, types
import numpy as np

for name in ("jax", "jaxlib", "brainstate", "brainpy", "brainunit", "torch"):
    sys.modules[name] = None
root = pathlib.Path(sys.argv[1])
models = sys.modules["snnlab.models"] = types.ModuleType("snnlab.models")
models.__path__ = [str(root / "models")]

from snnlab.models.neuron import Neuron

for found in pkgutil.iter_modules([str(root / "models" / "neurons")]):
    module = importlib.import_module(f"snnlab.models.neurons.{found.name}")
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Neuron) and kind.__module__ == module.__name__:
            print(name, *sorted(kind().values(3, np.random.default_rng(0))))
"""


def test_no_description_needs_jax() -> None:
    root = str(Path(snnlab.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, root], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {"SEAdLIF", "BRF", "CuBaLIF"} <= set(lines)
    assert lines["BRF"] == "b_offset omega theta"
