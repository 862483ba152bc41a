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
import hashlib
import itertools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from rich.console import Console

from snnlab import config as configs
from snnlab import interrupts
from snnlab.config import PathText, option, section
from snnlab.console import make_console
from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.runs import RunFolder
from snnlab.training.metrics import write_atomically
from snnlab.yaml_files import read_yaml_file, write_yaml

Value = bool | int | float | str
#: Flags that the sweep itself gives to its runs.
RESERVED = ("filepath", "new_exp_folder", "resume", "config")
#: For ``--help``.
EXAMPLES = {
    "--sweep configs/sweeps/balanced.yaml": "all its runs; a second time, those that are not done",
    "--sweep configs/sweeps/balanced.yaml --list": "what they are, and what became of them",
    "--sweep configs/sweeps/balanced.yaml --set 'epochs=1 samples=30'": "the same, small",
}
#: Runs of one sweep.
MOST_RUNS = 2000
#: Characters of a folder's name that are left as they are.
LONGEST_NAME = 100
#: The sweep's own files beside its runs' folders.
OWN_FILES = ("sweep.yaml", "table.md", "results.csv", "comparison.png")


@section("Sweep")
class SweepOptions:
    """Which sweep, and which part of it."""

    sweep: PathText = option(
        basic=True, default="", help="the sweep file; configs/sweeps/ has some"
    )
    filepath: PathText = option(
        basic=True, default="", help="folder of the sweep; empty: runs/<name of the sweep file>"
    )
    only: str = option(
        basic=True, default="", help="comma list of runs by name; empty: all",
        only={"index": (-1,), "list": (False,), "collect": (False,)},
    )  # fmt: skip
    index: int = option(
        basic=True, default=-1, ge=-1, only={"list": (False,), "collect": (False,)},
        help="run this one alone, counted from 0 (array jobs: --index $SLURM_ARRAY_TASK_ID)",
    )  # fmt: skip
    set: str = option(
        basic=True,
        default="",
        help='flags of every run, above those of the file: "epochs=1 samples=30"',
    )
    list: bool = option(
        basic=True, default=False, help="show the runs and what became of them, and leave"
    )
    collect: bool = option(
        basic=True, default=False, help="table and figure of what is there, without running",
        only={"list": (False,)},
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sweeping:
    """Config of ``tasks/task-sweep.py``."""

    sweep: SweepOptions = dataclasses.field(default_factory=SweepOptions)


class SweepFile(pydantic.BaseModel):
    """What a sweep file may hold; see the module."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    task: PathText
    config: PathText | list[PathText] = []
    options: dict[str, Value] = {}
    runs: dict[str, dict[str, Value | list[Any]] | None] = {}
    grid: dict[str, list[Value]] = {}


_PATHS: pydantic.TypeAdapter[list[PathText]] = pydantic.TypeAdapter(list[PathText])


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
        slug = re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-.") or "run"
        if len(slug) <= LONGEST_NAME:
            return slug
        return f"{slug[:LONGEST_NAME]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"

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
    content = read_yaml_file(path, "sweep")
    if not isinstance(content, dict):
        raise UsageError(f"sweep {shown(path)} must be a mapping with task, runs, grid")
    try:
        return SweepFile.model_validate({str(k): v for k, v in content.items()})
    except pydantic.ValidationError as error:
        first, *others = error.errors()
        where, what = first["loc"], one_line(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = f"no such key; valid: {', '.join(SweepFile.model_fields)}"
        elif others and others[0]["loc"][:-1] == where[:-1]:  # none of several types
            where, what = where[:-1], "must be a number, a text, true or false"
        place = ".".join(str(part) for part in where)
        raise UsageError(f"sweep {shown(path)}, {shown(place)}: {shown(what, 150)}") from None


def members_of(file: SweepFile, extra: Mapping[str, Value]) -> list[Member]:
    """All runs of a sweep, in order.

    Args:
        file: the sweep.
        extra: flags above all others.

    Raises:
        UsageError: a flag that the sweep itself gives, or that the grid varies; an empty grid, too
            many runs, two runs with one folder.
    """
    grid = _flags(file.grid, "the grid")
    size = math.prod(len(values) for values in grid.values()) * max(1, len(file.runs))
    if size > MOST_RUNS:
        raise UsageError(f"the sweep has {size:,} runs; at most {MOST_RUNS:,} go into one")
    if not size:
        raise UsageError("the sweep has no runs: a list of its grid is empty")
    fixed = _flags(extra, "--set")
    common, options = _files(file.config, "the sweep"), _flags(file.options, "options")
    found = []
    for group, own in (file.runs or {"": None}).items():
        here = f"run '{shown(group)}'"
        if not group.isprintable():
            raise UsageError(f"{here}: its name must be printable text of one line")
        flags: dict[str, Any] = dict(own or {})
        files = _files(flags.pop("config", []), here)
        flags = _flags(flags, here)
        wrong = [k for k, v in flags.items() if isinstance(v, list)]
        if wrong:
            raise UsageError(f"{here}: {wrong[0]} is a list; lists of values go into grid")
        twice = [k for k in (*flags, *fixed) if k in grid]
        if twice:
            raise UsageError(f"{twice[0]} is set for {here} or by --set, and varied by the grid")
        for values in itertools.product(*grid.values()):
            point = dict(zip(grid, values))
            words = [f"{k} {_show(v)}" for k, v in point.items()]
            all_flags = {**options, **flags, **point, **fixed}
            name = ", ".join([group] * bool(group) + words) or "run"
            found.append(Member(name, group, point, (*common, *files), all_flags))
    taken: dict[str, str] = {}
    for member in found:
        slug = member.slug
        if slug in OWN_FILES or ".interrupted-" in slug:
            raise UsageError(f"run '{shown(member.name)}': the sweep itself uses the name {slug}")
        if slug in taken:
            raise UsageError(f"two runs of the sweep would share the folder {slug}")
        taken[slug] = member.name
    return found


def _flags(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Flags in one spelling.

    Raises:
        UsageError: no flag's name, one that the sweep itself gives, or one that is there twice.
    """
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = key.strip("-").replace("-", "_")
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise UsageError(f"{where}: '{shown(key)}' is no name of a flag")
        if name in RESERVED:
            raise UsageError(f"{where}: {key} is given by the sweep itself")
        if name in found:
            raise UsageError(f"{where}: {name} is given twice")
        found[name] = value
    return found


def _files(given: Any, where: str) -> tuple[str, ...]:
    """Config files: a path or a list of paths.

    Raises:
        UsageError: something else.
    """
    files = [given] if isinstance(given, str) else given
    try:
        return tuple(_PATHS.validate_python(files))
    except pydantic.ValidationError:
        raise UsageError(f"{where}: config must be a path or a list of paths") from None


def read_settings(text: str) -> dict[str, Value]:
    """``"epochs=1 samples=30"`` as flags.

    Raises:
        UsageError: a part that is not NAME=VALUE.
    """
    found: dict[str, Value] = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or not name.strip("-"):
            raise UsageError(
                f"--set {shown(part)}: must be NAME=VALUE, several with spaces between"
            )
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
                    f"--only {shown(name)}: no such run{nearest(name, known)}; --list shows all"
                )
        return [known[name] for name in wanted] or self.members

    def claim(self) -> None:
        """Make the folder and write down what its runs are.

        Raises:
            UsageError: it holds runs that were made with other flags.
        """
        plan = {m.slug: m.arguments for m in self.members}
        if self.plan.is_file():
            before = read_yaml_file(self.plan, "the plan", times=10) or {}
            if not _is_plan(before):
                raise UsageError(f"{self.plan} is no plan of a sweep; choose another --filepath")
            for slug, arguments in plan.items():
                if slug in before and before[slug] != arguments:
                    raise UsageError(
                        f"{self.folder} holds '{slug}' with other flags "
                        f"({shown(' '.join(before[slug]), 200)}); choose another --filepath"
                    )
            plan = {**before, **plan}
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(f"{self.folder} is there and is no sweep; choose another --filepath")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.plan, write_yaml(plan))
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


