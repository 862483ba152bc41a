"""Maps whose inputs arrive later: ``y_t = sum_i x_{t - d_i, i} W_i``, d in whole steps."""

from __future__ import annotations

from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.errors import UsageError
from snnlab.models.maps import DenseMap

#: Most steps of a delay: each is a state of every input.
LONGEST = 500


class Delayed(brainstate.nn.Module):
    """A map of delayed inputs; ``update(x (B, n_in)) -> (B, n_out)``.

    What is on its way is a state ``(B, n_in)`` for each step of the longest delay, which an online
    rule follows as any other state of the neurons below: D-RTRL is exact where it is without them.
    The map reads these states after they have moved on, so that nothing of a step passes them by.

    Args:
        dense: the map.
        steps: ``(n_in,)`` whole numbers.

    Raises:
        UsageError: a delay of more than :data:`LONGEST` steps.
    """

    def __init__(self, dense: DenseMap, steps: np.ndarray) -> None:
        super().__init__()
        self.map, self.steps = dense, np.asarray(steps, np.int64)
        self.in_size, self.out_size = dense.in_size, dense.out_size
        if self.steps.max() > LONGEST:
            raise UsageError(
                f"a delay of {self.steps.max():,} steps: {LONGEST} at most, each is a state of "
                "every input"
            )

    def init_state(self, batch_size: int | None = None, **kwargs: Any) -> None:
        lead = () if batch_size is None else (batch_size,)
        zero = jnp.zeros((*lead, *self.in_size), jnp.float32)
        self.line = [brainstate.HiddenState(zero) for _ in range(self.steps.max() + 1)]

    def effective_weight(self) -> jax.Array:
        """``(n_in, n_out)``."""
        return self.map.effective_weight()

    def update(self, x: jax.Array) -> jax.Array:
        arrived = [x, *(state.value for state in self.line[:-1])]
        for state, value in zip(self.line, arrived, strict=True):
            state.value = value * 1.0
        late = sum(
            (self.line[d].value * (self.steps == d).astype(np.float32)
             for d in np.unique(self.steps)),
            start=jnp.zeros_like(x),
        )  # fmt: skip
        return self.map(late)
