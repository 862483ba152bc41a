"""Online learners of balanced networks: the summed readout, two implementations, BPTT."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from snnlab import config as configs
from snnlab.learners import LearnerConfig, get_params, make_learner
from snnlab.models import build_network
from snnlab.problems.balanced import BalancedRSNN
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification
from zoo import N_IN, N_OUT, make_stream, make_targets

STEPS, BATCH, CROP = 16, 3, 6
FLAGS = ["--neurons", "6", "--fix-tau-rec", "--fix-tau-out"]


@functools.cache
def gradients(method: str, backend: str, *flags: str) -> dict[str, np.ndarray]:
    own = ["--w-in-init", "uniform"] if "RLIF" in flags else []
    model = configs.parse(BalancedRSNN, [*FLAGS, *own, *flags], prog="x", description="")[0].model

    def made(operator):
        return build_network(model, N_IN, N_OUT, operator, 5, t_crop=CROP, linear=True)

    config = LearnerConfig(method=method, backend=backend)
    objective = Classification(N_OUT, 1, CROP, 1.0, TrainingConfig())
    learner = make_learner(config, made, BATCH, objective)
    scale = 2000.0 if "--slow-dynamics" in flags or "RLIF" in flags else 5.0
    params = {k: scale * v if ".w." in k and "layers" in k else v
              for k, v in get_params(made("plain")).items()}  # fmt: skip
    stream, targets = make_stream(steps=STEPS, batch=BATCH, rate=0.4), make_targets(batch=BATCH)
    found = learner.segment(params, learner.fresh(), stream, targets, 0, STEPS)
    assert 0.02 < float(found.metrics.spikes[0]) / STEPS < 0.98
    return {k: np.asarray(v) for k, v in found.gradients.items()}


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], *names: str) -> None:
    for name in names or wanted:
        size = np.abs(wanted[name]).max()
        assert size > 0, name
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5 * size)


@pytest.mark.parametrize("method", ["diag", "expsm_diag"])
@pytest.mark.parametrize(
    "flags",
    [("--model", "RLIF"), ("--model", "RadLIF"), ("--model", "RLIF", "--slow-dynamics")],
    ids=lambda f: f[-1].strip("-"),
)
def test_two_implementations_agree(method: str, flags: tuple[str, ...]) -> None:
    same(gradients(method, "snnlab", *flags), gradients(method, "braintrace", *flags))


def test_the_readout_is_exact() -> None:
    """Its potentials and their sums depend on their own past alone: D-RTRL is BPTT there."""
    found = gradients("diag", "snnlab", "--model", "RLIF")
    wanted = gradients("bptt", "plain", "--model", "RLIF")
    same(found, wanted, "readout.map.weight")
    assert not np.allclose(found["layers.0.w.weight"], wanted["layers.0.w.weight"], rtol=0.01)
