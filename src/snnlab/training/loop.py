"""The training loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

import jax
import numpy as np

from snnlab import interrupts
from snnlab.learners.functional import Params
from snnlab.training.checkpoints import START, Place
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

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`of` makes the same averages of it."""
        rates = None if self.rates is None else self.rates.tolist()
        return {**dataclasses.asdict(self), "rates": rates}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Averages:
        rates = state["rates"]
        return cls(**{**state, "rates": None if rates is None else np.asarray(rates, np.float32)})

    def row(self, epoch: int, split: str) -> dict[str, Any]:
        """One object of ``metrics.jsonl``; rates in Hz, exactly 0 only where nothing spiked."""
        n = max(self.samples, 1.0)
        rates = [] if self.rates is None else [float(f"{r:.6g}") for r in self.rates / n]
        return {
            "epoch": epoch, "split": split, "loss": self.loss / n,
            "accuracy": self.correct / n, "samples": int(self.samples), "firing_rates": rates,
            **({} if self.grad_norm is None else {"grad_norm": self.grad_norm / n}),
        }  # fmt: skip


#: Called with (place, state, running averages of every trial) after every batch. The state is
#: consumed by the next batch.
OnBatch = Callable[[Place, TrainState, list[Averages]], None]
#: Called with (epoch, evaluated parameters, state, rows of the epoch) after every epoch; true stops
#: training. Rows are those of training and validation, with several trials one pair after the
#: other. The state is that from which the next epoch starts.
OnEpoch = Callable[[int, Params, TrainState, list[dict[str, Any]]], bool | None]


def targets_of(batch: Any) -> Targets:
    """Labels and mask of a batch, as numpy arrays: the program takes them to its device."""
    labels, mask = np.asarray(batch.labels, np.int32), np.asarray(batch.mask, np.float32)
    return Targets(cast(jax.Array, labels), cast(jax.Array, mask))


def evaluate(
    programs: Programs, params: Params, batches: Iterable[Any], epoch: int, split: str,
    layer_names: tuple[str, ...] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Loss, accuracy and firing rates of a split, as a row of ``metrics.jsonl``.

    Raises:
        Diverged: with ``layer_names``, if the network computes a value that is not finite;
            without, the row's loss is ``nan``.
    """
    return _evaluate(programs, params, batches, epoch, split, layer_names)[0]


def _evaluate(
    programs: Programs | TrialPrograms, params: Params, batches: Iterable[Any], epoch: int,
    split: str, layer_names: tuple[str, ...] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each trial; with ``layer_names``, values that are not finite end it."""
    totals = [Averages() for _ in range(programs.n_trials or 1)]
    for batch in batches:
        numbers = jax.device_get(programs.evaluate(params, batch.stream, targets_of(batch)))
        for i, mine in enumerate(_by_trial(numbers, programs.n_trials)):
            if layer_names is not None:
                _check_finite(mine, epoch, 0, layer_names)
            totals[i].add(mine)
        interrupts.check()
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
    start: Place = START,
    averages: list[Averages] | None = None,
    plateau: Plateau,
    layer_names: tuple[str, ...],
    on_batch: OnBatch,
    on_epoch: OnEpoch,
    renew: Callable[[Params], Params] | None = None,
) -> TrainState:
    """Train from ``start`` to the end of ``epochs``.

    Args:
        programs: compiled training and evaluation; of several trials, then state, batches and
            numbers have a leading trial axis.
        state: where to start; consumed.
        train, val: loaders; ``train.set_epoch`` fixes the order of an epoch. Inside an epoch
            ``train`` stands behind the batches that ``start`` counts.
        epochs: last epoch.
        start: epochs done, and batches of the next one.
        averages: of those batches, for every trial.
        plateau: learning-rate rule that sees the validation accuracy.
        layer_names: of the recurrent layers, for messages.
        on_batch, on_epoch: what to do beside training (progress, files, stopping).
        renew: parameters of one trial -> those that the next epoch starts with.

    Raises:
        Diverged: loss, membrane or gradient is not finite, in training or validation. The state
            of that batch is lost; the checkpoint before stays.
        Interrupted: a signal came; what ``on_batch`` or ``on_epoch`` was given last is where
            training stands.
    """
    for epoch in range(start.epoch + 1, epochs + 1):
        began = time.perf_counter()
        train.set_epoch(epoch)
        done = start.batch if epoch == start.epoch + 1 else 0
        totals = [Averages() for _ in range(programs.n_trials or 1)]
        if done and averages is not None:
            totals = averages
        for number, batch in enumerate(train if done < len(train) else (), start=done + 1):
            state, numbers = programs.train(state, batch.stream, targets_of(batch))
            for i, mine in enumerate(_by_trial(jax.device_get(numbers), programs.n_trials)):
                _check_finite(mine, epoch, number, layer_names)
                totals[i].add(mine)
            on_batch(Place(epoch - 1, number), state, totals)
        vals = _evaluate(programs, state.params, val, epoch, "val", layer_names)
        state = state._replace(plateau=_observe(plateau, state.plateau, vals, programs.n_trials))
        rows = [r for total, row in zip(totals, vals) for r in (total.row(epoch, "train"), row)]
        scales = np.atleast_1d(np.asarray(state.plateau.scale))
        for i, row in enumerate(rows):
            row["seconds"] = round(time.perf_counter() - began, 3)
            row["lr_scale"] = float(scales[i // 2])
        evaluated = state.params
        if renew is not None:
            each = renew if programs.n_trials is None else jax.vmap(renew)
            state = state._replace(params=each(evaluated))
        if on_epoch(epoch, evaluated, state, rows):
            break
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
    gradients = [n for n, bad in numbers.get("broken_gradients", {}).items() if bad]
    if gradients:
        raise Diverged(epoch, batch, f"the gradient of {gradients[0]}")
    if not np.isfinite(numbers["loss"] + numbers["penalty"]):
        raise Diverged(epoch, batch, "the loss")
