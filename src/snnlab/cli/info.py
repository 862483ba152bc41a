"""``snnlab info RUN``: what a run folder is, how far it got, how to go on. Changes nothing."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snnlab import config as configs
from snnlab.errors import UsageError
from snnlab.experiment import info
from snnlab.flags import Parser
from snnlab.library import Run
from snnlab.problems.tasks import changed
from snnlab.runs import RunFolder
from snnlab.yaml_files import write_yaml


def arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", nargs="+", help="folder of a run, or of a sweep")


def main(prog: str, argv: Sequence[str]) -> int:
    """Describe the folders."""
    parser = Parser(
        prog=prog,
        description="What a run folder holds, and how to go on; it is changed by nothing.",
    )
    arguments(parser)
    told = [described(Path(name).expanduser()) for name in parser.parse_args(argv).run]
    print("\n\n".join("\n".join(lines) for lines in told))
    return 0


def described(path: Path) -> list[str]:
    """What a folder is, in lines.

    Raises:
        UsageError: it holds no run.
    """
    members = info.members_of_sweep(path)
    if members:
        return [_line("sweep", str(path)), *_states(members)]
    folder = RunFolder.existing(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged checkpoints have lines of their own below
        run = Run(folder.path)
        lines = [_line("run", str(path)), _line("made", info.made_with(folder))]
        options, task = _options(run)
        if not task:
            there = ", ".join(sorted(p.name for p in path.iterdir() if p.name[0] != "."))
            other = info.program_of(options)
            more = f"snnlab run {other} --resume {shlex.quote(str(path))}" if other else ""
            named = _line("task", other or "none that snnlab run trains")
            held = [_line("holds", there), _line("go on", more)]
            return [line for line in (*lines, named, *held) if line]
        what = [task, *(str(options[k]) for k in ("method", "dataset") if k in options)]
        lines += [_line("task", ", ".join(what)), *_changes(run)]
    seeds = [seed.path for seed in run.seeds]
    results = folder.read_results()
    if seeds:
        state = info.State(f"{len(seeds)} of {options.get('trials', '?')} seeds were begun")
        lines += [_line("state", state.words), *_states(seeds)]
        going = not results or any(info.state_of(RunFolder(s), options).goes_on for s in seeds)
    else:
        state = info.state_of(folder, options)
        saved = info.checkpoints(folder)
        lines += [_line("state", state.words), _line("checkpoint", saved[0] if saved else "none")]
        lines += [_line("", more) for more in saved[1:]]
        going = state.goes_on
    lines.append(_line("results", info.found(results)))
    told = info.costs(results)
    lines += [_line("costs" if k == 0 else "", text) for k, text in enumerate(told)]
    lines += [_line("warning", str(text)) for text in results.get("warnings", ())]
    command = f"snnlab run {task} --resume {shlex.quote(str(path))}"
    if going:
        lines.append(_line("go on", command))
    elif isinstance(results.get("epochs"), int):
        lines.append(_line("train on", f"{command} --epochs {2 * results['epochs']}"))
    return [line for line in lines if line]


def _line(name: str, text: str) -> str:
    return f"{name:11}{text}" if text else ""


def _states(folders: Sequence[Path]) -> list[str]:
    """A line for each of several runs."""
    wide, lines = max(len(path.name) for path in folders), []
    for path in folders:
        folder = RunFolder(path)
        state = info.state_of(folder, info.options_of(folder)).words
        told = info.found(folder.read_results())
        lines.append(f"  {path.name:{wide}}  {state}{'; ' + told if told else ''}")
    return lines


def _options(run: Run) -> tuple[dict[str, Any], str]:
    """The options of a run and its task; empty for what is no run of a task, such as a sandbox.

    Raises:
        UsageError: neither a checkpoint nor the config can be read.
    """
    options = run.options
    try:
        task = run.task
        return configs.flat(run.config), task
    except UsageError:
        return options, ""


def _changes(run: Run) -> list[str]:
    """The options that are not their defaults, as YAML."""
    found = changed(run.task, run.config)
    if not found:
        return [_line("options", "the defaults")]
    lines = []
    for name, (value, usual) in found.items():
        default = write_yaml([usual]).strip().removeprefix("- ")
        lines.append(f"  {write_yaml({name: value}).strip()}  # default {default}")
    return [_line("options", "other than the defaults:"), *lines]
