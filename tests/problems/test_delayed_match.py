"""Delayed match to sample: statistics of its trials, its command line, its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml
from rich.console import Console

from snnlab import config as configs
from snnlab.data.trials import draw_batch
from snnlab.errors import UsageError
from snnlab.experiment import assemble, run_seeds
from snnlab.experiment.command import command
from snnlab.experiment.run import run
from snnlab.problems.delayed_match import DelayedMatch, LongTermDependency, build, task_of

ROOT = Path(__file__).resolve().parents[2]
SEED_COMMANDS = [
    "--epochs 2000 --method bptt --dataset dms --t_delay 1000 --tau_I2 1500 --tau_neu 100 "
    "--tau_syn 100 --n_rec 200 --lr 0.001 --A2 1 --optimizer adam --devices 3 --t_fixation 10. "
    "--spk_fun relu --acc_th 0.95 --n_data_worker 4  --dt 1. --ff_scale 6 --rec_scale 2",
    "--epochs 2000 --method expsm_diag --etrace_decay 0.99 --vjp_time t --dataset dms --t_delay "
    "1000 --tau_I2 1500 --tau_neu 100 --tau_syn 100 --n_rec 200 --lr 0.001 --A2 1  --optimizer "
    "adam --devices 3 --t_fixation 10. --spk_fun relu --acc_th 0.95  --n_data_worker 4  --dt 1. "
    "--ff_scale 6 --rec_scale 2",
    "--epochs 2000   --method diag --dataset dms  --t_delay 1000 --tau_I2 1500 --tau_neu 100 "
    "--tau_syn 100 --n_rec 200 --lr 0.001 --A2 1   --optimizer adam --devices 3 --t_fixation 10. "
    "--spk_fun relu --acc_th 0.95  --n_data_worker 4  --dt 1. --ff_scale 6 --rec_scale 2",
]
#: Learns in seconds: one neuron layer, 70 steps.
LINE = (
    "--t_fixation 0 --t_sample 30 --t_delay 10 --t_test 30 --n_rec 24 --tau_neu 10 --tau_syn 10 "
    "--tau_I2 100 --batch_size 16 --epoch_batches 3 --val_batches 1 --test_batches 1 --epochs 1 "
    "--etrace_decay 0.9 --method expsm_diag --n_show 2"
)
TINY = LINE.split()


def parsed(*argv: str) -> Any:
    return configs.parse(LongTermDependency, argv, prog="dms", description="")[0]


def tiny(*argv: str) -> Any:
    return parsed(*TINY, *argv)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--peak_rate", "1000", "--dt", "5"], "--peak_rate 1000 Hz: .* at most 199 Hz beside"),
        (["--peak_rate", "1000"], "at most 999 Hz beside --background_rate 1"),
        (["--background_rate", "300", "--dt", "5"], "--background_rate 300 Hz: .* at most 200 Hz"),
        (["--dt", "1e-320"], "--dt 1e-320: must be greater than or equal to 0.001"),
        (["--t_delay", "1e12"], "at most 10,000,000"),
    ],
)
def test_steps_that_cannot_be(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(*argv)
    assert parsed("--peak_rate", "199", "--dt", "5").data.peak_rate == 199.0


def test_figures_name_the_periods() -> None:
    problem = build(tiny("--t_fixation", "20"))
    assert [name for name, _ in problem.periods] == ["fixation", "sample", "delay", "test"]
    assert sum(steps for _, steps in problem.periods) == problem.n_steps
    assert problem.make_network("plain").populations == ((),)


def test_options_that_the_loss_leaves_without_effect() -> None:
    for argv, message in (
        (["--warmup_ratio", "0.1"], "--warmup_ratio 0.1 has no effect: .* begins at step 40 of 70"),
        (["--update_every", "71"], "--update_every 71 is longer than the sequence of 70 steps"),
        (["--vjp_method", "multi-step", "--chunk_size", "70"], "whole sequence of 70 steps"),
        (
            ["--spk_reg_factor", "1", "--spk_reg_rate", "2000"],
            "2000 Hz cannot be reached: .* at most, that is 1000 Hz",
        ),
    ):
        config = tiny(*argv)
        with pytest.raises(UsageError, match=message):
            assemble(config, build(config))


@pytest.mark.parametrize(
    ("flags", "first", "summed"),
    [
        ("", 40, None),
        ("--loss_steps end", 69, None),
        ("--loss_of sum", 40, 40),
        ("--loss_of sum --loss_steps end", 69, 40),
        ("--loss_of sum --loss_steps end --warmup_ratio 50", 69, 50),
    ],
)
def test_which_steps_have_a_loss_and_of_what(flags: str, first: int, summed: int | None) -> None:
    config = tiny(*flags.split())
    programs = assemble(config, build(config)).programs
    assert programs.objective.warmup == first
    assert programs.network.network._summed_from == summed


def test_training_is_counted_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, two moments of adam, and for each weight and trial a trace of V, I and I2."""
    asked: list[float] = []
    monkeypatch.setattr(
        "snnlab.experiment.assembly.require_memory", lambda n, what: asked.append(n)
    )
    parts = {}
    for chunk in ("35", "70"):
        flags = ["--method", "diag", "--etrace_decay", "none", "--chunk_size", chunk]
        config = tiny(*flags)
        parts[chunk] = assemble(config, build(config))
    params = sum(p.nbytes for p in parts["70"].state.params.values())
    assert asked[1] == pytest.approx(3 * params, abs=64)
    recurrent = (100 + 24) * 24
    assert asked[0] - asked[1] >= 4 * 16 * recurrent * 2
    assemble(tiny("--mode", "sim"), build(tiny()))
    assert len(asked) == 2


