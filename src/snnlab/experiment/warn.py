"""Warnings of a run: on the console, in ``log.txt``, in ``results.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from snnlab.training.alarms import alarms, new_alarms

if TYPE_CHECKING:
    from snnlab.experiment.run import Run


def warn(this: Run, n_new: int, console: Console, prefix: str = "") -> None:
    """Tell what came with the last rows; each once in a run."""
    names = this.problem.layer_names
    for text in new_alarms(this.rows, n_new, names, this.config):
        show(text, console, prefix)
        this.folder.logger().warning("%s", text)


def show(text: str, console: Console, prefix: str = "") -> None:
    console.print(f"warning: {prefix}{text}", highlight=False, markup=False, soft_wrap=True)


def warnings_of(this: Run) -> list[str]:
    """All of a run so far, those of its data first."""
    found = alarms(this.rows, this.problem.layer_names, this.config)
    return [*this.problem.facts.get("warnings", ()), *found]
