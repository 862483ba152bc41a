"""One pass over the eligibility traces of a map: read, advance, and what enters, in one go."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.stores.kernels.support import call, compiled, on_one_cpu, part_of

#: Below this size of a trace (of one state) XLA's loops are used, which need no compiling
#: (a choice; the break-even was not measured).
LEAST_BYTES = 2**22
#: Rows of a sample that are passed before those of the next two: many, since memory is read faster
#: the longer it is read in a row, and few, since a cache has to hold their gradient.
IN_A_ROW = 256
#: Rows that are changed before what enters them is added, while a near cache holds them.
AT_ONCE = 32
#: Smaller numbers are slow, and nothing: XLA makes them 0 too.
TINY = np.finfo(np.float32).tiny


def large(shape: Sequence[int]) -> bool:
    """Whether a trace of ``shape`` is worth a loop of its own, where there is one."""
    return 4 * math.prod(shape) >= LEAST_BYTES


def usable(trace: Any) -> bool:
    """Whether the pass over a trace ``(B, i, n)`` should be made here."""
    return on_one_cpu() and large(trace.shape) and trace.dtype == jnp.float32


class Rows(NamedTuple):
    """Where the gradient of a pass goes: rows ``first ..`` of an array ``(total, n)``.

    Attributes:
        first, total: rows.
        others: the array, with the other rows as they should be; ``None`` if there are none yet.
        after: ``(1, total', n')``, any result of a pass that has to be over before, since two at
            once would compete for the cores (and not every thread pool of numba bears them);
            ``None`` if there is none.
    """

    first: int
    total: int
    others: jax.Array | None = None
    after: jax.Array | None = None


def read_and_advance(
    traces: Sequence[jax.Array],
    c: Sequence[jax.Array] | None,
    p: Sequence[Sequence[jax.Array | None]],
    enter: Sequence[jax.Array],
    x: jax.Array,
    y_bar: jax.Array | None = None,
    *,
    rows: Rows | None = None,
    advance: jax.Array | bool = True,
    steps: jax.Array | None = None,
    live: jax.Array | None = None,
) -> tuple[list[jax.Array], jax.Array]:
    """``g = sum_{b,s} c_s e_s``, and in the same pass ``e_s <- sum_a P_sa e_a + sum_t x_t f_st``.

    Args:
        traces: of the S states, each ``(B, i, n)``; changed in place if nobody else needs them.
        c: of the S states, ``(B, n)``; ``None`` if no gradient is wanted (``g`` has no meaning).
        p: ``p[s][a] (B, n)``; ``None`` for blocks that are zero.
        enter: of the S states, ``(K, B, n)``.
        x: inputs of the map, ``(K, B, i)``.
        y_bar: ``(K, B, n)``; if given, ``sum_{t,b} x_t y_bar_t`` is added to ``g``.
        rows: where ``g`` goes; alone in an array of its own if not given.
        advance: whether traces are changed at all (scalar).
        steps: only so many of the K steps count (scalar); all if not given.
        live: ``(B, i)``, 0 where a row of all traces is known to be zero, which is then not read.

    Returns:
        new traces, and ``(1, total, n)`` with ``g (i, n)`` in its rows.
    """
    n_states = len(traces)
    _, i, n = traces[0].shape
    rows = rows or Rows(0, i)
    nothing = jnp.zeros_like(enter[0][:1])
    numbers = (advance, x.shape[0] if steps is None else steps, rows.first)
    shape = (1, rows.total, n)
    after = nothing if rows.after is None else rows.after[:, :1, :1]
    live = jnp.ones_like(x[0]) if live is None else live
    inputs = [
        jnp.stack(c) if c is not None else nothing,
        jnp.stack([nothing[0] if block is None else block for row in p for block in row]),
        x,
        jnp.concatenate(enter),
        nothing if y_bar is None else y_bar,
        jnp.stack([jnp.asarray(v, jnp.float32) for v in numbers]).reshape(1, 1, 3),
        live[None],
        after if rows.others is None else rows.others,
    ]
    aliases = {s: s for s in range(n_states)}
    if rows.others is not None:
        aliases[n_states + len(inputs) - 1] = n_states
    outs = [*((e.shape, e.dtype) for e in traces), (shape, jnp.float32)]
    kernel = _kernel(n_states, c is not None, y_bar is not None)
    *new, gradient = call(kernel, outs, *traces, *inputs, aliases=aliases)
    return new, gradient


@functools.cache
def _kernel(n_states: int, reads: bool, has_y: bool) -> Callable[..., None]:
    """The loop for S states.

    Its arguments are the traces, the arrays that :func:`read_and_advance` makes, and the results:
    all float32 with three axes, since numba indexes them by number.
    """
    import numba

    one_state, n_inputs = n_states == 1, 8
    parts = numba.get_num_threads()

    # XLA promises that results lie where traces lay (input_output_aliases), so old values are
    # read there: compilers vectorise a loop over one array, but not over two that overlap.

    def one(share: Any, row: Any, signal: Any, kept: Any, advance: bool) -> None:
        if advance:
            for j in range(row.shape[0]):
                if reads:
                    share[j] += signal[j] * row[j]
                new = kept[j] * row[j]
                row[j] = np.float32(0) if abs(new) < TINY else new
        elif reads:
            for j in range(row.shape[0]):
                share[j] += signal[j] * row[j]

    def two(
        share: Any, r0: Any, r1: Any, s0: Any, s1: Any, k0: Any, k1: Any, advance: bool
    ) -> None:
        """Two samples: their share of the gradient is read and written once."""
        if advance:
            for j in range(r0.shape[0]):
                if reads:
                    share[j] += s0[j] * r0[j] + s1[j] * r1[j]
                a, b = k0[j] * r0[j], k1[j] * r1[j]
                r0[j] = np.float32(0) if abs(a) < TINY else a
                r1[j] = np.float32(0) if abs(b) < TINY else b
        elif reads:
            for j in range(r0.shape[0]):
                share[j] += s0[j] * r0[j] + s1[j] * r1[j]

    one, two = part_of(one), part_of(two)

    def single_state(arrays: Any, low: int, high: int, b: int, end: int, advance: bool) -> None:
        """Rows of the samples ``b .. end``, two at most."""
        c, p, numbers = arrays[n_states][0], arrays[n_states + 1][0], arrays[n_states + 5]
        e, gradient = arrays[n_states + n_inputs], arrays[2 * n_states + n_inputs][0]
        first, last, live = int(numbers[0, 0, 2]), end - 1, arrays[n_states + 6][0]
        s0, s1 = c[b if reads else 0], c[last if reads else 0]
        for i in range(low, high):
            share = gradient[first + i]
            lives, other_lives = live[b, i] != 0, last > b and live[last, i] != 0
            if lives and other_lives:
                two(share, e[b, i], e[last, i], s0, s1, p[b], p[last], advance)
            elif lives:
                one(share, e[b, i], s0, p[b], advance)
            elif other_lives:
                one(share, e[last, i], s1, p[last], advance)

    def several_states(arrays: Any, low: int, high: int, b: int, advance: bool) -> None:
        c, p, numbers = arrays[n_states], arrays[n_states + 1], arrays[n_states + 5]
        gradient, first = arrays[2 * n_states + n_inputs][0], int(numbers[0, 0, 2])
        n, live = p.shape[2], arrays[n_states + 6][0]
        before = np.empty((n_states, n), np.float32)
        for i in range(low, high):
            if live[b, i] == 0:
                continue
            for s in range(n_states):
                row, share = arrays[n_states + n_inputs + s][b, i], gradient[first + i]
                for j in range(n):
                    before[s, j] = row[j]
                    if reads:
                        share[j] += c[s, b, j] * row[j]
            if advance:
                for s in range(n_states):
                    row = arrays[n_states + n_inputs + s][b, i]
                    for j in range(n):
                        new = np.float32(0)
                        for a in range(n_states):
                            new += p[s * n_states + a, b, j] * before[a, j]
                        row[j] = np.float32(0) if abs(new) < TINY else new

    def entering(arrays: Any, low: int, high: int, b: int, advance: bool) -> None:
        """What the chunk's steps add, to traces and to the gradient."""
        x, enter, y_bar = arrays[n_states + 2], arrays[n_states + 3], arrays[n_states + 4]
        numbers, gradient = arrays[n_states + 5], arrays[2 * n_states + n_inputs][0]
        first, n_steps, n = int(numbers[0, 0, 2]), x.shape[0], enter.shape[2]
        for t in range(int(numbers[0, 0, 1])):
            values = x[t, b]
            for i in range(low, high):
                value = values[i]
                if value != 0:
                    if has_y:
                        share, signal = gradient[first + i], y_bar[t, b]
                        for j in range(n):
                            share[j] += value * signal[j]
                    if advance:
                        for s in range(n_states):
                            row = arrays[n_states + n_inputs + s][b, i]
                            new = enter[s * n_steps + t, b]
                            for j in range(n):
                                row[j] += value * new[j]

    several_states, entering = part_of(several_states), part_of(entering)
    single_state = part_of(single_state)

    def some_rows(arrays: Any, start: int, end: int) -> None:
        batch, n = arrays[n_states + 2].shape[1], arrays[n_states + 1].shape[2]
        numbers, gradient = arrays[n_states + 5], arrays[2 * n_states + n_inputs][0]
        advance, first = numbers[0, 0, 0] != 0, int(numbers[0, 0, 2])
        if reads or has_y:
            for i in range(first + start, first + end):
                for j in range(n):
                    gradient[i, j] = 0
        for start_in_a_row in range(start, end, IN_A_ROW):
            end_in_a_row = min(end, start_in_a_row + IN_A_ROW)
            for b in range(0, batch, 2):
                end_b = min(b + 2, batch)
                for low in range(start_in_a_row, end_in_a_row, AT_ONCE):
                    high = min(end_in_a_row, low + AT_ONCE)
                    if one_state:
                        single_state(arrays, low, high, b, end_b, advance)
                    for q in range(b, end_b):
                        if not one_state:
                            several_states(arrays, low, high, q, advance)
                        entering(arrays, low, high, q, advance)

    some_rows = part_of(some_rows)

    def run(*arrays: Any) -> None:
        n_in = arrays[n_states + 2].shape[2]
        rows = (n_in + parts - 1) // parts
        for part in numba.prange(parts):
            some_rows(arrays, part * rows, min(n_in, part * rows + rows))

    return compiled(run)