def _is_plan(content: Any) -> bool:
    """Whether it is folder -> arguments."""
    return isinstance(content, dict) and all(
        isinstance(k, str) and isinstance(v, list) and all(isinstance(a, str) for a in v)
        for k, v in content.items()
    )


def _free(folder: Path) -> Path:
    """A name that is free, for what an interrupted run has left."""
    tried = (folder.with_name(f"{folder.name}.interrupted-{k}") for k in itertools.count(1))
    return next(path for path in tried if not path.exists())


def main(prog: str, description: str, argv: Sequence[str] | None = None) -> int:
    """The command line of ``tasks/task-sweep.py``; 1 if a run failed."""
    config: Any
    config, dry_run = configs.parse(
        Sweeping, argv, prog=prog, description=description, examples=EXAMPLES
    )
    options = config.sweep
    sweep = Sweep(options)
    chosen = sweep.chosen(options)
    console = make_console()
    if options.list or dry_run:
        for k, member in enumerate(sweep.members):
            console.print(f"{k:3d}  {sweep.state_of(member):11}  {member.name}", markup=False)
            console.print(f"     {' '.join(member.arguments)}", markup=False, style="dim")
        return 0
    failed = [] if options.collect else _run_all(sweep, chosen, console)
    if options.index < 0 or options.collect:
        from snnlab.experiment.comparison import compare

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
