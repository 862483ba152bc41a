"""``y = x @ W`` with k synapses from each input: what does not exist has no weight, no trace."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.relations.base import Map
from snnlab.learners.relations.inputs import Input
from snnlab.models import sparse


class Rows(NamedTuple):
    """Values ``(i, k)`` of existing synapses, and their targets ``post (i, k)``."""

    values: jax.Array
    post: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse(Map):
    """A sparse map; ``w (i, k)`` holds the values of existing synapses.

    Attributes:
        post: their targets ``(i, k)``, uint32.
    """

    post: Any = None
    _targets: dict[int, jax.Array] = dataclasses.field(default_factory=dict)

    def targets(self, k: int) -> jax.Array:
        """Targets of the rows of block ``k``; one array, so that a program holds it once."""
        if k not in self._targets:
            with jax.ensure_compile_time_eval():
                self._targets[k] = jnp.asarray(np.asarray(self.values(np.asarray(self.post), k)))
        return self._targets[k]

    def trace_shape(self, k: int) -> tuple[int, ...]:
        return self.shape[0], self.blocks[k].size, self.w.aval.shape[1]

    def rows(self, values: jax.Array, k: int) -> Rows:
        return Rows(self.values(values, k), self.targets(k))

    def times(self, x: Input, rows: Rows) -> jax.Array:
        # the product that has derivatives: its loop skips inputs of 0, which may have a tangent
        return sparse.sparse_product(x.array, rows.values, rows.post, n_out=self.shape[1])

    def turned(self, rows: Rows, once: bool) -> Rows:
        return rows

    def back(self, g: jax.Array, turned: Rows) -> jax.Array:
        return sparse.back(g, turned.values, turned.post)

    def onto(self, rows: Rows, neurons: jax.Array) -> jax.Array:
        there = rows.post == neurons[:, None].astype(rows.post.dtype)
        return jnp.sum(jnp.where(there, rows.values, 0.0), axis=1)

    def outer(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        return sparse.outer(x.array, g, self.targets(k))

    def outer_by_sample(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        post = self.targets(k)
        pairs = jnp.moveaxis(x.array, 1, 0), jnp.moveaxis(g, 1, 0)
        return jax.lax.map(lambda pair: sparse.outer(pair[0], pair[1], post), pairs)

    def spread(self, v: jax.Array, k: int) -> jax.Array:
        return v.at[..., self.targets(k)].get(mode=sparse.VALID)
