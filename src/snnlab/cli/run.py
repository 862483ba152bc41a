"""``snnlab run TASK --flag ...``: the command of a task."""

from __future__ import annotations

import argparse
import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path

from snnlab import config_files
from snnlab.errors import UsageError, nearest, shown
from snnlab.problems.tasks import TASKS, run_task
from snnlab.registry import load

#: Commands that are run as tasks are, and have no epochs: name -> (title, command). A folder of
#: ``configs/`` with this name is theirs.
OTHERS = {
    "boerlin": (
        "Simulate a spiking network that tracks a linear system.",
        "snnlab.problems.boerlin:command",
    ),
    "gradient-analysis": (
        "Compare gradients of learning rules with those of BPTT.",
        "snnlab.problems.gradient_analysis:command",
    ),
}
EXAMPLES = {
    "image-classification": "with the defaults",
    "image-classification --help": "its options, and configs that fit",
    "--config coba-ei/two-cores": "the task is that of the config",
    "--resume runs/NAME": "the task is that of the run",
}


def names() -> tuple[str, ...]:
    """What may be run."""
    return (*TASKS.names(), *OTHERS)


def titles() -> dict[str, str]:
    """Name -> one line."""
    return {
        **{name: task.title for name, task in TASKS.items()},
        **{name: title for name, (title, _) in OTHERS.items()},
    }


def main(prog: str, argv: Sequence[str]) -> int:
    """The command of the task that is named, or whose config or run is given."""
    if argv and not argv[0].startswith("-"):
        name, rest = argv[0], list(argv[1:])
    else:
        name, rest = _task_of(argv), list(argv)
    if not name and {"-h", "--help"} & set(argv):
        print(help_text(prog))
        return 0
    if not name:
        raise UsageError(f"which task? {prog} TASK --flag ...; tasks: {', '.join(names())}")
    if name in OTHERS:
        title, command = OTHERS[name]
        return load(command)(prog=f"{prog} {name}", description=title, argv=rest)
    if name not in TASKS:
        raise UsageError(
            f"no task '{shown(name)}'{nearest(name, names())}; valid: {', '.join(names())}"
        )
    return run_task(name, prog=f"{prog} {name}", argv=rest)


def _task_of(argv: Sequence[str]) -> str:
    """The task of the run to resume, or of the first config; empty where neither is given.

    Raises:
        UsageError: the config belongs to no task, or the run cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--config", "--resume"):
        parser.add_argument(flag, action="append", default=[])
    try:
        given, _ = parser.parse_known_args(list(argv))
    except argparse.ArgumentError:  # without a value: the task's own command line says so
        return ""
    if given.resume:
        from snnlab.experiment import info
        from snnlab.library import load as load_run
        from snnlab.runs import RunFolder

        with contextlib.suppress(UsageError):  # the checkpoint of a run says what its config was
            options = RunFolder.existing(given.resume[-1]).read_config()
            if name := info.program_of(options):
                return name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the resume itself tells of damaged checkpoints
            return load_run(given.resume[-1]).task
    if not given.config:
        return ""
    path = Path(config_files.find(given.config[0])).resolve()
    fit = [
        name for name, task in TASKS.items() if task.files and config_files.is_of(path, task.files)
    ]
    fit += [name for name in OTHERS if config_files.is_of(path, name)]
    if not fit:
        raise UsageError(
            f"--config {shown(given.config[0])}: it does not say which task; snnlab run TASK "
            f"--config ..., tasks: {', '.join(names())}"
        )
    return fit[0]


def help_text(prog: str) -> str:
    """What can be run, and how."""
    wide = max(map(len, names()))
    lines = [f"usage: {prog} [TASK] [--flag value ...]", "", "tasks:"]
    lines += [f"  {name:{wide}}  {title}" for name, title in titles().items()]
    wide = max(map(len, EXAMPLES))
    lines += ["", "examples:", *(f"  {prog} {k:{wide}}  {v}" for k, v in EXAMPLES.items())]
    return "\n".join(lines)
