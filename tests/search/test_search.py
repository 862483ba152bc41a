"""Searches: trials that are drawn, killed and resumed, given up; what a file may ask."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from light import ROOT, without_jax
from snnlab import interrupts
from snnlab.cli import main as cli
from snnlab.errors import UsageError
from snnlab.experiment.info import members_of_sweep, state_of
from snnlab.experiment.sweep_file import read_sweep
from snnlab.experiment.sweeps import STUDY
from snnlab.runs import RunFolder
from snnlab.search.plan import Plan
from snnlab.training.checkpoint_files import Place
from snnlab.training.hooks import Moment

#: The first rate that is drawn is a good one, the second teaches nothing: the median gives it up.
TINY = """
task: pattern-generation
options: {t_trial: 20, frequencies: "50", noise_rate: 100, n_in: 4, n_rec: 4, n_out: 1, epochs: 2,
          epoch_batches: 2, method: diag, devices: cpu, n_show: 1}
search:
  n_trials: 2
  sampler: random
  seed: 4
  n_startup_trials: 1
  space:
    lr: {low: 1e-6, high: 1e-1, log: true}
"""
SPACE = """
task: image-classification
options: {epochs: 2}
search:
  n_trials: 3
  space:
    lr: {low: 1e-4, high: 1e-1, log: true}
    n-rec: {low: 8, high: 64, step: 8}
    method: [diag, expsm_diag]
    etrace_decay: {low: 0.5, high: 0.99}
