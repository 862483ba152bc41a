"""What a search asks, checked against the options of its task. Needs neither Optuna nor JAX."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from snnlab import config as configs
from snnlab import config_files
from snnlab.errors import UsageError, nearest, shown
from snnlab.experiment.search_file import DIRECTIONS, Range, Search, Value
from snnlab.experiment.sweep_file import (
    SweepFile,
    files_of,
    flags_of,
    read_settings,
    text_of,
)
from snnlab.experiment.sweeps import home_of
from snnlab.experiment.task import Task
from snnlab.problems.tasks import TASKS, read
from snnlab.training.config import RegressionTraining

#: Options that are not drawn: what they change is no better or worse network.
NOT_DRAWN = (
    "seed", "trials", "mode", "resume", "filepath", "exp_name", "devices", "distributed",
    "load_exp_folder", "only_do_testing", "data_path",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search of one task.

    Attributes:
        name: of the task.
        root: folder in which trials are started.
        configs: config files of every trial.
        fixed: flags of every trial, as the file and ``--set`` give them.
        space: option -> what it may be, in the order in which they are drawn.
        search: the part ``search`` of the file.
        metric: number of a validation row, by its name there.
        direction: which way it is better.
    """

    name: str
    root: Path
    configs: tuple[str, ...]
    fixed: dict[str, Value]
    space: dict[str, Range]
    search: Search
    metric: str
    direction: Literal["maximize", "minimize"]

    @classmethod
    def of(cls, path: Path, file: SweepFile, settings: str = "") -> Plan:
        """The plan of a file.

        Args:
            path, file: the sweep file, and what it says.
            settings: ``--set`` of the command.

        Raises:
            UsageError: an option or a value that the task does not take, in the line of the first.
        """
        assert file.search is not None
        where = f"sweep {shown(path)}"
        task, known = _task(file.task, where)
        fixed = {**_canonical(file.options, "options", known, where),
                 **_canonical(read_settings(settings), "--set", known, where)}  # fmt: skip
        drawn = _canonical(file.search.space, "search.space", known, where)
        for name in drawn:
            if name in fixed:
                raise UsageError(f"{where}: {name} is drawn by search.space, and set for all")
            if name in NOT_DRAWN:
                raise UsageError(f"{where}: {name} cannot be drawn: it makes no better network")
        space = {name: _fitted(name, part, known[name], where) for name, part in drawn.items()}
        named = files_of(file.config, where)
        root = home_of(path, file.task, named, TASKS.names())
        files = tuple(
            str((root / n).resolve()) if (root / n).is_file() else config_files.find(n, task.files)
            for n in named
        )
        training = configs.sections(task.config).get("training", object)
        own = "nmse" if issubclass(training, RegressionTraining) else "accuracy"
        metric = file.search.metric or f"val_{own}"
        direction = file.search.direction or DIRECTIONS[metric]
        made = cls(file.task, root, files, fixed, space, file.search,
                   metric.removeprefix("val_"), direction)  # fmt: skip
        made._check(where)
        return made

    @property
    def task(self) -> Task:
        """The task."""
        return TASKS[self.name]

    @property
    def asked(self) -> dict[str, Any]:
        """What a search that goes on must ask again: all but its number of trials."""
        return {
            "task": self.name, "config": list(self.configs), "options": self.fixed,
            "search": self.search.asked(), "metric": self.metric,
        }  # fmt: skip

    def arguments(self, point: Mapping[str, Value]) -> list[str]:
        """The flags of a trial."""
        files = [text for path in self.configs for text in ("--config", path)]
        return files + [f"--{k}={text_of(v)}" for k, v in {**self.fixed, **point}.items()]

    def counts(self, name: str, point: Mapping[str, Value]) -> bool:
        """Whether an option can be given beside what is set and was drawn before it."""
        before = self.fault(point)  # it may need what is drawn later
        found = (self.fault({**point, name: end}) for end in self.space[name].ends)
        return any(fault in ("", before) for fault in found)

    def fault(self, point: Mapping[str, Value]) -> str:
        """Why there is no such trial: a value that is not valid, or has no effect."""
        return _fault(self.name, tuple(self.arguments(point)))

    def _check(self, where: str) -> None:
        """Refuse what no trial could be: each option is tried at its ends, where it counts."""
        left = list(self.space)
        choices = {n: part.choices[1:] for n, part in self.space.items() if part.choices}
        for base in ({}, *({n: c} for n, values in choices.items() for c in values)):
            for name in [n for n in left if n in self._point(base)]:
                left.remove(name)
                for end in self.space[name].ends:
                    point = self._point({**base, name: end})
                    if fault := self.fault(point):
                        told = ", ".join(f"{k} {text_of(v)}" for k, v in point.items())
                        raise UsageError(f"{where}, a trial with {shown(told, 100)}: {fault}")
        if left:
            fault = self.fault({**self._point({}), left[0]: self.space[left[0]].ends[0]})
            raise UsageError(f"{where}, search.space.{left[0]} counts in no trial: {fault}")
        self._check_run(read(self.name, tuple(self.arguments(self._point({})))), where)

    def _point(self, wanted: Mapping[str, Value]) -> dict[str, Value]:
        """A trial with wanted values, and the first of every other option that counts."""
        point: dict[str, Value] = {}
        for name, part in self.space.items():
            if self.counts(name, point):
                point[name] = wanted.get(name, part.ends[0])
        return point

    def _check_run(self, config: Any, where: str) -> None:
        if config.run.mode != "train" or config.run.only_do_testing or config.run.resume:
            raise UsageError(f"{where}: a search trains; mode, resume and only_do_testing do not")
        if config.run.distributed:
            raise UsageError(f"{where}: distributed does not apply to a search")
        if config.run.trials > 1 and self.search.pruner != "none":
            raise UsageError(
                f"{where}: pruner {self.search.pruner} prunes single runs: with trials "
                f"{config.run.trials} (seeds of each trial) set pruner: none"
            )


