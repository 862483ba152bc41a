"""Recorded and simulated time: rates and axes are in recorded time wherever there are recordings.

The recordings have 310 ms and two events each, at 50 and 200 ms. Where every event makes every
neuron spike once, the rate is 2 / 0.31 s = 6.45 Hz, whatever bins and --dt are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from recorded import write_nmnist
from snnlab import config as configs
from snnlab.analysis import figures
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.experiment.command import command
from snnlab.experiment.show import record
from snnlab.problems import balanced, evidence, image_classification
from snnlab.training import seeds

RATE = 2 / 0.31
SMALL = [
    "--dataset", "nmnist", "--n_rec", "4", "--batch_size", "4", "--val_fraction", "0.25",
    "--devices", "cpu",
]  # fmt: skip
IMAGE = [*SMALL, "--n_layer", "1", "--spk_reset", "hard", "--epochs", "1", "--method", "expsm_diag"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nmnist(tmp_path_factory.mktemp("nmnist"))


def image(folder: Path, *flags: str) -> tuple[Any, Any, Any]:
    """Config, problem and parts of a network whose neurons all spike once at an event."""
    argv = [*IMAGE, "--data_path", str(folder), *flags]
    kind = image_classification.ImageClassification
    config: Any = configs.parse(kind, argv, prog="x", description="")[0]
    problem = image_classification.build(config)
    parts = assemble(config, problem)
    name = "layers.0.pathways.0.map.weight"
    weight = np.zeros(parts.state.params[name].shape, np.float32)
    weight[: problem.n_in] = 50.0
    params = {**parts.state.params, name: jnp.asarray(weight)}
    parts.state = parts.state._replace(params=params)
    return config, problem, parts


def measured(problem: Any, parts: Any) -> dict[str, Any]:
    batch = next(iter(problem.test))
    return parts.programs.evaluate(parts.state.params, batch.stream, batch.targets)


@pytest.mark.parametrize(
    ("bins", "dt", "words"),
    [
        (10, 1.0, "10 steps of 31 ms recorded, 1 ms simulated"),
        (62, 4.0, "62 steps of 5 ms recorded, 4 ms simulated"),
        (62, 5.0, "62 steps of 5 ms recorded"),
    ],
)
def test_the_rate_of_recordings_is_that_of_their_time(
    folder: Path, bins: int, dt: float, words: str
) -> None:
    _, problem, parts = image(folder, "--data_length", str(bins), "--dt", str(dt))
    assert problem.bin_ms == pytest.approx(310 / bins)
    assert parts.network.dt_ms == dt
    assert problem.steps_in_words(parts.network) == words
    assert float(measured(problem, parts)["rates"][0]) == pytest.approx(RATE)


def test_the_target_rate_is_in_recorded_time_too(folder: Path) -> None:
    """6.45 Hz are 0.2 spikes in a bin of 31 ms: two steps miss it by 0.8, eight by 0.2."""
    flags = ["--data_length", "10", "--spk_reg_factor", "1", "--spk_reg_rate"]
    _, problem, parts = image(folder, *flags, str(RATE))
    assert float(measured(problem, parts)["penalty"]) == pytest.approx(
        (2 * 0.8**2 + 8 * 0.2**2) / 10
    )
    with pytest.raises(
        UsageError, match=r"--spk_reg_rate 33 Hz cannot .* 31 ms at most.* 32.26 Hz"
    ):
        image(folder, *flags, "33")


@pytest.mark.parametrize("flags", [(), ("--first_saccade",)])
def test_the_axes_of_recordings_are_their_time(folder: Path, flags: tuple[str, ...]) -> None:
    config, problem, parts = image(folder, "--data_length", "10", *flags)
    fig = figures.samples_figure(*record(config, problem, parts, parts.state.params))
    span = 100.0 if flags else 310.0
    for ax in fig.axes:
        assert ax.get_xlim() == pytest.approx((0.0, span))
    assert fig.axes[-1].get_xlabel() == "recorded time (ms)"
    assert fig.get_supxlabel() == f"a step: {span / 10:g} ms recorded, 1 ms simulated"
    spikes = fig.axes[4].lines[0].get_xdata()  # row 3 of two columns
    expected = [55.0] * 4 if flags else [46.5] * 4 + [201.5] * 4  # middles of the bins
    np.testing.assert_allclose(np.sort(spikes), expected)


def test_several_seeds_in_one_program(folder: Path) -> None:
    members = [image(folder, "--data_length", "10", "--seed", seed) for seed in ("0", "1")]
    programs = seeds.SeedPrograms([parts.programs for _, _, parts in members])
    params = seeds.stack([parts.state.params for _, _, parts in members])
    batch = next(iter(seeds.SeedLoaders([problem.test for _, problem, _ in members])))
    found = programs.evaluate(params, batch.stream, batch.targets)
    np.testing.assert_allclose(found["rates"], [[RATE], [RATE]], rtol=1e-6)


def test_what_a_run_says(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Console and results of several seeds and of each."""
    argv = [*IMAGE, "--data_path", str(folder), "--data_length", "10", "--dt", "2", "--trials", "2",
            "--vmap_trials", "yes", "--filepath", str(tmp_path / "run")]  # fmt: skip
    kind = image_classification.ImageClassification
    command(kind, image_classification.build, prog="x", description="", argv=argv)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "starting, expsm_diag, seeds 0 to 1"
    assert "nmnist, 10 steps of 31 ms recorded, 2 ms simulated, " in second
    for name in ("", "seed-0", "seed-1"):
        results = json.loads((tmp_path / "run" / name / "results.json").read_text())
        assert (results["bin_ms"], results["dt_ms"]) == (31.0, 2.0)


