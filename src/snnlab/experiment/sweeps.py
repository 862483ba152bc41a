"""Sweeps: many runs of one task from one file, resumable, here or as the array job of a cluster.

A sweep file::

    task: tasks/task-balanced-rsnn.py      # the script
    config: [common.yaml]                  # config files of every run
    options: {trials: 3}                   # flags of every run
    runs:                                  # name -> flags (config: its own files)
      baseline: {config: configs/balanced/baseline-multispike.yaml}
      LSM: {config: configs/balanced/lsm.yaml}
    grid:                                  # flags -> values: all combinations, of every run
      repeat: [1, 4]

Every run is a process of its own with a run folder of its own inside the sweep's: what one run
does wrong, the others survive. A run that has its ``results.json`` is not repeated; one that was
interrupted is resumed where its task can, otherwise kept aside and started anew.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from rich.console import Console

from snnlab import config as configs
from snnlab import interrupts
from snnlab.config import option, section
from snnlab.errors import UsageError, nearest, one_line
from snnlab.experiment.comparison import compare
from snnlab.runs import RunFolder
from snnlab.training.metrics import write_atomically

Value = bool | int | float | str
#: Flags that the sweep itself gives to its runs.
RESERVED = ("filepath", "new_exp_folder", "resume", "config")


@section("Sweep")
class SweepOptions:
    """Which sweep, and which part of it."""

    sweep: str = option(default="", help="the sweep file; configs/sweeps/ has some")
    filepath: str = option(
        default="", help="folder of the sweep; empty: runs/<name of the sweep file>"
    )
    only: str = option(default="", help="comma list of runs by name; empty: all")
    index: int = option(
        default=-1, ge=-1,
        help="run this one alone, counted from 0 (array jobs: --index $SLURM_ARRAY_TASK_ID)",
    )  # fmt: skip
    set: str = option(
        default="", help='flags of every run, above those of the file: "epochs=1 samples=30"'
    )
    list: bool = option(default=False, help="show the runs and what became of them, and leave")
    collect: bool = option(default=False, help="table and figure of what is there, without running")


@dataclasses.dataclass(frozen=True)
class Sweeping:
    """Config of ``tasks/task-sweep.py``."""

    sweep: SweepOptions = dataclasses.field(default_factory=SweepOptions)


class SweepFile(pydantic.BaseModel):
    """What a sweep file may hold; see the module."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    task: str
    config: str | list[str] = []
    options: dict[str, Value] = {}
    runs: dict[str, dict[str, Value | list[Any]] | None] = {}
    grid: dict[str, list[Value]] = {}


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: of the run and of what the grid sets.
        group: of the run alone.
        point: what the grid sets.
        configs: config files, one above the other.
        flags: flag -> value, above them.
    """

    name: str
    group: str
    point: dict[str, Value]
    configs: tuple[str, ...]
    flags: dict[str, Value]

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.") or "run"

    @property
    def arguments(self) -> list[str]:
        """Its command line, without the script."""
        files = [text for path in self.configs for text in ("--config", path)]
        return files + [f"--{k}={_show(v)}" for k, v in self.flags.items()]


def _show(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_sweep(path: Path) -> SweepFile:
    """A sweep file.

    Raises:
        UsageError: it cannot be read, or is no sweep file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read sweep {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"sweep {path} is not valid YAML: {one_line(str(error))}") from None
    if not isinstance(content, dict):
        raise UsageError(f"sweep {path} must be a mapping with task, runs, grid")
    try:
        return SweepFile(**{str(k): v for k, v in content.items()})
    except pydantic.ValidationError as error:
        first, *others = error.errors()
        where, what = first["loc"], one_line(first["msg"])
        if others and others[0]["loc"][:-1] == where[:-1]:  # none of several types
            where, what = where[:-1], "must be a number, a text, true or false"
        place = ".".join(str(part) for part in where)
        raise UsageError(f"sweep {path}, {place}: {what}") from None


def members_of(file: SweepFile, extra: Mapping[str, Value]) -> list[Member]:
    """All runs of a sweep, in order.

    Args:
        file: the sweep.
        extra: flags above all others.

    Raises:
        UsageError: a flag that the sweep itself gives, an empty grid, two runs with one folder.
    """
    found = []
    common = (file.config,) if isinstance(file.config, str) else tuple(file.config)
    for group, own in (file.runs or {"": None}).items():
        flags: dict[str, Any] = dict(own or {})
        files = flags.pop("config", [])
        files = (files,) if isinstance(files, str) else tuple(files)
        wrong = [k for k, v in flags.items() if isinstance(v, list)]
        if wrong:
            raise UsageError(f"run '{group}': {wrong[0]} is a list; lists of values go into grid")
        for values in itertools.product(*file.grid.values()):
            point = dict(zip(file.grid, values))
            shown = [f"{k} {_show(v)}" for k, v in point.items()]
            all_flags = {**file.options, **flags, **point, **extra}
            name = ", ".join([group] * bool(group) + shown) or "run"
            found.append(Member(name, group, point, (*common, *files), all_flags))
    for member in found:
        taken = [k for k in member.flags if k.replace("-", "_") in RESERVED]
        if taken:
            raise UsageError(f"run '{member.name}': {taken[0]} is given by the sweep itself")
    if not found:
        raise UsageError("the sweep has no runs: a list of its grid is empty")
    slugs = [m.slug for m in found]
    twice = next((m for m in found if slugs.count(m.slug) > 1), None)
    if twice:
        raise UsageError(f"two runs of the sweep would share the folder {twice.slug}")
    return found


