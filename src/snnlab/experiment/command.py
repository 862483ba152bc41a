"""The command line of a task: parse, build, run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.console import make_console
from snnlab.devices import select_device
from snnlab.errors import UsageError, shown
from snnlab.experiment.problem import FREE_ON_RESUME, Problem
from snnlab.experiment.run import run
from snnlab.experiment.seeds import run_trials

#: What a run started from: nothing that its continuation reads.
STARTED_FROM = ("load_exp_folder", "use_pretrained_model", "only_do_testing")


def command(
    config_type: type,
    build: Callable[[Any], Problem],
    *,
    prog: str,
    description: str,
    argv: list[str] | None = None,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> int:
    """The whole command line of a task: parse, build, run.

    Args:
        config_type: frozen dataclass of sections with at least ``run``, ``learner``,
            ``training``.
        build: config -> problem.
        prog, description: for ``--help`` and messages.
        argv: arguments; those of the process by default.
        adapt: defaults that depend on other options.
    """
    config: Any
    console = make_console()
    config, dry_run = configs.parse(
        config_type, argv, prog=prog, description=description, adapt=adapt, note=console.print
    )
    if config.run.resume:
        config = _resumed_config(config_type, config, argv, prog, adapt)
    elif config.run.seed < 0:
        seed = int(np.random.default_rng().integers(2**31 - config.run.trials))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        console.print(f"--seed -1: {seed} drawn", highlight=False)
    if not proceed(config, dry_run, console):
        return 0
    if config.run.trials > 1:
        run_trials(config, build, console)
    else:
        run(config, build(config), console)
    return 0


def proceed(config: Any, dry_run: bool, console: Console) -> bool:
    """Print the config of a dry run, or choose the device; whether there is more to do."""
    if dry_run:
        console.print(configs.to_yaml(config), markup=False, highlight=False, end="")
        return False
    note = select_device(config.run.devices)
    if note:
        console.print(note, highlight=False)
    return True


def _resumed_config(
    config_type: type, config: Any, argv: list[str] | None, prog: str, adapt: Any
) -> Any:
    """The saved config of the run to resume, with this command's free options over it.

    Raises:
        UsageError: this command sets an option that the saved run had otherwise.
    """
    folder = runs.RunFolder.existing(config.run.resume)
    saved = folder.read_config()
    known = configs.entries(config_type)
    stranger = [k for k in saved if k not in known]
    missing = [k for k in ("method", "seed") if k not in saved]
    if stranger or missing:
        raise UsageError(
            f"--resume {config.run.resume} holds a run of another task "
            f"(option {(stranger or missing)[0]} does not belong to both)"
        )
    given, _ = configs.given_values(config_type, argv, prog=prog)
    for name in STARTED_FROM:  # the checkpoint holds what came of it
        saved.pop(name, None)
    wanted = given.get("filepath", "")
    if wanted and Path(wanted).expanduser().resolve() != folder.path.resolve():
        raise UsageError(
            f"--filepath {shown(wanted)} with --resume: a run goes on in its folder {folder.path}"
        )
    merged = {**saved, **{k: v for k, v in given.items() if k in FREE_ON_RESUME}}
    merged["filepath"] = str(folder.path)
    merged["resume"] = config.run.resume
    merged["mode"] = given.get("mode", "train")
    result: Any = configs.build(config_type, merged)
    asked: Any = configs.build(config_type, {**saved, **given}, given)
    changed = configs.differences(asked, result, ignore=FREE_ON_RESUME)
    if changed:
        raise UsageError(
            f"--resume {config.run.resume} holds another experiment (asked != saved): "
            + "; ".join(changed)
        )
    return result
