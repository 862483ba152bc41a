"""Small networks, inputs and batches that several tests share."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.data.stream import Stream
from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner
from snnlab.learners.chunks import OnlineLearner
from snnlab.learners.rules.base import Setting
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.expsm_diag import ESDRTRL
from snnlab.learners.signals import Window
from snnlab.models import ModelConfig, build_network
from snnlab.models.maps import Held
from snnlab.models.neurons.adlif import AdLIF
from snnlab.models.neurons.lif import LIF
from snnlab.models.spiking import SpikingLayer
from snnlab.training.config import TrainingConfig
from snnlab.training.objectives import Classification, Targets

N_IN, N_OUT, BATCH, STEPS = 24, 4, 3, 20

needs_brainscale = pytest.mark.skipif(
    importlib.util.find_spec("brainscale") is None
    or tuple(int(part) for part in jax.__version__.split(".")[:2]) >= (0, 10),
    reason="brainscale 0.1.0, its last release, is to be installed and needs jax < 0.10 "
    f"(here jax {jax.__version__})",
)

#: Input scale with which each layer model fires in 1 % to 50 % of all steps.
LIVE = {
    "lif-delta": {"ff_scale": 10.0},
    "lif-exp-cu": {"ff_scale": 20.0},
    "alif-delta": {"ff_scale": 10.0},
    "alif-exp-cu": {"ff_scale": 40.0},
    "if-delta": {"ff_scale": 4.0},
    "lif-exp-co": {"ff_scale": 2.0, "rec_scale": 0.5},
    "lif-std-exp-cu": {"ff_scale": 20.0},
    "lif-stp-exp-cu": {"ff_scale": 20.0, "release": 0.5},
    "gif-delta": {"ff_scale": 10.0},
}


def spiking(
    w: Any,
    alpha: Any,
    theta: Any,
    *,
    adaptation: Sequence[Any] = (),
    reset: Any = "one",
    **parts: Any,
) -> SpikingLayer:
    """A layer of LIF neurons, or with ``(beta, a, b)`` adaptive ones, of these values."""
    neuron = AdLIF(reset=reset) if adaptation else LIF(reset=reset)
    value = {"alpha": alpha, "theta": Held(theta), **dict(zip(("beta", "a", "b"), adaptation))}
    return SpikingLayer(neuron, w, value, **parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class ArrayStream(Stream):
    """``xs (T, B, n_in)`` as an input stream."""

    xs: jax.Array

    @property
    def n_steps(self) -> int:
        return self.xs.shape[0]

    def at(self, t):
        return self.xs[t]

    def window(self, start, length):
        return jax.lax.dynamic_slice_in_dim(self.xs, start, length)


def make_stream(seed: int = 0, steps: int = STEPS, batch: int = BATCH, rate: float = 0.15):
    xs = np.random.default_rng(seed).random((steps, batch, N_IN)) < rate
    return ArrayStream(jnp.asarray(xs, jnp.float32))


def make_targets(seed: int = 0, batch: int = BATCH) -> Targets:
    labels = np.random.default_rng(seed).integers(0, N_OUT, batch)
    return Targets(jnp.asarray(labels, jnp.int32), jnp.ones(batch, jnp.float32))


def model_config(model: str = "lif-delta", **changes) -> ModelConfig:
    base = {"model": model, "n_rec": 12, "n_layer": 2, **LIVE[model]}
    return ModelConfig(**{**base, **changes})


def make_network_fn(config: ModelConfig, seed: int = 0):
    return lambda operator: build_network(config, N_IN, N_OUT, operator, seed)


def objective(n_layers: int, warmup: int = 0, **changes) -> Classification:
    return Classification(N_OUT, n_layers, warmup, 1.0, TrainingConfig(**changes))


def gradients(
    config: ModelConfig, stream, targets, *, warmup: int = 0, segments: tuple[int, ...] = (),
    training: dict | None = None, **learner,
):  # fmt: skip
    """``(gradients by name, summed metrics)`` of a learner on one batch, jitted.

    ``segments`` are lengths that the sequence is cut into; the whole sequence by default.
    """
    make = make_network_fn(config)
    goal = objective(config.n_layer, warmup, **(training or {}))
    plain = learner.get("method", "bptt") == "bptt"
    learner.setdefault("backend", "plain" if plain else "braintrace")
    made = make_learner(LearnerConfig(**learner), make, targets.values.shape[0], goal)
    params = {**get_params(make("plain")), **made.parameters()}
    lengths = segments or (stream.n_steps,)

    @jax.jit
    def run(params, stream, targets):
        carry, start, total = made.fresh(), 0, None
        for length in lengths:
            part = made.segment(params, carry, stream, targets, start, length)
            carry, start = part.carry, start + length
            now = (part.gradients, part.metrics)
            total = now if total is None else jax.tree.map(jnp.add, total, now)
        return total

    found, metrics = run(params, stream, targets)
    return {k: np.asarray(v) for k, v in found.items()}, jax.device_get(metrics)


def own_learner(
    rule, network, batch: int, goal, chunk, *, signal=None, precision="float32", **setting
) -> OnlineLearner:
    """A learner of ``--backend snnlab``: one rule, or the choice of one for each relation."""
    if setting.get("window"):
        signal = functools.partial(lambda goal, graph: Window(goal), goal)
    choose = (lambda graph, r: rule) if isinstance(rule, type) else rule
    net = PureNetwork(network, batch, training=True)
    return OnlineLearner(net, goal, choose, signal, Setting(**setting), chunk, precision)


def drtrl(network, batch: int, goal, chunk, **setting) -> OnlineLearner:
    return own_learner(DRTRL, network, batch, goal, chunk, **setting)


def es_drtrl(network, batch: int, goal, chunk, decay: float = 0.9, **setting) -> OnlineLearner:
    return own_learner(ESDRTRL, network, batch, goal, chunk, decay=decay, **setting)


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference over the largest value of ``b``."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def assert_live(found: dict[str, np.ndarray], metrics, steps: int = STEPS) -> None:
    """Gradients are not near zero and every layer fires in 1 % to 50 % of the steps."""
    rates = np.asarray(metrics.spikes) / steps
    assert np.all((rates > 0.01) & (rates < 0.5)), f"rates per step {rates}"
    for name, gradient in found.items():
        assert np.linalg.norm(gradient) > 1e-3, f"the gradient of {name} is near zero"
