"""A label for every step of a stream."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnlab.data.batch import Targets
from snnlab.models.base import StepOutput
from snnlab.scores import ACCURACY
from snnlab.training.objectives.base import Objective, Ratio


class StepClassification(Objective):
    """A label in every step; the targets' ``steps`` say in which it is known.

    ``l_t`` is softmax cross-entropy (``cel``), or the squared error to one-hot (``mse``, mean over
    units). The decision of a step is the largest readout in it, made before the update that sees
    the label (prequential: Gama et al. 2013, "On evaluating stream learning algorithms"); the score
    is the share of known steps that it is right for.
    """

    score = ACCURACY

    def example(self, batch_size: int) -> Targets:
        shape = (1, batch_size)
        ones = jnp.ones(shape, jnp.float32)
        return Targets(jnp.zeros(shape, jnp.int32), ones[0], ones)

    def compare(
        self, out: StepOutput, t: jax.Array, targets: Targets, counts: jax.Array
    ) -> tuple[jax.Array, Any]:
        labels = jnp.asarray(targets.values)[t]
        if self.config.loss == "cel":
            loss = optax.softmax_cross_entropy_with_integer_labels(out.readout, labels)
        else:
            wanted = jax.nn.one_hot(labels, self.n_out)
            loss = jnp.mean((out.readout - wanted) ** 2, axis=-1)
        right = jnp.argmax(out.readout, axis=-1) == labels
        mine = targets.mask[:, None] * counts
        return loss, Ratio(jnp.sum(mine * right[:, None]), jnp.sum(mine))

    def measures(self, measured: Any, targets: Targets) -> dict[str, Ratio]:
        return {"accuracy": measured}

    def shown(
        self, readout: np.ndarray, targets: Targets, which: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        raise NotImplementedError("a stream has no samples to show")
