"""Several trials as one program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnlab import config as configs
from snnlab.experiment import assemble
from snnlab.problems import evidence
from snnlab.scores import ACCURACY
from snnlab.training import seeds

LINE = (
    "--n_cue 1 --t_interval 5 --t_cue 10 --t_delay 5 --t_recall 10 --n_group 5 --cue_rate 200 "
    "--n_rec 12 --tau_neu 10 --tau_syn 5 --tau_I2 100 --batch_size 4 --epoch_batches 2 "
    "--sparsity 0.5"
)
ARGV = LINE.split()


def made(seed: int, *argv: str) -> Any:
    config = configs.parse(
        evidence.CobaEI, [*ARGV, "--seed", str(seed), *argv], prog="x", description=""
    )[0]
    problem = evidence.build(config)
    return problem, assemble(config, problem)


@pytest.mark.parametrize("net", ["coba", pytest.param("cuba", marks=pytest.mark.slow)])
def test_a_vmapped_update_is_that_of_each_trial(net: str) -> None:
    """Masks and time constants differ between seeds, and each trial keeps its own."""
    members = [made(seed, "--net", net) for seed in (0, 1)]
    programs = seeds.SeedPrograms([parts.programs for _, parts in members])
    state = seeds.stack([parts.state for _, parts in members])
    batch = next(iter(seeds.SeedLoaders([problem.train for problem, _ in members])))
    together, numbers = programs.train(state, batch.stream, batch.targets)
    measured = programs.evaluate(together.params, batch.stream, batch.targets)
    for i, (problem, parts) in enumerate(members):
        problem.train.set_epoch(-1)
        problem.train.set_epoch(0)
        own = problem.train.batch(0)
        alone, alone_numbers = parts.programs.train(parts.state, own.stream, own.targets)
        for name, value in alone.params.items():
            np.testing.assert_allclose(together.params[name][i], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(numbers["loss"][i], alone_numbers["loss"], rtol=1e-5)
    # Of the last one alone, which differs from the first: each is a compilation of its own.
    check = parts.programs.evaluate(alone.params, own.stream, own.targets)
    np.testing.assert_allclose(measured["loss"][i], check["loss"], rtol=1e-4)
    assert np.array_equal(measured["predictions"][i], check["predictions"])


def test_other_networks_are_not_alike() -> None:
    members = [made(0), made(1, "--A1", "0.5")]
    programs = seeds.SeedPrograms([parts.programs for _, parts in members])
    state = members[0][1].state
    batch = members[0][0].train.batch(0)
    args = jax.tree.map(lambda a: jnp.stack([a, a]), (state, batch.stream, batch.targets))
    with pytest.raises(seeds.NotAlike):
        programs.train(*args)


def test_loaders_of_other_lengths_are_not_alike() -> None:
    with pytest.raises(seeds.NotAlike):
        seeds.SeedLoaders([[1, 2], [1]])


def test_the_aggregate_counts_failures() -> None:
    base = {"batches": 10, "seconds": 1.0}
    results = [
        {"seed": 0, "test_accuracy": 0.9, **base},
        {"seed": 1, "test_accuracy": 0.7, **base},
        {"seed": 2, "error": "epoch 1, batch 3: ...", **base},
    ]
    found = seeds.aggregate(results, ACCURACY, goal=0.8)
    assert found["trials"] == 3
    assert found["failed"] == 1
    assert found["test_accuracy"] == pytest.approx(0.8)
    assert found["test_accuracy_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert found["reached_goal"] == 1
    assert found["test_accuracies"] == [0.9, 0.7, None]
    alone = seeds.aggregate(results[1:], ACCURACY, goal=0.8)
    assert alone["test_accuracy"] == pytest.approx(0.7)
    assert alone["test_accuracy_sd"] is None  # of one seed nothing is known of the spread
    assert "goal" not in seeds.aggregate(results, ACCURACY, goal=0.0)