def test_a_network_beyond_the_memory_is_refused_before_it_is_made() -> None:
    config = tiny("--n_rec", "1000000")
    with pytest.raises(UsageError, match="1,000,000 x 1,000,000 takes 4,000"):
        assemble(config, build(config))


# ------------------------------------------------------------------------ trials


@pytest.fixture(scope="module")
def batch():
    task = DelayedMatch(fixation=10, sample=200, delay=100, test=200)
    return task, draw_batch(task, jax.random.key(0), 2000)


def test_half_of_the_trials_match(batch) -> None:
    _, trials = batch
    share = np.mean(np.asarray(trials.targets.values) == 0)
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_labels_say_whether_sample_and_test_are_the_same(batch) -> None:
    _, trials = batch
    sample, test = (np.asarray(trials.conditions[k]) for k in ("sample", "test"))
    assert np.array_equal(np.asarray(trials.targets.values) == 0, sample == test)


def test_directions_are_uniform(batch) -> None:
    _, trials = batch
    for name in ("sample", "test"):
        counts = np.bincount(np.asarray(trials.conditions[name]), minlength=8)
        assert np.all(np.abs(counts - 250) < 5 * np.sqrt(250))
    gap = np.asarray(trials.conditions["test"] - trials.conditions["sample"]) % 8
    other = np.bincount(gap, minlength=8)[1:]
    assert np.all(np.abs(other - 1000 / 7) < 5 * np.sqrt(1000 / 7))


@pytest.mark.parametrize(
    ("period", "condition"), [(slice(10, 210), "sample"), (slice(310, 510), "test")]
)
def test_rates_are_von_mises(batch, period: slice, condition: str) -> None:
    """Spike counts of every direction and input are within five standard errors of
    ``1 + 100 exp(3 (cos d - 1))`` Hz."""
    task, trials = batch
    steps = np.arange(period.start, period.stop)
    count = np.asarray(jax.jit(lambda s: sum_of(s, steps))(trials.stream))
    where = np.asarray(trials.conditions[condition])
    preferred = 2 * np.pi * np.arange(100) / 100
    for d in range(8):
        mine = count[where == d]
        rate = 1 + 100 * np.exp(3 * (np.cos(preferred - d * np.pi / 4) - 1))
        expected = rate * len(steps) / 1000
        assert np.all(np.abs(mine.mean(0) - expected) < 5 * np.sqrt(expected / len(mine)))
    assert np.allclose(np.asarray(task.rates()).max(), 101, atol=0.5)


def sum_of(stream, steps):
    return jax.lax.map(stream.at, jax.numpy.asarray(steps)).sum(0)


@pytest.mark.parametrize("period", [slice(0, 10), slice(210, 310)])
def test_background_is_1_hz(batch, period: slice) -> None:
    _, trials = batch
    mean = np.asarray(sum_of(trials.stream, np.arange(period.start, period.stop))).mean()
    expected = (period.stop - period.start) / 1000
    assert abs(mean - expected) < 5 * np.sqrt(expected / (2000 * 100))


# ------------------------------------------------------------------ command line


@pytest.mark.parametrize("line", SEED_COMMANDS, ids=["bptt", "expsm_diag", "diag"])
def test_the_seeds_commands_parse(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = command(
        LongTermDependency, build, prog="dms", description="", argv=[*line.split(), "--dry_run"]
    )
    assert code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["t_delay"] == 1000.0
    assert shown["model"]["tau_mem"] == 100.0
    assert shown["training"]["acc_th"] == 0.95


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--t_delay", "-5"], "--t_delay -5 ms: a duration cannot be negative"),
        (["--t_delay", "0"], "--t_delay 0 ms: must be at least one step"),
        (["--t_test", "10.5"], "--t_test 10.5 ms is not a multiple of the step"),
        (["--t_delay", "nan"], "--t_delay nan"),
        (["--warmup_ratio", "5000"], "5000 steps without loss leave none"),
        (["--dataset", "nmnist"], "--dataset"),
        (["--mode", "probe"], "--mode probe needs a trained network"),
        (["--trials", "2", "--mode", "sim"], "--mode sim draws one run"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], message: str, tmp_path: Path) -> None:
    line = [*TINY, "--filepath", str(tmp_path / "run"), *argv]
    with pytest.raises(UsageError, match=message) as caught:
        command(LongTermDependency, build, prog="dms", description="", argv=line)
    assert "\n" not in str(caught.value)


