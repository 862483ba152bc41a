"""What all objectives share: masks, regularisers, what is summed over steps and over samples."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab import sharding
from snnlab.data.batch import Targets
from snnlab.models.base import StepOutput
from snnlab.scores import SCORES, Score
from snnlab.training.config import TrainingConfig


class Metrics(NamedTuple):
    """Sums over the steps of a segment.

    Attributes:
        loss: task loss of the scored steps, averaged over samples.
        penalty: regularisers.
        scored: number of scored steps, averaged over samples.
        measured: the objective's own, for :meth:`Objective.measures`.
        spikes: ``(n_layers,)`` spikes per neuron, averaged over samples and neurons.
        steps: number of steps.
        broken: ``(n_layers + 1,)`` steps in which a layer's membrane (last: the readout) held a
            value that is not finite.
    """

    loss: jax.Array
    penalty: jax.Array
    scored: jax.Array
    measured: Any
    spikes: jax.Array
    steps: jax.Array
    broken: jax.Array

    def over_shards(self) -> Metrics:
        """Of all samples, from those of a shard; what is ``measured`` stays that of its own."""
        sums = self.loss, self.penalty, self.scored, self.spikes, self.steps
        loss, penalty, scored, spikes, steps = sharding.total(sums)
        broken = sharding.largest(self.broken)
        return Metrics(loss, penalty, scored, self.measured, spikes, steps, broken)


class Ratio(NamedTuple):
    """A measure: ``above / below``, both sums over samples, so that batches of any padding add."""

    above: jax.Array
    below: jax.Array


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A loss at every scored step, and what is measured beside it.

    ``L_t = 1/B sum_b m_t[b] l_t[b] + regularisers`` over the B real samples of a batch, where
    ``m_t[b]`` is 1 if step t of sample b counts: from ``warmup`` on, and where the targets' own
    masks of steps say so. The gradient is that of ``sum_t L_t``.

    On several devices each has the part of ``L_t`` that its samples make (:mod:`snnlab.sharding`).

    Regularisers act at every scored step, so that each learner can use them:
    ``spk_reg_factor * mean_n (mean_b s_t[b, n] - rate step)^2`` and
    ``v_reg_factor * mean_{b,n} (relu(v - high)^2 + relu(low - v)^2)``, summed over layers.
    With ``spk_reg_of`` population a mean over neurons is squared, not its parts; with
    ``v_reg_square`` the second mean is squared.

    Args:
        n_out: readout units.
        n_layers: recurrent layers.
        warmup: steps without loss at the start.
        step_ms: length of a step in the time of rates: of a recording, what was recorded in
            it; of generated trials, what is simulated.
        config: loss and regularisers.
    """

    #: By which networks are judged; one of :meth:`measures`.
    score: ClassVar[Score]
    #: Further shares that :meth:`measures` gives, which results name beside the score.
    beside: ClassVar[tuple[Score, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        score = getattr(cls, "score", None)
        if score is not None:  # so that figures know a user's own, too
            SCORES.setdefault(score.name, score)

    n_out: int
    n_layers: int
    warmup: int
    step_ms: float
    config: TrainingConfig

    # -- what an objective is

    @abc.abstractmethod
    def example(self, batch_size: int) -> Targets:
        """Targets of the right dtypes; of a sequence, a single step."""

    def counted(self, t: jax.Array, targets: Targets) -> jax.Array | None:
        """Which samples step ``t`` counts for: ``(B,)``, or a number; ``None``: for all."""
        return None if targets.steps is None else jnp.asarray(targets.steps)[t]

    @abc.abstractmethod
    def compare(
        self, out: StepOutput, t: jax.Array, targets: Targets, counts: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Loss ``(B,)`` of each sample in step ``t``, and what is summed for :meth:`measures`.

        Args:
            out: of the step.
            t: number of the step.
            targets: of the batch.
            counts: 1 for the samples whose step counts, padding apart: a number for all of them,
                or ``(B, 1)``.
        """

    @abc.abstractmethod
    def measures(self, measured: Any, targets: Targets) -> dict[str, Ratio]:
        """Named measures of a batch, the score among them.

        Args:
            measured: sums of what :meth:`compare` gave over all steps.
            targets: of the batch.
        """

    def decisions(self, measured: Any) -> dict[str, jax.Array]:
        """What each sample of a batch was taken for, ``(B, ...)`` by name.

        ``predictions (B,)``, classes beside the labels of the targets, of the test set make
        ``predictions.csv`` and the confusion matrix of a run.
        """
        return {}

    # -- for figures

    def choose(self, targets: Targets, n: int) -> list[int]:
        """At most ``n`` samples of a batch worth showing."""
        return np.flatnonzero(np.asarray(targets.mask))[:n].tolist()

    @abc.abstractmethod
    def shown(
        self, readout: np.ndarray, targets: Targets, which: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """What figures compare the readout ``(T, b, n_out)`` of the samples ``which`` with.

        Returns:
            True classes ``(b,)`` and decisions ``(b,)``; or target sequences ``(T, b, n_out)`` and
            ``None``.
        """

    # -- what learners and programs ask

    def step(self, out: StepOutput, t: jax.Array, batch: Targets) -> tuple[jax.Array, Metrics]:
        """Scalar loss of step ``t``, and metrics that are summed over steps."""
        weight = self._weight(batch)
        every = (t >= self.warmup).astype(jnp.float32)
        mine = self.counted(t, batch)
        if mine is None:
            loss, measured = self.compare(out, t, batch, every)
            scored, task = sharding.once(every), every * jnp.sum(weight * loss)
        else:
            counts = jnp.broadcast_to(every * mine, weight.shape)
            loss, measured = self.compare(out, t, batch, counts[:, None])
            scored, task = jnp.sum(weight * counts), jnp.sum(weight * counts * loss)
        penalty = every * self._penalty(out, weight)
        spikes = jnp.stack([jnp.sum(weight * s.mean(-1)) for s in out.spikes])
        broken = jnp.stack([_broken(v) for v in (*out.membrane, out.readout)])
        steps = sharding.once(jnp.float32(1.0))
        metrics = Metrics(task, penalty, scored, measured, spikes, steps, broken)
        return task + penalty, jax.lax.stop_gradient(metrics)

    def over_sequence(self, outs: StepOutput, batch: Targets) -> jax.Array:
        """Penalty of rates over the whole sequence, for a learner that has it at once.

        ``reg_factor * sum_n [relu(fmin - r_n) + relu(r_n - fmax)]`` over the neurons of all
        layers, ``r_n`` the mean over samples and steps. Source: Bittar & Garner 2022, as in
        their code.

        Args:
            outs: with a leading axis T.
            batch: targets; padded samples do not count.
        """
        c, total = self.config, jnp.float32(0.0)
        if c.use_regularizers:
            weight = self._weight(batch)
            for spikes in outs.spikes:
                rate = sharding.total(jnp.einsum("b,tbn->n", weight, spikes)) / spikes.shape[0]
                excess = jax.nn.relu(c.reg_fmin - rate) + jax.nn.relu(rate - c.reg_fmax)
                total += c.reg_factor * excess.sum()
        return sharding.once(total)

    def summarise(self, metrics: Metrics, batch: Targets) -> dict[str, Any]:
        """Numbers of a batch from the sums over its sequence.

        Returns:
            ``loss`` and ``penalty`` per scored step, ``measures`` by name, ``count`` of samples,
            ``rates`` ``(n_layers,)`` in Hz of the time of ``step_ms``, ``broken``, and
            :meth:`decisions`.
        """
        scored = jnp.maximum(metrics.scored, 1.0)
        return {
            "loss": metrics.loss / scored,
            "penalty": metrics.penalty / scored,
            "measures": sharding.total(self.measures(metrics.measured, batch)),
            "count": sharding.total(batch.mask.sum()),
            "rates": metrics.spikes / metrics.steps * (1000.0 / self.step_ms),
            "broken": metrics.broken,
            **sharding.gathered(self.decisions(metrics.measured)),
        }

    def _weight(self, batch: Targets) -> jax.Array:
        """Of each sample in a mean over the real ones of the batch, all shards of it: ``(B,)``."""
        count = batch.mask.sum() if batch.total is None else batch.total
        return batch.mask / jnp.maximum(count, 1.0)

    def _penalty(self, out: StepOutput, weight: jax.Array) -> jax.Array:
        c = self.config
        total = jnp.float32(0.0)
        if c.spk_reg_factor > 0:
            target = c.spk_reg_rate * self.step_ms / 1000.0
            for s in out.spikes:
                rate = sharding.total(weight @ s)
                rate = jnp.mean(rate) if c.spk_reg_of == "population" else rate
                total += sharding.once(c.spk_reg_factor * jnp.mean((rate - target) ** 2))
        if c.v_reg_factor > 0:
            for v in out.membrane:
                excess = jax.nn.relu(v - c.v_reg_high) ** 2 + jax.nn.relu(c.v_reg_low - v) ** 2
                mean = jnp.sum(weight * excess.mean(-1))
                if c.v_reg_square:
                    mean = sharding.once(sharding.total(mean) ** 2)
                total += c.v_reg_factor * mean
        return total


def _broken(values: jax.Array) -> jax.Array:
    return jnp.logical_not(jnp.all(jnp.isfinite(values))).astype(jnp.float32)
