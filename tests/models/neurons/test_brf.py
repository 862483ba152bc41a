"""BRF against a trace by hand, the source's order of a step, and its divergence boundary."""

from __future__ import annotations

import numpy as np
import pytest

from populations import run
from snnlab.errors import UsageError
from snnlab.models.neurons.brf import BRF

T, N = 200, 20


def published(drives: np.ndarray, seed: int, dt: float = 0.01) -> dict[str, np.ndarray]:
    """The source's recursion: dampen, integrate, spike, refract; ``q`` before each step as well."""
    rng, n = np.random.default_rng(seed), drives.shape[1]
    omega, offset = (rng.uniform(*r, n).astype(np.float32).astype(float) for r in ((5, 10), (2, 3)))
    boundary = (-1 + np.sqrt(1 - (dt * omega) ** 2)) / dt
    u, v, q = np.zeros((3, n))
    rows: dict[str, list] = {"spikes": [], "u": [], "v": [], "q": []}
    for drive in drives:
        rows["q"].append(q)
        b = boundary - offset - q
        z = (u + 1j * v) * (1 + dt * (b + 1j * omega)) + dt * drive
        u, v = z.real, z.imag
        spikes = (u > 1.0 + q).astype(float)
        q = 0.9 * q + spikes
        rows["spikes"].append(spikes)
        rows["u"].append(u)
        rows["v"].append(v)
    return {name: np.stack(row) for name, row in rows.items()}


def test_a_trace_by_hand() -> None:
    """dt = 1/2, omega = 1.2, so p = -0.4; b' = 0.4, gamma = 1/2, theta = 1."""
    neuron = BRF(0.5, omega=(1.2, 1.2), b_offset=(0.4, 0.4), gamma=0.5)
    found = run(neuron, np.asarray([[4.0], [0.0], [6.0], [2.0], [0.0]]), omega=1.2, b_offset=0.4)
    # b = -0.8, -1.8, -1.3, -2.05, -1.425; thresholds 1, 2, 1.5, 2.25, 1.625
    np.testing.assert_array_equal(found["spikes"][:, 0], [1, 0, 1, 0, 0])
    wanted = {
        "u": [2.0, 0.2, 2.35, 0.61725, -0.660440625],
        "v": [0.0, 1.2, 0.54, 1.3965, 0.77184375],
        "q": [0.0, 1.0, 0.5, 1.25, 0.625],
    }
    for name, trace in wanted.items():
        np.testing.assert_allclose(found[name][:, 0], trace, atol=1e-9)


def test_the_order_of_a_step_is_the_sources() -> None:
    drives = np.random.default_rng(1).normal(10.0, 150.0, (T, N))
    found, wanted = run(BRF(), drives, seed=3), published(drives, 3)
    np.testing.assert_array_equal(found["spikes"], wanted["spikes"])
    for name in ("u", "v", "q"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)
    rate = wanted["spikes"].mean()
    assert 0.01 < rate < 0.5, f"not live: {rate}"
    assert wanted["q"].max() > 1.5  # several spikes within a refractory period


def amplitudes(omega: float, offset: float, steps: int = 300) -> np.ndarray:
    """``|u + i v|`` over time after one push of a neuron that never spikes."""
    drives = np.zeros((steps, 1))
    drives[0] = 100.0
    found = run(BRF(theta=np.inf), drives, omega=omega, b_offset=offset)
    return np.hypot(found["u"], found["v"])[:, 0]


@pytest.mark.parametrize("omega", [5.0, 40.0, 98.0])
def test_at_the_boundary_an_oscillation_stays(omega: float) -> None:
    np.testing.assert_allclose(amplitudes(omega, 0.0), 1.0, rtol=1e-6)
    assert np.all(np.diff(amplitudes(omega, 0.1)) < 0)


def test_a_resonator_answers_its_own_frequency() -> None:
    """Of drives of one strength, that of omega moves it farthest."""
    time = 0.01 * np.arange(600)
    found = [
        np.abs(run(BRF(theta=np.inf), 5 * np.cos(f * time)[:, None], omega=10.0, b_offset=1.0)["u"])
        for f in (2.0, 10.0, 40.0)
    ]
    below, at, above = (np.max(u) for u in found)
    assert at > 2 * below
    assert at > 2 * above


def test_signs_do_not_matter() -> None:
    """As in the source, omega and b' enter by their absolute values."""
    drives = np.random.default_rng(1).normal(10.0, 150.0, (50, N))
    plus, minus = (run(BRF(), drives, omega=8.0 * s, b_offset=2.0 * s) for s in (1, -1))
    np.testing.assert_array_equal(plus["u"], minus["u"])


def test_values_are_drawn_in_their_ranges() -> None:
    values = BRF(omega=(15.0, 85.0), b_offset=(0.1, 1.0)).values(2000, np.random.default_rng(0))
    assert list(values) == ["omega", "b_offset", "theta"]
    for name, low, high in (("omega", 15.0, 85.0), ("b_offset", 0.1, 1.0)):
        start, slack = values[name].start, 0.01 * (high - low)
        assert start.dtype == np.float32
        assert low <= start.min() < low + slack < high - slack < start.max() <= high
    assert values["omega"].limits == (-99.0, 99.0)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"dt": 0.0}, r"^omega from 5 to 10 .* between 0 and 0.99 / dt$"),
        ({"dt": 0.1}, r"^omega from 5 to 10 .* between 0 and 0.99 / dt$"),
        ({"omega": (10.0, 5.0)}, r"^omega from 10 to 5 "),
        ({"b_offset": (-1.0, 1.0)}, r"^b_offset from -1 to 1: it must be a range from 0 on$"),
        ({"gamma": 1.0}, r"^gamma = 1: it must be at least 0 and below 1$"),
    ],
)
def test_what_diverges_is_refused(wrong: dict, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        BRF(**wrong)
