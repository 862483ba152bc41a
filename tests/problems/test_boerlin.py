"""The sandbox: flags, results, and the numbers that the original has."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.analysis.balance import balance
from snnlab.errors import UsageError
from snnlab.problems.boerlin import Boerlin, command
from snnlab.problems.boerlin_simulation import input_bins, make_network, simulate


def parsed(*flags: str) -> Boerlin:
    return configs.parse(Boerlin, list(flags), prog="boerlin.py", description="")[0]


def simulated(config: Boerlin, seed: int = 0, steps: int | None = None, metric=None):
    bins, repeat = input_bins(config, seed)
    bins = bins[:steps]
    net = make_network(config, bins.shape[1], seed)

    @jax.jit
    def program(bins, key):
        return simulate(
            net, bins, key, repeat=repeat, sigma_s=config.data.sigma_s, metric=metric
        )  # fmt: skip

    return program(jnp.asarray(bins), jax.random.key(seed))


def test_the_numbers_of_the_original() -> None:
    config = parsed("--auto-encoder", "--track-balance")
    bins, _ = input_bins(config, 0)
    net = make_network(config, 1, 0)

    @jax.jit
    def program(key):
        made = simulate(net, jnp.asarray(bins), key, repeat=1, sigma_s=100.0, metric="lowpass")
        rate = jnp.mean(made.spikes < 400) / 400
        return jnp.mean((made.x - made.decoded) ** 2), rate, made.balance.value

    measured = np.array([[float(v) for v in program(jax.random.key(s))] for s in range(10)])
    original = np.array(
        [[1.30e-3, 9.6e-4, 0.9989], [1.27e-3, 9.3e-4, 0.9988], [1.27e-3, 9.3e-4, 0.9991]]
    )
    mean, spread = measured.mean(0), measured.std(0, ddof=1)
    assert (np.abs(mean - original.mean(0)) < 2 * spread).all(), (mean, spread)


def test_the_function_encoder_follows_the_linear_system() -> None:
    made = simulated(parsed("--j", "2", "--sigma-s", "10"))
    x = np.asarray(made.x)
    assert np.abs(x).max() > 20
    assert np.mean((x - np.asarray(made.decoded)) ** 2) < 2e-3
    # The coupling matters: without it the same input leads elsewhere.
    alone = simulated(parsed("--j", "2", "--sigma-s", "10", "--auto-encoder"))
    assert np.abs(np.asarray(alone.x) - x).max() > 5


def test_noise_is_the_only_difference_between_keys() -> None:
    config = parsed("--auto-encoder", "--sigma-s", "0", "--sigma-v", "0", "--w-init", "rand")
    a, b = simulated(config, steps=3000), simulated(config, steps=3000)
    np.testing.assert_array_equal(a.spikes, b.spikes)
    assert len(a.x) == 3000


def test_tracking_changes_nothing_and_is_the_balance_of_the_traces() -> None:
    config = parsed("--auto-encoder", "--n", "2", "--w-init", "boerlin-fix")
    plain = simulated(config, steps=4321)
    found = simulated(config, steps=4321, metric="median")
    np.testing.assert_array_equal(plain.spikes, found.spikes)
    assert found.exc.shape == (4321,)
    assert (found.balance.n_scored, found.balance.n_constant) == (2, 0)
    exact = balance(found.exc[:, None], found.inh[:, None], "median").value
    np.testing.assert_allclose(found.balance.value, exact, atol=0.05)  # two mirrored neurons


def test_cue_input() -> None:
    bins, repeat = input_bins(parsed("--data", "cue", "--repeat", "7"), 0)
    assert bins.shape == (2250, 40)
    assert repeat == 7
    assert set(np.unique(bins)) == {0.0, 200.0}


def test_a_run_leaves_results_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flags = [
        "--auto-encoder", "--track-balance", "--data", "cue", "--repeat", "1", "--n", "20",
        "--plot", "--plot-input-raster", "--save", "figure", "--save-path", str(tmp_path / "out"),
        "--filepath", str(tmp_path / "run"), "--seed", "-1", "--devices", "cpu",
    ]  # fmt: skip
    assert command(prog="boerlin.py", description="", argv=flags) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {"mse", "spikes_per_neuron_step", "balance", "simulation_seconds"} <= set(results)
    assert results["steps"] == 2250
    assert (tmp_path / "run" / "figures" / "integrator.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "figure.png").exists()
    assert "run folder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--repeat", "0"], "--repeat 0"),
        (["--alpha", "1"], "--alpha 1"),
        (["--w-init", "boerlin"], "boerlin-fix"),
        (["--plot-neuron", "400", "--track-balance", "--plot"], "neurons 0 to 399"),
        (["--j", "0"], "only --data shd"),
        (["--save", "a/b"], "--save a/b"),
        (["--weight-sparsity", "1"], "--weight_sparsity 1"),
    ],
)
def test_input_that_cannot_be_used(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*flags)
