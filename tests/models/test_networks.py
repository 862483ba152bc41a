"""One battery over every layer model."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.learners import PureNetwork, get_params
from snnlab.models import ModelConfig, build_network
from snnlab.models.base import READOUT_PREFIX
from snnlab.models.config import BalancedConfig, EIConfig, GIFConfig
from snnlab.models.readouts import Leak
from zoo import LIVE, N_IN, N_OUT, STEPS, make_network_fn, make_stream, model_config


def unroll(config: ModelConfig, xs, params=None):
    make = make_network_fn(config)
    network = make("plain")
    pure = PureNetwork(network, xs.shape[1])
    params = params or get_params(network)

    def body(carry, x):
        return pure.step(params, carry, x)

    return jax.jit(lambda xs: jax.lax.scan(body, pure.initial, xs)[1])(xs)


@pytest.mark.parametrize("model", LIVE)
def test_shapes_dtypes_and_samples_one_by_one(model: str) -> None:
    xs = make_stream().xs
    out = unroll(model_config(model), xs)
    assert out.readout.shape == (STEPS, 3, N_OUT)
    for s, v in zip(out.spikes, out.membrane, strict=True):
        assert s.shape == v.shape == (STEPS, 3, 12)
        assert s.dtype == v.dtype == jnp.float32
        assert set(np.unique(s)) == {0.0, 1.0}
    alone = unroll(model_config(model), xs[:, 1:2])
    np.testing.assert_allclose(alone.readout[:, 0], out.readout[:, 1], atol=2e-4)


def test_eager_steps_equal_the_compiled_scan() -> None:
    xs = make_stream(steps=5).xs
    config = model_config("lif-exp-cu")
    compiled = unroll(config, xs)
    network = make_network_fn(config)("plain")
    network.init_states(3)
    for t in range(5):
        out = network.update(xs[t])
        np.testing.assert_allclose(out.readout, compiled.readout[t], atol=1e-5)
        np.testing.assert_array_equal(out.spikes[1], compiled.spikes[1][t])


def test_conductances_have_the_sign_of_their_synapse() -> None:
    network = build_network(model_config("lif-exp-co"), N_IN, N_OUT, "plain", 0)
    first = network.layers[0]
    for pathway in first.pathways:
        assert float(pathway.map.effective_weight().min()) >= 0.0
    weight = first.pathways[0].map.weight
    weight.value = {"weight": -weight.value["weight"]}
    assert float(first.pathways[0].map.effective_weight().min()) >= 0.0


def test_weights_have_the_scale_asked_for() -> None:
    config = ModelConfig(n_rec=200, n_layer=2, ff_scale=10.0, rec_scale=2.0)
    params = get_params(build_network(config, 1000, 10, "plain", 0))
    first = params["layers.0.pathways.0.map.weight"]
    assert first.shape == (1200, 200)
    assert float(first[:1000].std()) == pytest.approx((10 / 1000) ** 0.5, rel=0.02)
    assert float(first[1000:].std()) == pytest.approx((2 / 200) ** 0.5, rel=0.03)
    assert set(params) == {
        "layers.0.pathways.0.map.weight", "layers.1.pathways.0.map.weight", "readout.map.weight",
    }  # fmt: skip


def test_readout_leaks_as_asked() -> None:
    """``tau_o`` 0 has no memory; otherwise the readout decays by exp(-dt/tau)."""
    for tau, decay in ((0.0, 0.0), (10.0, np.exp(-0.1))):
        readout = build_network(
            dataclasses.replace(model_config(), tau_o=tau), N_IN, N_OUT, "plain", 0
        ).readout
        assert isinstance(readout.decay, Leak)
        readout.init_state(1)
        first = readout(jnp.ones((1, 12)))
        second = readout(jnp.zeros((1, 12)))
        np.testing.assert_allclose(second, decay * first, rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [ModelConfig(n_rec=5), GIFConfig(n_rec=5), EIConfig(n_rec=5), BalancedConfig(n_rec=5)],
)
def test_the_readout_is_known_by_its_name(config) -> None:
    params = get_params(build_network(config, 4, 3, "plain", 0))
    shown = [name for name in params if name.startswith(READOUT_PREFIX)]
    assert shown
    assert len(shown) < len(params)
    assert (5, 3) in [params[name].shape for name in shown]
