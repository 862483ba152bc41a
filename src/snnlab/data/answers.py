"""Labels of several stretches of a trial: what a network is to answer, and when."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.data.batch import cut

#: In the place of a label where nothing is asked.
UNASKED = -1


class Answers:
    """Labels of stretches of a trial, as :class:`snnlab.data.batch.Targets` have them; a pytree.

    Args:
        labels: ``(B, n) int32``; :data:`UNASKED` where a trial asks for nothing in a stretch.
        spans: ``((start, stop), ...)`` steps of the n stretches, in order, none in two of them.
    """

    def __init__(self, labels: Any, spans: tuple[tuple[int, int], ...]) -> None:
        self.labels = labels
        self.spans = spans

    def number(self, t: jax.Array | int) -> jax.Array:
        """Which stretch step ``t`` lies in; n for none."""
        start, stop = np.array(self.spans, np.int32).T
        inside = (t >= jnp.asarray(start)) & (t < jnp.asarray(stop))
        return jnp.where(inside.any(), jnp.argmax(inside), len(self.spans))

    def at(self, t: jax.Array | int) -> jax.Array:
        """Labels of step ``t``: ``(B,)``, :data:`UNASKED` outside of the stretches."""
        padded = jnp.pad(jnp.asarray(self.labels), ((0, 0), (0, 1)), constant_values=UNASKED)
        return jnp.take(padded, self.number(t), axis=1)

    def parts(self, n: int) -> list[Answers]:
        """Those of ``n`` equal parts of the samples."""
        return [Answers(part, self.spans) for part in cut(self.labels, n, 0)]


jax.tree_util.register_pytree_node(
    Answers, lambda a: ((a.labels,), a.spans), lambda spans, leaves: Answers(*leaves, spans)
)
