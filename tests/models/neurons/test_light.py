"""Descriptions are read by the command line, which must not wait for JAX."""

from __future__ import annotations

import subprocess
import sys

#: Imports each module of ``models/neurons`` and draws values, in a process without JAX.
PROGRAM = """
import importlib, inspect, pkgutil, sys
import numpy as np

for name in ("jax", "jaxlib", "brainstate", "brainpy", "brainunit", "braintools", "torch"):
    sys.modules[name] = None

from snnlab.models import neurons
from snnlab.models.neuron import Neuron

for found in pkgutil.iter_modules(neurons.__path__):
    module = importlib.import_module(f"snnlab.models.neurons.{found.name}")
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Neuron) and kind.__module__ == module.__name__:
            needed = [
                np.ones(3) for p in list(inspect.signature(kind).parameters.values())
                if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
            ]
            print(name, *sorted(kind(*needed).values(3, np.random.default_rng(0))))
"""


def test_no_description_needs_jax() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {"SEAdLIF", "BRF", "CuBaLIF", "NIRNeuron"} <= set(lines)
    assert lines["BRF"] == "b_offset omega theta"
