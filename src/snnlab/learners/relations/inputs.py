"""What a relation's block sees in the steps of a chunk: an array, or a list of events."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.stores.kernels import events


def product(axes: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """A product with factors of ``dtype``, summed in float32."""
    return jnp.einsum(axes, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def flat(a: jax.Array) -> jax.Array:
    """``(..., n) -> (R, n)``."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])  # not -1: a block may be empty


@dataclasses.dataclass
class Input:
    """Input ``(K, B, i)`` of the K steps of a chunk; or of one step, ``(B, i)``.

    Attributes:
        array: costs nothing in a compiled program that does not use it.
    """

    array: jax.Array

    def times(self, w: jax.Array) -> jax.Array:
        """``x W (..., n)``."""
        return product("...i,in->...n", self.array, w, w.dtype)

    def outer(self, g: jax.Array, dtype: Any) -> jax.Array:
        """``x^T g (i, n)``, summed over steps and samples."""
        # an einsum over two axes would copy x
        return product("ri,rn->in", flat(self.array), flat(g), dtype)

    def weighted_sum(self, share: jax.Array) -> jax.Array:
        """``sum_t share[t] x_t (B, i)`` for ``share (K,)``."""
        return jnp.einsum("t,tbi->bi", share, self.array)


@dataclasses.dataclass
class Events(Input):
    """The same, and as a list, whose products cost what there is of events.

    Attributes:
        cell, bounds: the list; see :mod:`snnlab.learners.stores.kernels.events`.
        binary: whether several events of an input in a step count once.
    """

    cell: jax.Array
    bounds: jax.Array
    binary: bool

    def times(self, w: jax.Array) -> jax.Array:
        """``x W (K, B, n)``; the first i rows of ``w`` count, so that none need be copied."""
        _, batch, n_in = self.array.shape
        return events.times(self.cell, self.bounds, w.astype(jnp.float32), batch, n_in, self.binary)

    def outer(self, g: jax.Array, dtype: Any) -> jax.Array:
        rounded = g.astype(dtype).astype(jnp.float32)
        return events.outer(self.cell, self.bounds, rounded, self.array.shape[-1], self.binary)

    def weighted_sum(self, share: jax.Array) -> jax.Array:
        _, batch, n_in = self.array.shape
        return events.weighted(self.cell, self.bounds, share, batch, n_in, self.binary)


jax.tree_util.register_dataclass(Input, ["array"], [])
jax.tree_util.register_dataclass(Events, ["array", "cell", "bounds"], ["binary"])
