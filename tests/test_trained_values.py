"""Runs of the commands in which time constants, thresholds and biases are trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from runs import call, state_of
from snnlab.models.trained import RANGE

IMAGE = "--model lif-exp-cu --ff_scale 40 --epochs 1 --trainable bias,V_th,tau_mem,tau_syn,tau_o"
GIF = "--epochs 1 --trainable bias,V_th,tau_neu,tau_syn,tau_o,tau_I2,A2"
BALANCED = "--track-balance 0 --epochs 1"
LAYER = "layers.0."
#: Problem, flags, parameters beside weights that must move.
RUNS = {
    **{
        f"image-{method}": (
            "image", f"{IMAGE} --method {method}{more}",
            [LAYER + "neuron.tau.log", LAYER + "neuron.V_th.log", LAYER + "pathways.0.bias",
             LAYER + "pathways.0.synapse.tau.log", "readout.decay.tau.log", "readout.bias"],
        )
        for method, more in (
            ("bptt", ""), ("diag", " --update_every 4"), ("expsm_diag", " --optimizer adamw "
             "--weight_decay 0.1"),
        )
    },
    "match": (
        "match", f"{GIF} --method hybrid",
        ["layers.0.neuron.tau.log", "layers.0.neuron.V_th.log", "layers.0.neuron.tau_I2.log",
         "layers.0.neuron.A2.log", "layers.0.pathways.0.bias",
         "layers.0.pathways.0.synapse.tau.log",
         "readout.decay.tau.log", "readout.bias"],
    ),
    "evidence": (
        "evidence", f"{GIF} --method expsm_diag",
        ["layers.0.neuron.tau.log", "layers.0.neuron.V_th.log", "layers.0.bias", "readout.bias",
         *(f"layers.0.pathways.{k}.synapse.tau.log" for k in range(3))],
    ),
    "balanced": (
        "balanced", f"{BALANCED} --balance 0 --balance_refit 0 --model LIF --method diag "
        "--trainable theta,bias",
        [LAYER + "value.alpha.weight", LAYER + "value.theta.log", LAYER + "bias",
         "readout.decay.weight", "readout.bias"],
    ),
    "balanced-refit": (
        "balanced", f"{BALANCED} --method expsm_diag --trainable bias",
        [LAYER + "value.theta.weight", LAYER + "bias", "readout.decay.weight", "readout.bias"],
    ),
}  # fmt: skip
SHORT = ("image-bptt", "image-diag", "image-expsm_diag", "balanced")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SHORT else pytest.mark.slow) for n in RUNS]
)
def test_values_move_and_stay_in_range(name: str, tmp_path: Path) -> None:
    problem, flags, wanted = RUNS[name]
    run = tmp_path / "run"
    call(problem, "--filepath", str(run), *flags.split())
    before, after = state_of(run, 0), state_of(run)
    for parameter in wanted:
        old, new = (state[f"['params']['{parameter}']"] for state in (before, after))
        assert np.isfinite(new).all()
        assert np.abs(new - old).max() > 1e-6, parameter
        if parameter.endswith(".log"):
            assert np.abs(new - old).max() < np.log(RANGE)
        if parameter.endswith("bias"):
            assert not old.any()
    results = json.loads((run / "results.json").read_text())
    shapes = [v.size for k, v in after.items() if k.startswith("['params']")]
    assert results["n_parameters"] == sum(shapes)
    assert np.isfinite(results["test_loss"])
    said = yaml.safe_load((run / "config.yaml").read_text())["model"].get("trainable", "")
    assert said in flags
