"""The products of a map, for dense weights and for sparse ones, dense input and events.

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

from snnlab.learners.stores.kernels import events
from snnlab.learners.tuning import current
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


@dataclasses.dataclass
class Events:
    """Input of the K steps of a chunk, as an array and as a list of events.

    Attributes:
        dense: ``(K, B, i)``; costs nothing in a compiled program that does not use it.
        cell, bounds: the list; see :mod:`snnlab.learners.stores.kernels.events`.
        binary: whether several events of an input in a step count once.
    """

    dense: jax.Array
    cell: jax.Array
    bounds: jax.Array
    binary: bool


jax.tree_util.register_dataclass(Rows, ["values", "post"], ["n_out"])
jax.tree_util.register_dataclass(Events, ["dense", "cell", "bounds"], ["binary"])
Weight = jax.Array | Rows
Input = jax.Array | Events


def dense(x: Input) -> jax.Array:
    """The array of an input."""
    return x.dense if isinstance(x, Events) else x


def _product(axes: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """A product with factors of ``dtype``, summed in float32."""
    return jnp.einsum(axes, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def weight_of(values: jax.Array, post: Post, n_out: int) -> Weight:
    return values if post is None else Rows(values, post, n_out)


def times(x: Input, w: Weight) -> jax.Array:
    """``x W``: ``(..., i) -> (..., n)``; for events the first i rows of ``w`` count."""
    if isinstance(w, Rows):
        return sparse.times(dense(x), w.values, w.post, w.n_out)
    if isinstance(x, Events):
        _, batch, n_in = x.dense.shape
        w = w.astype(jnp.float32)
        return events.times(x.cell, x.bounds, w, batch, n_in, x.binary)
    return _product("...i,in->...n", x, w, w.dtype)


def turned(w: Weight, once: bool) -> Weight:
    """What :func:`back` takes: ``W^T``, with ``once`` as an array of its own that is made once.

    Compilers fold a transposition into the product, which then runs at two thirds of its speed.
    """
    if isinstance(w, Rows):
        return w
    return jax.lax.optimization_barrier(w.T) if once else w.T


def back(g: jax.Array, w: Weight) -> jax.Array:
    """``g W^T``: ``(..., n) -> (..., i)``, with ``w`` from :func:`turned`."""
    if isinstance(w, Rows):
        return sparse.back(g, w.values, w.post)
    return _product("...n,ni->...i", g, w, w.dtype)


def outer(x: Input, g: jax.Array, post: Post, dtype: Any = jnp.float32) -> jax.Array:
    """``x^T g`` summed over leading axes: ``(..., i), (..., n) -> (i, n)`` or ``(i, k)``.

    ``dtype`` is that of the factors.
    """
    if post is not None:
        return sparse.outer(dense(x), g, post)
    if isinstance(x, Events):
        n_in, rounded = x.dense.shape[-1], g.astype(dtype).astype(jnp.float32)
        return events.outer(x.cell, x.bounds, rounded, n_in, x.binary)
    # an einsum over two axes would copy x
    return _product("ri,rn->in", _rows(x), _rows(g), dtype)


def _rows(a: jax.Array) -> jax.Array:
    """``(..., n) -> (R, n)``."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])  # not -1: a piece may be empty


def weighted_sum(share: jax.Array, x: Input) -> jax.Array:
    """``sum_t share[t] x_t``: ``(K,), (K, B, i) -> (B, i)``."""
    if isinstance(x, Events):
        _, batch, n_in = x.dense.shape
        return events.weighted(x.cell, x.bounds, share, batch, n_in, x.binary)
    return jnp.einsum("t,tbi->bi", share, x)


def outer_by_sample(x: Input, g: jax.Array, post: Post, dtype: Any = jnp.float32) -> jax.Array:
    """``(K, B, i), (K, B, n) -> (B, i, n)`` or ``(B, i, k)``: a product for each sample."""
    x = dense(x)
    if post is None and x.shape[0] == 1 and current().at_once:
        x, g = (a[0].astype(dtype).astype(jnp.float32) for a in (x, g))
        return x[:, :, None] * g[:, None, :]
    if post is None:
        return _product("tbi,tbn->bin", x, g, dtype)
    pairs = jnp.moveaxis(x, 1, 0), jnp.moveaxis(g, 1, 0)
    return jax.lax.map(lambda pair: sparse.outer(pair[0], pair[1], post), pairs)


def spread(v: jax.Array, post: Post) -> jax.Array:
    """Values of neurons at their synapses: ``(..., n) -> (..., 1, n)`` or ``(..., i, k)``."""
    if post is None:
        return v[..., None, :]
    return v.at[..., post].get(mode=sparse.VALID)
