"""Neurons against hand-computed steps."""

from __future__ import annotations

import brainpy.state
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab.models.brainpy_neurons import GIF, PerfectIF, detach_reset, membrane_taus
from snnlab.models.surrogates import SURROGATES, surrogate


@pytest.fixture(autouse=True)
def _one_millisecond():
    with brainstate.environ.context(dt=1.0 * u.ms):
        yield


def drive(neuron, currents):
    """Membrane (mV) and spikes of one neuron under a list of currents (mA)."""
    neuron.init_state(1)
    v, s = [], []
    for current in currents:
        s.append(float(neuron(jnp.full((1, 1), current) * u.mA)[0, 0]))
        v.append(float(neuron.V.value.to_decimal(u.mV)[0, 0]))
    return np.asarray(v), np.asarray(s)


def test_perfect_if_sums_its_input() -> None:
    """V += dt/tau R I; a spike subtracts V_th one step later; nothing leaks."""
    v, s = drive(PerfectIF(1, tau=5.0 * u.ms), [2.0, 2.0, 2.0, 0.0, 0.0])
    np.testing.assert_allclose(v, [0.4, 0.8, 1.2, 0.2, 0.2], atol=1e-6)
    np.testing.assert_array_equal(s, [0, 0, 1, 0, 0])


def test_brainpys_if_leaks() -> None:
    """Why PerfectIF exists: brainpy.state.IF decays without input."""
    v, _ = drive(brainpy.state.IF(1, tau=5.0 * u.ms), [2.0, 0.0, 0.0])
    assert v[2] < v[1] < v[0]


def test_gif_step_by_hand() -> None:
    """Reset by the last spike, I2 by exponential Euler, V with the new I2."""
    neuron = GIF(1, tau=10.0 * u.ms, tau_I2=100.0 * u.ms, A2=0.5 * u.mA)
    currents = [12.0, 1.0, 1.0]
    v, s = drive(neuron, currents)
    a, b = np.exp(-1 / 10), np.exp(-1 / 100)
    v0 = (1 - a) * 12.0
    i2 = -0.5 * b
    v1 = a * (v0 - 1.0) + (1 - a) * (1.0 + i2)
    i2b = i2 * b
    v2 = a * v1 + (1 - a) * (1.0 + i2b)
    np.testing.assert_allclose(v, [v0, v1, v2], rtol=1e-5)
    np.testing.assert_array_equal(s, [1, 0, 0])


