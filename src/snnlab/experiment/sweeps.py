"""Sweeps: many runs of one task from one file, resumable, here or as the array job of a cluster.

The file is described in :mod:`snnlab.experiment.sweep_file`. Every run is a process of its own with
a run folder of its own inside the sweep's: what one run does wrong, the others survive. A run that
has its ``results.json`` is not repeated; one that was interrupted is resumed where its task can,
otherwise kept aside and started anew.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from snnlab import config as configs
from snnlab import config_files, interrupts
from snnlab.config import CommaText, PathText, option, section
from snnlab.console import make_console, typed_command
from snnlab.errors import UsageError, nearest, shown
from snnlab.experiment.sweep_file import (
    Member,
    SweepFile,
    members_of,
    read_settings,
    read_sweep,
)
from snnlab.runs import RunFolder
from snnlab.training.metrics import write_atomically
from snnlab.yaml_files import read_yaml_file, write_yaml

#: For ``--help``.
EXAMPLES = {
    "balanced": "all its runs; a second time, those that are not done",
    "balanced --list": "what they are, and what became of them",
    "balanced --set 'epochs=1 samples=30'": "the same, small",
}


#: Arguments of each run, by the name of its folder.
PLAN = "sweep.yaml"
#: What a search has drawn and found, in a sweep's folder.
STUDY = "study.jsonl"


@section("Sweep")
class SweepOptions:
    """Which sweep, and which part of it."""

    sweep: PathText = option(
        basic=True, default="", help="the sweep file; snnlab configs list sweeps has some by name"
    )
    filepath: PathText = option(
        basic=True, default="", help="folder of the sweep; empty: runs/<name of the sweep file>"
    )
    only: CommaText = option(
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
    """Config of ``snnlab sweep`` and ``tasks/task-sweep.py``."""

    sweep: SweepOptions = dataclasses.field(default_factory=SweepOptions)


def find_sweep(options: Any) -> Path:
    """The sweep file that a command line names.

    Raises:
        UsageError: it names none, or there is no such one.
    """
    if not options.sweep:
        raise UsageError(
            "--sweep is missing: a sweep file, or the name of one (snnlab configs list sweeps)"
        )
    return Path(config_files.find(str(Path(options.sweep).expanduser()), config_files.SWEEPS))


def folder_of(options: Any, path: Path) -> Path:
    """The folder of a sweep."""
    return Path(options.filepath or Path("runs") / path.stem).expanduser().resolve()


def home_of(path: Path, task: str, files: Iterable[str], tasks: Sequence[str]) -> Path:
    """The folder in which the runs of a sweep are started: there are its script and its configs.

    Args:
        path: of the sweep file.
        task, files: as it names them.
        tasks: names that ``snnlab run`` takes.

    Raises:
        UsageError: no such task, script or config.
    """
    homes = [Path.cwd(), *path.resolve().parents]
    if task in tasks:
        root = next((h for h in homes if all((h / c).is_file() for c in files)), homes[0])
    else:
        found = next((h for h in homes if (h / task).is_file()), None)
        if found is None:
            raise UsageError(
                f"sweep {path}: no script {task} here or above the sweep file, and no "
                f"task of that name{nearest(task, tasks)}"
            )
        root = found
    for name in files:
        if not (root / config_files.find(name)).is_file():
            raise UsageError(f"sweep {path}: no config {name} in {root}")
    return root


def flags_to_start(folder: Path, goes_on: bool = True) -> list[str]:
    """By what a run goes on in its folder, or begins there; what cannot go on is put aside."""
    if not folder.exists():
        return [f"--filepath={folder}"]
    if goes_on and RunFolder(folder).holds_a_run:
        return [f"--resume={folder}"]
    folder.rename(_free(folder))
    return [f"--filepath={folder}"]


class Sweep:
    """A sweep and its folder.

    Args:
        options: the command line.
        path, file: the sweep file, and what it says.
        tasks: names that ``snnlab run`` takes.
        short: those of them that cannot go on: what one has left is put aside.

    Raises:
        UsageError: no such task or script, or a folder with another sweep.
    """

    def __init__(
        self, options: Any, path: Path, file: SweepFile, tasks: Sequence[str] = (),
        short: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.members = members_of(file, read_settings(options.set))
        files = {c for m in self.members for c in m.configs}
        self.root = home_of(path, file.task, files, tasks)
        by_name = file.task in tasks
        self.command = (
            ["-m", "snnlab", "run", file.task] if by_name else [str(self.root / file.task)]
        )
        self.path, self.task = path, file.task if by_name else ""
        self.goes_on = file.task not in short
        self.folder = folder_of(options, path)
        self.plan = self.folder / PLAN

    def check(self, members: Iterable[Member], read: Callable[[str, Sequence[str]], Any]) -> None:
        """Refuse a sweep with a run that its task would refuse; runs that are done are left out.

        Args:
            members: what is to be run.
            read: (task, arguments) -> config. A script is not asked.

        Raises:
            UsageError: what is wrong with the first such run.
        """
        for member in members:
            if not self.task or self.state_of(member) == "done":
                continue
            files = (self.root / name for name in member.configs)
            placed = [str(p) if p.is_file() else n for p, n in zip(files, member.configs)]
            own = dataclasses.replace(member, configs=tuple(placed))
            try:
                read(self.task, own.arguments)
            except UsageError as error:
                run = f"sweep {shown(self.path)}, run '{shown(member.name)}'"
                raise UsageError(f"{run}: {error}") from None

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
        if (self.folder / STUDY).is_file():
            raise UsageError(f"{self.folder} holds a search; choose another --filepath")
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
        trains = member.flags.get("mode", "train") == "train"
        where = flags_to_start(self.folder / member.slug, self.goes_on and trains)
        command = [sys.executable, *self.command, *member.arguments, *where]
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


def main(
    prog: str, description: str, argv: Sequence[str] | None = None, tasks: Sequence[str] = (),
    search: Callable[[Any, Path, SweepFile, bool, Console], int] | None = None,
    read: Callable[[str, Sequence[str]], Any] | None = None,
) -> int:  # fmt: skip
    """The command line of sweeps; 1 if a run failed.

    Args:
        prog, description, argv: see :func:`snnlab.config.parse`.
        tasks: names of tasks that a file may ask for, beside scripts.
        search: what does a file with ``search``: (options, its path, what it says, whether to list
            only, console) -> exit code.
        read: (task, arguments) -> config, so that a run with a wrong option is refused before the
            first one begins.
    """
    config: Any
    config, dry_run = configs.parse(
        Sweeping, argv, prog=prog, description=description, examples=EXAMPLES
    )
    options, console = config.sweep, make_console()
    path = find_sweep(options)
    file = read_sweep(path)
    if file.search is not None:
        if search is None:
            raise UsageError(f"sweep {path}: search needs the command snnlab sweep")
        return search(options, path, file, dry_run, console)
    sweep = Sweep(options, path, file, tasks)
    chosen = sweep.chosen(options)
    if read is not None and not options.collect:
        sweep.check(chosen, read)
    if options.list or dry_run:
        show(sweep, console)
        return 0
    failed = [] if options.collect else run_all(sweep, chosen, console)
    if options.index < 0 or options.collect:
        from snnlab.experiment.comparison import compare

        written = compare({m.name: (m, sweep.folder / m.slug) for m in sweep.members}, sweep.folder)
        console.print(f"comparison {', '.join(str(p) for p in written)}", markup=False)
    if failed:
        console.print(f"{len(failed)} failed: {', '.join(failed)}", markup=False)
    return 1 if failed else 0


def show(sweep: Sweep, console: Console) -> None:
    """The runs of a sweep, and what became of them."""
    for k, member in enumerate(sweep.members):
        console.print(f"{k:3d}  {sweep.state_of(member):11}  {member.name}", markup=False)
        console.print(f"     {' '.join(member.arguments)}", markup=False, style="dim")


def run_all(sweep: Sweep, chosen: Sequence[Member], console: Console) -> list[str]:
    """Run what is not done; names of what failed.

    Raises:
        Interrupted: by a signal; it tells the command that goes on.
    """
    try:
        return _run_all(sweep, chosen, console)
    except interrupts.Interrupted as error:
        told = f"go on with the same command: {typed_command()}"
        raise interrupts.Interrupted(error.signum, told) from None


def _run_all(sweep: Sweep, chosen: Sequence[Member], console: Console) -> list[str]:
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
