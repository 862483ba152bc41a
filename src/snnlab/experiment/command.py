"""The command line of a task: parse, build, run."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from snnlab import config as configs
from snnlab import processes, runs
from snnlab.console import make_console
from snnlab.data.share import share
from snnlab.devices import check_devices, select_device
from snnlab.errors import UsageError, shown
from snnlab.experiment.compile_cache import keep_compiled
from snnlab.experiment.loggers.registry import check_installed
from snnlab.experiment.problem import FREE_ON_RESUME, Problem
from snnlab.experiment.published import Published, check_published
from snnlab.experiment.published import line as published_line
from snnlab.experiment.task import of_earlier
from snnlab.training.checkpoint_files import places
from snnlab.training.checkpoints import Reader
from snnlab.yaml_files import parse_yaml

if TYPE_CHECKING:
    from snnlab.training.hooks import Hook

#: Options that a resume itself changes in ``config.yaml``.
PLACES = ("resume", "filepath", "mode", "data_path", "devices", "shard", "distributed")
#: Options in which processes of one run may differ.
OWN = ("distributed", "devices", "data_path", "n_data_worker")


def command(
    config_type: type,
    build: Callable[[Any], Problem],
    *,
    prog: str,
    description: str,
    argv: list[str] | None = None,
    adapt: configs.Adapt | None = None,
    examples: Mapping[str, str] | None = None,
    files: str = "",
    hooks: Sequence[Hook] = (),
    published: Published | None = None,
) -> int:
    """The whole command line of a task: parse, build, run.

    Args:
        config_type: frozen dataclass of sections with at least ``run``, ``learner``,
            ``training``.
        build: config -> problem.
        prog, description: for ``--help`` and messages.
        argv: arguments; those of the process by default.
        adapt: defaults that depend on other options.
        examples, files: for ``--help``, see :func:`snnlab.config.parse`.
        hooks: what else is done beside training.
        published: what ``--published`` chooses.
    """
    config: Any
    notes: list[str] = []
    config, dry_run = configs.parse(
        config_type, argv, prog=prog, description=description, adapt=adapt, note=notes.append,
        examples=examples, files=files,
    )  # fmt: skip
    check_published(published, config)
    given, defaults = configs.Given(), None
    if dry_run or config.run.resume:
        given, _ = configs.given_values(config_type, argv, prog=prog, folder=files)
    with contextlib.nullcontext(config) if dry_run else together(config) as config:
        console = make_console(quiet=not processes.leads())
        for line in notes:
            console.print(line)
        config = settled(config_type, config, given, console)
        if dry_run:
            own = {name: value for name, value in given.items() if name != "published"}
            defaults = configs.defaults_beside(config_type, own, adapt=adapt)
        if proceed(config, dry_run, console, defaults, published_line(published, config)):
            perform(config, build, console, hooks)
    return 0


@contextlib.contextmanager
def together(config: Any) -> Iterator[Any]:
    """With the other processes of a run, if ``--distributed`` says that there are any.

    Yields:
        The config of the run, which does not depend on how many processes make it.

    Raises:
        UsageError: they did not come, or have other options or versions.
    """
    where, facts = config.run.distributed, {}
    if where:
        options = {f"--{n}": str(v) for n, v in configs.flat(config).items() if n not in OWN}
        facts = {**options, **runs.versions()}
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, distributed=""))
    with processes.joined(where, facts):
        yield config


def settled(config_type: type, config: Any, given: configs.Given, console: Console) -> Any:
    """A config as it is run: that of a resumed run, a drawn seed, folders from anywhere.

    Args:
        config: what is asked.
        given: the options that the user set, of a resume.

    Raises:
        UsageError: a resume that cannot be, or a logger whose package is not installed.
    """
    if config.run.resume and config.run.load_exp_folder:
        raise UsageError(
            "--load_exp_folder starts a new run, --resume continues one: give one of the two"
        )
    if config.run.resume:
        config = _resumed_config(config_type, config, given, console)
    elif config.run.seed < 0:
        seed = processes.shared(secrets.randbelow(2**31 - config.run.trials))
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))
        console.print(f"--seed -1: {seed} drawn", highlight=False)
    check_installed(config.run.log)
    return _from_anywhere(config)


def perform(
    config: Any, build: Callable[[Any], Problem], console: Console, hooks: Sequence[Hook] = ()
) -> None:
    """Run what a config asks: one run, or several seeds."""
    from snnlab.experiment.run import run
    from snnlab.experiment.seeds import run_seeds

    if config.run.trials > 1:
        if hooks:
            raise UsageError("hooks see one run: leave out --trials, or them")
        run_seeds(config, build, console)
    else:
        run(config, shared_out(build(config)), console, hooks)


def shared_out(problem: Problem) -> Problem:
    """A problem as this process has it: of several processes, with its part of the batches.

    Raises:
        UsageError: the processes have different recordings, or cannot share a batch evenly.
    """
    n, size = processes.count(), problem.batch_size
    if n == 1:
        return problem
    processes.agree(problem.identity)
    if size % n:
        raise processes.Agreed(
            f"a batch of {size} cannot be shared evenly by {n} processes: choose a --batch_size "
            f"that {n} divides, or another number of processes"
        )
    loaders = {name: getattr(problem, name) for name in ("train", "val", "test")}
    parts = {name: share(loader, processes.index(), n) for name, loader in loaders.items()}
    return dataclasses.replace(problem, **parts)


def proceed(
    config: Any, dry_run: bool, console: Console, defaults: Mapping[str, Any] | None = None,
    also: str = "",
) -> bool:  # fmt: skip
    """Print the config of a dry run, or choose the device; whether there is more to do.

    Args:
        config: of the command.
        dry_run: print it, with what differs from ``defaults`` (of its options) marked.
        console: where.
        defaults: option -> default.
        also: what the first line says beside.
    """
    if dry_run:
        defaults = configs.defaults_beside(type(config), {}) | dict(defaults or {})
        text = configs.to_yaml(config, defaults=defaults)
        console.print(text, markup=False, highlight=False, end="")
        return False
    greet(config, console, also)
    keep_compiled()
    processes.start_jax()
    note = select_device(config.run.devices)
    if note:
        console.print(note, highlight=False)
    return True


def greet(config: Any, console: Console, also: str = "") -> None:
    """The first line, before JAX is imported and data are read: what begins, and its seeds.

    Raises:
        UsageError: ``--devices`` that are none.
    """
    run = config.run
    check_devices(run.devices)
    first, last = run.seed, run.seed + getattr(run, "trials", 1) - 1
    seeds = f"seeds {first} to {last}" if last > first else f"seed {first}"
    learner = getattr(config, "learner", None)
    what = [] if learner is None or getattr(run, "mode", "train") != "train" else [learner.method]
    where = [f"going on with {run.resume}"] if getattr(run, "resume", "") else ["starting"]
    said = ", ".join([*where, *what, seeds]) + (f"; {also}" if also else "")
    console.print(said, highlight=False, markup=False)


def _from_anywhere(config: Any) -> Any:
    """The config with the folders that it names made absolute: it is read from other ones too."""
    for section, name in (("data", "data_path"), ("run", "load_exp_folder")):
        part: Any = getattr(config, section, None)
        given = configs.flat(config).get(name) if part is not None else ""
        if given:
            path = Path(given).expanduser().absolute()
            part = dataclasses.replace(part, **{name: str(path)})
            config = dataclasses.replace(config, **{section: part})
    return config


def _resumed_config(config_type: type, config: Any, given: configs.Given, console: Console) -> Any:
    """The config of the run to resume, with this command's free options over it.

    Raises:
        UsageError: this command sets an option that the saved run had otherwise.
    """
    folder = runs.RunFolder.existing(config.run.resume)
    known = configs.entries(config_type)
    saved = _saved_options(folder, config_type, console)
    stranger = [k for k in saved if k not in known]
    missing = [k for k in ("method", "seed") if k not in saved]
    if stranger or missing:
        raise UsageError(
            f"--resume {config.run.resume} holds a run of another task "
            f"(option {(stranger or missing)[0]} does not belong to both)"
        )
    saved = of_earlier(config_type, saved)
    wanted = "" if "filepath" in given.files else given.get("filepath", "")
    if wanted and Path(wanted).expanduser().resolve() != folder.path.resolve():
        raise UsageError(
            f"--filepath {shown(wanted)} with --resume: a run goes on in its folder {folder.path}"
        )
    merged = {**saved, **{k: v for k, v in given.items() if k in FREE_ON_RESUME}}
    merged["filepath"] = str(folder.path)
    merged["resume"] = config.run.resume
    of_command = {"mode": given.get("mode", "train"), "distributed": ""}  # not the saved run's
    merged |= {name: value for name, value in of_command.items() if name in known}
    result: Any = configs.build(config_type, merged)
    asked: Any = configs.build(config_type, {**saved, **given}, given)
    changed = configs.differences(asked, result, ignore=FREE_ON_RESUME)
    if changed:
        raise UsageError(
            f"--resume {config.run.resume} holds another experiment (asked != saved): "
            + "; ".join(changed)
        )
    return result


def _saved_options(folder: runs.RunFolder, config_type: type, console: Console) -> dict[str, Any]:
    """Option -> value of a saved run: those of its newest sound checkpoint.

    ``config.yaml`` is for people: where it says something else, that is told. A run that was
    ended before its first checkpoint has nothing else, and then it must be complete.

    Raises:
        UsageError: no sound checkpoint, or a config that cannot be read.
    """
    known = configs.entries(config_type)
    if not places(folder.checkpoints):
        found = configs.renamed(folder.read_config(), known)
        strangers = [name for name in found if name not in known]
        void = {} if strangers else configs.void_options(configs.build(config_type, found))
        needed = [name for name in known if name not in FREE_ON_RESUME]
        lost = [name for name in needed if name not in found and name not in void]
        if lost:  # or an earlier version had no such option, as the checkpoints of its seeds tell
            seeds = sorted(folder.path.glob("seed-*/checkpoints"))
            of_seed = next((Reader(path).newest()[1] for path in seeds if places(path)), None)
            if of_seed is not None:
                text = parse_yaml(of_seed["config"], "the config of the checkpoint")
                there = configs.renamed(runs.options_of(text), known)
                lost = [name for name in lost if name in there]
        if found and lost and not strangers:
            raise UsageError(
                f"{folder.config} is damaged: it lacks the option {lost[0]}, and there is no "
                f"checkpoint; start the run anew"
            )
        return found
    meta = Reader(folder.checkpoints).newest()[1]
    text = parse_yaml(meta["config"], "the config of the checkpoint")
    saved = configs.renamed(runs.options_of(text), known)
    try:
        written = configs.renamed(folder.read_config(), known)
    except UsageError as error:
        console.print(f"{error}; the checkpoint's is used", markup=False, highlight=False)
        return saved
    other = [
        name for name in {**saved, **written}
        if name not in PLACES and saved.get(name) != written.get(name)
    ]  # fmt: skip
    if other:
        names = ", ".join(sorted(map(str, other))[:5])
        console.print(
            f"{folder.config} differs from the config of the checkpoint ({names}), which is used",
            markup=False, highlight=False,
        )  # fmt: skip
    return saved
