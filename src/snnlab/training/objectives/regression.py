"""A target for every readout unit at every step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.batch import Targets
from snnlab.models.base import StepOutput
from snnlab.scores import NMSE
from snnlab.training.objectives.base import Objective, Ratio


class Regression(Objective):
    """Readouts that follow a target sequence ``y* (T, B, n_out)``.

    ``l_t[b] = mean_k (y_t[b, k] - y*_t[b, k])^2``. The score is the normalised mean squared error
    ``sum (y - y*)^2 / sum y*^2`` over the scored steps, units and samples (Bellec et al. 2020): 0
    is perfect, and 1 is what a readout of zeros gets.
    """

    score = NMSE

    def example(self, batch_size: int) -> Targets:
        zeros = jnp.zeros((1, batch_size, self.n_out), jnp.float32)
        return Targets(zeros, jnp.ones(batch_size, jnp.float32))

    def compare(
        self, out: StepOutput, t: jax.Array, targets: Targets, counts: jax.Array
    ) -> tuple[jax.Array, Any]:
        wanted = target_at(targets.values, t)
        squared = (out.readout - wanted) ** 2
        mine = targets.mask[:, None] * counts
        return squared.mean(-1), Ratio(jnp.sum(mine * squared), jnp.sum(mine * wanted**2))

    def measures(self, measured: Any, targets: Targets) -> dict[str, Ratio]:
        return {"nmse": measured}

    def shown(
        self, readout: np.ndarray, targets: Targets, which: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        steps = jnp.arange(len(readout))
        wanted = jax.vmap(lambda t: target_at(targets.values, t))(steps)
        return np.asarray(wanted)[:, which], None


def target_at(values: Any, t: jax.Array | int) -> jax.Array:
    """Step ``t`` of target sequences, an array or a stream: ``(B, n_out)``."""
    if hasattr(values, "window"):
        return values.at(t)
    return jnp.asarray(values)[t]
