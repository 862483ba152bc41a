"""Begin a run, or go on with one: from its folder to where training starts."""

from __future__ import annotations

import contextlib
import filecmp
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from snnlab import config as configs
from snnlab import interrupts, processes, runs
from snnlab.console import this_command, typed_command
from snnlab.errors import UsageError, by_keywords
from snnlab.experiment.assembly import Assembly, n_parameters
from snnlab.experiment.loggers.base import Started
from snnlab.experiment.loggers.beside import Logs
from snnlab.experiment.loggers.registry import named
from snnlab.experiment.problem import Problem
from snnlab.experiment.show import pretrained
from snnlab.experiment.state import Progressed, Run, on_host, reached_by, stopped
from snnlab.interrupts import Interrupted
from snnlab.training.averages import Averages
from snnlab.training.checkpoint_files import START, SUMS, Place, places, sum_of
from snnlab.training.checkpoint_writer import NoWriter, Writer
from snnlab.training.checkpoints import Reader
from snnlab.training.hooks import Moment
from snnlab.training.programs import TrainState


@contextlib.contextmanager
def opened(
    config: Any, problem: Problem, parts: Assembly, console: Console, at: Place | None = None
) -> Iterator[tuple[Run, Moment]]:
    """Make (or, with ``--resume``, open) the run folder, and hold its lock meanwhile.

    Of several processes (``--distributed``) process 0 does so, and the others write nothing.

    Args:
        at: the checkpoint to resume from, if not the newest sound one.

    Yields:
        The run, and where its training begins.

    Raises:
        UsageError: the folder cannot be used or written, or the run has finished.
        Interrupted: a signal came; it says which command goes on.
    """
    initial, saved = parts.state, []
    if config.run.resume:
        folder = runs.RunFolder.existing(config.run.resume)
        saved = places(folder.checkpoints)
        trained = max((row["epoch"] for row in folder.metrics.rows()), default=0)
        if not saved and (trained or folder.results.is_file()):
            raise UsageError(
                f"{folder.path} has lost its checkpoints: it was trained for {trained} epochs; to "
                "train it anew, choose another --filepath"
            )
    if config.run.load_exp_folder and not saved:
        initial = pretrained(config, parts, console)
    leads = processes.leads()
    if not leads:
        folder = runs.Watched(Path(processes.shared(None)))
    elif config.run.resume:
        folder.lock()
    else:
        folder = runs.RunFolder.create(
            config.run.filepath, problem.task, config.learner.method, config.run.exp_name
        )
    this = None
    try:
        with (
            runs.disk_errors(folder.path),
            interrupts.leaving(go_on(folder)),
            processes.awaiting_news(),
        ):
            if leads:
                processes.shared(str(folder.path.absolute()))
            writer = Writer(folder.checkpoints, config.run.max_to_keep) if leads else NoWriter()
            if leads:
                keep(folder, problem.files)
            this = Run(config, problem, parts, folder, writer, on_host(initial.params))
            if saved:
                start = _resumed(this, console, at)
            else:
                start = _begun(this, console, initial)
            yield this, start
    except Interrupted as error:
        raise Interrupted(error.signum, error.told or go_on(folder)) from None
    finally:
        if this is not None:
            if this.logs is not None:
                this.logs.close()
            with contextlib.suppress(OSError):
                this.writer.close()
        folder.unlock()


def announce(
    config: Any, problem: Problem, parts: Assembly, folder: runs.RunFolder, console: Console,
    how: str = "", end: str = "",
) -> None:  # fmt: skip
    """Say what begins, on the console and in ``log.txt``.

    Args:
        config, problem, parts, folder, console: of the run.
        how: how long its trials are, in the words of the problem if this is empty.
        end: when it ends, where a run says so.
    """
    devices = parts.programs.placement.n
    where = f"{devices} devices: " if devices > 1 else ""
    what = (
        f"{problem.task}: {problem.dataset}, {how or problem.steps_in_words(parts.network)}, "
        f"{n_parameters(parts):,} parameters, {config.learner.method} "
        f"({parts.programs.learner.backend}) on {where}{jax.devices()[0].platform}{end}"
    )
    console.print(f"{what}; run folder {folder.path}", highlight=False)
    for line in (what, problem.note):
        if line:
            folder.logger().info("%s", line)
    if problem.note:
        console.print(problem.note, highlight=False)


def keep(folder: runs.RunFolder, files: Mapping[str, Path]) -> None:
    """Copy what a network is made of into a run's folder, so that it goes on without the originals.

    Args:
        folder: of the run.
        files: by the name of the copy, which is left as it is if it is there.

    Raises:
        UsageError: a file cannot be copied, or another one has the name.
    """
    for name, path in files.items():
        target, part = folder.path / name, folder.path / f".{name}.part"
        try:
            if not target.exists():
                shutil.copyfile(path, part)
                part.replace(target)
            elif not filecmp.cmp(path, target, shallow=False):
                raise UsageError(
                    f"{target} is another file than {path}, of which the run keeps a copy there; "
                    "choose another --filepath"
                )
        except OSError as error:
            raise UsageError(f"cannot copy {path} to {target}: {error.strerror}") from None


