"""One run: its folder, its training, its results."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import interrupts, runs
from snnlab.errors import UsageError
from snnlab.experiment.parts import Parts, build_parts, n_parameters
from snnlab.experiment.problem import Problem
from snnlab.experiment.show import draw, pretrained, probe, simulate
from snnlab.experiment.warn import warn, warnings_of
from snnlab.interrupts import Interrupted
from snnlab.learners.functional import Params
from snnlab.training import trials
from snnlab.training.checkpoints import START, Due, Place, Reader, Writer, places
from snnlab.training.config import TrainingConfig
from snnlab.training.loop import Averages, Diverged, evaluate, fit
from snnlab.training.programs import Programs, TrainState
from snnlab.training.progress import ProgressDisplay, show_rates


def run(config: Any, problem: Problem, console: Console) -> dict[str, Any]:
    """Train (or simulate), and leave a complete run folder.

    Returns:
        What ``results.json`` holds.
    """
    parts = build_parts(config, problem)
    if config.run.mode == "sim":
        return simulate(config, problem, parts, console)
    if config.run.mode == "probe":
        return probe(config, problem, parts, console)
    with opened(config, problem, parts, console) as (this, start):
        announce(config, problem, parts, this.folder.path, console)
        if not config.run.only_do_testing:
            try:
                train([this], parts.programs, start, console)
            except Diverged as error:
                raise UsageError(note_divergence(this, error)) from None
        return finish(this, console)


@dataclasses.dataclass
class Progressed:
    """What a run has reached; saved with every checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float(np.finfo(np.float32).max)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    vmapped: bool = False


