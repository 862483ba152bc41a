"""What a user sees while a run goes on: a bar, and a line for every epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from snnlab.scores import Score
from snnlab.training.averages import Averages


def show_rates(row: Mapping[str, Any]) -> str:
    """``"rate 12.1/0.083/0 Hz"``, of each layer, 0 where nothing spiked; empty without spikes."""
    rates = row.get("firing_rates")
    if not rates:
        return ""
    return "rate " + "/".join(f"{r:.1f}" if r >= 1 else f"{r:.2g}" for r in rates) + " Hz"


#: Columns of a terminal from which on there is room for the bar, and for rates and speed beside it.
BAR, ALL = 72, 100


class ProgressDisplay:
    """A bar over all batches of the run, with running loss, score, rates, speed and time left.

    On a terminal it is one line that is redrawn in place, with what there is room for, and lines of
    epochs are as short as they must be not to be broken. Otherwise there are only these, long.

    Args:
        epochs: last epoch.
        first_epoch: where the run starts.
        batches: batches of an epoch.
        steps_per_batch: time steps of a batch, for steps/s.
        score: what the network is judged by.
        console: where to write.
    """

    def __init__(
        self, epochs: int, first_epoch: int, batches: int, steps_per_batch: int, score: Score,
        console: Console,
    ) -> None:  # fmt: skip
        self.console = console
        self._score = score
        self._steps = steps_per_batch
        self._epochs = epochs
        self._batches = batches
        self._first = first_epoch
        self._began: float | None = None
        self._done = 0
        self._wide = console.width >= ALL
        line = Column(no_wrap=True, overflow="ellipsis")
        bar = [BarColumn(bar_width=24 if self._wide else 10)] if console.width >= BAR else []
        self._bar = Progress(
            SpinnerColumn(), TextColumn("epoch {task.fields[epoch]}"), *bar,
            TextColumn("{task.fields[numbers]}", table_column=line), TextColumn("left"),
            TimeRemainingColumn(compact=not self._wide),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(
            "train", total=(epochs - first_epoch + 1) * batches, epoch=f"{first_epoch}/{epochs}",
            numbers="compiling",
        )  # fmt: skip

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def batch(self, epoch: int, number: int, totals: Averages) -> None:
        if self._began is None:  # the first batch compiles
            self._began = time.perf_counter()
            speed = 0.0
        else:
            self._done += 1
            speed = self._done * self._steps / max(time.perf_counter() - self._began, 1e-9)
        row = totals.row(epoch, "train")
        numbers = f"loss {row['loss']:.3f}  {self._shown(row, 1)}"
        if self._wide:
            numbers += f"  {show_rates(row).removeprefix('rate ')}  {speed:,.0f} steps/s"
        done = (epoch - self._first) * self._batches + number
        self._bar.update(
            self._task, completed=done, epoch=f"{epoch}/{self._epochs}", numbers=numbers
        )

    def epoch(
        self, epoch: int, rows: tuple[dict[str, Any], ...], best: bool, seed: str = ""
    ) -> None:
        """A line for an epoch; ``seed`` says of which seed, where there are several."""
        train, val = rows
        mark, rate = " *" * best, show_rates(val)
        time_ = f"{val['seconds']:.1f} s{mark}"
        forms = [
            f"{seed}epoch {epoch:3d}/{self._epochs}  train loss {train['loss']:.4f} "
            f"{self._shown(train)}  val loss {val['loss']:.4f} {self._shown(val)}"
            f"  {rate}{'  ' * bool(rate)}{time_}"
        ]
        for digits, parts in ((4, ("train", "val")), (3, ("train", "val")), (3, ("val",))):
            of = [
                f"{split} {row['loss']:.{digits}g} {self._score.show(row[self._score.name])}"
                for split, row in zip(("train", "val"), rows) if split in parts
            ]  # fmt: skip
            forms.append(" ".join([f"{seed}epoch {epoch}/{self._epochs}", *of, time_]))
        room = self.console.width if self.console.is_terminal else len(forms[0])
        line = next((form for form in forms if len(form) <= room), forms[-1])
        self.console.print(line, highlight=False, soft_wrap=True)

    def _shown(self, row: dict[str, Any], digits: int = 2) -> str:
        """``acc 98.61%``"""
        score = self._score
        return f"{score.short or score.name} {score.show(row[score.name], digits):>6}"