def test_a_missing_accelerator_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*TINY, "--devices", "3", "--mode", "sim", "--filepath", str(tmp_path / "run")]
    command(LongTermDependency, build, prog="dms", description="", argv=argv)
    assert capsys.readouterr().out.count("no accelerator here: --devices 3 runs on the CPU") == 1


# ----------------------------------------------------------------------- network


def test_time_constants_of_the_after_spike_current() -> None:
    network = build(tiny("--tau_I2", "1500", "--n_rec", "400")).make_network("plain")
    taus = np.asarray(network.layers[0].neuron.tau_I2.mantissa)
    assert 100 <= taus.min() < 150
    assert 2150 < taus.max() <= 2250


def test_steps_without_loss_take_no_gradient_but_advance_traces() -> None:
    """The short way through fixation, sample and delay gives the same gradient."""
    config = tiny()
    problem = build(config)
    parts = assemble(config, problem)
    learner, batch = parts.programs.learner, problem.train.batch(0)
    assert parts.programs.objective.warmup == 40

    def gradient(start: Any) -> Any:
        return jax.jit(
            lambda p, s: learner.segment(p, learner.fresh(), batch.stream, batch.targets, s, 70)
        )(parts.state.params, start)

    short = jax.jit(
        lambda p: learner.segment(p, learner.fresh(), batch.stream, batch.targets, 0, 70)
    )(parts.state.params)
    full = gradient(0)  # a traced start: every step takes its gradient
    for name in short.gradients:
        size = np.abs(full.gradients[name]).max()
        assert size > 0
        np.testing.assert_allclose(short.gradients[name], full.gradients[name], atol=1e-5 * size)
    np.testing.assert_allclose(short.metrics.measured, full.metrics.measured, rtol=1e-5)
    np.testing.assert_allclose(short.metrics.spikes, full.metrics.spikes, rtol=1e-6)


def test_the_reset_is_detached_unless_asked() -> None:
    def gradient(*argv: str) -> Any:
        config = configs.parse(
            LongTermDependency,
            [a for a in TINY if a not in ("--etrace_decay", "0.9")] + ["--method", "bptt", *argv],
            prog="dms", description="",
        )[0]  # fmt: skip
        problem = build(config)
        parts = assemble(config, problem)
        learner, batch = parts.programs.learner, problem.train.batch(0)
        return jax.jit(
            lambda p: learner.segment(p, learner.fresh(), batch.stream, batch.targets, 0, 70)
        )(parts.state.params).gradients

    detached, full = gradient(), gradient("--diff_spike", "1")
    name = "layers.0.pathways.0.map.weight"
    assert not np.allclose(detached[name], full[name], rtol=1e-3)


# ---------------------------------------------------------------------- training


def test_a_run_stops_at_acc_th_leaves_results_figures_and_can_be_probed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = tiny(
        "--filepath", str(folder), "--test_batches", "2", "--epochs", "5", "--acc_th", "0.01"
    )  # fmt: skip
    found = run(config, build(config), Console(quiet=True))
    assert (found["epochs"], found["batches"]) == (1, 3)
    assert json.loads((folder / "results.json").read_text())["t_delay_ms"] == 10.0
    assert (folder / "figures" / "test-samples.png").is_file()
    code = command(
        LongTermDependency, build, prog="dms", description="",
        argv=["--mode", "probe", "--resume", str(folder)],
    )  # fmt: skip
    assert code == 0
    probed = json.loads((folder / "probe" / "probe.json").read_text())
    assert probed["trials"] == 32
    assert len(probed["delays_ms"]) == len(probed["accuracies"]) == 7
    assert (folder / "probe" / "probe.png").is_file()


@pytest.mark.slow
def test_seeds_together_are_the_seeds_alone(tmp_path: Path) -> None:
    """As one vmapped program or one after another: the same rows up to rounding."""
    rows = {}
    for mode in ("yes", "no"):
        folder = tmp_path / mode
        argv = [a for a in TINY if a not in ("--etrace_decay", "0.9")]
        config = parsed(
            *argv, "--method", "bptt", "--trials", "2", "--vmap_trials", mode, "--epochs", "2",
            "--filepath", str(folder),
        )  # fmt: skip
        found = run_seeds(config, build, Console(quiet=True))
        assert found["vmapped"] is (mode == "yes")
        assert found["seeds"] == [0, 1]
        assert (folder / "figures" / "learning-curves.png").is_file()
        rows[mode] = [
            json.loads(line)
            for seed in (0, 1)
            for line in (folder / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        ]
    for a, b in zip(rows["yes"], rows["no"], strict=True):
        assert (a["epoch"], a["split"], a["accuracy"]) == (b["epoch"], b["split"], b["accuracy"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_task_of_reads_all_durations() -> None:
    task = task_of(tiny("--dt", "0.5"))
    assert (task.fixation, task.sample, task.delay, task.test) == (0, 60, 20, 60)
