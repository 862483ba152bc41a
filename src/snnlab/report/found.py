"""What run folders hold, read so that nothing damaged stops a report; nothing is written.

A *seed* is one training. Seeds that were asked the same but for the seed are an *experiment*: those
of a folder of ``--trials``, and run folders that differ in ``--seed`` alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnlab.errors import UsageError, one_line, shown
from snnlab.experiment import comparison, info
from snnlab.library import Run
from snnlab.options import shown_value
from snnlab.problems.tasks import changed
from snnlab.runs import RunFolder
from snnlab.scores import ACCURACY, SCORES, Score, score_of
from snnlab.yaml_files import read_yaml_file

#: Options in which the seeds of one experiment may differ.
SAME = {*info.PLACES, *comparison.PLACES, "seed", "trials", "vmap_trials", "distributed", "shard"}
#: Characters of a value or a name in a table.
WIDEST = 60


@dataclasses.dataclass(frozen=True, eq=False)
class Seed:
    """One training: what its folder holds.

    Attributes:
        path: the folder.
        options: option -> value.
        results: ``results.json``; empty as long as there is none, or where it cannot be read.
        outcome: the same beside the rows of ``metrics.jsonl``.
        state: how far it got.
        predictions: rows of ``predictions.csv``.
        task: name of the task; empty where it has none.
        asked: option -> (value, default) of what is not the default.
        problems: what is wrong with the folder, a line each.
    """

    path: Path
    options: dict[str, Any]
    results: dict[str, Any]
    outcome: comparison.Outcome
    state: info.State
    predictions: list[dict[str, Any]]
    task: str
    asked: dict[str, tuple[Any, Any]]
    problems: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Seed:
        """Read a folder, whatever is in it."""
        folder, problems = RunFolder(path), []
        options, task, asked = info.options_of(folder), "", {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                run = Run(path)
                options, task = dict(run.options), run.task
                asked = changed(task, run.config)
            except UsageError as error:
                if not options:
                    problems.append(str(error))
        problems += [one_line(str(w.message)) for w in caught]
        results = folder.read_results()
        if folder.results.is_file() and not results:
            problems.append("results.json cannot be read")
        try:
            predictions = folder.read_predictions()
        except UsageError as error:
            predictions = []
            problems.append(str(error))
        outcome = comparison.Outcome.of(path)
        if not outcome.rows and _holds_text(folder.metrics.path):
            problems.append("metrics.jsonl holds no row of an epoch")
        state = info.state_of(folder, options)
        if not folder.holds_a_run:
            state = info.State("not run" if not path.is_dir() or not any(path.iterdir()) else
                               "damaged: neither config.yaml nor a checkpoint")  # fmt: skip
        elif results and not task and "error" not in results:  # of a program without epochs
            state = info.State("finished")
        return cls(path, options, results, outcome, state, predictions, task, asked,
                   tuple(dict.fromkeys(problems)))  # fmt: skip

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of ``metrics.jsonl``."""
        return self.outcome.rows[0] if self.outcome.rows else []

    @property
    def failed(self) -> bool:
        return "error" in self.results

    @property
    def tested(self) -> bool:
        """Whether it has a score of its test set."""
        return any(number(self.results.get(f"test_{name}")) is not None for name in SCORES)

    @property
    def seed(self) -> str:
        several = self.results.get("seeds")  # of a program that has them in one folder
        if isinstance(several, list) and several:
            return shown(", ".join(map(str, several)), 40)
        found = self.options.get("seed", self.results.get("seed"))
        return "?" if found is None else shown(found, 12)

    @functools.cached_property
    def head(self) -> dict[str, str]:
        """Versions, commit, device of ``config.yaml``."""
        return info.head_of(RunFolder(self.path))

    @functools.cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """The best parameters of the newest sound checkpoint; empty where there is none."""
        from snnlab.training.checkpoint_files import places

        if not places(RunFolder(self.path).checkpoints):
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged checkpoint is one of the problems
            try:
                return {k: v for k, v in Run(self.path).weights.items() if v.dtype.kind == "f"}
            except Exception:  # noqa: BLE001 (what reads arrays lets many kinds through)
                return {}


@dataclasses.dataclass(eq=False)
class Experiment:
    """Seeds that were asked the same.

    Attributes:
        seeds: of it.
        folders: that hold them: of ``--trials`` one.
        wanted: how many seeds were to be trained.
        name: how it is called in a report.
    """

    seeds: list[Seed]
    folders: list[Path]
    wanted: int
    name: str = ""

    @property
    def first(self) -> Seed:
        """The seed that speaks for all: a tested one, where there is one."""
        return next((s for s in self.seeds if s.tested), self.seeds[0])

    @functools.cached_property
    def score(self) -> Score:
        found = next((s.results["score"] for s in self.seeds if "score" in s.results), None)
        return SCORES.get(str(found)) or score_of(row for s in self.seeds for row in s.rows)

    @functools.cached_property
    def numbers(self) -> dict[str, list[float]]:
        """Measure -> a value for each seed, see :meth:`snnlab.experiment.comparison.Outcome`."""
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            for name, values in seed.outcome.numbers().items():
                found.setdefault(name, []).extend(values)
        return found

    @property
    def tested(self) -> list[float]:
        """The test score of each seed that has one."""
        name = f"test_{self.score.name}"
        found = [number(seed.results.get(name)) for seed in self.seeds]
        return [value for value in found if value is not None]


