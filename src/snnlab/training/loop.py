"""The training loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import jax
import numpy as np

from snnlab.learners.functional import Params
from snnlab.training.losses import Targets
from snnlab.training.optim import Plateau
from snnlab.training.programs import Programs, TrainState
from snnlab.training.trials import TrialPrograms, member, stack


class Loader(Protocol):
    """Batches of one split; see :mod:`snnlab.data.loader`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Any: ...
    def set_epoch(self, epoch: int) -> None: ...


class Diverged(Exception):
    """Training met a value that is not finite.

    Attributes:
        epoch, batch: where, counted from 1.
        where: the layer (or parameter) in which it began.
    """

    def __init__(self, epoch: int, batch: int, where: str) -> None:
        super().__init__(f"epoch {epoch}, batch {batch}: a value that is not finite in {where}")
        self.epoch, self.batch, self.where = epoch, batch, where


@dataclasses.dataclass
class Averages:
    """Running means over the samples of a split."""

    samples: float = 0.0
    loss: float = 0.0
    correct: float = 0.0
    rates: np.ndarray | None = None
    grad_norm: float | None = None  # of training alone

    def add(self, numbers: dict[str, Any]) -> None:
        count = float(numbers["count"])
        self.samples += count
        self.loss += count * float(numbers["loss"])
        self.correct += float(numbers["correct"])
        if "grad_norm" in numbers:
            self.grad_norm = (self.grad_norm or 0.0) + count * float(numbers["grad_norm"])
        rates = count * np.asarray(numbers["rates"])
        self.rates = rates if self.rates is None else self.rates + rates

    def row(self, epoch: int, split: str) -> dict[str, Any]:
        """One object of ``metrics.jsonl``; rates in Hz, exactly 0 only where nothing spiked."""
        n = max(self.samples, 1.0)
        rates = [] if self.rates is None else [float(f"{r:.6g}") for r in self.rates / n]
        return {
            "epoch": epoch, "split": split, "loss": self.loss / n,
            "accuracy": self.correct / n, "samples": int(self.samples), "firing_rates": rates,
            **({} if self.grad_norm is None else {"grad_norm": self.grad_norm / n}),
        }  # fmt: skip


#: Called with (epoch, batch number, batches, running averages) after every batch.
OnBatch = Callable[[int, int, int, Averages], None]
#: Called with (epoch, state, rows of the epoch) after every epoch; true stops training. Rows are
#: those of training and validation, with several trials one pair after the other.
OnEpoch = Callable[[int, TrainState, list[dict[str, Any]]], bool | None]


def targets_of(batch: Any) -> Targets:
    """Labels and mask of a batch, as numpy arrays: the program takes them to its device."""
    labels, mask = np.asarray(batch.labels, np.int32), np.asarray(batch.mask, np.float32)
    return Targets(cast(jax.Array, labels), cast(jax.Array, mask))


def evaluate(
    programs: Programs, params: Params, batches: Iterable[Any], epoch: int, split: str
) -> dict[str, Any]:
    """Loss, accuracy and firing rates of a split, as a row of ``metrics.jsonl``."""
    return _evaluate(programs, params, batches, epoch, split)[0]


def _evaluate(
    programs: Programs | TrialPrograms, params: Params, batches: Iterable[Any], epoch: int,
    split: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each trial."""
    totals = [Averages() for _ in range(programs.n_trials or 1)]
    for batch in batches:
        numbers = jax.device_get(programs.evaluate(params, batch.stream, targets_of(batch)))
        for i, mine in enumerate(_by_trial(numbers, programs.n_trials)):
            totals[i].add(mine)
    return [total.row(epoch, split) for total in totals]


def _by_trial(numbers: Any, n_trials: int | None) -> list[Any]:
    return [numbers] if n_trials is None else [member(numbers, i) for i in range(n_trials)]


def fit(
    programs: Programs | TrialPrograms,
    state: TrainState,
    train: Loader,
    val: Loader,
    *,
    epochs: int,
    first_epoch: int = 1,
    plateau: Plateau,
    layer_names: tuple[str, ...],
    on_batch: OnBatch,
    on_epoch: OnEpoch,
    renew: Callable[[Params], Params] | None = None,
) -> TrainState:
    """Train from ``first_epoch`` to ``epochs``, both included.

    Args:
        programs: compiled training and evaluation; of several trials, then state, batches and
            numbers have a leading trial axis.
        state: where to start; consumed.
        train, val: loaders; ``train.set_epoch`` fixes the order of an epoch.
        plateau: learning-rate rule that sees the validation accuracy.
        layer_names: of the recurrent layers, for messages.
        on_batch, on_epoch: what to do beside training (progress, files, stopping).
        renew: parameters of one trial -> those that the next epoch starts with.

    Raises:
        Diverged: loss, membrane or gradient is not finite. The state of that batch is lost;
            the checkpoint of the epoch before stays.
    """
    for epoch in range(first_epoch, epochs + 1):
        began = time.perf_counter()
        train.set_epoch(epoch)
        totals = [Averages() for _ in range(programs.n_trials or 1)]
        for number, batch in enumerate(train, start=1):
            state, numbers = programs.train(state, batch.stream, targets_of(batch))
            for i, mine in enumerate(_by_trial(jax.device_get(numbers), programs.n_trials)):
                _check_finite(mine, epoch, number, layer_names)
                totals[i].add(mine)
            on_batch(epoch, number, len(train), totals[0])
        vals = _evaluate(programs, state.params, val, epoch, "val")
        state = state._replace(plateau=_observe(plateau, state.plateau, vals, programs.n_trials))
        rows = [r for total, row in zip(totals, vals) for r in (total.row(epoch, "train"), row)]
        scales = np.atleast_1d(np.asarray(state.plateau.scale))
        for i, row in enumerate(rows):
            row["seconds"] = round(time.perf_counter() - began, 3)
            row["lr_scale"] = float(scales[i // 2])
        if on_epoch(epoch, state, rows):
            break
        if renew is not None:
            each = renew if programs.n_trials is None else jax.vmap(renew)
            state = state._replace(params=each(state.params))
    return state


def _observe(plateau: Plateau, rule: Any, vals: list[dict[str, Any]], n_trials: int | None) -> Any:
    scores = [val["accuracy"] for val in vals]
    if n_trials is None:
        return plateau.observe(rule, scores[0])
    return stack([plateau.observe(member(rule, i), s) for i, s in enumerate(scores)])


def _check_finite(
    numbers: dict[str, Any], epoch: int, batch: int, layer_names: tuple[str, ...]
) -> None:
    broken = np.asarray(numbers["broken"])
    if broken.any():
        where = int(np.argmax(broken))  # most steps = broken first; the lowest layer of those
        names = (*(f"the membrane of {n}" for n in layer_names), "the readout")
        raise Diverged(epoch, batch, names[where])
    gradients = [n for n, bad in numbers["broken_gradients"].items() if bad]
    if gradients:
        raise Diverged(epoch, batch, f"the gradient of {gradients[0]}")
    if not np.isfinite(numbers["loss"] + numbers["penalty"]):
        raise Diverged(epoch, batch, "the loss")
