"""A label for every sequence."""

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


class Classification(Objective):
    """A label for every sequence, a loss at every scored step.

    ``l_t`` is softmax cross-entropy (``cel``), or the squared error to one-hot (``mse``, mean over
    units). The prediction is the largest readout, summed over scored steps; the score is the share
    of samples that it is right for.
    """

    score = ACCURACY

    def example(self, batch_size: int) -> Targets:
        return Targets(jnp.zeros(batch_size, jnp.int32), jnp.ones(batch_size, jnp.float32))

    def compare(
        self, out: StepOutput, t: jax.Array, targets: Targets, counts: jax.Array
    ) -> tuple[jax.Array, Any]:
        if self.config.loss == "cel":
            loss = optax.softmax_cross_entropy_with_integer_labels(out.readout, targets.values)
        else:
            wanted = jax.nn.one_hot(targets.values, self.n_out)
            loss = jnp.mean((out.readout - wanted) ** 2, axis=-1)
        return loss, counts * out.readout

    def measures(self, measured: Any, targets: Targets) -> dict[str, Ratio]:
        right = jnp.argmax(measured, axis=-1) == targets.values
        return {"accuracy": Ratio(jnp.sum(targets.mask, where=right), targets.mask.sum())}

    def decisions(self, measured: Any) -> dict[str, jax.Array]:
        """``predictions (B,)``, the classes."""
        return {"predictions": jnp.argmax(measured, axis=-1)}

    def choose(self, targets: Targets, n: int) -> list[int]:
        """One sample of each class, in the order of classes."""
        labels, mask = np.asarray(targets.values), np.asarray(targets.mask)
        seen: list[int] = []
        for i in range(len(labels)):
            if mask[i] and labels[i] not in labels[seen] and len(seen) < n:
                seen.append(i)
        return sorted(seen, key=lambda i: labels[i])

    def shown(
        self, readout: np.ndarray, targets: Targets, which: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        decisions = readout[self.warmup :].sum(0).argmax(-1)
        return np.asarray(targets.values)[which], decisions
