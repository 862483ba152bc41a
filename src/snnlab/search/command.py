"""The search of a sweep file: its trials one after the other, each a run in a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
from rich.console import Console

from snnlab import interrupts
from snnlab.console import typed_command
from snnlab.errors import UsageError
from snnlab.experiment import comparison
from snnlab.experiment.sweep_file import SweepFile, Value, text_of
from snnlab.experiment.sweeps import PLAN, STUDY, flags_to_start, folder_of
from snnlab.runs import RunFolder
from snnlab.scores import SCORES
from snnlab.search import study as studies
from snnlab.search.plan import Plan
from snnlab.search.pruning import number_of
from snnlab.training.metrics import write_atomically
from snnlab.yaml_files import read_yaml_file, write_yaml

if TYPE_CHECKING:
    import optuna

#: Said where a task has no samples that it does not train on.
NOT_HELD_OUT = "validates and tests on what it trains: what is chosen fits that, and no more"


class Found(NamedTuple):
    """What became of a trial.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        value: the metric at its best epoch; ``None`` unless it is complete.
        words: for a line.
    """

    state: str
    value: float | None
    words: str


def main(options: Any, path: Path, file: SweepFile, listed: bool, console: Console) -> int:
    """Search, or list or draw what was searched; 1 if a trial failed.

    Args:
        options: of ``snnlab sweep``.
        path, file: the sweep file, and what it says.
        listed: show what there is, and leave.
        console: where to say how it goes.

    Raises:
        UsageError: a file, an option or a folder that cannot be used.
    """
    if options.index >= 0 or options.only:
        flag = "--only" if options.only else f"--index {options.index}"
        raise UsageError(f"{flag}: a search draws its trials, one after the other")
    plan = Plan.of(path, file, options.set)
    folder = folder_of(options, path)
    if listed or options.list:
        _list(plan, folder, console)
        return 0
    studies.need_optuna()
    if options.collect:
        if not (folder / STUDY).is_file():
            raise UsageError(f"{folder} holds no search yet")
        study = studies.opened(folder / STUDY, plan)
    else:
        try:
            study = _searched(plan, folder, console)
        except interrupts.Interrupted as error:
            told = f"go on with the same command: {typed_command()}"
            raise interrupts.Interrupted(error.signum, told) from None
    from snnlab.search.summary import summarise

    written = summarise(study, plan, folder)
    _tell_best(study, plan, folder, console)
    console.print(f"summary {', '.join(str(p) for p in written)}")
    failed = [t.number for t in study.get_trials(deepcopy=False) if t.state.name == "FAIL"]
    if failed:
        console.print(f"{len(failed)} failed: {', '.join(folder_name(n) for n in failed)}")
    return 1 if failed else 0


def folder_name(number: int) -> str:
    """The folder of a trial."""
    return f"trial-{number:03d}"


def _searched(plan: Plan, folder: Path, console: Console) -> optuna.Study:
    """Run the trials that are left; the study then."""
    lock = _claimed(folder)
    try:
        study = studies.opened(folder / STUDY, plan)
        if not plan.task.held_out:
            console.print(f"{plan.name} {NOT_HELD_OUT}")
        while (number := _next(study, plan)) is not None:
            _run(study, plan, folder, number, console)
        return study
    finally:
        lock.release()


def _claimed(folder: Path) -> filelock.BaseFileLock:
    """The folder made, and locked as long as the search goes.

    Raises:
        UsageError: it holds something else, is in use, or cannot be written.
    """
    is_search = (folder / STUDY).is_file()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose another --filepath")
    if not is_search and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise UsageError(f"{folder} is there and is no search; choose another --filepath")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".search.lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(f"{folder} is in use: another process is searching there") from None
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    return lock


def _next(study: optuna.Study, plan: Plan) -> int | None:
    """The number of the trial to run: one that was begun, or a new one; ``None`` at the end."""
    trials = study.get_trials(deepcopy=False)
    begun = [t.number for t in trials if not t.state.is_finished()]
    if begun:
        return begun[0]
    if len(trials) >= plan.search.n_trials:
        return None
    studies.use_sampler(study, plan.search, len(trials))
    return study.ask().number


def _run(study: optuna.Study, plan: Plan, folder: Path, number: int, console: Console) -> None:
    """Run a trial, or go on with it, and tell the study what became of it."""
    studies.use_sampler(study, plan.search, number)
    point = studies.drawn(studies.trial_of(study, number), plan)
    run = folder / folder_name(number)
    arguments = plan.arguments(point)
    _note(folder, run.name, arguments)
    told = ", ".join(f"{k} {shown_value(v)}" for k, v in point.items())
    console.print(f"[{number + 1}/{plan.search.n_trials}] {run.name}: {told}", style="bold")
    code = 0
    if not _done(run):
        start = [plan.name, *arguments, *flags_to_start(run)]
        if plan.search.pruner == "none":
            command = ["-m", "snnlab", "run", *start]
        else:
            command = ["-m", "snnlab.search.trial", str(folder / STUDY), str(number), *start]
        code = interrupts.wait_for([sys.executable, *command], plan.root)
    found = found_by(run, plan, code)
    _tell(study, number, found)
    console.print(f"{run.name}: {found.words}")
    rows = RunFolder(run).metrics.rows()
    if found.state == "failed" and (val := [r for r in rows if r["split"] == "val"]):
        number_of(val[0], plan.metric)  # where there is no such number, no trial would have it


def _done(run: Path) -> bool:
    """Whether a trial needs nothing more: it finished, and the study was not told."""
    results = RunFolder(run).read_results()
    seeds = any(run.glob("seed-*"))
    return bool(results) and ("error" in results or seeds or RunFolder(run).finished)


def found_by(run: Path, plan: Plan, code: int = 0) -> Found:
    """What a trial's folder says that it found."""
    folder = RunFolder(run)
    results = folder.read_results()
    failed = results.get("failed", int("error" in results))
    if code or not results or failed:
        why = str(results.get("error", "")) or f"{failed} seeds failed" * bool(failed)
        return Found("failed", None, f"failed{': ' * bool(why)}{why}, exit code {code}")
    if results.get("pruned"):
        return Found("pruned", None, f"given up after epoch {results.get('epochs')}")
    outcome = comparison.Outcome.of(run)
    values = [number_of(row, plan.metric) for row in outcome.best_rows()]
    if not values:
        return Found("failed", None, "failed: no epoch was validated")
    value = sum(values) / len(values)
    return Found("complete", value, f"validation {in_words(plan, value)}")


