"""SE-adLIF against a trace by hand, the source's order of a step, and what Euler forwards does."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from populations import run
from snnlab.errors import UsageError
from snnlab.models.neurons.se_adlif import SEAdLIF

T, N = 200, 20


def drawn(seed: int, dt: float) -> tuple[np.ndarray, ...]:
    """``(alpha, beta, a, b)``, ``(N,)`` each, as the source draws them."""
    rng = np.random.default_rng(seed)
    mix_u, mix_w, a, b = (
        rng.uniform(0, end, N).astype(np.float32).astype(float) for end in (1, 1, 1, 2)
    )
    return np.exp(-dt / (5 + mix_u * 20)), np.exp(-dt / (60 + mix_w * 240)), a, b


def published(
    drives: np.ndarray,
    alpha: object,
    beta: object,
    a: object,
    b: object,
    *,
    symplectic: bool = True,
) -> dict[str, np.ndarray]:
    """The source's recursion: integrate, spike, reset, adapt; ``w`` before each step as well.

    Without ``symplectic``, w is driven by u and z of the step before (Euler forwards).
    """
    u, z, w = np.zeros((3, drives.shape[1]))
    rows: dict[str, list] = {"spikes": [], "u": [], "w": []}
    for drive in drives:
        rows["w"].append(w)
        old_u, old_z = u, z
        v = alpha * u + (1 - alpha) * (drive - w)
        z = (v > 1.0).astype(float)
        u = v * (1 - z)
        cause = a * u + b * z if symplectic else a * old_u + b * old_z
        w = beta * w + (1 - beta) * 120 * cause
        rows["spikes"].append(z)
        rows["u"].append(v)
    return {name: np.stack(row) for name, row in rows.items()}


def test_a_trace_by_hand() -> None:
    """alpha = beta = 1/2, q = 1, a = 1, b = 2, theta = 1."""
    half = 1 / math.log(2)
    neuron = SEAdLIF(tau_u=(half, half), tau_w=(half, half), q=1.0)
    found = run(neuron, np.asarray([[3.0], [0.0], [1.0], [4.0], [0.0]]), a=1.0, b=2.0)
    np.testing.assert_array_equal(found["spikes"][:, 0], [1, 0, 0, 1, 0])
    # 3/2; (0 - 1)/2; (-1/2 + 1 - 1/4)/2; (1/8 + 4 - 3/16)/2; (0 - 35/32)/2
    np.testing.assert_allclose(found["u"][:, 0], [1.5, -0.5, 0.125, 1.96875, -0.546875], atol=1e-6)
    # 0; (0 + 2)/2; (1 - 1/2)/2; (1/4 + 1/8)/2; (3/16 + 2)/2
    np.testing.assert_allclose(found["w"][:, 0], [0, 1, 0.25, 0.1875, 1.09375], atol=1e-6)


@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_the_order_of_a_step_is_the_sources(dt: float) -> None:
    drives = np.random.default_rng(1).normal(5.0, 40.0, (T, N))
    found, wanted = run(SEAdLIF(dt), drives, seed=3), published(drives, *drawn(3, dt))
    np.testing.assert_array_equal(found["spikes"], wanted["spikes"])
    for name in ("u", "w"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)
    rate = wanted["spikes"].mean()
    assert 0.01 < rate < 0.5, f"not live: {rate}"
    forwards = published(drives, *drawn(3, dt), symplectic=False)
    assert np.abs(forwards["u"] - wanted["u"]).max() > 1


def test_an_oscillation_decays_that_grows_by_euler_forwards() -> None:
    """Below threshold, after a small push: tau_u 25 and tau_w 60 steps, a = 1."""
    drives = np.zeros((400, N))
    drives[0] = 1e-3
    extreme = {"tau_u_share": 1.0, "tau_w_share": 0.0, "a": 1.0}
    found = np.abs(run(SEAdLIF(), drives, **extreme)["u"])
    assert found[-100:].max() < 0.1 * found[:100].max()
    alpha, beta = math.exp(-1 / 25), math.exp(-1 / 60)
    forwards = np.abs(published(drives, alpha, beta, 1.0, 0.0, symplectic=False)["u"])
    assert 10 * forwards[:100].max() < forwards[-100:].max() < 1


def test_no_gradient_passes_the_reset() -> None:
    """Spikes reach the next membrane by the adaptation alone: -(1 - alpha) (1 - beta) q b."""
    neuron, n = SEAdLIF(), 6
    drawn = neuron.values(n, np.random.default_rng(0))
    value = {name: jnp.asarray(v.start) for name, v in drawn.items()}
    state = {"u": jnp.full(n, 3.0), "w": jnp.ones(n)}

    def after(spikes: jax.Array) -> jax.Array:
        return neuron.step(state, spikes, jnp.zeros(n), value)["u"].sum()

    share = {name: v.start for name, v in drawn.items()}
    alpha = np.exp(-1 / (5 + 20 * share["tau_u_share"]))
    beta = np.exp(-1 / (60 + 240 * share["tau_w_share"]))
    wanted = -(1 - alpha) * (1 - beta) * 120 * share["b"]
    np.testing.assert_allclose(jax.grad(after)(jnp.ones(n)), wanted, rtol=1e-3)


def test_values_are_drawn_in_their_ranges() -> None:
    values = SEAdLIF().values(2000, np.random.default_rng(0))
    assert np.all(values.pop("theta").start == 1)
    assert list(values) == ["tau_u_share", "tau_w_share", "a", "b"]
    for name, (start, limits) in values.items():
        assert limits == (0.0, 2.0 if name == "b" else 1.0)
        assert start.dtype == np.float32
        assert 0 <= start.min() < 0.01 * limits[1] < 0.99 * limits[1] < start.max() <= limits[1]
    again = SEAdLIF().values(2000, np.random.default_rng(0))
    assert all(np.array_equal(values[name].start, again[name].start) for name in values)


@pytest.mark.parametrize(
    "wrong", [{"dt": 0.0}, {"tau_u": (25.0, 5.0)}, {"tau_w": (0.0, 300.0)}, {"tau_w": (1, np.nan)}]
)
def test_wrong_times_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=r"^tau_[uw] from .* the shorter time first$"):
        SEAdLIF(**wrong)
