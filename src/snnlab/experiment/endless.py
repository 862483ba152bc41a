"""A run on a stream that never ends.

The one loop trains it: a stretch of the stream is a batch, on which states and traces go on
(:mod:`snnlab.training.endless`), and an "epoch" is the stretches of a row of ``metrics.jsonl``.
There is no validation: a decision is judged before the update that sees its label.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from snnlab import interrupts
from snnlab.errors import SourceFailed, UsageError
from snnlab.experiment import hooks as own
from snnlab.experiment.assembly import assemble, n_parameters
from snnlab.experiment.moving import Moving, thinned
from snnlab.experiment.opening import announce, opened
from snnlab.experiment.problem import Problem
from snnlab.experiment.state import Run, note_divergence, on_host
from snnlab.interrupts import Interrupted
from snnlab.training.checkpoint_files import Place
from snnlab.training.evaluation import Diverged
from snnlab.training.hooks import Hook, Moment
from snnlab.training.loop import fit

#: Seconds between two lines about progress, at least.
LINE_SECONDS = 5.0


class Watch(own.RunHook):
    """Accuracy over the moving window, recovery after changes, rows of ``metrics.jsonl``."""

    def __init__(self, this: Run, moving: Moving) -> None:
        super().__init__([this])
        self.moving = moving
        self._seen = (0.0, 0.0)

    def on_start(self, now: Moment) -> None:
        (this,) = self.runs
        if now.averages is not None and now.place.batch < now.batches:
            self._seen = self._sums(now)
        self.before = this.memory.get("before") or self._counts()

    def on_batch(self, now: Moment) -> None:
        sums = self._sums(now)
        self.moving.add(sums[0] - self._seen[0], sums[1] - self._seen[1])
        self._seen = (0.0, 0.0) if now.place.batch == now.batches else sums

    def on_epoch(self, now: Moment) -> None:
        (this,) = self.runs
        moving, (row,) = self.moving, now.rows[0]
        this.progress.epoch = now.place.epoch
        row |= {
            "step": moving.stretches * moving.steps, "steps": now.batches * moving.steps,
            "moving_accuracy": moving.accuracy,
        }  # fmt: skip
        if moving.every:
            counts = self._counts()
            row |= {name: counts[name] - self.before[name] for name in counts}
            self.before = counts
        this.note(row)
        rows = thinned(this.rows)
        if rows is not this.rows:
            this.rows = rows
            this.folder.metrics.write(rows)

    def _counts(self) -> dict[str, int]:
        found = self.moving
        return {
            "changes": found.changes, "recovered": found.recovered,
            "recovery_steps": found.recovery,
        }  # fmt: skip

    def _sums(self, now: Moment) -> tuple[float, float]:
        assert now.averages is not None
        right, known = now.averages[0].measures[self.runs[0].problem.score.name]
        return right, known


class Checkpoints(own.Checkpoints):
    """A checkpoint as ``--checkpoint_*`` say, at a signal, and at the end."""

    def __init__(self, this: Run, programs: Any, watch: Watch) -> None:
        super().__init__([this], programs)
        run = this.config.run
        self._watch = watch
        self._due.every = -(-run.checkpoint_every // watch.moving.steps)

    def wants(self, place: Place) -> bool:
        self._wanted = self._due.now(self._stretch(place))
        return self._wanted

    def on_epoch(self, now: Moment) -> None:
        last = now.place.epoch >= self.runs[0].config.training.epochs
        if last or self._due.now(self._stretch(now.place)):
            self.save(now)

    def _stretch(self, place: Place) -> int:
        return place.epoch * len(self.runs[0].problem.train) + place.batch

    def save(self, now: Moment) -> None:
        (this,) = self.runs
        this.memory = {"moving": self._watch.moving.state_dict(), "before": self._watch.before}
        this.best = on_host(now.state.params)  # what is used later is the latest
        super().save(now)


class Lines(Hook):
    """A line about the stream every few seconds at most."""

    def __init__(self, this: Run, moving: Moving, console: Console) -> None:
        self._this, self._moving, self._console = this, moving, console
        self._last, self._told = time.perf_counter(), moving.stretches

    def on_epoch(self, now: Moment) -> None:
        waited = time.perf_counter() - self._last
        if waited < LINE_SECONDS:
            return
        moving = self._moving
        took = 1e3 * waited / ((moving.stretches - self._told) * moving.steps)
        self._last, self._told = time.perf_counter(), moving.stretches
        recovered = f", recovered {moving.recovered} of {moving.changes}" * bool(moving.changes)
        accuracy = "no labels" if moving.accuracy is None else f"accuracy {moving.accuracy:.1%}"
        self._console.print(
            f"step {moving.stretches * moving.steps:,}: {accuracy}{recovered}, {took:.3g} ms/step",
            highlight=False,
        )


class Figure(own.RunHook):
    """The figure, at the end of training or where a signal ends it."""

    def __init__(self, this: Run, moving: Moving) -> None:
        super().__init__([this])
        self.moving = moving
        self.paths: list[Path] = []

    def on_end(self, now: Moment, error: BaseException | None) -> None:
        if error is None or isinstance(error, Interrupted | SourceFailed):
            from snnlab.analysis.figures import save, stream_figure

            (this,) = self.runs
            if this.rows:
                found = self.moving.facts().get("accuracy_after_change", ())
                chance = 1 / this.problem.n_out
                fig = stream_figure(this.rows, found, chance)
                self.paths = save(fig, this.folder.figures / "stream.png")


def run(
    config: Any, problem: Problem, console: Console, hooks: Sequence[Hook] = ()
) -> dict[str, Any]:
    """Train on a stream until ``--steps``, or until it is interrupted; a complete run folder.

    Args:
        config, problem: what is trained.
        console: where to say how it goes.
        hooks: what else is to be done beside training.

    Returns:
        What ``results.json`` holds.

    Raises:
        UsageError: options that do not fit, a value that is not finite, a run that has its steps.
        Interrupted: a signal; the checkpoint is written, and it says which command goes on.
    """
    with contextlib.closing(problem.train.source):
        return _run(config, problem, console, hooks)


def _run(config: Any, problem: Problem, console: Console, hooks: Sequence[Hook]) -> dict[str, Any]:
    parts = assemble(config, problem)
    data, training = config.data, config.training
    moving = Moving(
        data.span,
        training.window // data.span,
        data.change_every // data.span,
        training.margin,
        1 / problem.n_out,
    )
    with opened(config, problem, parts, console) as (this, start):
        if start.place.epoch >= training.epochs:
            done = training.report_every * start.place.epoch
            raise UsageError(
                f"{this.folder.path} has its {done:,} steps; --steps {2 * done}, or 0 for no end, "
                "would continue it"
            )
        watch = Watch(this, moving)
        if this.memory:
            moving.load_state_dict(this.memory["moving"])
        changes = f"a change of {data.change} every {data.change_every:,}, " * bool(
            data.change_every
        )
        end = f"{training.steps:,} steps" if training.steps else "no end: Ctrl-C saves"
        how = f"{changes}an update every {config.learner.update_every}"
        announce(config, problem, parts, this.folder, console, how, f", {end}")
        figure = Figure(this, moving)
        beside = (
            watch, Checkpoints(this, parts.programs, watch), Lines(this, moving, console),
            own.Warnings([this], console), figure, *hooks,
        )  # fmt: skip
        told = "ends after this stretch, with a checkpoint; once more: at once, without"
        try:
            with interrupts.held(told):
                fit(
                    parts.programs, start, problem.train, None, beside, epochs=training.epochs,
                    plateau=parts.plateau, layer_names=problem.layer_names, renew=problem.renew,
                )  # fmt: skip
        except Diverged as error:
            raise UsageError(note_divergence(this, error)) from None
        except (Interrupted, SourceFailed):
            if not training.steps and moving.stretches:  # a signal is its only end
                this.folder.write_results(_results(this, moving))
            raise
        return _finish(this, moving, figure, console)


def _results(this: Run, moving: Moving) -> dict[str, Any]:
    """What ``results.json`` holds."""
    config, problem, progress = this.config, this.problem, this.progress
    found = moving.facts()
    trained = progress.seconds - progress.compile_seconds
    return {
        "score": problem.score.name,
        **found,
        "updates": found["steps"] // config.learner.update_every,
        "seconds": round(progress.seconds, 2),
        "compile_seconds": round(progress.compile_seconds, 2),
        "ms_per_step": 1e3 * trained / found["steps"],
        "n_parameters": n_parameters(this.parts),
        "method": config.learner.method,
        "backend": this.parts.programs.learner.backend,
        "dataset": problem.dataset,
        "seed": config.run.seed,
        "dt_ms": this.parts.network.dt_ms,
        **problem.facts,
        "warnings": this.warnings(),
    }


def _finish(this: Run, moving: Moving, figure: Figure, console: Console) -> dict[str, Any]:
    this.writer.wait()
    progress, found, results = this.progress, moving.facts(), _results(this, moving)
    this.folder.write_results(results)
    if this.logs is not None:
        this.logs.end(results, figure.paths)
    back = ""
    if moving.changes:
        mean = found["recovery_steps"]
        back = f"; recovered from {moving.recovered} of {moving.changes} changes" + (
            f", after {mean:,.0f} steps in the mean" if mean else ""
        )
    accuracy = "no labels" if moving.accuracy is None else f"accuracy {moving.accuracy:.2%}"
    console.print(
        f"{found['steps']:,} steps: {accuracy} over the last {found['window']:,}{back} "
        f"({results['ms_per_step']:.3g} ms/step, {progress.seconds:.0f} s of which "
        f"{progress.compile_seconds:.0f} s compiling)",
        highlight=False,
    )
    this.folder.logger().info("finished: results and figure are written")
    console.print(f"run folder {this.folder.path}", highlight=False)
    console.print(f"figures    {', '.join(map(str, figure.paths))}", highlight=False)
    return results
