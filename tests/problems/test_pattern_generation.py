"""Pattern generation: targets, frozen noise, runs that are judged by a falling score."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import runs
from snnlab import config as configs
from snnlab.data.patterns import draw_sines
from snnlab.errors import UsageError
from snnlab.problems.pattern_generation import PatternGeneration, build, defaults


def parsed(*flags: str) -> PatternGeneration:
    return configs.parse(PatternGeneration, list(flags), prog="x", description="",
                         adapt=defaults)[0]  # fmt: skip


def test_targets_are_sums_of_the_sines() -> None:
    sines = draw_sines(3, (1.0, 2.0, 3.0, 5.0), 1.0, 1000, 2, seed=4)
    found = np.asarray(sines.window(0, 1000))
    assert found.shape == (1000, 2, 3)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_allclose((found**2).mean(), 1.0, rtol=1e-4)
    power = np.abs(np.fft.rfft(found[:, 0], axis=0)) ** 2
    assert set(np.flatnonzero((power > 1e-3 * power.max()).any(1))) == {1, 2, 3, 5}
    amplitude = 2 * np.sqrt(power[[1, 2, 3, 5]]) / 1000
    assert amplitude.max() / amplitude.min() <= 4.001  # uniform in [0.5, 2], and one scale for all
    np.testing.assert_allclose(np.asarray(sines.at(123)), found[123], atol=1e-6)
    other = draw_sines(3, (1.0, 2.0, 3.0, 5.0), 1.0, 1000, 1, seed=5)
    assert np.abs(np.asarray(other.at(0)) - found[0, :1]).min() > 1e-3


def test_long_trials_keep_their_phase() -> None:
    """float32 counts turns, not radians: 400 s at 5 Hz, against float64."""
    sines = draw_sines(1, (5.0,), 1.0, 400_000, 1, seed=0)
    t = 399_937
    wanted = sines.amplitude[0, 0] * np.sin(2 * np.pi * 5.0 * t / 1000 + sines.phase[0, 0])
    np.testing.assert_allclose(np.asarray(sines.at(t))[0, 0], wanted, atol=2e-3)


def test_the_noise_is_frozen() -> None:
    problem, other = build(parsed()), build(parsed("--seed", "1"))
    window = jax.jit(lambda stream: stream.window(0, 1000))
    first = np.asarray(window(next(iter(problem.train)).stream))
    problem.train.set_epoch(7)
    for loader in (problem.train, problem.val, problem.test):
        np.testing.assert_array_equal(window(next(iter(loader)).stream), first)
    assert abs(first.mean() - 0.01) < 0.001  # 10 Hz
    assert (np.asarray(window(next(iter(other.train)).stream)) != first).any()
    assert (len(problem.train), len(problem.val), len(problem.test)) == (50, 1, 1)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--frequencies", "1,x"], "--frequencies 1,x: must be positive numbers of Hz"),
        (["--frequencies", "-1"], "must be positive numbers"),
        (["--frequencies", "501"], "show at most 500 Hz"),
        (["--t_trial", "10.5"], "not a multiple of the step"),
        (["--noise_rate", "900", "--dt", "2"], "--noise_rate 900 Hz: .* at most 500 Hz"),
        (["--loss", "cel"], "--loss"),
        (["--loss_of", "sum"], "--loss_of"),
        (["--update_every", "5", "--loss_steps", "end"], "does not apply to --loss_steps end"),
    ],
)
def test_input_that_cannot_be_used(flags: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed(*flags)


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def test_a_run_is_judged_by_its_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The best epoch has the smallest error; a goal above it ends the run; so does hopelessness."""
    run = tmp_path / "run"
    assert runs.call("patterns", "--filepath", str(run)) == 0
    found = results(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    val = {row["epoch"]: row["nmse"] for row in rows if row["split"] == "val"}
    assert found["score"] == "nmse"
    assert found["val_nmse"] == val[found["best_epoch"]] == min(val.values())
    assert found["test_nmse"] == pytest.approx(found["val_nmse"], rel=1e-5)  # the same trial
    assert "accuracy" not in json.dumps([found, rows])
    assert not (run / "predictions.csv").exists()
    assert not (run / "figures" / "confusion.png").exists()
    assert "test normalised MSE " in capsys.readouterr().out
    goal = str(1.001 * val[1])
    runs.call("patterns", "--filepath", str(tmp_path / "goal"), "--acc_th", goal)
    assert results(tmp_path / "goal")["epochs"] == 1
    with pytest.raises(UsageError, match=r"normalised MSE of .* reached .*; a lower --acc_th"):
        runs.call("patterns", "--resume", str(tmp_path / "goal"))
    for threshold, epochs in ((0.999 * val[1], 1), (1.001 * val[1], 3)):
        run = tmp_path / str(threshold)
        runs.call("patterns", "--filepath", str(run), "--pruning_epochs", "1",
                  "--pruning_threshold", str(threshold))  # fmt: skip
        assert results(run)["epochs"] == epochs
        assert results(run).get("pruned", False) == (epochs == 1)


@pytest.mark.slow
def test_seeds_and_a_drawing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    runs.call(
        "patterns", "--trials", "2", "--epochs", "1", "--filepath", str(run), "--acc_th", "99"
    )
    found = results(run)
    assert found["vmapped"]
    assert found["reached_goal"] == 2
    each = [results(run / f"seed-{s}")["test_nmse"] for s in (0, 1)]
    assert found["test_nmse_values"] == each
    assert found["test_nmse"] == pytest.approx(np.mean(each))
    assert each[0] != each[1]
    assert runs.call("patterns", "--resume", str(run / "seed-0"), "--mode", "sim") == 0
    assert "normalised MSE " in capsys.readouterr().out
    assert (run / "seed-0" / "sim" / "test-samples.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bptt", "diag", "eprop"])
def test_the_patterns_are_learned(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runs.TINY, "long", (runs.TINY["patterns"][0], f"--method {method}"))
    runs.call("long", "--filepath", str(tmp_path / "run"), "--epochs", "16")
    assert results(tmp_path / "run")["test_nmse"] < 0.05