@functools.lru_cache(maxsize=4096)
def _fault(name: str, arguments: tuple[str, ...]) -> str:
    try:
        read(name, arguments)
    except UsageError as error:
        return str(error)
    return ""


def _task(name: str, where: str) -> tuple[Task, Mapping[str, Any]]:
    if name not in TASKS:
        valid = TASKS.names()
        raise UsageError(
            f"{where}: a search needs a task by name, not '{shown(name)}'{nearest(name, valid)}; "
            f"valid: {', '.join(valid)}"
        )
    return TASKS[name], configs.entries(TASKS[name].config)


def _canonical(
    given: Mapping[str, Any], part: str, known: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Options by the names of the registry.

    Raises:
        UsageError: no option of the task, or one that is given twice.
    """
    found: dict[str, Any] = {}
    for key, value in flags_of(given, f"{where}, {part}").items():
        name = configs.canonical(key, known)
        if name is None:
            spellings = [n for e in known.values() for n in (e.name, *e.aliases)]
            raise UsageError(f"{where}, {part}: no option '{shown(key)}'{nearest(key, spellings)}")
        if name in found:
            raise UsageError(f"{where}, {part}: {name} is given twice")
        found[name] = value
    return found


def _fitted(name: str, part: Range, entry: Any, where: str) -> Range:
    """A range for the kind of its option."""
    if part.choices is not None:
        return part
    kinds = configs.kinds(entry.annotation)
    if not kinds & {int, float}:
        valid = f": {', '.join(entry.choices)}" if entry.choices else ""
        raise UsageError(f"{where}, search.space.{name}: is no number, give choices{valid}")
    try:
        return part.of_numbers(whole=float not in kinds)
    except ValueError as error:
        raise UsageError(f"{where}, search.space.{name}: {error}") from None