# ---------------------------------------------------------------- the other tasks


def test_repeated_bins_share_their_time(folder: Path) -> None:
    """The balanced task's constants are in steps: what it simulates is what was recorded."""
    argv = [*SMALL, "--data_path", str(folder), "--data_length", "10", "--repeat", "4",
            "--dataset_scale", "300", "--model", "LIF"]  # fmt: skip
    kind = balanced.BalancedRSNN
    config: Any = configs.parse(kind, argv, prog="x", description="", adapt=balanced.defaults)[0]
    problem = balanced.build(config)
    parts = assemble(config, problem)
    assert problem.bin_ms == parts.network.dt_ms == 31 / 4
    assert problem.steps_in_words(parts.network) == "40 steps of 7.75 ms recorded"
    recording, shown = record(config, problem, parts, parts.state.params)
    assert figures.samples_figure(recording, shown).axes[-1].get_xlim() == (0.0, 310.0)
    batch = next(iter(problem.test))
    assert batch.targets.mask.all()
    _, out = parts.programs.record(parts.state.params, batch.stream, np.arange(4, dtype=np.int32))
    n_spikes = float(np.asarray(out.spikes[0]).sum())
    assert n_spikes > 0
    by_hand = n_spikes / (4 * 4) / 0.31  # neurons, recordings, seconds
    assert float(measured(problem, parts)["rates"][0]) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("task", "flags", "dt"),
    [
        (balanced.BalancedRSNN, ["--repeat", "4", "--samples", "4"], 0.25),
        (evidence.CobaEI, ["--dt", "0.5"], 0.5),
    ],
)
def test_generated_trials_have_the_simulated_time_alone(task: Any, flags: list[str], dt: float):
    config: Any = configs.parse(task, flags, prog="x", description="")[0]
    build = balanced.build if task is balanced.BalancedRSNN else evidence.build
    problem = build(config)
    network = problem.make_network("plain")
    assert problem.bin_ms is None
    assert problem.step_ms(network) == network.dt_ms == dt
    assert problem.steps_in_words(network) == f"{problem.n_steps} steps of {dt} ms simulated"
    assert "recorded" not in problem.rate_label
