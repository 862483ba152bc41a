"""What a logger is: something that is told of a run what its folder holds, as it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Started(NamedTuple):
    """A run that begins, or goes on.

    Attributes:
        folder: of the run; a logger may keep files in a folder of its own there.
        task: its name.
        options: option -> value.
        epoch: epochs that were trained, and told of, before; more may have been told of than are
            kept, if the run was ended without a checkpoint.
        resumed: whether it goes on.
    """

    folder: Path
    task: str
    options: Mapping[str, Any]
    epoch: int
    resumed: bool


class Logger:
    """Told of a run, in this order, in a thread of its own. A subclass has what it needs.

    What it raises ends the log, with a warning, and never the run. A run of several seeds has a
    logger for each.
    """

    def begin(self, run: Started) -> None:
        """Open the log, or go on with that of the same folder."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row of ``metrics.jsonl``: ``epoch``, ``split``, and numbers or lists of them."""

    def end(self, results: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """``results.json``, and the files of the figures (PNG), once both are written."""

    def close(self) -> None:
        """Whatever ended the run, and if anything above has failed, too."""


@dataclasses.dataclass(frozen=True)
class LoggerKind:
    """A line of :data:`snnlab.experiment.loggers.registry.LOGGERS`.

    Attributes:
        summary: for ``--help``.
        make: ``"module:attribute"``, a :class:`Logger` class, or what makes one without arguments.
        package: that it needs, as it is imported; of ``extra``.
        extra: of snnlab.
    """

    summary: str
    make: str
    package: str = ""
    extra: str = ""


def numbers(values: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, float]]:
    """All numbers below a mapping, named by their path: ``firing_rates/1``, ``costs/samples``."""
    for name, value in values.items():
        inner = value
        if isinstance(value, list | tuple):
            inner = {str(k): one for k, one in enumerate(value, start=1)}
        if isinstance(inner, Mapping):
            yield from numbers(inner, f"{head}{name}/")
        elif isinstance(inner, int | float) and not isinstance(inner, bool):
            yield f"{head}{name}", float(inner)
