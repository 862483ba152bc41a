"""Working memory: what its trials ask, its options, what a run leaves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import runs
from snnlab import config as configs
from snnlab.data.answers import UNASKED
from snnlab.data.periods import named
from snnlab.data.trials import draw_batch
from snnlab.errors import UsageError
from snnlab.experiment import assemble
from snnlab.learners.methods import METHODS
from snnlab.problems.memory_trials import Copy, DelayedXOR, MemoryTask, StoreRecall
from snnlab.problems.working_memory import WorkingMemory, build, defaults, task_of

B = 400


def parsed(*argv: str) -> Any:
    return configs.parse(WorkingMemory, argv, prog="p", description="", adapt=defaults)[0]


def drawn(task: MemoryTask) -> tuple[Any, dict[str, np.ndarray]]:
    """A batch, and what was drawn for it."""
    batch = jax.jit(draw_batch, static_argnums=(0, 2))(task, jax.random.key(1), B)
    return batch, {name: np.asarray(v) for name, v in batch.conditions.items()}


def on_by_period(task: MemoryTask, batch: Any) -> np.ndarray:
    """``(periods, B, groups)``: which populations fire more than half of their rate."""
    steps = [n for _, n in named(task)]
    spikes = np.asarray(batch.stream.window(0, sum(steps)))
    parts = np.split(spikes, np.cumsum(steps)[:-1])
    rates = [p.mean(0).reshape(B, len(task.groups), -1).mean(-1) for p in parts]
    return np.stack(rates) * 1000 / task.dt_ms > task.background + task.rate / 2


def test_store_recall() -> None:
    """The answer to a recall is the bit that came with the last store before it."""
    task = StoreRecall(symbol=10, n_symbol=6, n_group=20, rate=500.0)
    batch, found = drawn(task)
    bits, store, recall = found["bits"], found["store"], found["recall"]
    labels = np.full((B, 6), UNASKED)
    for b in range(B):
        kept = None
        for k in range(6):
            if recall[b, k]:
                assert kept is not None
                labels[b, k], kept = kept, None
            elif store[b, k]:
                assert kept is None
                kept = bits[b, k]
    np.testing.assert_array_equal(batch.targets.values.labels, labels[:, 1:])
    asked = (labels != UNASKED).sum(1)
    assert set(asked) == {1, 2}  # three are rare
    assert abs(labels[labels != UNASKED].mean() - 0.5) < 0.1
    on = on_by_period(task, batch).transpose(1, 0, 2)
    wanted = np.stack([~recall & ~bits, ~recall & bits, store, recall], axis=-1)
    assert (on == wanted).mean() > 0.999
    assert task.spans == tuple((10 * k, 10 * k + 10) for k in range(1, 6))
    np.testing.assert_array_equal(batch.targets.values.number(np.int32(25)), 1)


@pytest.mark.parametrize(("prob", "recalls"), [(0.0, 1), (1.0, 3)])
def test_store_recall_at_the_ends(prob: float, recalls: int) -> None:
    """Without commands the first symbol is stored and the last one recalls."""
    _, found = drawn(StoreRecall(symbol=2, n_symbol=6, command_prob=prob))
    assert set(found["recall"].sum(1)) == set(found["store"].sum(1)) == {recalls}
    if prob == 0.0:
        assert found["store"][:, 0].all()
        assert found["recall"][:, -1].all()


def test_delayed_xor() -> None:
    task = DelayedXOR(symbol=10, delay=5, n_group=20, rate=500.0)
    batch, found = drawn(task)
    cues, labels = found["cues"], np.asarray(batch.targets.values)
    np.testing.assert_array_equal(labels, cues[:, 0] ^ cues[:, 1])
    for cue in cues.T:  # one cue says nothing
        assert abs(labels[cue].mean() - 0.5) < 0.12
        assert abs(cue.mean() - 0.5) < 0.12
    on = on_by_period(task, batch).transpose(1, 0, 2)
    assert (on[:, [1, 3]].mean(), on[:, 4, 2].all()) == (0.0, True)
    for period, cue in ((0, cues[:, 0]), (2, cues[:, 1])):
        assert (on[:, period, :2] == np.stack([~cue, cue], axis=-1)).mean() > 0.999
    assert task.spans == ((30, 40),)


def test_copy() -> None:
    task = Copy(symbol=10, delay=5, n_symbol=2, n_kind=3, n_group=20, rate=500.0)
    batch, found = drawn(task)
    symbols = found["symbols"]
    np.testing.assert_array_equal(batch.targets.values.labels, symbols)
    assert set(symbols.ravel()) == {0, 1, 2}
    on = on_by_period(task, batch)
    for k in range(2):
        assert (on[k] == np.eye(4, dtype=bool)[symbols[:, k]]).mean() > 0.999
    assert not on[2].any()
    assert (on[3:] == np.eye(4, dtype=bool)[3]).all()
    assert task.spans == ((25, 35), (35, 45))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--t_symbol 0.5", "not a multiple of the step"),
        ("--dataset copy --t_delay 0", "must be at least one step"),
        ("--cue_rate 900 --dt 2", "at most 495 Hz beside --background_rate 5"),
        (
            "--dataset delayed-xor --n_symbol 3",
            "--n_symbol does not apply to --dataset delayed-xor",
        ),
        ("--n_kind 3", "--n_kind does not apply to --dataset store-recall"),
        ("--dataset copy --command_prob 0.1", "--command_prob does not apply to --dataset copy"),
        ("--t_symbol 1e9", "at most 10,000,000"),
    ],
)
def test_options_that_cannot_be(flags: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*flags.split())


@pytest.mark.parametrize("dataset", ["store-recall", "delayed-xor", "copy"])
def test_a_problem_names_what_figures_show(dataset: str) -> None:
    config = parsed("--kind", dataset)  # the other name of --dataset
    task, problem = task_of(config), build(config)
    assert problem.dataset == dataset
    assert sum(steps for _, steps in problem.periods) == problem.n_steps <= 200
    assert sum(n for _, n in problem.input_groups) == problem.n_in == task.n_in
    assert problem.first_scored == task.spans[0][0]
    assert problem.n_out == len(problem.class_names)


def test_defaults_are_of_the_dataset_and_of_the_model() -> None:
    copy, xor = parsed("--kind", "copy"), parsed("--dataset", "delayed-xor")
    assert (copy.data.n_symbol, parsed().data.n_symbol) == (3, 10)
    assert (copy.model.tau_a, xor.model.tau_a) == (200.0, 100.0)
    assert parsed("--dataset", "delayed-xor", "--tau_a", "300").model.tau_a == 300.0
    assert parsed("--model", "BRF").model.ff_scale == 13_000.0  # its own


def test_a_run_has_symbols_and_sequences(tmp_path: Path) -> None:
    """The shares of right symbols and of right sequences are those of ``predictions.csv``."""
    run = tmp_path / "run"
    assert runs.call("memory", "--epochs", "1", "--filepath", str(run), "--devices", "cpu") == 0
    found = json.loads((run / "results.json").read_text())
    rows = list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))
    right = np.array([r["label"] == r["prediction"] for r in rows]).reshape(8, 2)
    assert [int(r["index"]) for r in rows] == [k // 2 for k in range(16)]
    assert found["test_accuracy"] == pytest.approx(right.mean())
    assert found["test_sequence_accuracy"] == pytest.approx(right.all(1).mean())
    assert found["test_samples"] == 8
    assert "test_accuracy_wilson95" not in found  # symbols of a trial are not independent
    assert (run / "figures" / "test-samples.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
def test_every_rule_trains_on_answers(method: str) -> None:
    """The loss of the untrained network is that of BPTT; RTRL's gradient is, too."""

    def first(method: str) -> dict[str, float]:
        flags = runs.TINY["memory"][1].replace("--method diag", f"--method {method}")
        window = ["--chunk_size", "10"] if method == "tbptt" else []
        config = parsed(*flags.split(), *window)
        problem = build(config)
        parts = assemble(config, problem)
        batch = problem.train.batch(0)
        numbers = parts.programs.train(parts.state, batch.stream, batch.targets)[1]
        return {name: float(numbers[name]) for name in ("loss", "grad_norm")}

    found, wanted = first(method), first("bptt")
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert np.isfinite(found["grad_norm"])
    assert found["grad_norm"] > 0.1
    if method == "rtrl":
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
