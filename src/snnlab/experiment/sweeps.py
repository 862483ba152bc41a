"""Sweeps: many runs from one file, resumable, here or as the array job of a cluster.

The file is described in :mod:`snnlab.experiment.sweep_file`. Every run is a process of its own with
a run folder of its own inside the sweep's: what one run does wrong, the others survive. A run that
has its ``results.json`` is not repeated; one that was interrupted is resumed where its task can,
otherwise kept aside and started anew. Several processes may run one sweep at once: each takes what
no other one is at.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import sys
import tempfile
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console

from snnlab import config_files, interrupts
from snnlab.console import typed_command
from snnlab.errors import UsageError, nearest, one_line, shown
from snnlab.experiment.comparison import REFUSED
from snnlab.experiment.sweep_file import Member, SweepFile, members_of, read_settings
from snnlab.runs import RunFolder
from snnlab.training.metrics import write_atomically
from snnlab.yaml_files import read_yaml_file, write_yaml

#: Arguments of each run, by the name of its folder.
PLAN = "sweep.yaml"
#: In what a run says of itself as it ends with exit code 2.
REASON = re.compile(r"error: (.+)")
#: Where no run is refused.
NONE: Mapping[str, str] = types.MappingProxyType({})
#: What a search has drawn and found, in a sweep's folder.
STUDY = "study.jsonl"


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
        self.file, self.path, self.tasks = file, path, tuple(tasks)
        self.short = tuple(short)
        self._homes = {
            task: home_of(
                path, task, {c for m in self.members if m.task == task for c in m.configs}, tasks
            )
            for task in dict.fromkeys(m.task for m in self.members)
        }
        self.folder = folder_of(options, path)
        self.plan = self.folder / PLAN

    def check(
        self, members: Iterable[Member], read: Callable[[str, Sequence[str]], Any]
    ) -> dict[str, str]:
        """Refuse a sweep with a run that its task would refuse; runs that are done are left out.

        Args:
            members: what is to be run.
            read: (task, arguments) -> config. A script is not asked.

        Returns:
            Name of a run -> why there is no such run: the file leaves it out, or, with ``refused:
            keep``, its task refuses it.

        Raises:
            UsageError: what is wrong with the first such run.
        """
        refused = {}
        for member in members:
            if member.left_out:
                refused[member.name] = member.left_out
                continue
            if member.task not in self.tasks or self.state_of(member) == "done":
                continue
            why = self._unread(member, read)
            if why and (self.file.refused == "stop" or self._of_all(member, read)):
                raise UsageError(f"sweep {shown(self.path)}, run '{shown(member.name)}': {why}")
            if why:
                refused[member.name] = why
        return refused

    def _unread(self, member: Member, read: Callable[[str, Sequence[str]], Any]) -> str:
        """Why a task refuses the command line of a run; empty if it does not."""
        files = (self._homes[member.task] / name for name in member.configs)
        placed = [str(p) if p.is_file() else n for p, n in zip(files, member.configs)]
        own = dataclasses.replace(member, configs=tuple(placed))
        try:
            read(member.task, own.arguments)
        except UsageError as error:
            return str(error)
        return ""

    def _of_all(self, member: Member, read: Callable[[str, Sequence[str]], Any]) -> bool:
        """Whether all others of its column are refused too, or of its row, where there are others:
        that is no matter of the two together, and is to be mended."""

        def all_refused(others: list[Member]) -> bool:
            asked = [m for m in others if m is not member and not m.left_out]
            known = [m for m in asked if m.task in self.tasks]
            return bool(known) and all(self._unread(m, read) for m in known)

        column = [m for m in self.members if m.column == member.column]
        axis = {name: v for name, v in member.point.items() if name in self.file.axes}
        row = [m for m in self.members if all(m.point.get(k) == v for k, v in axis.items())]
        return all_refused(column) or all_refused(row)

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
        known = {key: m for m in self.members for key in (m.name, m.slug)}
        wanted = _names_in(options.only, known)
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
            begun = ("done", "interrupted")
            free = {m.slug for m in self.members if self.state_of(m) not in begun}
            for slug, arguments in plan.items():
                if slug in before and before[slug] != arguments and slug not in free:
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
        """``done``, ``refused``, ``interrupted`` or ``to do``."""
        folder = self.folder / member.slug
        if (folder / "results.json").is_file():
            return "done"
        if (folder / REFUSED).is_file():
            return "refused"
        return "interrupted" if folder.exists() else "to do"

    def refuse(self, member: Member, reason: str) -> None:
        """Write down why a run cannot be."""
        folder = self.folder / member.slug
        folder.mkdir(exist_ok=True)
        write_atomically(folder / REFUSED, one_line(reason) + "\n")

    @contextlib.contextmanager
    def taken(self, member: Member) -> Iterator[bool]:
        """Whether this process has a run to itself, in the block; another one may be at it."""
        lock = filelock.FileLock(self.folder / f".{member.slug}.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        except NotImplementedError:  # a file system without locks
            yield True
            return
        try:
            yield True
        finally:
            lock.release()

    def run(self, member: Member) -> int:
        """Run one member, output on this terminal; its exit code.

        With ``refused: keep`` 0 too if its task refused it, before anything of it had begun.
        """
        folder, home = self.folder / member.slug, self._homes[member.task]
        if self.state_of(member) == "refused":  # it may have been something else, such as data
            (folder / REFUSED).unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
        by_name = member.task in self.tasks
        script = ["-m", "snnlab", "run", member.task] if by_name else [str(home / member.task)]
        trains = member.flags.get("mode", "train") == "train"
        where = flags_to_start(folder, trains and member.task not in self.short)
        command = [sys.executable, *script, *member.arguments, *where]
        if self.file.refused == "stop":
            return interrupts.wait_for(command, home)
        with tempfile.TemporaryFile() as errors:
            try:
                code = interrupts.wait_for(command, home, errors)
            finally:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace")
                sys.stderr.write(said)
        reason = REASON.search(said)
        begun = any(folder.glob("seed-*")) or (folder / "results.json").is_file()
        if code != 2 or reason is None or begun or (folder / "checkpoints").is_dir():
            return code
        self.refuse(member, reason[1])
        return 0


def _names_in(text: str, known: Collection[str]) -> list[str]:
    """The names of a comma list, which may have commas of their own: the longest that is known."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = []
    while parts:
        sizes = (n for n in range(len(parts), 0, -1) if ", ".join(parts[:n]) in known)
        size = next(sizes, 1)
        found.append(", ".join(parts[:size]))
        del parts[:size]
    return found


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


