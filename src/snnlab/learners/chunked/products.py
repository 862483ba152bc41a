"""The products of a map, for dense weights and for sparse ones.

A weight is an array ``(i, n)``, or :class:`Rows` with the values ``(i, k)`` of existing synapses
and their targets ``post (i, k)`` (:mod:`snnlab.models.sparse`). Gradients and traces have the
shape of the values. ``post`` is ``None`` for a dense map.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.chunked import kernels
from snnlab.models import sparse

Post = jax.Array | None


@dataclasses.dataclass
class Rows:
    """Rows of a sparse weight.

    Attributes:
        values: ``(i, k)``.
        post: ``(i, k)`` int32, the targets.
        n_out: n.
    """

    values: jax.Array
    post: jax.Array
    n_out: int


jax.tree_util.register_dataclass(Rows, ["values", "post"], ["n_out"])
Weight = jax.Array | Rows


def _product(axes: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """A product with factors of ``dtype``, summed in float32."""
    return jnp.einsum(axes, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def weight_of(values: jax.Array, post: Post, n_out: int) -> Weight:
    return values if post is None else Rows(values, post, n_out)


def times(x: jax.Array, w: Weight, events: bool = False) -> jax.Array:
    """``x W``: ``(..., i) -> (..., n)``; ``events`` says that ``x`` is mostly zero."""
    if isinstance(w, Rows):
        return sparse.times(x, w.values, w.post, w.n_out)
    if events:
        return kernels.times_events(x, w.astype(jnp.float32))
    return _product("...i,in->...n", x, w, w.dtype)


def turned(w: Weight) -> Weight:
    """What :func:`back` takes: ``W^T`` as an array of its own, so that it is made once.

    Compilers fold a transposition into the product, which then runs at two thirds of its speed.
    """
    return w if isinstance(w, Rows) else jax.lax.optimization_barrier(w.T)


def back(g: jax.Array, w: Weight) -> jax.Array:
    """``g W^T``: ``(..., n) -> (..., i)``, with ``w`` from :func:`turned`."""
    if isinstance(w, Rows):
        return sparse.back(g, w.values, w.post)
    return _product("...n,ni->...i", g, w, w.dtype)


def outer(
    x: jax.Array, g: jax.Array, post: Post, events: bool = False, dtype: Any = jnp.float32
) -> jax.Array:
    """``x^T g`` summed over leading axes: ``(..., i), (..., n) -> (i, n)`` or ``(i, k)``.

    ``events`` says that ``x`` is mostly zero; ``dtype`` is that of the factors.
    """
    if post is not None:
        return sparse.outer(x, g, post)
    if events:
        return kernels.outer_events(x, g.astype(dtype).astype(jnp.float32))
    # an einsum over two axes would copy x
    rows = math.prod(x.shape[:-1])  # not -1: a map's piece may be empty
    x, g = x.reshape(rows, x.shape[-1]), g.reshape(rows, g.shape[-1])
    return _product("ri,rn->in", x, g, dtype)


def outer_by_sample(x: jax.Array, g: jax.Array, post: Post, dtype: Any = jnp.float32) -> jax.Array:
    """``(K, B, i), (K, B, n) -> (B, i, n)`` or ``(B, i, k)``: a product for each sample."""
    if post is None:
        return _product("tbi,tbn->bin", x, g, dtype)
    pairs = jnp.moveaxis(x, 1, 0), jnp.moveaxis(g, 1, 0)
    return jax.lax.map(lambda pair: sparse.outer(pair[0], pair[1], post), pairs)


def spread(v: jax.Array, post: Post) -> jax.Array:
    """Values of neurons at their synapses: ``(..., n) -> (..., 1, n)`` or ``(..., i, k)``."""
    if post is None:
        return v[..., None, :]
    return v.at[..., post].get(mode=sparse.VALID)