def in_words(plan: Plan, value: float) -> str:
    """``accuracy 93.20%``, ``loss 0.3412``."""
    score = SCORES.get(plan.metric)
    if score is not None:
        return f"{score.words} {score.show(value)}"
    return f"{plan.metric} {value:.4g}"


def shown_value(value: Value) -> str:
    """A drawn value, short."""
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)


def _tell(study: optuna.Study, number: int, found: Found) -> None:
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    study.tell(number, found.value, state=states.get(found.state, TrialState.FAIL))


def _note(folder: Path, name: str, arguments: list[str]) -> None:
    """Write down what a trial was asked, as a sweep does of its runs."""
    plan = folder / PLAN
    before = read_yaml_file(plan, "the plan", times=10) if plan.is_file() else {}
    write_atomically(plan, write_yaml({**(before or {}), name: arguments}))


def _tell_best(study: optuna.Study, plan: Plan, folder: Path, console: Console) -> None:
    best = best_of(study)
    if best is None:
        console.print("no trial is complete")
        return
    run = folder / folder_name(best.number)
    point = ", ".join(f"{k} {shown_value(v)}" for k, v in best.params.items())
    console.print(f"best {run.name}: validation {in_words(plan, best.value)}; {point}")
    tested = test_in_words(run)
    if tested:
        console.print(f"its {tested}; no trial was chosen by the test set")
    console.print(f"again: snnlab run {plan.name} {' '.join(plan.arguments(best.params))}")


def best_of(study: optuna.Study) -> Any:
    """The best complete trial, of equal ones the first; ``None`` where there is none."""
    trials: list[Any] = study.get_trials(deepcopy=False)
    done = [t for t in trials if t.state.name == "COMPLETE"]
    sign = 1 if study.direction.name == "MAXIMIZE" else -1
    return max(done, key=lambda t: (sign * t.value, -t.number), default=None)


def test_in_words(run: Path) -> str:
    """``test accuracy 92.10%``, of a run or of the mean of its seeds; empty where it has none."""
    results = RunFolder(run).read_results()
    for score in SCORES.values():
        value = results.get(f"test_{score.name}")
        if isinstance(value, int | float):
            return f"test {score.words} {score.show(value)}"
    return ""


def _list(plan: Plan, folder: Path, console: Console) -> None:
    """What is drawn, and the trials so far."""
    better = "highest" if plan.direction == "maximize" else "lowest"
    console.print(
        f"{plan.search.n_trials} trials of {plan.name}, for the {better} val_{plan.metric}; "
        f"sampler {plan.search.sampler}, seed {plan.search.seed}, pruner {plan.search.pruner}"
    )
    for name, part in plan.space.items():
        console.print(f"  {name}: {part.words()}")
    if not (folder / STUDY).is_file():
        return
    trials: list[Any] = studies.opened(folder / STUDY, plan).get_trials(deepcopy=False)
    for trial in trials:
        name = folder_name(trial.number)
        point = ", ".join(f"{k} {shown_value(v)}" for k, v in trial.params.items())
        state = {"FAIL": "failed", "RUNNING": "begun"}.get(trial.state.name, "")
        state = state or trial.state.name.lower()
        told = f", {in_words(plan, trial.value)}" if trial.state.name == "COMPLETE" else ""
        console.print(f"{name}  {state}{told}: {point}")
