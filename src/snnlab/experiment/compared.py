"""A rule's gradient beside BPTT's while a network trains (``--compare_gradient``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from snnlab.analysis.gradients import HIDDEN, LAYER, agreements
from snnlab.experiment.agreement import SPLIT
from snnlab.experiment.hooks import RunHook
from snnlab.experiment.state import Run
from snnlab.learners import make_learner
from snnlab.learners.base import Learner
from snnlab.learners.config import LearnerConfig
from snnlab.learners.functional import Params
from snnlab.learners.sequence import gradient_of_sequence
from snnlab.training.checkpoint_files import START
from snnlab.training.hooks import Hook, Moment
from snnlab.training.placement import on_one
from snnlab.training.seeds import SeedPrograms, stack

#: The stream of random numbers of a seed from which dropout and UORO's signs are drawn.
OF_COMPARISON = 0xC05


def compared(runs: Sequence[Run], programs: Any) -> list[Hook]:
    """The hook that compares, if that is asked for."""
    every = runs[0].config.run.compare_gradient
    return [Compared(runs, programs, every)] if every else []


class Compared(RunHook):
    """Rows ``gradient``: before training, every so many epochs and after the last.

    Nothing that trains is touched: batch, gradients and draws are its own.

    Args:
        runs: of each seed.
        programs: the compiled ones; several seeds are compared as one program too.
        every: epochs between two comparisons.
    """

    def __init__(self, runs: Sequence[Run], programs: Any, every: int) -> None:
        super().__init__(runs)
        self._every, self._programs = every, programs
        self._functions = [_gradients(this) for this in self.runs]
        self._batch: Any = None

    def on_start(self, now: Moment) -> None:
        self._batch = stack([_first_batch(this.problem.train) for this in self.runs])
        if now.place == START:
            self._note(now.state.params, 0)

    def on_epoch(self, now: Moment) -> None:
        epoch = now.place.epoch
        if epoch % self._every == 0 or epoch == self.runs[0].config.training.epochs:
            self._note(now.evaluated, epoch)

    def _note(self, params: Params, epoch: int) -> None:
        """A row of every seed."""
        params = on_one(params)
        keys = [
            jax.random.key_data(jax.random.key(this.config.run.seed ^ (OF_COMPARISON + epoch)))
            for this in self.runs
        ]
        stream, targets = self._batch.stream, self._batch.targets
        if isinstance(self._programs, SeedPrograms):
            args = params, stream, targets, jax.numpy.stack(keys)
            found = self._programs.program(SPLIT, self._functions, args)(*args)
        else:
            stream, targets = jax.tree.map(lambda a: a[0], (stream, targets))
            args = params, stream, targets, keys[0]
            found = self._programs.program(SPLIT, self._functions[0], *args)(*args)
        gradients = jax.tree.map(np.asarray, found)
        for i, this in self.going():
            this.note({"epoch": epoch, "split": SPLIT, **_row(*self.of(gradients, i))})


def _first_batch(loader: Any) -> Any:
    """The first batch of epoch 1; the loader stands where it stood."""
    place = loader.state_dict()
    loader.set_epoch(1)
    try:
        return next(iter(loader))
    finally:
        loader.load_state_dict(place)


def _gradients(this: Run) -> Any:
    """``(parameters, stream, targets, key)`` -> gradients of the rule, and of BPTT."""
    config, problem, parts = this.config, this.problem, this.parts
    programs = parts.programs

    def learner(of: LearnerConfig) -> Learner:
        size, objective = problem.batch_size, programs.objective
        return make_learner(of, parts.make_network, size, objective, config.run.seed)

    rule = programs.learner if programs.placement.n == 1 else learner(config.learner)
    bptt = learner(LearnerConfig(method="bptt"))

    def gradients(params: Params, stream: Any, targets: Any, key: Any) -> tuple[Params, Params]:
        def of(learner: Learner, every: int) -> Params:
            steps = problem.n_steps
            return gradient_of_sequence(learner, params, stream, targets, steps, every, key)[0]

        return of(rule, config.learner.update_every), of(bptt, 0)

    return gradients


def _row(gradient: Params, exact: Params) -> dict[str, Any]:
    names = {(HIDDEN, HIDDEN): "", (LAYER, "readout"): "readout_"}
    return {
        f"{names[one.scope, one.name]}{measure}": getattr(one, measure)
        for one in agreements(gradient, exact) if (one.scope, one.name) in names
        for measure in ("cosine", "norm_ratio")
    }  # fmt: skip