"""


@pytest.fixture
def optuna() -> Any:
    return pytest.importorskip("optuna", reason="optuna is not installed: extra 'search'")


def sweep(path: Path, *argv: str) -> int:
    return cli.main(["sweep", str(path), "--filepath", str(path.parent / "out"), *argv])


def plan_of(path: Path, text: str) -> Plan:
    path.write_text(text)
    return Plan.of(path, read_sweep(path))


def trials(folder: Path, plan: Plan) -> list[Any]:
    from snnlab.search import study

    return study.opened(folder / STUDY, plan).trials


class Killed(BaseException):
    """Stands for a SIGKILL: what catches exceptions does not catch it."""


def in_this_process(arguments: Sequence[str], _cwd: Path) -> int:
    """Runs a trial here, in the place of a process of its own."""
    from snnlab.search import trial

    assert arguments[1:3] == ["-m", "snnlab.search.trial"]
    before = sys.argv
    try:
        return trial.main(list(arguments[3:]))
    finally:
        sys.argv = before


@pytest.mark.usefixtures("optuna")
def test_a_killed_trial_goes_on_and_a_hopeless_one_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from snnlab.search.pruning import Pruning

    path = tmp_path / "tiny.yaml"
    plan, out = plan_of(path, TINY), tmp_path / "out"
    monkeypatch.setattr(interrupts, "wait_for", in_this_process)
    with monkeypatch.context() as patch:
        judge = Pruning.on_epoch

        def killed(self: Pruning, now: Moment) -> None:
            judge(self, now)
            if now.place.epoch == 1:
                raise Killed

        patch.setattr(Pruning, "on_epoch", killed)
        for states in ["RUNNING"], ["COMPLETE", "RUNNING"]:
            with pytest.raises(Killed):
                sweep(path)
            begun = trials(out, plan)
            assert [t.state.name for t in begun] == states
            assert list(begun[-1].intermediate_values) == [1]
    assert sweep(path) == 0

    first, second = trials(out, plan)
    assert [first.params, second.params] == [t.params for t in begun]
    assert (first.state.name, second.state.name) == ("COMPLETE", "PRUNED")
    log = (out / "trial-000" / "log.txt").read_text()
    assert "resumed after epoch 1" in log
    assert "snnlab run pattern-generation --t_trial=20" in log
    rows = RunFolder(out / "trial-000").metrics.rows()
    val = [row["nmse"] for row in rows if row["split"] == "val"]
    assert first.value == min(val)
    assert first.intermediate_values == dict(enumerate(val, 1))
    # It was given up by what the study saw before it was killed: nothing more was trained.
    assert "resumed after epoch 1" in (out / "trial-001" / "log.txt").read_text()
    results = RunFolder(out / "trial-001").read_results()
    assert (results["epochs"], results["pruned"]) == (1, True)
    assert "trial 1 of a search" in results["given_up"]
    options = RunFolder(out / "trial-001").read_config()
    assert "given up: trial 1" in state_of(RunFolder(out / "trial-001"), options).words

    assert members_of_sweep(out) == [out / "trial-000", out / "trial-001"]
    table = (out / "table.md").read_text().splitlines()
    assert table[2].startswith("| trial-000 | complete | ")
    assert table[3].startswith("| trial-001 | pruned | ")
    assert table[-1] == (
        f"trial-000: test normalised MSE {_test(out):.4f}; no trial was chosen by the test set."
    )
    written = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [float(row["val_nmse"]) for row in written] == [first.value, second.value]
    assert (out / "search.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "pattern-generation validates and tests on what it trains" in said
    assert "best trial-000" in said

    assert sweep(path) == 0  # nothing is left to do
    assert "[1/2]" not in capsys.readouterr().out
    path.write_text(TINY.replace("seed: 4", "seed: 5"))
    with pytest.raises(UsageError, match="holds another search \\(other search\\)"):
        sweep(path)


def _test(out: Path) -> float:
    return json.loads((out / "trial-000" / "results.json").read_text())["test_nmse"]


@pytest.mark.usefixtures("optuna")
def test_what_is_drawn_does_not_depend_on_where_the_search_was_killed(tmp_path: Path) -> None:
    from snnlab.search import study as studies

    plan = plan_of(tmp_path / "s.yaml", SPACE.replace("n_trials: 3", "n_trials: 30"))

    def searched(path: Path, often: bool) -> list[dict[str, Any]]:
        study, found = studies.opened(path, plan), []
        for number in range(12):
            if often:
                study = studies.opened(path, plan)
                with open(path, "a") as file:
                    file.write('{"cut o')  # a crash of the machine
            studies.use_sampler(studies.opened(path, plan) if often else study, plan.search, number)
            study = studies.opened(path, plan) if often else study
            studies.use_sampler(study, plan.search, number)
            assert study.ask().number == number
            found.append(studies.drawn(studies.trial_of(study, number), plan))
            study.tell(number, -((found[-1]["lr"] - 0.01) ** 2))
        return found

    whole = searched(tmp_path / "whole.jsonl", False)
    assert searched(tmp_path / "killed.jsonl", True) == whole
    assert len({point["lr"] for point in whole}) == 12
    assert {point["n_rec"] % 8 for point in whole} == {0}
    # An option that has no effect beside what was drawn is not drawn.
    assert {point["method"] for point in whole} == {"diag", "expsm_diag"}
    assert all(("etrace_decay" in p) == (p["method"] == "expsm_diag") for p in whole)
    for point in whole:
        assert not plan.fault(point)


@pytest.mark.usefixtures("optuna")
def test_a_trial_that_ended_before_it_was_given_up_is_given_up(tmp_path: Path) -> None:
    from snnlab.search import study as studies
    from snnlab.search.pruning import Pruning

    plan = plan_of(tmp_path / "tiny.yaml", TINY)
    path = tmp_path / STUDY
    study = studies.opened(path, plan)
    for number, value in enumerate((0.1, 0.5)):
        studies.use_sampler(study, plan.search, number)
        study.ask()
        studies.trial_of(study, number).report(value, 1)
        if not number:
            study.tell(number, value)
    hook, now = Pruning(path, 1), Moment(None, Place(1))
    hook.on_start(now)
    assert "trial 1 of a search, whose pruner saw val_nmse 0.5 after epoch 1" in now.given_up
    for place in (Place(0), Place(0, 3), Place(1, 2)):  # not judged there
        now = Moment(None, place)
        Pruning(path, 1).on_start(now)
        assert not now.given_up
    with pytest.raises(UsageError, match="no number val_nmse; it has val_loss"):
        hook.on_epoch(Moment(None, Place(2), rows=[({}, {"loss": 1.0, "epoch": 2})]))


REFUSED = {
    "lr: {low: 1e-4, high: 1e-1, log: true}": {
        "lr: {low: 0, high: 1, log: true}": "space.lr: low 0: must be above 0 with log",
        "lr: {low: 1, high: 0.5}": "low 1 must be below high 0.5",
        "lr: {low: 1}": "must have low and high, or choices",
        "lr: {low: a, high: 1}": "space.lr.low: must be a number",
        "lr: {low: true, high: 2}": "space.lr.low: must be a number",
        "lr: {low: -1, high: 1}": "lr -1, n_rec 8, method diag: --lr -1: must be greater than 0",
        "lr: [0.1]": "2 to 50 choices",
        "lr: [0.1, 0.1]": "a choice is given twice",
        "lr: {choices: [0.1, 0.2], log: true}": "log is given beside choices",
        "lr: {low: 0.1, hihg: 1}": "no such key; valid: low, high, log, step, int, choices",
        "lr: {low: 0.1, high: 1.0, int: true}": "lr: low, high and step must be whole numbers",
        "lrr: {low: 0.1, high: 1}": "no option 'lrr' (did you mean 'lr'?)",
        "seed: [0, 1]": "seed cannot be drawn",
        "epochs: [1, 2]": "epochs is drawn by search.space, and set for all",
        "filepath: [a, b]": "filepath is given by the sweep itself",
        "t_delay: [1, 2]": "no option 't_delay'",
        "momentum: {low: 0.1, high: 0.9}": "search.space.momentum counts in no trial",
    },
    "n-rec: {low: 8, high: 64, step: 8}": {
        "n-rec: {low: 8, high: 64.5}": "n_rec: low, high and step must be whole numbers",
        "n-rec: {low: 8, high: 60, step: 8}": "step 8 does not lead from 8 to 60",
        "n-rec: {low: 8, high: 64, int: false}": "takes whole numbers",
        "n-rec: {low: 8, high: 64}\n    n_rec: [1, 2]": "n_rec is given twice",
    },
    "method: [diag, expsm_diag]": {
        "method: {low: 1, high: 2}": "method: is no number, give choices: ",
        "method: [diag, expsm-diagg]": "--method expsm-diagg: no such choice",
    },
    "n_trials: 3": {
        "n_trials: 0": "search.n_trials: must be greater than 0",
        "n_trails: 3": "search.n_trails: no such key; valid: n_trials, space",
        "seed: 3": "search.n_trials: is missing",
        "n_trials: 3\n  metric: test_accuracy": "never chooses by the test set; val_accuracy",
        "n_trials: 3\n  metric: accuracy": "must be of validation, val_accuracy",
        "n_trials: 3\n  metric: val_rate": "direction is missing",
        "n_trials: 3\n  metric: val_loss\n  direction: maximize": "of val_loss it is minimize",
        "n_trials: 3\n  pruner: none\n  n_warmup_epochs: 2": "does not apply to pruner none",
        "n_trials: 3\n  pruner: hyperband": "search.pruner: must be 'median', 'halving'",
    },
    "options: {epochs: 2}": {
        "options: {trials: 2}": "pruner median prunes single runs",
        "options: {mode: sim}": "a search trains",
        "grid: {epochs: [1, 2]}": "there are no runs and no grid beside it",
        "options: {epoch: 1, epochs: 2}": "options: epochs is given twice",
        "config: none.yaml": "no config none.yaml",
    },
    "task: image-classification": {
        "task: tasks/task-image-classification.py": "a search needs a task by name",
        "task: image-clasification": "did you mean 'image-classification'",
    },
}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(old, new, message) for old, of in REFUSED.items() for new, message in of.items()],
)
def test_a_bad_file_is_one_line_before_the_first_trial(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "s.yaml"
    assert SPACE.count(old) == 1
    path.write_text(SPACE.replace(old, new))
    with pytest.raises(UsageError) as error:
        sweep(path)
    assert message in str(error.value)
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_flags_and_folders_that_a_search_does_not_take(tmp_path: Path) -> None:
    path, out = tmp_path / "s.yaml", tmp_path / "out"
    path.write_text(SPACE)
    for flags, message in (
        (["--index", "1"], "--index 1: a search draws its trials"),
        (["--only", "a"], "--only: a search draws its trials"),
        (["--set", "lr=1"], "lr is drawn by search.space"),
        (["--set", "lrr=1"], "did you mean 'lr'"),
    ):
        with pytest.raises(UsageError, match=message):
            sweep(path, *flags)
    pytest.importorskip("optuna")
    with pytest.raises(UsageError, match="holds no search yet"):
        sweep(path, "--collect")
    out.mkdir()
    (out / "sweep.yaml").write_text("a: [--x=1]")
    with pytest.raises(UsageError, match="is there and is no search"):
        sweep(path)
    (out / "sweep.yaml").unlink()
    (out / STUDY).write_text("[]\n")
    with pytest.raises(UsageError, match="no study that can be read"):
        sweep(path)
    path.write_text("task: image-classification\ngrid: {epochs: [1]}\n")
    with pytest.raises(UsageError, match="holds a search; choose another"):
        sweep(path)


def test_a_search_is_listed_without_jax_and_without_optuna(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SPACE)
    ((code, out, error),) = without_jax("snnlab", [["sweep", str(path), "--list"]])
    assert (code, error) == (0, "")
    assert "3 trials of image-classification, for the highest val_accuracy" in out
    assert "lr: 0.0001 to 0.1, log" in out


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    """SIGKILL of the command, in the middle of its trials, until they are done."""
    path = tmp_path / "s.yaml"
    plan = plan_of(
        path, TINY.replace("n_trials: 2", "n_trials: 4").replace("epochs: 2", "epochs: 6")
    )
    line = [sys.executable, "-m", "snnlab", "sweep", str(path), "--filepath"]
    environment = {**os.environ, "SNNLAB_COMPILE_CACHE": "1"}

    def start(name: str) -> subprocess.Popen[bytes]:
        with open(tmp_path / f"{name}.txt", "ab") as said:
            return subprocess.Popen(
                [*line, str(tmp_path / name)], cwd=ROOT, env=environment, stdout=said, stderr=said
            )

    assert start("whole").wait(600) == 0
    for wait in (6, 9, 4, 11):
        process = start("killed")
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert start("killed").wait(600) == 0, (tmp_path / "killed.txt").read_text()[-2000:]
    one, other = (trials(tmp_path / name, plan) for name in ("whole", "killed"))
    for a, b in zip(one, other, strict=True):
        assert (a.state, a.params, a.value, a.intermediate_values) == (
            b.state, b.params, b.value, b.intermediate_values,
        )  # fmt: skip
    assert "PRUNED" in {t.state.name for t in one}
