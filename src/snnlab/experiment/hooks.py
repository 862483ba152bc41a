"""What a run does beside training: its metrics file, checkpoints, progress, warnings, figures.

Every hook serves the runs of all seeds that are trained as one program: usually one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from snnlab.errors import SourceFailed
from snnlab.experiment.show import draw
from snnlab.experiment.state import Run, on_host
from snnlab.experiment.warn import warn
from snnlab.interrupts import Interrupted
from snnlab.training.checkpoint_files import Place
from snnlab.training.checkpoint_writer import Due
from snnlab.training.hooks import Hook, Moment
from snnlab.training.placement import on_one
from snnlab.training.progress import ProgressDisplay
from snnlab.training.seeds import member


class RunHook(Hook):
    """A hook of runs.

    Args:
        runs: of each seed; one that is done is left alone.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)

    def going(self) -> list[tuple[int, Run]]:
        """The runs that are not done, with their numbers."""
        return [(i, this) for i, this in enumerate(self.runs) if not this.done]

    def of(self, tree: Any, number: int) -> Any:
        """What belongs to a run of a state or of parameters."""
        return member(tree, number) if len(self.runs) > 1 else tree


class Metrics(RunHook):
    """The rows of ``metrics.jsonl``, with the problem's own measures; the best epoch so far."""

    def on_epoch(self, now: Moment) -> None:
        evaluated = on_one(now.evaluated)
        for i, this in self.going():
            rows, progress = now.rows[i], this.progress
            params, val = self.of(evaluated, i), rows[1]
            if this.problem.measure:
                val.update(this.problem.measure(params))
            progress.epoch = now.place.epoch
            score, before = this.problem.score, progress.best_score
            mine, loss = val[score.name], val["loss"]
            progress.trained(this.config.training, rows[0][score.name])
            if before is None or score.rank(mine, loss) > score.rank(before, progress.best_loss):
                progress.best_epoch = progress.epoch
                progress.best_score, progress.best_loss = mine, loss
                this.best = on_host(params)
            for row in rows:
                this.note(row)


class Speed(RunHook):
    """Time of a step, between the first and the last batch of an epoch; memory of training.

    Args:
        runs: of each seed.
        programs: the compiled ones.
    """

    def __init__(self, runs: Sequence[Run], programs: Any) -> None:
        super().__init__(runs)
        self._programs, self._first = programs, (0, 0.0)

    def on_batch(self, now: Moment) -> None:
        number, clock = now.place.batch, time.perf_counter()
        if number == 1 or not self._first[0]:
            self._first = number, clock
        elif number == now.batches:
            first, began = self._first
            ms = 1000.0 * (clock - began) / (number - first)
            ms /= self.runs[0].problem.n_steps * len(self.runs)
            for _, this in self.going():
                before = this.progress.ms_per_step
                this.progress.ms_per_step = ms if before is None else min(before, ms)

    def on_epoch(self, now: Moment) -> None:
        self._first = 0, 0.0
        for _, this in self.going():
            found = self._programs.temporary_bytes()
            this.progress.training_bytes = found or this.progress.training_bytes


class Checkpoints(RunHook):
    """A checkpoint after every epoch, between epochs as ``--checkpoint_*`` say, and at a signal.

    Args:
        runs: of each seed.
        programs: the compiled ones, for the time that compiling took.
    """

    def __init__(self, runs: Sequence[Run], programs: Any) -> None:
        super().__init__(runs)
        run, self._before = runs[0].config.run, runs[0].progress
        self._seconds, self._compiled = self._before.seconds, self._before.compile_seconds
        # Programs of several seeds are compiled before training begins: their time is its too.
        self._programs, self._began = programs, time.perf_counter() - programs.compile_seconds
        self._due = Due(run.checkpoint_every, run.checkpoint_minutes)
        self._wanted = False

    def wants(self, place: Place) -> bool:
        self._wanted = self._due.now(place.batch)
        return self._wanted

    def on_batch(self, now: Moment) -> None:
        if self._wanted and now.state is not None and now.place.batch < now.batches:
            self.save(now)

    def on_epoch(self, now: Moment) -> None:
        self.save(now)

    def on_end(self, now: Moment, error: BaseException | None) -> None:
        if isinstance(error, Interrupted | SourceFailed):
            self.save(now)
            for this in self.runs:
                this.writer.wait()
                this.folder.logger().info("interrupted after %s", this.saved)

    def save(self, now: Moment) -> None:
        for this in self.runs:  # these never stand more than one checkpoint apart
            this.writer.wait()
            this.folder.check_lock()
        for i, this in self.going():
            if this.saved == now.place:
                continue
            this.progress.seconds = self._seconds + time.perf_counter() - self._began
            this.progress.compile_seconds = self._compiled + self._programs.compile_seconds
            this.save(now.place, self.of(now.state, i), now.averages[i] if now.averages else None)
            this.folder.logger().info(
                "checkpoint of %s, after %.1f s of which %.1f s compiling", now.place,
                this.progress.seconds, this.progress.compile_seconds,
            )  # fmt: skip
        self._due.saved()


class Progress(RunHook):
    """The bar, and a line for every epoch."""

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        super().__init__(runs)
        self._console = console
        self._epochs = runs[0].config.training.epochs

    def on_start(self, now: Moment) -> None:
        problem = self.runs[0].problem
        self._display = ProgressDisplay(
            self._epochs, now.place.epoch + 1, now.batches, problem.n_steps, problem.score,
            self._console,
        )  # fmt: skip
        self._display.__enter__()

    def on_batch(self, now: Moment) -> None:
        assert now.averages is not None
        self._display.batch(now.place.epoch + 1, now.place.batch, now.averages[0])

    def on_epoch(self, now: Moment) -> None:
        for i, this in self.going():
            best = this.progress.best_epoch == now.place.epoch
            seed = f"seed {this.config.run.seed}: " if len(self.runs) > 1 else ""
            self._display.epoch(now.place.epoch, now.rows[i], best, seed)

    def on_end(self, now: Moment, error: BaseException | None) -> None:
        self._display.__exit__()


class Warnings(RunHook):
    """Lines about a network that does not learn."""

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        super().__init__(runs)
        self._console = console

    def on_epoch(self, now: Moment) -> None:
        for i, this in self.going():
            prefix = f"seed {this.config.run.seed}: " if len(self.runs) > 1 else ""
            warn(this, len(now.rows[i]), self._console, prefix)


class Figures(RunHook):
    """Figures of validation samples, as ``--plot_epoch_freq`` says."""

    def on_epoch(self, now: Moment) -> None:
        epoch = now.place.epoch
        for i, this in self.going():
            every = this.config.run.plot_epoch_freq
            if every and epoch % every == 0:
                where = this.folder.figures / f"epoch-{epoch}"
                params = self.of(now.evaluated, i)
                draw(this.config, this.problem, this.parts, params, where, [], 0, "val")


class Stopping(RunHook):
    """The end of a run that reached its goal (``--acc_th``) or is hopeless: as ``--pruning_*`` say,
    or a hook (``Moment.given_up``), which is asked again where a run goes on after such an epoch.
    """

    def on_start(self, now: Moment) -> bool:
        if now.given_up:
            self._give_up(now.given_up)
        return not self.going()

    def on_epoch(self, now: Moment) -> bool:
        for _, this in self.going():
            this.note_stop()
        if now.given_up and now.place.epoch < self.runs[0].config.training.epochs:
            self._give_up(now.given_up)
        return not self.going()

    def _give_up(self, why: str) -> None:
        for _, this in self.going():
            this.done, this.given_up = True, why
            this.folder.logger().info("given up: %s", why)
