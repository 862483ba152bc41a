"""What a network does on a split, and whether its numbers are finite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from snnlab import processes
from snnlab.learners.functional import Params
from snnlab.training.averages import Averages
from snnlab.training.costs import Costs
from snnlab.training.predictions import Predictions
from snnlab.training.programs import Programs
from snnlab.training.seeds import SeedPrograms, member


class Loader(Protocol):
    """Batches of one split; see :mod:`snnlab.data.loader`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def set_epoch(self, epoch: int) -> None: ...


class Diverged(Exception):
    """Training or evaluation met a value that is not finite.

    Attributes:
        epoch: where, counted from 1.
        batch: the same; 0 in the evaluation after the epoch.
        where: the layer (or parameter) in which it began.
    """

    def __init__(self, epoch: int, batch: int, where: str) -> None:
        place = f"batch {batch}" if batch else "evaluation"
        super().__init__(f"epoch {epoch}, {place}: a value that is not finite in {where}")
        self.epoch, self.batch, self.where = epoch, batch, where


def evaluate(
    programs: Programs, params: Params, batches: Iterable[Any], epoch: int, split: str,
    layer_names: tuple[str, ...] | None = None, decided: Predictions | None = None,
    costs: Costs | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Loss, measures and firing rates of a split, as a row of ``metrics.jsonl``.

    Args:
        decided: what each sample was taken for is added to it.
        costs: what the network took is added to it.

    Raises:
        Diverged: with ``layer_names``, if the network computes a value that is not finite;
            without, the row's loss is ``nan``.
    """
    return evaluate_seeds(programs, params, batches, epoch, split, layer_names, decided, costs)[0]


def evaluate_seeds(
    programs: Programs | SeedPrograms, params: Params, batches: Iterable[Any], epoch: int,
    split: str, layer_names: tuple[str, ...] | None = None, decided: Predictions | None = None,
    costs: Costs | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """:func:`evaluate` with a row for each seed; ``decided``, ``costs`` are of one seed alone."""
    totals = programs.averages()
    for number, batch in enumerate(batches):
        processes.step()
        if costs is None:
            numbers = programs.evaluate(params, batch.stream, batch.targets)
        else:
            assert isinstance(programs, Programs)
            numbers, counts = programs.evaluate_and_count(params, batch.stream, batch.targets)
            costs.add(counts)
        add(numbers, totals, programs, epoch, 0, layer_names)
        if decided is not None:
            decided.add(number, batch, numbers)
        processes.check()
    return [total.row(epoch, split) for total in totals]


def add(
    numbers: Any, totals: list[Averages], programs: Programs | SeedPrograms, epoch: int,
    batch: int, layer_names: tuple[str, ...] | None,
) -> None:  # fmt: skip
    """Wait for the numbers of a batch and add them to the averages of each seed.

    Raises:
        Diverged: with ``layer_names``, if one is not finite.
    """
    found = jax.device_get(numbers)
    for i, total in enumerate(totals):
        mine = found if programs.n_seeds is None else member(found, i)
        if layer_names is not None:
            _check_finite(mine, epoch, batch, layer_names)
        total.add(mine)


def _check_finite(
    numbers: dict[str, Any], epoch: int, batch: int, layer_names: tuple[str, ...]
) -> None:
    broken = np.asarray(numbers["broken"])
    if broken.any():
        where = int(np.argmax(broken))  # most steps = broken first; the lowest layer of those
        names = (*(f"the membrane of {n}" for n in layer_names), "the readout")
        raise Diverged(epoch, batch, names[where])
    gradients = [n for n, bad in numbers.get("broken_gradients", {}).items() if bad]
    if gradients:
        raise Diverged(epoch, batch, f"the gradient of {gradients[0]}")
    if not np.isfinite(numbers["loss"] + numbers["penalty"]):
        raise Diverged(epoch, batch, "the loss")
