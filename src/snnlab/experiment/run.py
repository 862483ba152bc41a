"""One run: its folder, its training, its results."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from snnlab import config as configs
from snnlab import runs
from snnlab.errors import UsageError
from snnlab.experiment.parts import Parts, build_parts, n_parameters
from snnlab.experiment.problem import Problem
from snnlab.experiment.show import draw, pretrained, probe, simulate
from snnlab.experiment.warn import warn, warnings_of
from snnlab.training import trials
from snnlab.training.checkpoints import Checkpoints, rank
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
    this, state = open_run(config, problem, parts)
    announce(config, problem, parts, this.folder.path, console)
    if config.run.only_do_testing:
        return finish(this, console)
    try:
        train([this], parts.programs, state, console)
    except Diverged as error:
        raise UsageError(note_divergence(this, error)) from None
    return finish(this, console)


@dataclasses.dataclass
class Run:
    """A run that is being made: what it is, where it is written, how far it got."""

    config: Any
    problem: Problem
    parts: Parts
    folder: runs.RunFolder
    checkpoints: Checkpoints
    progress: Progressed
    done: bool = False
    pruned: bool = False


def open_run(config: Any, problem: Problem, parts: Parts) -> tuple[Run, TrainState]:
    """Make (or, with ``--resume``, open) the run folder; the state from which to go on."""
    resuming = bool(config.run.resume)
    initial = pretrained(config, parts) if config.run.load_exp_folder else parts.state
    folder = (
        runs.RunFolder.existing(config.run.resume)
        if resuming
        else runs.RunFolder.create(
            config.run.filepath, problem.task, config.learner.method, config.run.exp_name
        )
    )
    log = folder.logger()
    checkpoints = Checkpoints(folder.checkpoints, config.run.max_to_keep)
    state, progress = initial, Progressed()
    if resuming:
        state, meta = checkpoints.restore(parts.state)
        progress = Progressed(**meta["progress"])
        if progress.epoch >= config.training.epochs and folder.results.is_file():
            raise UsageError(
                f"{folder.path} has finished its {progress.epoch} epochs; "
                f"--epochs {2 * progress.epoch} would continue it"
            )
        problem.train.load_state_dict(meta["loader"])
        folder.metrics.keep_until(progress.epoch)
        folder.write_config(configs.to_yaml(config, runs.provenance()))
        log.info("resumed after epoch %d", progress.epoch)
    else:
        facts = runs.provenance()
        folder.write_config(configs.to_yaml(config, facts))
        log.info("started %s", facts)
        if problem.measure:
            measured = problem.measure(state.params)
            folder.metrics.append({"epoch": 0, "split": "initial", **measured})
        _save(checkpoints, state, problem, progress)
    return Run(config, problem, parts, folder, checkpoints, progress), state


def note_divergence(this: Run, error: Diverged) -> str:
    """Write down that a run diverged; the line that says so."""
    this.folder.logger().error("%s", error)
    last = this.checkpoints.epochs[-1]
    this.folder.write_results({**facts_of(this), "error": str(error)})
    return (
        f"training stopped: {error}; the checkpoint of epoch {last} is kept in "
        f"{this.folder.checkpoints}; try a smaller --lr or --clip_norm"
    )


@dataclasses.dataclass
class Progressed:
    """What a run has reached; saved with every checkpoint."""

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = float(np.finfo(np.float32).max)
    seconds: float = 0.0
    compile_seconds: float = 0.0


def _save(
    checkpoints: Checkpoints, state: TrainState, problem: Problem, progress: Progressed,
    row: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    meta = {
        "val_accuracy": row["accuracy"] if row else -1.0,
        "val_loss": row["loss"] if row else float(np.finfo(np.float32).max),
        "progress": dataclasses.asdict(progress),
        "loader": problem.train.state_dict(),
    }
    checkpoints.save(progress.epoch, state, meta)


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
    members: list[Run], programs: Programs | trials.TrialPrograms, state: TrainState,
    console: Console,
) -> None:  # fmt: skip
    """Train one run, or several as one program (then ``programs`` and ``state`` are stacked)."""
    lead = members[0]
    training, several = lead.config.training, len(members) > 1
    first = lead.progress.epoch + 1
    before, compiled = lead.progress.seconds, lead.progress.compile_seconds
    began = time.perf_counter()
    display = ProgressDisplay(
        training.epochs, first, len(lead.problem.train), lead.problem.n_steps, console
    )

    def on_batch(epoch: int, number: int, batches: int, totals: Averages) -> None:
        display.batch(epoch, number, batches, totals)

    def on_epoch(epoch: int, state: TrainState, rows: list[dict[str, Any]]) -> bool:
        for i, this in enumerate(members):
            if this.done:
                continue
            this.progress.seconds = before + time.perf_counter() - began
            this.progress.compile_seconds = compiled + programs.compile_seconds
            own = trials.member(state, i) if several else state
            pair = rows[2 * i : 2 * i + 2]
            is_best = _note_epoch(this, epoch, own, pair)
            display.epoch(epoch, pair, is_best)
            warn(this, len(pair), console, f"seed {this.config.run.seed}: " if several else "")
            this.done = 0 < training.acc_th <= pair[1]["accuracy"]
            if epoch == training.pruning_epochs:
                this.pruned = this.progress.best_accuracy < training.pruning_threshold
                this.done |= this.pruned
            every = this.config.run.plot_epoch_freq
            if every and epoch % every == 0:
                where = this.folder.figures / f"epoch-{epoch}"
                draw(this.config, this.problem, this.parts, own, where, [], 0, "val")
        return all(this.done for this in members)

    def loader(split: str) -> Any:
        loaders = [getattr(this.problem, split) for this in members]
        return trials.TrialLoaders(loaders) if several else loaders[0]

    with display:
        fit(
            programs, state, loader("train"), loader("val"), epochs=training.epochs,
            first_epoch=first, plateau=lead.parts.plateau,
            layer_names=lead.problem.layer_names, on_batch=on_batch, on_epoch=on_epoch,
            renew=lead.problem.renew,
        )  # fmt: skip


def _note_epoch(this: Run, epoch: int, state: TrainState, rows: list[dict[str, Any]]) -> bool:
    """Write an epoch of a run; whether it is the best so far."""
    val, progress = rows[1], this.progress
    progress.epoch = epoch
    if this.problem.measure:
        val.update(this.problem.measure(state.params))
    found = {"val_accuracy": val["accuracy"], "val_loss": val["loss"], "epoch": epoch}
    best = {
        "val_accuracy": progress.best_accuracy, "val_loss": progress.best_loss,
        "epoch": progress.best_epoch,
    }  # fmt: skip
    is_best = rank(found) > rank(best)
    if is_best:
        progress.best_epoch = epoch
        progress.best_accuracy, progress.best_loss = val["accuracy"], val["loss"]
    for row in rows:
        this.folder.metrics.append(row)
    _save(this.checkpoints, state, this.problem, progress, val)
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
        **problem.facts,
        "warnings": warnings_of(this),
    }


def finish(this: Run, console: Console) -> dict[str, Any]:
    """Restore the best epoch, read the test set once, write results and figures."""
    config, problem, parts = this.config, this.problem, this.parts
    folder, checkpoints, progress = this.folder, this.checkpoints, this.progress
    best, _ = checkpoints.restore(parts.state, progress.best_epoch)
    test = evaluate(parts.programs, best.params, problem.test, progress.best_epoch, "test")
    folder.metrics.append(test)
    warn(this, 1, console)
    results = {
        "test_accuracy": test["accuracy"],
        **facts_of(this),
        "firing_rates": test["firing_rates"],
        "test_loss": test["loss"],
    }
    folder.write_results(results)
    paths = draw(config, problem, parts, best, folder.figures, folder.metrics.rows(),
                 progress.best_epoch)  # fmt: skip
    console.print(
        f"test accuracy {test['accuracy']:.2%} (best epoch {progress.best_epoch} of "
        f"{progress.epoch}, rate {show_rates(test['firing_rates'])}, "
        f"{progress.seconds:.0f} s of which {progress.compile_seconds:.0f} s compiling)",
        highlight=False,
    )
    console.print(f"run folder {folder.path}", highlight=False)
    console.print(f"figures    {', '.join(str(p) for p in paths)}", highlight=False)
    checkpoints.close()
    return results
