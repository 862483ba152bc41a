"""The balance metric, against scipy, by hand, and against the numbers of the original."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from snnlab.analysis.balance import BalanceTracker, balance, cutoff, lowpass, median

METRICS = ("lowpass", "median", "raw")


def currents(n_steps: int, shape: tuple[int, ...], tightness: float = 0.7, seed: int = 0):
    """Two noisy currents that share a slow part."""
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.standard_normal((n_steps, *shape)), 0) / 10
    noise = rng.standard_normal((2, n_steps, *shape))
    exc = 40 + tightness * slow + noise[0]
    inh = -30 - tightness * slow + noise[1]
    return exc.astype(np.float32), inh.astype(np.float32)


def by_scipy(exc: np.ndarray, inh: np.ndarray, metric: str) -> np.ndarray:
    """Correlation of each trailing index, neuron by neuron as the original does it."""
    exc, inh = exc.astype(float), inh.astype(float)
    if metric == "lowpass":
        b, a = scipy.signal.butter(4, cutoff(len(exc)))
        exc, inh = (scipy.signal.filtfilt(b, a, x, axis=0) for x in (exc, inh))
    elif metric == "median":
        size = (5,) + (1,) * (exc.ndim - 1)
        exc, inh = scipy.signal.medfilt(exc, size), scipy.signal.medfilt(inh, size)
    flat = exc.reshape(len(exc), -1), inh.reshape(len(inh), -1)
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(flat[0].T, flat[1].T)])


def tracked(exc, inh, metric: str):
    tracker = BalanceTracker(metric, len(exc))

    @jax.jit
    def run(exc, inh):
        def body(state, pair):
            return tracker.update(state, *pair), None

        state, _ = jax.lax.scan(body, tracker.init(exc[0], inh[0]), (exc[1:], inh[1:]))
        return tracker.result(state)

    return run(exc, inh)


@pytest.mark.parametrize("n_steps", [200, 1200])
def test_filters_are_those_of_scipy(n_steps: int) -> None:
    exc, _ = currents(n_steps, (2, 3))
    b, a = scipy.signal.butter(4, cutoff(n_steps))
    wanted = scipy.signal.filtfilt(b, a, exc.astype(float), axis=0)
    np.testing.assert_allclose(lowpass(jnp.asarray(exc)), wanted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(
        median(jnp.asarray(exc)), scipy.signal.medfilt(exc.astype(float), (5, 1, 1))
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_steps", [200, 1200])
def test_balance_is_minus_the_mean_correlation(metric: str, n_steps: int) -> None:
    exc, inh = currents(n_steps, (2, 3))
    found = balance(jnp.asarray(exc), jnp.asarray(inh), metric)
    np.testing.assert_allclose(found.value, -by_scipy(exc, inh, metric).mean(), rtol=1e-4)
    assert (found.n_scored, found.n_constant) == (6, 0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_step_at_a_time_gives_the_same(metric: str) -> None:
    exc, inh = currents(3000, (2, 3))
    exc[:, 0, 1] = 2.5  # constant
    exact, found = balance(jnp.asarray(exc), jnp.asarray(inh), metric), tracked(exc, inh, metric)
    # The streaming low-pass differs at the two ends only.
    np.testing.assert_allclose(found.value, exact.value, atol=0.01 if metric == "lowpass" else 1e-4)
    assert found.n_scored == exact.n_scored == 5
    assert found.n_constant == exact.n_constant == 1


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_and_opposite_balance(metric: str) -> None:
    exc, _ = currents(1200, (3,))
    np.testing.assert_allclose(balance(exc, -2 * exc, metric).value, 1.0, rtol=1e-5)
    np.testing.assert_allclose(balance(exc, 3 * exc - 5, metric).value, -1.0, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_constant_currents_are_counted_not_scored(metric: str) -> None:
    exc, inh = currents(200, (4,))
    inh[:, 2] = 0.0
    found = balance(jnp.asarray(exc), jnp.asarray(inh), metric)
    kept = [0, 1, 3]
    np.testing.assert_allclose(
        found.value, -by_scipy(exc[:, kept], inh[:, kept], metric).mean(), rtol=1e-4
    )
    assert (found.n_scored, found.n_constant) == (3, 1)
    nothing = balance(jnp.asarray(exc), jnp.zeros_like(inh), metric)
    assert np.isnan(nothing.value)
    assert nothing.n_constant == 4


def test_too_few_steps() -> None:
    with pytest.raises(ValueError, match="more than 15 steps"):
        lowpass(jnp.zeros((15, 2)))


def golden() -> dict[str, np.ndarray]:
    here = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("SNNLAB_TEST_DATA", here.parent / "shared" / "data"))
    path = folder / "golden_layers.npz"
    if not path.exists():
        pytest.skip(f"no golden_layers.npz in {folder} (set SNNLAB_TEST_DATA)")
    with np.load(path) as data:
        return {k: data[k] for k in data.files if "balance_" in k or "/I_" in k}


CASES = (
    "rlif", "rlif_single", "rlif_balance_fixed", "rlif_balance_trained", "rlif_balance_mu_nu",
    "rlif_reset_voltage", "rlif_reset_threshold",
)  # fmt: skip


@pytest.mark.parametrize("metric", ["lowpass", "median"])
@pytest.mark.parametrize("case", CASES)
def test_numbers_of_the_original(case: str, metric: str) -> None:
    data = golden()
    exc, inh = (np.moveaxis(data[f"{case}/I_{kind}"], 1, 0) for kind in ("exc", "inh"))
    found = balance(jnp.asarray(exc), jnp.asarray(inh), metric)
    share = found.n_scored / (found.n_scored + found.n_constant)  # constants scored 0 there
    np.testing.assert_allclose(
        found.value * share, data[f"{case}/balance_{metric}"], rtol=1e-4, atol=1e-6
    )