def read_settings(text: str) -> dict[str, Value]:
    """``"epochs=1 samples=30"`` as flags.

    Raises:
        UsageError: a part that is not NAME=VALUE.
    """
    found: dict[str, Value] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or not name.strip("-"):
            raise UsageError(f"--set {part}: must be NAME=VALUE, several with spaces between")
        found[name.strip("-").replace("-", "_")] = value
    return found


class Sweep:
    """A sweep and its folder.

    Args:
        options: the command line.

    Raises:
        UsageError: no such sweep or script, or a folder with another sweep.
    """

    def __init__(self, options: Any) -> None:
        if not options.sweep:
            raise UsageError(
                "--sweep is missing: a sweep file, such as configs/sweeps/balanced.yaml"
            )
        path = Path(options.sweep).expanduser()
        file = read_sweep(path)
        self.members = members_of(file, read_settings(options.set))
        homes = [Path.cwd(), *path.resolve().parents]
        root = next((h for h in homes if (h / file.task).is_file()), None)
        if root is None:
            raise UsageError(f"sweep {path}: no script {file.task} here or above the sweep file")
        self.root = root
        self.task = root / file.task
        for name in {c for m in self.members for c in m.configs}:
            if not (self.root / name).is_file():
                raise UsageError(f"sweep {path}: no config {name} in {self.root}")
        self.folder = Path(options.filepath or Path("runs") / path.stem).expanduser().resolve()
        self.plan = self.folder / "sweep.yaml"

    def chosen(self, options: Any) -> list[Member]:
        """What ``--only`` and ``--index`` leave.

        Raises:
            UsageError: no such run.
        """
        if options.index >= len(self.members):
            raise UsageError(
                f"--index {options.index}: the sweep has {len(self.members)} runs, 0 to "
                f"{len(self.members) - 1}"
            )
        if options.index >= 0:
            return [self.members[options.index]]
        wanted = [name.strip() for name in options.only.split(",") if name.strip()]
        known = {key: m for m in self.members for key in (m.name, m.slug)}
        for name in wanted:
            if name not in known:
                raise UsageError(
                    f"--only {name}: no such run{nearest(name, known)}; --list shows all"
                )
        return [known[name] for name in wanted] or self.members

    def claim(self) -> None:
        """Make the folder and write down what its runs are.

        Raises:
            UsageError: it holds runs that were made with other flags.
        """
        plan = {m.slug: m.arguments for m in self.members}
        if self.plan.is_file():
            try:
                before = yaml.safe_load(self.plan.read_text(encoding="utf-8")) or {}
            except (OSError, yaml.YAMLError) as error:
                raise UsageError(f"cannot read {self.plan}: {one_line(str(error))}") from None
            for slug, arguments in plan.items():
                if slug in before and before[slug] != arguments:
                    raise UsageError(
                        f"{self.folder} holds '{slug}' with other flags "
                        f"({' '.join(before[slug])}); choose another --filepath"
                    )
            plan = {**before, **plan}
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(f"{self.folder} is there and is no sweep; choose another --filepath")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.plan, yaml.safe_dump(plan, sort_keys=False))
        except OSError as error:
            raise UsageError(f"cannot write to {self.folder}: {error.strerror}") from None

    def state_of(self, member: Member) -> str:
        """``done``, ``interrupted`` or ``to do``."""
        folder = self.folder / member.slug
        if (folder / "results.json").is_file():
            return "done"
        return "interrupted" if folder.exists() else "to do"

    def run(self, member: Member) -> int:
        """Run one member, output on this terminal; its exit code."""
        folder = self.folder / member.slug
        where = [f"--filepath={folder}"]
        if self.state_of(member) == "interrupted":
            if RunFolder(folder).holds_a_run:
                where = [f"--resume={folder}"]
            else:
                folder.rename(_free(folder))
        command = [sys.executable, str(self.task), *member.arguments, *where]
        return interrupts.wait_for(command, self.root)


def _free(folder: Path) -> Path:
    """A name that is free, for what an interrupted run has left."""
    tried = (folder.with_name(f"{folder.name}.interrupted-{k}") for k in itertools.count(1))
    return next(path for path in tried if not path.exists())


def main(prog: str, description: str, argv: Sequence[str] | None = None) -> int:
    """The command line of ``tasks/task-sweep.py``; 1 if a run failed."""
    config: Any
    config, dry_run = configs.parse(Sweeping, argv, prog=prog, description=description)
    options = config.sweep
    sweep = Sweep(options)
    chosen = sweep.chosen(options)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if options.list or dry_run:
        for k, member in enumerate(sweep.members):
            console.print(f"{k:3d}  {sweep.state_of(member):11}  {member.name}", markup=False)
            console.print(f"     {' '.join(member.arguments)}", markup=False, style="dim")
        return 0
    failed = [] if options.collect else _run_all(sweep, chosen, console)
    if options.index < 0 or options.collect:
        written = compare({m.name: (m, sweep.folder / m.slug) for m in sweep.members}, sweep.folder)
        console.print(f"comparison {', '.join(str(p) for p in written)}", markup=False)
    if failed:
        console.print(f"{len(failed)} failed: {', '.join(failed)}", markup=False)
    return 1 if failed else 0


def _run_all(sweep: Sweep, chosen: Sequence[Member], console: Console) -> list[str]:
    """Run what is not done; names of what failed."""
    sweep.claim()
    failed = []
    for k, member in enumerate(chosen, start=1):
        if sweep.state_of(member) == "done":
            console.print(f"[{k}/{len(chosen)}] {member.name}: done before", markup=False)
            continue
        console.print(f"[{k}/{len(chosen)}] {member.name}", markup=False, style="bold")
        code = sweep.run(member)
        if code:
            failed.append(member.name)
            console.print(f"{member.name}: exit code {code}", markup=False)
    return failed
