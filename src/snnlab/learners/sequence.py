"""The gradient of whole sequences, at parameters that stay: what rules are compared by."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.data.stream import Stream
from snnlab.learners.base import Learner, add
from snnlab.learners.functional import Params


def gradient_of_sequence(
    learner: Learner, params: Params, stream: Stream, targets: Any, n_steps: int,
    every: int = 0, key: jax.Array | None = None,
) -> tuple[Params, Any]:  # fmt: skip
    """Gradients by name and the objective's metrics, of all steps of a batch; traceable.

    Args:
        learner: source of gradients.
        params: of the network, and the learner's own.
        stream, targets: of the batch.
        n_steps: T.
        every: steps of a segment (``--update_every``), whose gradients are summed, the parameters
            left as they are; 0 = one segment.
        key: key data of what draws.
    """

    def segment(carry: Any, start: Any, length: int) -> tuple[Any, tuple[Params, Any]]:
        found = learner.segment(params, carry, stream, targets, start, length)
        return found.carry, (found.gradients, found.metrics)

    carry = learner.fresh(key)
    n, rest = divmod(n_steps, every) if 0 < every < n_steps else (1, 0)
    if n == 1:
        return segment(carry, 0, n_steps)[1]
    carry, parts = jax.lax.scan(
        lambda carry, k: segment(carry, k * every, every), carry, jnp.arange(n)
    )
    total = jax.tree.map(lambda a: a.sum(0), parts)
    if rest:
        total = add(total, segment(carry, n * every, rest)[1])
    return total