@dataclasses.dataclass
class Run:
    """A run that is being made: what it is, where it is written, how far it got.

    Attributes:
        rows: all that ``metrics.jsonl`` holds.
        best: parameters of the best epoch so far, on the host.
        saved: place of the last checkpoint.
        done: it needs no more training.
        pruned: because it was hopeless.
    """

    config: Any
    problem: Problem
    parts: Parts
    folder: runs.RunFolder
    writer: Writer
    best: Params
    progress: Progressed = dataclasses.field(default_factory=Progressed)
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    saved: Place | None = None
    done: bool = False
    pruned: bool = False

    def note(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.folder.metrics.append(row)


@dataclasses.dataclass
class Start:
    """Where training begins: a state, its place, and the averages of the epoch so far."""

    state: TrainState
    place: Place = START
    averages: list[Averages] | None = None


@contextlib.contextmanager
def opened(
    config: Any, problem: Problem, parts: Parts, console: Console, at: Place | None = None
) -> Iterator[tuple[Run, Start]]:
    """Make (or, with ``--resume``, open) the run folder, and hold its lock meanwhile.

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
    if config.run.resume:
        folder.lock()
    else:
        folder = runs.RunFolder.create(
            config.run.filepath, problem.task, config.learner.method, config.run.exp_name
        )
    this = None
    try:
        with runs.disk_errors(folder.path), interrupts.leaving(go_on(folder)):
            writer = Writer(folder.checkpoints, config.run.max_to_keep)
            this = Run(config, problem, parts, folder, writer, _on_host(initial.params))
            if saved:
                start = _resumed(this, console, at)
            else:
                start = _begun(this, initial)
            yield this, start
    except Interrupted as error:
        raise Interrupted(error.signum, error.told or go_on(folder)) from None
    finally:
        if this is not None:
            with contextlib.suppress(OSError):
                this.writer.close()
        folder.unlock()


def _on_host(params: Params) -> dict[str, Any]:
    return {name: np.array(value, copy=True) for name, value in params.items()}


def go_on(folder: runs.RunFolder) -> str:
    """What the user types to go on with a run."""
    script = sys.argv[0] or "the same task"
    return f"go on with: python {shlex.quote(script)} --resume {shlex.quote(str(folder.path))}"


def _facts(problem: Problem) -> dict[str, str]:
    return {**runs.provenance(), **problem.identity}


def _begun(this: Run, initial: TrainState) -> Start:
    """A new run, or one that was ended before its first checkpoint."""
    facts = _facts(this.problem)
    this.folder.write_config(configs.to_yaml(this.config, facts))
    this.folder.logger().info("started %s", facts)
    this.folder.metrics.write(())
    if this.problem.measure:
        measured = this.problem.measure(initial.params)
        this.note({"epoch": 0, "split": "initial", **measured})
    _save(this, START, initial, None)
    return Start(initial)


def _resumed(this: Run, console: Console, at: Place | None) -> Start:
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
    this.progress, this.rows = Progressed(**meta["progress"]), meta["rows"]
    this.best, this.saved = _on_host(best), place
    stop = stopped(config.training, this.progress.epoch, this.progress.best_accuracy)
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
    folder.write_config(configs.to_yaml(config, _facts(this.problem)))
    this.writer.begin_at(place)
    log.info("resumed after %s", place)
    averages = meta["averages"]
    return Start(state, place, None if averages is None else [Averages.of(averages)])


def _has_finished(this: Run, place: Place, stop: str) -> str:
    training, progress, path = this.config.training, this.progress, this.folder.path
    if place.epoch >= training.epochs:
        return (
            f"{path} has finished its {place.epoch} epochs; --epochs {2 * place.epoch} would "
            "continue it"
        )
    if stop == "goal":
        return (
            f"{path} has finished: its validation accuracy of {progress.best_accuracy:.2%} reached "
            f"--acc_th {training.acc_th:g}; a higher --acc_th, or 0, would continue it"
        )
    return (
        f"{path} was given up after epoch {place.epoch} (--pruning_epochs); "
        "--pruning_epochs 0 --pruning_threshold 0 would continue it"
    )


def stopped(training: TrainingConfig, epoch: int, best_accuracy: float) -> str:
    """Why a run that got this far needs no more training: ``goal``, ``pruned``, or nothing."""
    if 0 < training.acc_th <= best_accuracy:
        return "goal"
    given_up = 0 < training.pruning_epochs <= epoch
    return "pruned" if given_up and best_accuracy < training.pruning_threshold else ""


def note_divergence(this: Run, error: Diverged) -> str:
    """Write down that a run diverged; the line that says so."""
    this.writer.wait()
    this.folder.logger().error("%s", error)
    this.folder.write_results({**facts_of(this), "error": str(error)})
    return (
        f"training stopped: {error}; the checkpoint of {this.saved} is kept in "
        f"{this.folder.checkpoints}; try a smaller --lr or --clip_norm"
    )


def _save(this: Run, place: Place, state: TrainState, averages: Averages | None) -> None:
    meta = {
        "progress": dataclasses.asdict(this.progress),
        "rows": this.rows,
        "averages": None if averages is None else averages.state_dict(),
        "loader": this.problem.train.state_dict(),
        "config": configs.to_yaml(this.config),
        "epochs": this.config.training.epochs,
        "identity": this.problem.identity,
    }
    this.writer.save(place, state, this.best, meta)
    this.saved = place


def announce(config: Any, problem: Problem, parts: Parts, folder: Path, console: Console) -> None:
    n = n_parameters(parts)
    console.print(
        f"{problem.task}: {problem.dataset}, {problem.steps_in_words(parts.network)}, "
        f"{n:,} parameters, "
        f"{config.learner.method} ({parts.programs.learner.backend}) on "
        f"{jax.devices()[0].platform}; run folder {folder}", highlight=False,
    )  # fmt: skip
    if problem.note:
        console.print(problem.note, highlight=False)


def train(
    members: list[Run], programs: Programs | trials.TrialPrograms, start: Start, console: Console
) -> None:
    """Train one run, or several as one program (then ``programs`` and states are stacked)."""
    if all(this.done for this in members):
        return
    lead = members[0]
    training, several = lead.config.training, len(members) > 1
    before, compiled = lead.progress.seconds, lead.progress.compile_seconds
    began = time.perf_counter()
    n_batches = len(lead.problem.train)
    display = ProgressDisplay(
        training.epochs, start.place.epoch + 1, n_batches, lead.problem.n_steps, console
    )
    due = Due(lead.config.run.checkpoint_every, lead.config.run.checkpoint_minutes)
    stands = start

    def save(now: Start) -> None:
        for this in members:  # members never stand more than one checkpoint apart
            this.writer.wait()
            this.folder.check_lock()
        for i, this in enumerate(members):
            if this.done or this.saved == now.place:
                continue
            this.progress.seconds = before + time.perf_counter() - began
            this.progress.compile_seconds = compiled + programs.compile_seconds
            own = trials.member(now.state, i) if several else now.state
            _save(this, now.place, own, now.averages[i] if now.averages else None)
        due.saved()

    def on_batch(place: Place, state: TrainState, averages: list[Averages]) -> None:
        nonlocal stands
        stands = Start(state, place, averages)
        display.batch(place.epoch + 1, place.batch, n_batches, averages[0])
        interrupts.check()
        if place.batch < n_batches and due.now(place.batch):
            save(stands)

    def on_epoch(
        epoch: int, evaluated: Params, state: TrainState, rows: list[dict[str, Any]]
    ) -> bool:
        nonlocal stands
        best = [False] * len(members)
        for i, this in enumerate(members):
            if not this.done:
                params = trials.member(evaluated, i) if several else evaluated
                best[i] = _note_epoch(this, epoch, params, rows[2 * i : 2 * i + 2])
        stands = Start(state, Place(epoch))
        save(stands)
        for i, this in enumerate(members):
            if this.done:
                continue
            pair = rows[2 * i : 2 * i + 2]
            display.epoch(epoch, pair, best[i])
            warn(this, len(pair), console, f"seed {this.config.run.seed}: " if several else "")
            stop = stopped(training, this.progress.epoch, this.progress.best_accuracy)
            this.done, this.pruned = bool(stop), stop == "pruned"
            every = this.config.run.plot_epoch_freq
            if every and epoch % every == 0:
                params = trials.member(evaluated, i) if several else evaluated
                where = this.folder.figures / f"epoch-{epoch}"
                draw(this.config, this.problem, this.parts, params, where, [], 0, "val")
        interrupts.check()
        return all(this.done for this in members)

    def loader(split: str) -> Any:
        loaders = [getattr(this.problem, split) for this in members]
        return trials.TrialLoaders(loaders) if several else loaders[0]

    told = "ends after this batch, with a checkpoint; once more: at once, without"
    with interrupts.held(told), display:
        try:
            fit(
                programs, start.state, loader("train"), loader("val"), epochs=training.epochs,
                start=start.place, averages=start.averages, plateau=lead.parts.plateau,
                layer_names=lead.problem.layer_names, on_batch=on_batch, on_epoch=on_epoch,
                renew=lead.problem.renew,
            )  # fmt: skip
        except Interrupted:
            save(stands)
            for this in members:
                this.writer.wait()
                this.folder.logger().info("interrupted after %s", this.saved)
            raise


def _note_epoch(this: Run, epoch: int, evaluated: Params, rows: list[dict[str, Any]]) -> bool:
    """Write the rows of an epoch; whether it is the best so far."""
    val, progress = rows[1], this.progress
    progress.epoch = epoch
    if this.problem.measure:
        val.update(this.problem.measure(evaluated))
    found = val["accuracy"], -val["loss"]
    is_best = found > (progress.best_accuracy, -progress.best_loss)
    if is_best:
        progress.best_epoch = epoch
        progress.best_accuracy, progress.best_loss = val["accuracy"], val["loss"]
        this.best = _on_host(evaluated)
    for row in rows:
        this.note(row)
    this.folder.logger().info("%s", rows)
    return is_best


def facts_of(this: Run) -> dict[str, Any]:
    config, problem, progress = this.config, this.problem, this.progress
    return {
        "val_accuracy": progress.best_accuracy if progress.best_epoch else None,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "batches": progress.epoch * len(problem.train),
        "seconds": round(progress.seconds, 2),
        "compile_seconds": round(progress.compile_seconds, 2),
        "n_parameters": n_parameters(this.parts),
        "method": config.learner.method,
        "backend": this.parts.programs.learner.backend,
        "dataset": problem.dataset,
        "seed": config.run.seed,
        "bin_ms": problem.step_ms(this.parts.network),
        "dt_ms": this.parts.network.dt_ms,
        **({"pruned": True} if this.pruned else {}),
        **({"vmapped": True} if progress.vmapped else {}),
        **problem.facts,
        "warnings": warnings_of(this),
    }


def finish(this: Run, console: Console) -> dict[str, Any]:
    """Restore the best epoch, read the test set once, write results and figures."""
    config, problem, parts = this.config, this.problem, this.parts
    folder, progress = this.folder, this.progress
    this.writer.wait()
    best = jax.tree.map(jax.numpy.asarray, this.best)
    try:
        test = evaluate(
            parts.programs, best, problem.test, progress.best_epoch, "test", problem.layer_names
        )
    except Diverged as error:
        raise UsageError(note_divergence(this, error)) from None
    this.note(test)
    warn(this, 1, console)
    results = {
        "test_accuracy": test["accuracy"],
        **facts_of(this),
        "firing_rates": test["firing_rates"],
        "test_loss": test["loss"],
    }
    folder.write_results(results)
    paths = draw(config, problem, parts, best, folder.figures, this.rows, progress.best_epoch)
    console.print(
        f"test accuracy {test['accuracy']:.2%} (best epoch {progress.best_epoch} of "
        f"{progress.epoch}, rate {show_rates(test['firing_rates'])}, "
        f"{progress.seconds:.0f} s of which {progress.compile_seconds:.0f} s compiling)",
        highlight=False,
    )
    console.print(f"run folder {folder.path}", highlight=False)
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    return results