def _holds_text(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def number(value: Any) -> float | None:
    """A finite number, or ``None``: files may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read(names: Sequence[str]) -> list[Experiment]:
    """The experiments of some folders: of runs, of several seeds, of sweeps.

    Raises:
        UsageError: a path that holds no run, or one that is given twice.
    """
    paths = [path for name in names for path in _runs_of(Path(name).expanduser())]
    twice = [path for k, path in enumerate(paths) if path.resolve() in
             {p.resolve() for p in paths[:k]}]  # fmt: skip
    if twice:
        raise UsageError(f"{shown(twice[0])} is given twice")
    found: dict[Any, Experiment] = {}
    for path in paths:
        own = _experiment(path)
        key = _key(own)
        if key in found:
            found[key].seeds += own.seeds
            found[key].folders += own.folders
            found[key].wanted += own.wanted
        else:
            found[key] = own
    _name(list(found.values()))
    return list(found.values())


def _runs_of(path: Path) -> list[Path]:
    """The run folders that a path stands for."""
    if (path / "sweep.yaml").is_file():
        try:
            plan = read_yaml_file(path / "sweep.yaml", "the plan", times=10)
        except UsageError:
            plan = None
        planned = [path / str(slug) for slug in plan] if isinstance(plan, dict) else []
        there = info.members_of_sweep(path)
        return list(dict.fromkeys([*(p for p in planned if p.parent == path), *there]))
    folder = RunFolder(path)
    if folder.holds_a_run or folder.results.is_file() or folder.metrics.path.is_file():
        return [path]
    inside: list[Path] = []
    for one in sorted(p for p in path.glob("*") if p.is_dir()):
        if RunFolder(one).holds_a_run:
            inside.append(one)
        elif (one / "sweep.yaml").is_file():
            inside += _runs_of(one)
    return inside or [RunFolder.existing(str(path)).path]


def _experiment(path: Path) -> Experiment:
    seeds = Run(path).seeds
    if not seeds:
        return Experiment([Seed.of(path)], [path], 1)
    whole = Seed.of(path)
    wanted = whole.options.get("trials", len(seeds))
    own = [Seed.of(run.path) for run in seeds]
    count = wanted if isinstance(wanted, int) and 0 < wanted <= 1000 else len(seeds)
    return Experiment(own, [path], max(count, len(own)))


def _key(experiment: Experiment) -> Any:
    """Equal for experiments that were asked the same; of damaged ones their place."""
    first = experiment.seeds[0]
    if not first.task:
        return str(first.path)
    return first.task, *sorted((k, repr(v)) for k, v in first.options.items() if k not in SAME)


def differences(experiments: Sequence[Experiment]) -> dict[str, list[str]]:
    """Option -> its value for each experiment, of those that differ; first what somebody asked."""
    options = {str(k): one.first.options for k, one in enumerate(experiments)}
    asked = {option for one in experiments for option in one.first.asked}
    found = comparison.differing(options, SAME, asked)
    return dict(sorted(found.items(), key=lambda item: item[0] not in asked))


def _name(experiments: list[Experiment]) -> None:
    """Names that tell experiments apart: a folder's, what was asked otherwise, or what the names of
    several folders begin with."""
    asked: dict[int, list[str]] = {}
    for task in {one.first.task for one in experiments}:
        mine = [one for one in experiments if one.first.task == task]
        wanted = {option for one in mine for option in one.first.asked}
        for option, values in (differences(mine) if task else {}).items():
            for one, value in zip(mine, values, strict=True):
                if option in wanted and value != "-":
                    asked.setdefault(id(one), []).append(f"{option} {value}")
    names = []
    for one in experiments:
        folders, parts = [path.resolve().name for path in one.folders], asked.get(id(one), [])
        name = folders[0]
        if len(folders) > 1:
            begin = os.path.commonprefix(folders)  # noqa: RUF071 (of names, letter by letter)
            begin = begin.rstrip("-_. 0123456789").removesuffix("seed")
            name = begin.rstrip("-_. ") or f"{name} and others"
            name = ", ".join(parts) if 0 < len(parts) <= 3 else name
        names.append(shown(name, WIDEST))
    for one, name in zip(experiments, names, strict=True):
        one.name = name if names.count(name) == 1 else shown(one.folders[0], 4 * WIDEST)


def command_of(seed: Seed) -> str:
    """The command that asks what a seed was asked; empty where its task is not known."""
    if not seed.task:
        return ""
    words = ["snnlab", "run", seed.task]
    for option, (value, _) in seed.asked.items():
        if value is not None:
            words += [f"--{option}", shlex.quote(shown_value(value))]
    return " ".join(words)


def predicted(experiment: Experiment) -> list[Mapping[str, Any]]:
    """The rows of ``predictions.csv`` of all its seeds."""
    return [row for seed in experiment.seeds for row in seed.predictions]


def is_percent(experiments: Sequence[Experiment]) -> bool:
    """Whether all are judged by an accuracy."""
    return all(e.score is ACCURACY for e in experiments)