def show(sweep: Sweep, console: Console, refused: Mapping[str, str] = NONE) -> None:
    """The runs of a sweep, and what became of them."""
    for k, member in enumerate(sweep.members):
        state = "refused" if member.name in refused else sweep.state_of(member)
        console.print(f"{k:3d}  {state:11}  {member.name}", markup=False)
        told = refused.get(member.name) or " ".join(member.arguments)
        console.print(f"     {told}", markup=False, style="dim")


def run_all(
    sweep: Sweep, chosen: Sequence[Member], console: Console, refused: Mapping[str, str] = NONE
) -> list[str]:
    """Run what is not done; names of what failed.

    Args:
        sweep, chosen, console: what, and where to say how it goes.
        refused: name of a run that is not run -> why.

    Raises:
        Interrupted: by a signal; it tells the command that goes on.
    """
    try:
        return _run_all(sweep, chosen, refused, console)
    except interrupts.Interrupted as error:
        told = f"go on with the same command: {typed_command()}"
        raise interrupts.Interrupted(error.signum, told) from None


def _run_all(
    sweep: Sweep, chosen: Sequence[Member], refused: Mapping[str, str], console: Console
) -> list[str]:
    sweep.claim()
    failed = []
    for k, member in enumerate(chosen, start=1):
        head = f"[{k}/{len(chosen)}] {member.name}"
        with sweep.taken(member) as mine:
            state = sweep.state_of(member)
            if state == "done" or not mine:
                told = f"{state} before" if mine else "another process is at it"
                console.print(f"{head}: {told}", markup=False)
                continue
            if member.name in refused:
                sweep.refuse(member, refused[member.name])
                console.print(f"{head}: refused: {refused[member.name]}", markup=False)
                continue
            console.print(head, markup=False, style="bold")
            code = sweep.run(member)
        if code:
            failed.append(member.name)
            console.print(f"{member.name}: exit code {code}", markup=False)
    return failed
