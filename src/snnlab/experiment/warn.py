"""Warnings of a run: on the console, in ``log.txt``, in ``results.json``."""

from __future__ import annotations

from rich.console import Console

from snnlab.experiment.state import Run
from snnlab.training.alarms import new_alarms


def warn(this: Run, n_new: int, console: Console, prefix: str = "") -> None:
    """Tell what came with the last rows; each once in a run."""
    names = this.problem.layer_names
    for text in new_alarms(this.rows, n_new, names, this.config):
        show(text, console, prefix)
        this.folder.logger().warning("%s", text)


def show(text: str, console: Console, prefix: str = "") -> None:
    console.print(f"warning: {prefix}{text}", highlight=False, markup=False, soft_wrap=True)