def published_gif(
    currents: np.ndarray, start: float, keeps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Membranes, spikes and readings of the published E/I neuron, written from its equations."""
    v, i1, i2, top, seen = start, 0.0, 0.0, 1.0, []
    for current in currents:
        s = float(v >= top)
        v, i1, i2, top = v - top * s, i1 + 0.3 * s, i2 - 0.5 * s, top + 0.7 * s
        i1, i2 = i1 * np.exp(-1 / 50), i2 * np.exp(-1 / 100)
        top = 1 + (top - 1) * keeps
        v = v * np.exp(-1 / 10) + (1 - np.exp(-1 / 10)) * (current + i1 + i2)
        seen.append((v, float(v >= top), (v - top) / top))
    return tuple(np.asarray(seen).T)


@pytest.mark.parametrize(("step", "keeps"), [("exponential", np.exp(-1 / 80)), ("euler", 79 / 80)])
def test_gif_with_first_current_and_moving_threshold_as_published(step: str, keeps: float) -> None:
    neuron = GIF(
        1, tau=10.0 * u.ms, tau_I2=100.0 * u.ms, A2=0.5 * u.mA, tau_I1=50.0 * u.ms, A1=0.3 * u.mA,
        tau_th=80.0 * u.ms, Ath=0.7 * u.mV, V_init=0.4 * u.mV,
        th_step=step,
    )  # fmt: skip
    currents = np.random.default_rng(0).uniform(0, 8, 80)
    v, s, above = published_gif(currents, 0.4, keeps)
    found = drive(neuron, currents)
    assert 5 < s.sum() < 60
    np.testing.assert_array_equal(found[1], s)
    np.testing.assert_allclose(found[0], v, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(neuron.above(neuron.V.value)[0, 0], above[-1], rtol=1e-4)


def test_no_gradient_flows_through_a_moving_threshold_in_a_spike() -> None:
    def spiking(scale: float, **options: bool) -> jax.Array:
        neuron = GIF(1, Ath=0.7 * u.mV, **options)
        neuron.init_state(1)
        neuron.theta.value = scale * neuron.Ath * jnp.ones((1, 1))
        return neuron.get_spike(1.6 * u.mV * jnp.ones((1, 1)))[0, 0]

    assert jax.grad(spiking)(1.0) == 0
    assert jax.grad(lambda scale: spiking(scale, whole_theta=False))(1.0) != 0


def test_gif_is_brainpys_gif_without_its_further_states() -> None:
    rng = np.random.default_rng(0)
    currents = rng.uniform(0, 6, 60)
    ours = GIF(1, tau=10.0 * u.ms, tau_I2=50.0 * u.ms, A2=0.4 * u.mA)
    theirs = brainpy.state.Gif(
        1, R=1.0 * u.ohm, tau=10.0 * u.ms, V_rest=0.0 * u.mV, V_reset=0.0 * u.mV,
        V_th_inf=1.0 * u.mV, V_th_reset=0.5 * u.mV, a=0.0 / u.ms, k2=1 / (50.0 * u.ms),
        A2=-0.4 * u.mA, R2=1.0,
        V_initializer=lambda *_, **__: jnp.zeros((1, 1)) * u.mV,
        V_th_initializer=lambda *_, **__: jnp.ones((1, 1)) * u.mV,
    )  # fmt: skip
    v, s = drive(ours, currents)
    w, r = drive(theirs, currents)
    assert 5 < s.sum() < 50
    np.testing.assert_array_equal(s, r)
    np.testing.assert_allclose(v, w, atol=1e-4)


def test_detached_reset_keeps_values_and_drops_the_gradient() -> None:
    def trace(neuron_type, scale):
        neuron = neuron_type(1, tau=10.0 * u.ms)
        neuron.init_state(1)
        out = []
        for current in (12.0, 3.0):
            neuron(scale * jnp.full((1, 1), current) * u.mA)
            out.append(neuron.V.value.to_decimal(u.mV)[0, 0])
        return out

    plain, detached = brainpy.state.LIF, detach_reset(brainpy.state.LIF)
    np.testing.assert_allclose(trace(plain, 1.0), trace(detached, 1.0), rtol=1e-6)
    a, v0 = np.exp(-1 / 10), (1 - np.exp(-1 / 10)) * 12.0
    with_reset = jax.grad(lambda c: trace(plain, c)[1])(1.0)
    without = jax.grad(lambda c: trace(detached, c)[1])(1.0)
    direct = a * v0 + (1 - a) * 3.0
    assert without == pytest.approx(direct, rel=1e-5)
    assert abs(with_reset - without) > 0.05


def test_time_constants_have_a_floor() -> None:
    with brainstate.random.seed_context(0):
        taus = membrane_taus(2000, 3.0, 2.0).to_decimal(u.ms)
    assert taus.min() == 1.0
    assert 2.9 < taus.mean() < 3.4
    assert taus.std() > 1.5


@pytest.mark.parametrize("name", SURROGATES.names())
def test_surrogates_step_and_have_a_slope(name: str) -> None:
    spike = surrogate(name)
    x = jnp.asarray([-3.0, -0.1, 0.1, 3.0])
    np.testing.assert_array_equal(spike(x), [0.0, 0.0, 1.0, 1.0])
    slope = jax.vmap(jax.grad(spike))(x)
    assert slope[1] > 0
    assert slope[1] > slope[0] - 1e-6


def test_boxcar_is_one_within_half() -> None:
    slope = jax.vmap(jax.grad(surrogate("boxcar")))(jnp.asarray([-0.6, -0.4, 0.4, 0.6]))
    np.testing.assert_array_equal(slope, [0.0, 1.0, 1.0, 0.0])
