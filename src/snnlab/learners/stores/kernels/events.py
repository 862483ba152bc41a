"""Products of input that comes as a list of events: what a step costs is its events.

A list has, for the K steps of a chunk, ``cell (E,) int32``, ``sample * n_in + input`` of every
event, and ``bounds (K + 1,) int32``: events of step t are ``cell[bounds[t]:bounds[t + 1]]``
(:class:`snnlab.data.stream.EventStream`). ``binary`` says that several events of a cell in a step
count once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.stores.kernels.support import call, compiled, part_of


def times(
    cell: jax.Array, bounds: jax.Array, w: jax.Array, batch: int, n_in: int, binary: bool
) -> jax.Array:
    """``x W (K, B, n)``; W are the first ``n_in`` rows of ``w (.., n)``."""
    k, n = bounds.shape[0] - 1, w.shape[1]
    rows = jnp.full(1, n_in, jnp.int32)
    (y,) = call(_times(binary), [((k * batch, n), jnp.float32)], cell, bounds, w, rows)
    return y.reshape(k, batch, n)


def outer(cell: jax.Array, bounds: jax.Array, g: jax.Array, n_in: int, binary: bool) -> jax.Array:
    """``x^T g (n_in, n)``, summed over steps and samples, for ``g (K, B, n)``."""
    n = g.shape[-1]
    (w,) = call(_outer(binary), [((n_in, n), jnp.float32)], cell, bounds, g.reshape(-1, n))
    return w


def weighted(
    cell: jax.Array, bounds: jax.Array, share: jax.Array, batch: int, n_in: int, binary: bool
) -> jax.Array:
    """``sum_t share[t] x_t (B, n_in)`` for ``share (K,)``."""
    out = ((batch, n_in), jnp.float32)
    (total,) = call(_weighted(binary), [out], cell, bounds, share)
    return total


@functools.cache
def _fresh(binary: bool) -> Callable[..., int]:
    """Events ``first .. end`` that count: written to ``kept`` from ``at`` on; returns its end.

    ``seen`` has a mark for every cell; ``mark`` is one that no other step has.
    """

    def run(cell: Any, first: int, end: int, seen: Any, mark: int, kept: Any, at: int) -> int:
        for e in range(first, end):
            c = cell[e]
            if binary:
                if seen[c] == mark:
                    continue
                seen[c] = mark
            kept[at] = c
            at += 1
        return at

    return part_of(run)


@functools.cache
def _times(binary: bool) -> Callable[..., None]:
    import numba

    fresh, parts = _fresh(binary), numba.get_num_threads()

    def steps(cell: Any, bounds: Any, w: Any, n_in: int, y: Any, first: int, end: int) -> None:
        """Steps ``first .. end``."""
        n, batch = w.shape[1], y.shape[0] // (bounds.shape[0] - 1)
        seen = np.zeros(batch * n_in, np.int32)
        kept = np.empty(max(bounds[end] - bounds[first], 1), np.int32)
        for t in range(first, end):
            for b in range(t * batch, (t + 1) * batch):
                for j in range(n):
                    y[b, j] = 0
            m, e = fresh(cell, bounds[t], bounds[t + 1], seen, t + 1, kept, 0), 0
            while e < m:
                b = kept[e] // n_in
                low, high = b * n_in, (b + 1) * n_in
                row, w0 = y[t * batch + b], w[kept[e] - low]
                four = e + 4 <= m
                if four:  # most often they are of one sample
                    for q in range(1, 4):
                        four &= low <= kept[e + q] < high
                if four:  # a row is read and written once for four
                    w1, w2, w3 = w[kept[e + 1] - low], w[kept[e + 2] - low], w[kept[e + 3] - low]
                    for j in range(n):
                        row[j] += (w0[j] + w1[j]) + (w2[j] + w3[j])
                    e += 4
                else:
                    for j in range(n):
                        row[j] += w0[j]
                    e += 1

    steps = part_of(steps)

    def run(cell: Any, bounds: Any, w: Any, rows: Any, y: Any) -> None:
        n_steps, n_in = bounds.shape[0] - 1, rows[0]
        for part in numba.prange(parts):
            first, end = part * n_steps // parts, (part + 1) * n_steps // parts
            steps(cell, bounds, w, n_in, y, first, end)

    return compiled(run)


@functools.cache
def _outer(binary: bool) -> Callable[..., None]:
    import numba

    fresh, parts = _fresh(binary), numba.get_num_threads()

    def by_input(cell: Any, bounds: Any, batch: int, n_in: int, starts: Any, rows: Any) -> None:
        """Sort events by input: those of input i are ``rows[starts[i]:starts[i + 1]]``."""
        n_steps = bounds.shape[0] - 1
        seen = np.zeros(batch * n_in if binary else 1, np.int32)
        kept, ends = np.empty(rows.shape[0], np.int32), np.zeros(n_steps + 1, np.int64)
        for t in range(n_steps):
            ends[t + 1] = fresh(cell, bounds[t], bounds[t + 1], seen, t + 1, kept, ends[t])
        for e in range(ends[n_steps]):
            starts[kept[e] % n_in + 1] += 1
        filled = np.zeros(n_in, np.int64)
        for i in range(n_in):
            filled[i] = starts[i]
            starts[i + 1] += starts[i]
        for t in range(n_steps):
            for e in range(ends[t], ends[t + 1]):
                b = kept[e] // n_in
                i = kept[e] - b * n_in
                rows[filled[i]] = t * batch + b
                filled[i] += 1

    def inputs(starts: Any, rows: Any, g: Any, w: Any, first: int, end: int) -> None:
        """The rows ``first .. end`` of the result, each written in one go."""
        n = g.shape[1]
        for i in range(first, end):
            row, e, last = w[i], starts[i], starts[i + 1]
            for j in range(n):
                row[j] = 0
            while e + 4 <= last:
                g0, g1, g2, g3 = g[rows[e]], g[rows[e + 1]], g[rows[e + 2]], g[rows[e + 3]]
                for j in range(n):
                    row[j] += (g0[j] + g1[j]) + (g2[j] + g3[j])
                e += 4
            while e < last:
                g0 = g[rows[e]]
                for j in range(n):
                    row[j] += g0[j]
                e += 1

    by_input, inputs = part_of(by_input), part_of(inputs)

    def run(cell: Any, bounds: Any, g: Any, w: Any) -> None:
        n_steps, n_in = bounds.shape[0] - 1, w.shape[0]
        starts = np.zeros(n_in + 1, np.int64)
        rows = np.empty(max(bounds[n_steps] - bounds[0], 1), np.int32)
        by_input(cell, bounds, g.shape[0] // n_steps, n_in, starts, rows)
        for part in numba.prange(parts):
            inputs(starts, rows, g, w, part * n_in // parts, (part + 1) * n_in // parts)

    return compiled(run)


@functools.cache
def _weighted(binary: bool) -> Callable[..., None]:
    fresh = _fresh(binary)

    def run(cell: Any, bounds: Any, share: Any, total: Any) -> None:
        n_steps, (batch, n_in) = bounds.shape[0] - 1, total.shape
        seen = np.zeros(batch * n_in if binary else 1, np.int32)
        kept = np.empty(max(bounds[n_steps] - bounds[0], 1), np.int32)
        for b in range(batch):
            for i in range(n_in):
                total[b, i] = 0
        for t in range(n_steps):
            for e in range(fresh(cell, bounds[t], bounds[t + 1], seen, t + 1, kept, 0)):
                b = kept[e] // n_in
                total[b, kept[e] - b * n_in] += share[t]

    return part_of(run)
