"""``y = x @ W`` with k synapses from each input: what does not exist has no weight, no trace."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.relations.base import Map
from snnlab.learners.relations.inputs import Input, flat
from snnlab.learners.stores.kernels import sparse as kernels
from snnlab.models import sparse


@dataclasses.dataclass
class Rows:
    """Rows ``first .. first + size`` of values ``(.., k)`` of existing synapses and their targets.

    Attributes:
        values, post: of the whole map where loops of our own multiply, so that no block has a copy
            of its rows; otherwise of the block alone, ``first`` 0.
        first, size: rows.
        own: whether they do.
    """

    values: jax.Array
    post: jax.Array
    first: int
    size: int
    own: bool


jax.tree_util.register_dataclass(Rows, ["values", "post"], ["first", "size", "own"])


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse(Map):
    """A sparse map; ``w (i, k)`` holds the values of existing synapses.

    Attributes:
        post: their targets ``(i, k)``, uint32.
    """

    post: Any = None
    _targets: dict[int, jax.Array] = dataclasses.field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether loops of our own multiply, and pass over the traces."""
        return kernels.usable(self.post)

    def targets(self, k: int) -> jax.Array:
        """Targets of the rows of block ``k``; one array, so that a program holds it once."""
        if k not in self._targets:
            with jax.ensure_compile_time_eval():
                self._targets[k] = jnp.asarray(np.asarray(self.values(np.asarray(self.post), k)))
        return self._targets[k]

    def trace_shape(self, k: int) -> tuple[int, ...]:
        return self.shape[0], self.blocks[k].size, self.w.aval.shape[1]

    def rows(self, values: jax.Array, k: int) -> Rows:
        block = self.blocks[k]
        if self.own:
            return Rows(values, self.post, block.start, block.size, True)
        return Rows(self.values(values, k), self.targets(k), 0, block.size, False)

    def times(self, x: Input, rows: Rows) -> jax.Array:
        n = self.shape[1]
        if rows.own:
            y = _times(rows.first, n)(flat(x.array), rows.values, rows.post)
            return y.reshape(*x.array.shape[:-1], n)
        # the product that has derivatives: its loop skips inputs of 0, which may have a tangent
        return sparse.sparse_product(x.array, rows.values, rows.post, n_out=n)

    def turned(self, rows: Rows, once: bool) -> Rows:
        return rows

    def back(self, g: jax.Array, turned: Rows) -> jax.Array:
        if not turned.own:
            return sparse.back(g, turned.values, turned.post)
        x_bar = _back(turned.first, turned.size)(flat(g), turned.values, turned.post)
        return x_bar.reshape(*g.shape[:-1], turned.size)

    def onto(self, rows: Rows, neurons: jax.Array) -> jax.Array:
        cut = slice(rows.first, rows.first + rows.size)
        there = rows.post[cut] == neurons[:, None].astype(rows.post.dtype)
        return jnp.sum(jnp.where(there, rows.values[cut], 0.0), axis=1)

    def gradient(self, inputs: Sequence[Input | None], g: jax.Array, dtype: Any) -> jax.Array:
        if not self.own:
            return super().gradient(inputs, g, dtype)
        total: jax.Array | None = None
        for x, block in zip(inputs, self.blocks, strict=True):
            assert x is not None
            if block.size:
                into = kernels.Into(block.start, block.start, self.w.aval.shape[0], total)
                total = _outer(x, g, self.post, into)
        assert total is not None
        return total[0]

    def outer(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        if self.own:
            block = self.blocks[k]
            return _outer(x, g, self.post, kernels.Into(block.start, 0, block.size))[0]
        return sparse.outer(x.array, g, self.targets(k))

    def outer_by_sample(self, x: Input | None, g: jax.Array, k: int, dtype: Any) -> jax.Array:
        assert x is not None
        if self.own:
            return kernels.first_traces([g], x.array, self.post, self.blocks[k].start)[0]
        post = self.targets(k)
        pairs = jnp.moveaxis(x.array, 1, 0), jnp.moveaxis(g, 1, 0)
        return jax.lax.map(lambda pair: sparse.outer(pair[0], pair[1], post), pairs)

    def spread(self, v: jax.Array, k: int) -> jax.Array:
        return v.at[..., self.targets(k)].get(mode=sparse.VALID)


def _outer(x: Input, g: jax.Array, post: jax.Array, into: kernels.Into) -> jax.Array:
    """:func:`kernels.outer` of the steps of a chunk, or of one, ``(B, i)``."""
    steps = (x.array, g) if g.ndim == 3 else (x.array[None], g[None])
    return kernels.outer(*steps, post, into)


@functools.cache
def _times(first: int, n_out: int) -> Callable[..., jax.Array]:
    """A product of rows ``first ..``, with a rule for ``jax.vmap``."""
    return sparse.mapped(lambda x, w, post: kernels.times(x, w, post, first, n_out), lead=(0,))


@functools.cache
def _back(first: int, size: int) -> Callable[..., jax.Array]:
    """Its adjoint."""
    return sparse.mapped(lambda g, w, post: kernels.back(g, w, post, first, size), lead=(0,))
