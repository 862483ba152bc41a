"""Objectives: loss of a step and the metrics beside it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from snnlab.models.base import StepOutput
from snnlab.training.config import TrainingConfig


class Targets(NamedTuple):
    """What a batch must be compared with: ``labels (B,) int32``, ``mask (B,)`` of 0 and 1."""

    labels: jax.Array
    mask: jax.Array


class Metrics(NamedTuple):
    """Sums over the steps of a segment.

    Attributes:
        loss: task loss of the scored steps, averaged over samples.
        penalty: regularisers.
        scored: number of scored steps.
        readout: ``(B, n_out)``, summed over scored steps; its argmax is the prediction.
        spikes: ``(n_layers,)`` spikes per neuron, averaged over samples and neurons.
        steps: number of steps.
        broken: ``(n_layers + 1,)`` steps in which a layer's membrane (last: the readout) held a
            value that is not finite.
    """

    loss: jax.Array
    penalty: jax.Array
    scored: jax.Array
    readout: jax.Array
    spikes: jax.Array
    steps: jax.Array
    broken: jax.Array


@dataclasses.dataclass(frozen=True)
class Classification:
    """A label for every sequence, a loss at every scored step.

    ``L_t = mean_b l(readout_t[b], label[b]) + regularisers`` for ``t >= warmup``, where ``l`` is
    softmax cross-entropy (``cel``) or the squared error to one-hot (``mse``, mean over units).
    The gradient is that of ``sum_t L_t``.

    Regularisers act at every step, so that each learner can use them:
    ``spk_reg_factor * mean_n (mean_b s_t[b, n] - rate step)^2`` and
    ``v_reg_factor * mean_{b,n} (relu(v - high)^2 + relu(low - v)^2)``, summed over layers.

    Args:
        n_out: readout units.
        n_layers: recurrent layers.
        warmup: steps without loss at the start.
        step_ms: length of a step in the time of rates: of a recording, what was recorded in
            it; of generated trials, what is simulated.
        config: loss and regularisers.
    """

    n_out: int
    n_layers: int
    warmup: int
    step_ms: float
    config: TrainingConfig

    def example(self, batch_size: int) -> Targets:
        return Targets(jnp.zeros(batch_size, jnp.int32), jnp.ones(batch_size, jnp.float32))

    def step(self, out: StepOutput, t: jax.Array, batch: Targets) -> tuple[jax.Array, Metrics]:
        weight = batch.mask / jnp.maximum(batch.mask.sum(), 1.0)
        scored = (t >= self.warmup).astype(jnp.float32)
        task = scored * jnp.sum(weight * self._loss(out.readout, batch.labels))
        penalty = scored * self._penalty(out, weight)
        spikes = jnp.stack([jnp.sum(weight * s.mean(-1)) for s in out.spikes])
        broken = jnp.stack([_broken(v) for v in (*out.membrane, out.readout)])
        metrics = Metrics(
            task, penalty, scored, scored * out.readout, spikes, jnp.float32(1.0), broken
        )
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
            weight = batch.mask / jnp.maximum(batch.mask.sum(), 1.0)
            for spikes in outs.spikes:
                rate = jnp.einsum("b,tbn->n", weight, spikes) / spikes.shape[0]
                excess = jax.nn.relu(c.reg_fmin - rate) + jax.nn.relu(rate - c.reg_fmax)
                total += c.reg_factor * excess.sum()
        return total

    def _loss(self, readout: jax.Array, labels: jax.Array) -> jax.Array:
        """``(B,)``."""
        if self.config.loss == "cel":
            return optax.softmax_cross_entropy_with_integer_labels(readout, labels)
        return jnp.mean((readout - jax.nn.one_hot(labels, self.n_out)) ** 2, axis=-1)

    def _penalty(self, out: StepOutput, weight: jax.Array) -> jax.Array:
        c = self.config
        total = jnp.float32(0.0)
        if c.spk_reg_factor > 0:
            target = c.spk_reg_rate * self.step_ms / 1000.0
            for s in out.spikes:
                total += c.spk_reg_factor * jnp.mean((weight @ s - target) ** 2)
        if c.v_reg_factor > 0:
            for v in out.membrane:
                excess = jax.nn.relu(v - c.v_reg_high) ** 2 + jax.nn.relu(c.v_reg_low - v) ** 2
                total += c.v_reg_factor * jnp.sum(weight * excess.mean(-1))
        return total


def _broken(values: jax.Array) -> jax.Array:
    return jnp.logical_not(jnp.all(jnp.isfinite(values))).astype(jnp.float32)


def summarise(metrics: Metrics, batch: Targets, step_ms: float) -> dict[str, Any]:
    """Numbers of a batch from the sums over its sequence.

    Returns:
        ``loss`` and ``penalty`` per scored step, ``correct`` and ``count`` of samples,
        ``rates`` ``(n_layers,)`` in Hz of the time of ``step_ms``, ``predictions (B,)``.
    """
    predictions = jnp.argmax(metrics.readout, axis=-1)
    correct = jnp.sum(batch.mask * (predictions == batch.labels))
    scored = jnp.maximum(metrics.scored, 1.0)
    return {
        "loss": metrics.loss / scored,
        "penalty": metrics.penalty / scored,
        "correct": correct,
        "count": batch.mask.sum(),
        "rates": metrics.spikes / metrics.steps * (1000.0 / step_ms),
        "predictions": predictions,
        "broken": metrics.broken,
    }
