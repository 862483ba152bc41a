"""The command line of sweeps: :mod:`snnlab.experiment.sweeps`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from snnlab import config as configs
from snnlab import config_files
from snnlab.config import CommaText, PathText, option, section
from snnlab.console import make_console
from snnlab.errors import UsageError
from snnlab.experiment.comparison import compare
from snnlab.experiment.crossed import crossed
from snnlab.experiment.page import into_page, parts_of
from snnlab.experiment.sweep_file import SweepFile, read_sweep
from snnlab.experiment.sweeps import Sweep, run_all, show

#: For ``--help``.
EXAMPLES = {
    "balanced": "all its runs; a second time, those that are not done",
    "balanced --list": "what they are, and what became of them",
    "balanced --set 'epochs=1 samples=30'": "the same, small",
    "rules --set 'n-mnist:data_path=FOLDER'": "a flag of one run",
}


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
        help='flags of every run, or of RUN alone, above those of the file: "epochs=1 '
        'cue:samples=30"',
    )
    list: bool = option(
        basic=True, default=False, help="show the runs and what became of them, and leave"
    )
    collect: bool = option(
        basic=True, default=False, help="table and figure of what is there, without running",
        only={"list": (False,)},
    )  # fmt: skip
    page: PathText = option(
        default="",
        only={"list": (False,), "index": (-1,)},
        help="a page of Markdown into which the table goes, between its lines <!-- sweep --> and "
        "<!-- end of the sweep -->, and the figure beside it, by the page's name",
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
    if options.page:
        parts_of(Path(options.page).expanduser())  # refused before anything is run
    if file.search is not None:
        if search is None:
            raise UsageError(f"sweep {path}: search needs the command snnlab sweep")
        return search(options, path, file, dry_run, console)
    sweep = Sweep(options, path, file, tasks)
    chosen = sweep.chosen(options)
    refused = {}
    if read is not None and not options.collect:
        refused = sweep.check(chosen, read)
    if options.list or dry_run:
        show(sweep, console, refused)
        return 0
    if options.collect and not any(sweep.state_of(m) == "done" for m in sweep.members):
        raise UsageError(
            f"--collect: no run of this sweep is done in {sweep.folder}; give its folder by "
            "--filepath"
        )
    failed = [] if options.collect else run_all(sweep, chosen, console, refused)
    if options.index < 0 or options.collect:
        members = {m.name: (m, sweep.folder / m.slug) for m in sweep.members}
        crossing = functools.partial(crossed, file, sweep.members) if file.axes else None
        written = compare(members, sweep.folder, crossing)
        if options.page:
            written += into_page(Path(options.page).expanduser(), sweep.folder)
        console.print(f"comparison {', '.join(str(p) for p in written)}", markup=False)
    if failed:
        console.print(f"{len(failed)} failed: {', '.join(failed)}", markup=False)
    return 1 if failed else 0
