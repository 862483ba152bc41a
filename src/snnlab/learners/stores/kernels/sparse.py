"""Loops over existing synapses: products of spikes, and one pass over their traces.

A map has values ``(i, k)`` and ascending targets ``(i, k)`` of each of its rows
(:mod:`snnlab.models.sparse` has the same products in JAX). Rows ``first ..`` of both belong to the
block of inputs that is multiplied, so that no block needs a copy of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.stores.kernels.prefetch import hint
from snnlab.learners.stores.kernels.support import call, compiled, on_one_cpu, part_of
from snnlab.learners.stores.kernels.traces import TINY

#: Below this size of a table of targets XLA's loops are used, which need no compiling.
LEAST_BYTES = 2**22
#: Numbers of a row that one hint brings.
LINE = 16


def usable(post: Any) -> bool:
    """Whether the products of a map with targets ``post (i, k)`` should be made here."""
    return on_one_cpu() and 4 * math.prod(post.shape) >= LEAST_BYTES


class Into(NamedTuple):
    """Where a gradient of the rows ``first ..`` of a map goes: ``at ..`` of ``(total, k)``.

    Attributes:
        first, at, total: rows.
        others: the array, ``(1, total, k)``, with the other rows as they should be; ``None`` if
            there are none yet.
        after: any result of a pass that has to be over before; see
            :class:`snnlab.learners.stores.kernels.traces.Rows`.
    """

    first: int
    at: int
    total: int
    others: jax.Array | None = None
    after: jax.Array | None = None


def times(x: jax.Array, w: jax.Array, post: jax.Array, first: int, n_out: int) -> jax.Array:
    """``x W (L, n_out)`` for ``x (L, i)``; the work is that of the inputs that are not zero."""
    out = ((x.shape[0], n_out), jnp.float32)
    (y,) = call(_times(), [out], x, w, post, jnp.full(1, first, jnp.int32))
    return y


def back(g: jax.Array, w: jax.Array, post: jax.Array, first: int, n_in: int) -> jax.Array:
    """``g W^T (L, n_in)`` for ``g (L, n_out)``."""
    out = ((g.shape[0], n_in), jnp.float32)
    (x_bar,) = call(_back(), [out], g, w, post, jnp.full(1, first, jnp.int32))
    return x_bar


def outer(x: jax.Array, g: jax.Array, post: jax.Array, into: Into) -> jax.Array:
    """``sum_{t,b} x_t g_t`` of existing synapses, in its rows of ``(1, total, k)``.

    Args:
        x: ``(K, B, i)``.
        g: ``(K, B, n)``.
        post: targets of the whole map.
        into: where it goes.
    """
    return read_and_advance([], None, None, None, x, g, post, into)[1]


def first_traces(
    enter: Sequence[jax.Array], x: jax.Array, post: jax.Array, first: int
) -> list[jax.Array]:
    """``e_s = sum_t x_t f_st (B, i, k)`` of the S states, from ``enter`` ``(K, B, n)`` each."""
    return read_and_advance([], None, None, enter, x, None, post, Into(first, 0, 0))[0]


def read_and_advance(
    traces: Sequence[jax.Array],
    c: Sequence[jax.Array] | None,
    p: Sequence[Sequence[jax.Array | None]] | None,
    enter: Sequence[jax.Array] | None,
    x: jax.Array,
    y_bar: jax.Array | None,
    post: jax.Array,
    into: Into,
) -> tuple[list[jax.Array], jax.Array]:
    """``g = sum_{b,s} c_s e_s``, and in the same pass ``e_s <- sum_a P_sa e_a + sum_t x_t f_st``.

    Args:
        traces: of the S states, each ``(B, i, k)``; changed in place if nobody else needs them.
        c: of the S states, ``(B, n)``; ``None`` if no gradient is wanted (``g`` has no meaning).
        p: ``p[s][a] (B, n)``; ``None`` for blocks that are zero. ``None``: traces stay as they are.
        enter: of the S states, ``(K, B, n)``; with ``p`` only.
        x: inputs of the map, ``(K, B, i)``.
        y_bar: ``(K, B, n)``; if given, ``sum_{t,b} x_t y_bar_t`` is added to ``g``.
        post: targets of the whole map.
        into: where ``g`` goes.

    Returns:
        traces (without old ones, what ``enter`` alone makes), and ``(1, total, k)``.
    """
    (_, batch, n_in), k = x.shape, post.shape[1]
    n_states = len(traces) or len(enter or ())
    nothing = jnp.zeros((1, 1, 1), jnp.float32)
    # What belongs to a neuron lies together: it is read at random.
    mine = list(c or [])
    if p is not None:
        blocks = [block for row in p for block in row]
        like = next(block for block in blocks if block is not None)
        mine += [jnp.zeros_like(like) if block is None else block for block in blocks]
    given = [*(enter or []), *([] if y_bar is None else [y_bar])]
    enters = jnp.stack(given, axis=-1) if given else nothing[None]
    before = nothing if into.after is None else into.after[:, :1, :1]
    inputs = [
        jnp.stack(mine, axis=-1) if mine else nothing,
        enters.reshape(-1, *enters.shape[-2:]),
        x,
        # always there: a kernel is known by its code, not by the number of its arguments
        before if into.others is None else into.others,
    ]
    how = _How(n_states, bool(traces), c is not None, enter is not None, y_bar is not None)
    outs: list[Any] = [((batch, n_in, k), jnp.float32)] * (n_states if how.writes else 0)
    aliases = {2 + s: s for s in range(n_states)} if how.writes and traces else {}
    gradient = how.reads or how.has_y
    if gradient:
        if into.others is not None:
            aliases[1 + len(traces) + len(inputs)] = len(outs)
        outs.append(((1, into.total, k), jnp.float32))
    first = jnp.asarray([into.first, into.at], jnp.int32)
    found = call(_kernel(how), outs, post, first, *traces, *inputs, aliases=aliases)
    last = found.pop() if gradient else nothing
    return (found if how.writes else list(traces)), last


class _How(NamedTuple):
    """Which pass.

    Attributes:
        n_states: S.
        has_old: whether there are old traces.
        reads: whether a gradient is made of them.
        writes: whether there are new ones.
        has_y: whether the gradient of the chunk's own steps is made.
    """

    n_states: int
    has_old: bool
    reads: bool
    writes: bool
    has_y: bool


@functools.cache
def _times() -> Callable[..., None]:
    import numba

    ask, parts = hint(), numba.get_num_threads()

    def targets(
        x: Any, w: Any, post: Any, first: int, y: Any, low: int, high: int, ids: Any
    ) -> None:
        """Targets ``low .. high`` of a sample ``x (i,)``: those of a row lie together."""
        n, k, count = y.shape[0], w.shape[1], 0
        for i in range(x.shape[0]):
            ids[count] = i
            if x[i] != 0:
                count += 1
        for j in range(low, high):
            y[j] = 0
        near_start, near_end = low * k // n, high * k // n
        for e in range(count):
            value, i = x[ids[e]], first + ids[e]
            then = first + ids[min(e + 1, count - 1)]
            row, to = w[i], post[i]
            start, end = near_start, near_end
            while start > 0 and to[start - 1] >= low:
                start -= 1
            while start < k and to[start] < low:
                start += 1
            while end > 0 and to[end - 1] >= high:
                end -= 1
            while end < k and to[end] < high:
                end += 1
            m = start
            while m < end:
                ask(w, then, m)
                ask(post, then, m)
                for q in range(m, min(m + LINE, end)):
                    y[to[q]] += value * row[q]
                m += LINE

    targets = part_of(targets)

    def run(x: Any, w: Any, post: Any, first: Any, y: Any) -> None:
        n = y.shape[1]
        for part in numba.prange(parts):
            ids = np.empty(x.shape[1] + 1, np.int32)
            low, high = part * n // parts, (part + 1) * n // parts
            for sample in range(x.shape[0]):
                targets(x[sample], w, post, first[0], y[sample], low, high, ids)

    return compiled(run)


@functools.cache
def _back() -> Callable[..., None]:
    import numba

    parts = numba.get_num_threads()

    def rows(g: Any, w: Any, post: Any, first: int, x_bar: Any, low: int, high: int) -> None:
        for i in range(low, high):
            row, to = w[first + i], post[first + i]
            for sample in range(g.shape[0]):
                from_sample, total = g[sample], np.float32(0)
                for q in range(row.shape[0]):
                    total += row[q] * from_sample[to[q]]
                x_bar[sample, i] = total

    rows = part_of(rows)

    def run(g: Any, w: Any, post: Any, first: Any, x_bar: Any) -> None:
        n_in = x_bar.shape[1]
        for part in numba.prange(parts):
            low, high = part * n_in // parts, (part + 1) * n_in // parts
            rows(g, w, post, first[0], x_bar, low, high)

    return compiled(run)


@functools.cache
def _kernel(how: _How) -> Callable[..., None]:
    """The loop; its arrays but the targets are float32 with three axes, which numba indexes.

    They are the old traces, the arrays that :func:`read_and_advance` makes, the new traces (which
    lie where the old ones lay), the gradient.
    """
    import numba

    n_states, has_old, reads, writes, has_y = how
    parts = numba.get_num_threads()
    n_old = n_states if has_old else 0
    gradient_wanted = reads or has_y
    n_c = n_states if reads else 0  # columns of a neuron's c, before those of P
    n_f = n_states if writes else 0  # columns of f, before that of y_bar

    def spikes(x: Any, low: int, high: int, starts: Any) -> Any:
        """By (sample, row), the steps in which a row is active: ``at[starts[q]:starts[q + 1]]``."""
        rows = high - low
        for t in range(x.shape[0]):
            for b in range(x.shape[1]):
                values, base = x[t, b], b * rows - low + 1
                for i in range(low, high):
                    if values[i] != 0:
                        starts[base + i] += 1
        for q in range(starts.shape[0] - 1):
            starts[q + 1] += starts[q]
        at = np.empty(max(starts[starts.shape[0] - 1], 1), np.int64)
        filled = starts[:-1].copy()
        for t in range(x.shape[0]):
            for b in range(x.shape[1]):
                values, base = x[t, b], b * rows - low
                for i in range(low, high):
                    if values[i] != 0:
                        at[filled[base + i]] = t
                        filled[base + i] += 1
        return at

    def old(e: Any, to: Any, own: Any, share: Any) -> None:
        """One state: read a row of traces, and let it decay."""
        for q in range(to.shape[0]):
            j, value = to[q], e[q]
            if reads:
                share[q] += own[j, 0] * value
            if writes:
                new = own[j, n_c] * value
                e[q] = np.float32(0) if abs(new) < TINY else new

    def old_ones(
        arrays: Any, start: int, b: int, i: int, to: Any, own: Any, share: Any, before: Any
    ) -> None:
        """Several states; the traces are ``arrays[start ..]``."""
        for s in range(n_states):
            row = arrays[start + s][b, i]
            for q in range(to.shape[0]):
                before[s, q] = row[q]
                if reads:
                    share[q] += own[to[q], s] * row[q]
        if writes:
            for s in range(n_states):
                row = arrays[start + s][b, i]
                for q in range(to.shape[0]):
                    new, column = np.float32(0), n_c + s * n_states
                    for a in range(n_states):
                        new += own[to[q], column + a] * before[a, q]
                    row[q] = np.float32(0) if abs(new) < TINY else new

    def entering(e: Any, s: int, to: Any, enters: Any, value: Any, share: Any, once: bool) -> None:
        """What a step adds to a row of state ``s``; with ``once`` to the gradient too."""
        for q in range(to.shape[0]):
            j = to[q]
            if writes:
                e[q] += value * enters[j, s]
            if has_y and once:
                share[q] += value * enters[j, n_f]

    def four(
        e: Any, to: Any, enters: Any, at: Any, values: Any, b: int, i: int, batch: int, share: Any
    ) -> None:
        """What four steps ``at`` add to a row of one state: it is read and written once."""
        e0, e1 = enters[at[0] * batch + b], enters[at[1] * batch + b]
        e2, e3 = enters[at[2] * batch + b], enters[at[3] * batch + b]
        v0, v1 = values[at[0], b, i], values[at[1], b, i]
        v2, v3 = values[at[2], b, i], values[at[3], b, i]
        for q in range(to.shape[0]):
            j = to[q]
            if writes:
                e[q] += (v0 * e0[j, 0] + v1 * e1[j, 0]) + (v2 * e2[j, 0] + v3 * e3[j, 0])
            if has_y:
                some = v0 * e0[j, n_f] + v1 * e1[j, n_f]
                share[q] += some + (v2 * e2[j, n_f] + v3 * e3[j, n_f])

    spikes, old, four = part_of(spikes), part_of(old), part_of(four)
    old_ones, entering = part_of(old_ones), part_of(entering)

    def some_rows(post: Any, first: Any, arrays: Any, low: int, high: int) -> None:
        own, enters, x = arrays[n_old], arrays[n_old + 1], arrays[n_old + 2]
        n_out = n_states if writes else 0
        n_arrays = len(arrays)
        gradient = arrays[n_arrays - 1][0]
        new = n_arrays - n_out - (1 if gradient_wanted else 0)
        batch, k = x.shape[1], post.shape[1]
        starts = np.zeros(batch * (high - low) + 1, np.int64)
        at = starts
        if writes or has_y:
            at = spikes(x, low, high, starts)
        before = np.empty((max(n_states, 1), k), np.float32)
        unused = np.empty(k, np.float32)
        for i in range(low, high):
            to = post[first[0] + i]
            share = unused
            if gradient_wanted:
                share = gradient[first[1] + i]
                for q in range(k):
                    share[q] = 0
            for b in range(batch):
                if has_old and n_states == 1:
                    old(arrays[new if writes else 0][b, i], to, own[b], share)
                elif has_old:
                    old_ones(arrays, new if writes else 0, b, i, to, own[b], share, before)
                elif writes:
                    for s in range(n_states):
                        row = arrays[new + s][b, i]
                        for q in range(k):
                            row[q] = 0
                place = b * (high - low) + i - low
                m, end = starts[place], starts[place + 1]
                while n_out <= 1 and m + 4 <= end:
                    row = arrays[new][b, i] if writes else unused
                    four(row, to, enters, at[m : m + 4], x, b, i, batch, share)
                    m += 4
                while m < end:
                    value, at_step = x[at[m], b, i], enters[at[m] * batch + b]
                    for s in range(max(n_out, 1)):
                        row = arrays[new + s][b, i] if writes else unused
                        entering(row, s, to, at_step, value, share, s == 0)
                    m += 1

    some_rows = part_of(some_rows)

    def run(post: Any, first: Any, *arrays: Any) -> None:
        n_in = arrays[n_old + 2].shape[2]
        for part in numba.prange(parts):
            some_rows(post, first, arrays, part * n_in // parts, (part + 1) * n_in // parts)

    return compiled(run)
