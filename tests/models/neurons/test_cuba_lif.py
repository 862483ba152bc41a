"""CuBaLIF against a trace by hand, its equations in NumPy, and the solution of the ODE."""

from __future__ import annotations

import math

import numpy as np
import pytest

from populations import run
from snnlab.errors import UsageError
from snnlab.models.neurons.cuba_lif import CuBaLIF

T, N = 200, 20


def test_a_trace_by_hand() -> None:
    """alpha = beta = 1/2, r = 2, v_leak = 1/2, v_reset = -1, threshold 1, w_in = 1."""
    half = 1 / math.log(2)
    neuron = CuBaLIF(tau_mem=half, tau_syn=half, r=2.0, v_leak=0.5, v_reset=-1.0)
    found = run(neuron, np.asarray([[4.0], [0.0], [0.0], [1.0], [0.0]]))
    np.testing.assert_array_equal(found["spikes"][:, 0], [1, 0, 1, 0, 0])
    # 4/2; 2/2; 1/2; (1/2 + 1)/2; 3/8
    np.testing.assert_allclose(found["i"][:, 0], [2.0, 1.0, 0.5, 0.75, 0.375], atol=1e-6)
    # (0.5 + 4)/2; (-1 + 0.5 + 2)/2; (0.75 + 0.5 + 1)/2; (-1 + 0.5 + 1.5)/2; (0.5 + 0.5 + 0.75)/2
    np.testing.assert_allclose(found["v"][:, 0], [2.25, 0.75, 1.125, 0.5, 0.875], atol=1e-6)


def parameters(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ranges = {
        "tau_mem": (5, 30), "tau_syn": (2, 20), "r": (0.5, 2), "v_leak": (-0.3, 0.3),
        "v_threshold": (0.5, 1.5), "v_reset": (-0.5, 0.2), "w_in": (0.5, 2),
    }  # fmt: skip
    return {name: rng.uniform(*r, N).astype(np.float32) for name, r in ranges.items()}


@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_the_order_of_a_step(dt: float) -> None:
    """Current, membrane, spike, reset: the reset of a step is made when the next one begins."""
    given = parameters(2)
    p = {name: array.astype(float) for name, array in given.items()}
    drives = np.random.default_rng(1).normal(1.0, 8.0 / dt, (T, N))
    found = run(CuBaLIF(dt, **given), drives)
    alpha, beta = np.exp(-dt / p["tau_syn"]), np.exp(-dt / p["tau_mem"])
    v, i, spikes = np.zeros((3, N))
    count = 0
    for t, drive in enumerate(drives):
        i = alpha * i + (1 - alpha) * p["w_in"] * drive
        v = beta * v + (1 - beta) * (p["v_leak"] + p["r"] * i)
        spikes = v > p["v_threshold"]
        np.testing.assert_array_equal(found["spikes"][t], spikes)
        # The description's logarithms are float32.
        np.testing.assert_allclose(found["v"][t], v, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["i"][t], i, rtol=1e-5, atol=1e-5)
        v = np.where(spikes, p["v_reset"], v)
        count += spikes.sum()
    assert 0.01 < count / (T * N) < 0.5


def test_steps_converge_to_the_ode() -> None:
    """Below threshold, from rest, constant input: the error is of the order of the step."""
    tau_mem, tau_syn, time, drive = 20.0, 10.0, 30.0, 0.9
    rise = (tau_mem * math.exp(-time / tau_mem) - tau_syn * math.exp(-time / tau_syn)) / (
        tau_mem - tau_syn
    )
    wanted = drive * (1 - rise)
    errors = []
    for dt in (1.0, 0.5, 0.25):
        neuron = CuBaLIF(dt, tau_mem=tau_mem, tau_syn=tau_syn)
        found = run(neuron, np.full((round(time / dt), 1), drive))
        np.testing.assert_allclose(found["i"][-1], drive * (1 - math.exp(-time / tau_syn)))
        errors.append(abs(found["v"][-1, 0] - wanted))
    assert errors[0] < 0.03
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, rtol=0.1)


def test_values_are_what_is_given() -> None:
    given = CuBaLIF(tau_mem=np.arange(1.0, 5.0), tau_syn=2.0, v_threshold=0.5)
    values = given.values(4, np.random.default_rng(0))
    np.testing.assert_allclose(np.exp(values["log_tau_mem"].start), [1, 2, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(np.exp(values["log_tau_mem"].limits), [1e-3, 4e3], rtol=1e-5)
    np.testing.assert_allclose(np.exp(values["log_tau_syn"].start), [2.0] * 4, rtol=1e-6)
    np.testing.assert_array_equal(values["theta"].start, [0.5] * 4)
    assert all(value.start.dtype == np.float32 for value in values.values())


@pytest.mark.parametrize("name", ["dt", "tau_mem", "tau_syn"])
def test_times_are_positive(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name} = 0: it must be above 0$"):
        CuBaLIF(**{name: 0.0})


def test_arrays_have_a_number_for_each_neuron() -> None:
    neuron = CuBaLIF(v_leak=np.zeros(3))
    with pytest.raises(UsageError, match=r"^v_leak has shape \(3,\): valid is a number or \(4,\)$"):
        neuron.values(4, np.random.default_rng(0))
