"""The training loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from snnlab import processes
from snnlab.errors import SourceFailed
from snnlab.learners.functional import Params
from snnlab.training.averages import Averages
from snnlab.training.checkpoint_files import Place
from snnlab.training.evaluation import Loader, add, evaluate_seeds
from snnlab.training.hooks import Hook, Moment, ending
from snnlab.training.optim import Plateau
from snnlab.training.placement import on_one
from snnlab.training.programs import Programs, TrainState
from snnlab.training.seeds import SeedPrograms, observe


def fit(
    programs: Programs | SeedPrograms,
    now: Moment,
    train: Loader,
    val: Loader | None,
    hooks: Sequence[Hook],
    *,
    epochs: int,
    plateau: Plateau,
    layer_names: tuple[str, ...],
    renew: Callable[[Params], Params] | None = None,
) -> TrainState:
    """Train from ``now`` to the end of ``epochs``; the state then.

    The device is given a batch before the numbers of the one before are read.

    Args:
        programs: compiled; those of several seeds have a leading axis of seeds everywhere.
        now: where to start; its state is consumed.
        train, val: loaders; ``train`` stands behind the batches that ``now.place`` counts. Without
            ``val`` (a stream) an epoch is judged by what was decided in it, before each update.
        hooks: what to do beside training, in this order.
        epochs: last epoch.
        plateau: learning-rate rule that sees the validation score.
        layer_names: of the recurrent layers, for messages.
        renew: parameters of one seed -> those that the next epoch starts with.

    Raises:
        SourceFailed: the training data ended early; the moment that ``Hook.on_end`` gets is behind
            the last batch that came.
        Diverged: loss, membrane or gradient is not finite. The state of that batch is lost.
        Interrupted: a signal came, to any process; the moment that ``Hook.on_end`` gets is where
            training stands.
    """
    now.batches = len(train)
    with ending(hooks, now):
        ended = any([hook.on_start(now) for hook in hooks])  # noqa: C419 (all are called)
        first = epochs + 1 if any(processes.gathered(ended)) else now.place.epoch + 1
        for epoch in range(first, epochs + 1):
            began = time.perf_counter()
            train.set_epoch(epoch)
            _batches(programs, now, train, hooks, layer_names)
            vals = None
            if val is not None:
                vals = evaluate_seeds(programs, now.state.params, val, epoch, "val", layer_names)
            _close_epoch(programs, now, vals, plateau, renew, began)
            wished = any([hook.on_epoch(now) for hook in hooks])  # noqa: C419 (all are called)
            if any(processes.gathered(wished)):
                break
            processes.check()
    return now.state


def _batches(
    programs: Any, now: Moment, train: Loader, hooks: Sequence[Hook], names: tuple[str, ...]
) -> None:
    """The batches of an epoch that are left."""
    done, totals = now.place.batch, now.averages if now.place.batch else None
    if totals is None:
        totals = programs.averages()
    epoch, state, waiting = now.place.epoch + 1, now.state, None
    coming = iter(train if done < now.batches else ())
    for number in itertools.count(done + 1):
        try:
            batch: Any = next(coming)
        except StopIteration:
            return
        except SourceFailed:
            if waiting is not None:  # so that a hook can keep it
                _read(programs, now, hooks, names, totals, *waiting, state)
            raise
        processes.step()
        state, numbers = programs.train(state, batch.stream, batch.targets)
        if waiting is not None:
            _read(programs, now, hooks, names, totals, *waiting, None)
        place = Place(epoch - 1, number)
        stop = processes.stopping()
        if stop or number == now.batches or any(hook.wants(place) for hook in hooks):
            _read(programs, now, hooks, names, totals, place, numbers, state)
            waiting = None
        else:
            waiting = place, numbers
        if stop:
            processes.check()


def _read(
    programs: Any, now: Moment, hooks: Sequence[Hook], names: tuple[str, ...],
    totals: list[Averages], place: Place, numbers: Any, state: Any,
) -> None:  # fmt: skip
    """Wait for a batch, and tell the hooks."""
    add(numbers, totals, programs, place.epoch + 1, place.batch, names)
    now.place, now.averages, now.state = place, totals, state
    for hook in hooks:
        hook.on_batch(now)


def _close_epoch(
    programs: Any, now: Moment, vals: list[dict[str, Any]] | None, plateau: Plateau,
    renew: Callable[[Params], Params] | None, began: float,
) -> None:  # fmt: skip
    """All that changes the state between two epochs, and the rows of the one that ends."""
    epoch, totals = now.place.epoch + 1, now.averages or []
    rows = [total.row(epoch, "train") for total in totals]
    scores = [row[plateau.score.name] for row in (rows if vals is None else vals)]
    rule = observe(plateau, now.state.plateau, scores, programs.n_seeds)
    now.evaluated = params = now.state.params
    if renew is not None:
        params = (renew if programs.n_seeds is None else jax.vmap(renew))(on_one(params))
    now.state = now.state._replace(plateau=rule, params=params)
    seconds, scales = time.perf_counter() - began, np.atleast_1d(np.asarray(rule.scale))
    now.rows = [(row,) for row in rows] if vals is None else list(zip(rows, vals, strict=True))
    for these, scale in zip(now.rows, scales, strict=True):
        for row in these:
            row |= {"seconds": round(seconds, 3), "lr_scale": float(scale)}
    now.place, now.averages = Place(epoch), None
