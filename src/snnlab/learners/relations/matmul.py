"""``y = x @ W``, all inputs to all neurons."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.relations.base import Map
from snnlab.learners.relations.inputs import Input, product
from snnlab.learners.tuning import current


@dataclasses.dataclass(frozen=True, eq=False)
class MatMul(Map):
    """A dense map; ``w (i, n)`` holds the weights of the concatenated blocks."""

    rounds = True
    dense = True

    def trace_shape(self, k: int) -> tuple[int, ...]:
        return self.shape[0], self.blocks[k].size, self.shape[1]

    def rows(self, values: jax.Array, k: int) -> jax.Array:
        found: jax.Array = self.values(values, k)
        return found

    def times(self, x: Input, rows: jax.Array) -> jax.Array:
        return x.times(rows)

    def turned(self, rows: jax.Array, once: bool) -> jax.Array:
        # Compilers fold a transposition into the product, which then runs at two thirds of its
        # speed.
        return jax.lax.optimization_barrier(rows.T) if once else rows.T

    def back(self, g: jax.Array, turned: jax.Array) -> jax.Array:
        return product("...n,ni->...i", g, turned, turned.dtype)

    def onto(self, rows: jax.Array, neurons: jax.Array) -> jax.Array:
        return rows[jnp.arange(rows.shape[0]), neurons]

    def outer(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        return x.outer(g, dtype)

    def outer_by_sample(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        if x.array.shape[0] == 1 and current().at_once:
            a, b = (v[0].astype(dtype).astype(jnp.float32) for v in (x.array, g))
            return a[:, :, None] * b[:, None, :]
        return product("tbi,tbn->bin", x.array, g, dtype)

    def spread(self, v: jax.Array, k: int) -> jax.Array:
        return v[..., None, :]
