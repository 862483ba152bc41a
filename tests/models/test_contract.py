"""One battery over every model of the registry."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.errors import UsageError
from snnlab.learners import LearnerConfig, PureNetwork, get_params, make_learner
from snnlab.models import MODELS, ModelConfig, build_network
from snnlab.models.config import BalancedConfig
from snnlab.problems.networks import check_model
from zoo import LIVE, N_IN, N_OUT, make_stream, make_targets, objective

N, BATCH, STEPS = 12, 3, 16
#: Size of the input with which a layer of each model answers, beside ``LIVE``'s options.
SIZE = {
    "LIF": 20.0, "adLIF": 8.0, "RadLIF": 8.0, "RLIF": 1500.0,
    "SE-adLIF": 10.0, "BRF": 100.0, "CuBaLIF": 20.0,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    **LIVE, "gif": {"tau_mem": 10.0, "tau_syn": 5.0, "ff_scale": 20.0},
    "ei": {"tau_mem": 10.0, "tau_syn": 5.0, "ff_scale": 2.0},
}  # fmt: skip
LAYERED = [name for name, model in MODELS.items() if not model.network]
#: Those of which the short form sees everything.
SHORT = ("lif-delta", "lif-exp-co", "gif", "adLIF", "RLIF", "MLP", "GRU")
ALL = [pytest.param(m, marks=() if m in SHORT else pytest.mark.slow) for m in LAYERED]


def config(model: str) -> ModelConfig:
    return ModelConfig(model=model, n_rec=N, n_layer=1, **OPTIONS.get(model, {}))


def inputs(model: str) -> Any:
    stream = make_stream(steps=STEPS, batch=BATCH, rate=0.3)
    return type(stream)(stream.xs * SIZE.get(model, 1.0))


@functools.cache
def network(model: str) -> PureNetwork:
    return PureNetwork(build_network(config(model), N_IN, N_OUT, "plain", 0), BATCH)


@functools.cache
def outputs(model: str) -> Any:
    pure, params = network(model), get_params(network(model).network)

    @jax.jit
    def run(xs: jax.Array) -> Any:
        return jax.lax.scan(lambda c, x: pure.step(params, c, x), pure.initial, xs)[1]

    return jax.device_get(run(inputs(model).xs))


@pytest.mark.parametrize("model", LAYERED)
def test_shapes_and_types(model: str) -> None:
    out = outputs(model)
    assert out.readout.shape == (STEPS, BATCH, N_OUT)
    for array in (*out.spikes, *out.membrane):
        assert array.shape == (STEPS, BATCH, N)
    assert {a.dtype for a in jax.tree.leaves(out)} == {np.dtype(np.float32)}
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(out))
    assert np.abs(out.readout).max() > 0
    if MODELS.get(model).spiking:
        assert set(np.unique(out.spikes[0])) == {0.0, 1.0}
        assert len(network(model).network.thresholds) == 1


@pytest.mark.parametrize("model", ALL)
def test_a_sample_does_not_see_the_others(model: str) -> None:
    """What differs by rounding alone may move a spike, so early steps are compared."""
    xs, whole = inputs(model).xs[:6], outputs(model)
    changed = xs.at[:, 0].set(xs[::-1, 0])
    pure, params = network(model), get_params(network(model).network)
    out = jax.jit(lambda xs: jax.lax.scan(lambda c, x: pure.step(params, c, x), pure.initial, xs))(
        changed
    )[1]
    np.testing.assert_allclose(out.membrane[0][:, 1:], whole.membrane[0][:6, 1:], atol=1e-4)
    assert np.abs(out.membrane[0][:, 0] - whole.membrane[0][:6, 0]).max() > 0


@pytest.mark.parametrize("model", ALL)
def test_eager_steps_equal_the_compiled_scan(model: str) -> None:
    xs, net = inputs(model).xs, build_network(config(model), N_IN, N_OUT, "plain", 0)
    net.init_states(BATCH)
    for t in range(3):
        out = net.update(xs[t])
        for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(outputs(model)), strict=True):
            np.testing.assert_allclose(a, b[t], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", LAYERED)
@pytest.mark.parametrize("section", [ModelConfig, BalancedConfig])
def test_a_seed_gives_the_same_bits(section: type, model: str) -> None:
    def params(seed: int, operator: Any = "plain") -> dict[str, np.ndarray]:
        made = build_network(section(model=model, n_rec=4, n_layer=2), 3, 2, operator, seed)
        return {k: np.asarray(v) for k, v in get_params(made).items()}

    first, other = params(1), params(2)
    for again in (params(1), params(1, "braintrace")):
        assert set(again) == set(first) == set(other)
        assert all(again[k].tobytes() == v.tobytes() for k, v in first.items())
    assert any((other[k] != v).any() for k, v in first.items())


@pytest.mark.parametrize("model", ALL)
def test_d_rtrl_runs_or_is_refused_in_a_line(model: str) -> None:
    learner = LearnerConfig(method="diag")
    if not MODELS.get(model).spiking and model != "MLP":
        with pytest.raises(UsageError, match=f"^[^\n]*--model {model} here; use bptt$"):
            check_model(learner, config(model))
        return
    check_model(learner, config(model))

    def make(operator: Any) -> Any:
        return build_network(config(model), N_IN, N_OUT, operator, 0)

    made = make_learner(learner, make, BATCH, objective(1))
    params, targets = get_params(make("plain")), make_targets(batch=BATCH)
    run = jax.jit(lambda p, s: made.segment(p, made.fresh(), s, targets, 0, STEPS))
    found = run(params, inputs(model))
    assert jnp.isfinite(found.metrics.loss)
    assert set(found.gradients) == set(params)
    for name, gradient in found.gradients.items():
        assert np.isfinite(gradient).all(), name
        assert np.abs(gradient).max() > 0, name