def go_on(folder: runs.RunFolder) -> str:
    """What the user types to go on with a run."""
    if by_keywords():
        return f"go on with: resume={str(folder.path)!r}"
    return f"go on with: {this_command()} --resume {shlex.quote(str(folder.path))}"


def log_start(this: Run, what: str, facts: dict[str, str]) -> None:
    """The head of a run in ``log.txt``: its command, versions and data."""
    log = this.folder.logger()
    log.info("%s: %s", what, "from Python" if by_keywords() else typed_command())
    log.info("%s", ", ".join(f"{name} {value}" for name, value in facts.items()))


def _facts(problem: Problem) -> dict[str, str]:
    return {**runs.provenance(), **problem.identity}


def _log(this: Run, console: Console, resumed: bool = False) -> None:
    """Open the loggers that ``--log`` names."""
    names = named(this.config.run.log)
    if not names or not processes.leads():
        return

    def tell(line: str) -> None:
        this.folder.logger().warning("%s", line)
        console.print(line, markup=False, highlight=False)

    path, options = this.folder.path.absolute(), configs.flat(this.config)
    run = Started(path, this.problem.task, options, this.progress.epoch, resumed)
    this.logs = Logs(names, run, tell)


def _begun(this: Run, console: Console, initial: TrainState) -> Moment:
    """A new run, or one that was ended before its first checkpoint."""
    facts = _facts(this.problem)
    this.folder.write_config(configs.to_yaml(this.config, facts))
    log_start(this, "started", facts)
    _log(this, console)
    this.folder.metrics.write(())
    if this.problem.measure:
        measured = this.problem.measure(initial.params)
        this.note({"epoch": 0, "split": "initial", **measured})
    this.save(START, initial, None)
    return Moment(initial)


def _resumed(this: Run, console: Console, at: Place | None) -> Moment:
    """Go on from a checkpoint.

    Raises:
        UsageError: no sound one, other recordings, or a run that has finished.
    """
    config, folder = this.config, this.folder
    log = folder.logger()

    def tell(line: str) -> None:
        log.warning("%s", line)
        console.print(line, markup=False, highlight=False)

    reader = Reader(folder.checkpoints, tell)
    place = at or reader.newest()[0]
    place = Place(*processes.shared([place.epoch, place.batch]))
    state, best, meta = reader.restore(this.parts.state, place)
    other = [
        f"{name}: {meta['identity'].get(name, 'none')} != {this.problem.identity.get(name, 'none')}"
        for name in {**meta["identity"], **this.problem.identity}
        if meta["identity"].get(name) != this.problem.identity.get(name)
    ]
    if other:
        raise UsageError(
            f"--resume {folder.path} was trained on other recordings (there != here): "
            + "; ".join(other)
        )
    processes.agree({f"checkpoint {place.name}": sum_of(folder.checkpoints / place.name / SUMS)})
    this.progress, this.rows = Progressed(**meta["progress"]), meta["rows"]
    this.best, this.saved, this.memory = on_host(best), place, meta.get("memory", {})
    stop = stopped(config.training, this.problem.score, this.progress)
    if place.batch == 0 and (stop or place.epoch >= config.training.epochs):
        if folder.finished and place == max(places(folder.checkpoints)):
            raise UsageError(_has_finished(this, place, stop))
        this.done, this.pruned = bool(stop), stop == "pruned"
    this.problem.train.load_state_dict(meta["loader"])
    if meta["epochs"] != config.training.epochs and config.training.schedule == "cosine":
        tell(
            f"--epochs {config.training.epochs} instead of {meta['epochs']}: the cosine schedule "
            "now ends there, so this is neither the run that began nor one of that many epochs"
        )
    folder.metrics.write(this.rows)
    facts = _facts(this.problem)
    folder.write_config(configs.to_yaml(config, facts))
    this.writer.begin_at(place)
    log_start(this, f"resumed after {place}", facts)
    _log(this, console, resumed=True)
    averages = meta["averages"]
    return Moment(state, place, None if averages is None else [Averages.of(averages)])


def _has_finished(this: Run, place: Place, stop: str) -> str:
    training, progress, path = this.config.training, this.progress, this.folder.path
    if place.epoch >= training.epochs:
        return (
            f"{path} has finished its {place.epoch} epochs; --epochs {2 * place.epoch} would "
            "continue it"
        )
    if stop == "goal":
        score, best = this.problem.score, reached_by(training, progress)
        assert best is not None
        better = "higher" if score.rises else "lower"
        return (
            f"{path} has finished: its {training.goal_of} {score.words} of {score.show(best)} "
            f"reached --acc_th {training.acc_th:g}; a {better} --acc_th, or 0, would continue it"
        )
    return (
        f"{path} was given up after epoch {place.epoch} (--pruning_epochs); "
        "--pruning_epochs 0 --pruning_threshold 0 would continue it"
    )
