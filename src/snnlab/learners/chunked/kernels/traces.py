"""One pass over the eligibility traces of a map: read, advance, and what enters, in one go."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.chunked.kernels.support import call, compiled, on_one_cpu

#: Below this size of a trace (of one state) XLA's loops are used, which need no compiling
#: (a choice; the break-even was not measured).
LEAST_BYTES = 2**22
#: Rows of traces of several states that are copied at once before they are changed.
AT_ONCE = 64
#: Smaller numbers are slow, and nothing: XLA makes them 0 too.
TINY = np.finfo(np.float32).tiny


def usable(trace: jax.Array) -> bool:
    """Whether the pass over a trace ``(B, i, n)`` should be made here."""
    return on_one_cpu() and 4 * trace.size >= LEAST_BYTES and trace.dtype == jnp.float32


def read_and_advance(
    traces: Sequence[jax.Array],
    c: Sequence[jax.Array] | None,
    p: Sequence[Sequence[jax.Array | None]],
    enter: Sequence[jax.Array],
    x: jax.Array,
    after: jax.Array | None,
) -> tuple[list[jax.Array], jax.Array]:
    """``g = sum_{b,s} c_s e_s`` and, in the same pass, ``e_s <- sum_a P_sa e_a + sum_t x_t f_st``.

    Args:
        traces: of the S states, each ``(B, i, n)``; changed in place if nobody else needs them.
        c: of the S states, ``(B, n)``; ``None`` if no gradient is wanted (``g`` is then 0).
        p: ``p[s][a] (B, n)``; ``None`` for blocks that are zero.
        enter: of the S states, ``(K, B, n)``.
        x: inputs of the map, ``(K, B, i)``.
        after: result of a pass that has to be over before, since two at once would compete for
            the cores (and not every thread pool of numba bears them).

    Returns:
        new traces, and the gradient ``(i, n)``.
    """
    n_states = len(traces)
    _, i, n = traces[0].shape
    nothing = jnp.zeros_like(enter[0][0])
    inputs = [
        jnp.stack(c) if c is not None else nothing[None],
        jnp.stack([nothing if block is None else block for row in p for block in row]),
        x,
        jnp.concatenate(enter),
        nothing[None] if after is None else after[None],
    ]
    outs = [*((e.shape, e.dtype) for e in traces), ((1, i, n), jnp.float32)]
    *new, gradient = call(
        _kernel(n_states, c is not None), outs, *traces, *inputs,
        aliases={s: s for s in range(n_states)},
    )  # fmt: skip
    return new, gradient[0]


@functools.cache
def _kernel(n_states: int, reads: bool) -> Callable[..., None]:
    """The loop for S states.

    Its arguments are those of :func:`read_and_advance`, stacked over states, then the results.
    """
    import numba

    one_state = n_states == 1
    parts = numba.get_num_threads()

    # XLA promises that results lie where traces lay (input_output_aliases), so old values are
    # read there: compilers vectorise a loop over one array, but not over two that overlap.
    def run(*arrays: Any) -> None:
        c, p, x = arrays[n_states], arrays[n_states + 1], arrays[n_states + 2]
        enter, gradient = arrays[n_states + 3], arrays[2 * n_states + 5][0]
        n_steps, batch, n_in = x.shape
        n = p.shape[2]
        rows = (n_in + parts - 1) // parts
        for part in numba.prange(parts):
            first, end = part * rows, min(n_in, part * rows + rows)
            gradient[first:end] = 0
            before = np.empty((n_states, AT_ONCE, n), np.float32)
            for b in range(batch):
                for low in range(first, end, AT_ONCE):
                    high = min(end, low + AT_ONCE)
                    if not one_state:
                        for a in range(n_states):
                            trace = arrays[n_states + 5 + a]
                            for i in range(low, high):
                                row, copy = trace[b, i], before[a, i - low]
                                for j in range(n):
                                    copy[j] = row[j]
                    for s in range(n_states):
                        trace = arrays[n_states + 5 + s]
                        signal, kept = c[s, b], p[s * n_states, b]
                        for i in range(low, high):
                            row, share = trace[b, i], gradient[i]
                            for j in range(n):
                                if reads:
                                    share[j] += signal[j] * row[j]
                                if one_state:
                                    new = kept[j] * row[j]
                                else:
                                    new = np.float32(0)
                                    for a in range(n_states):
                                        new += p[s * n_states + a, b, j] * before[a, i - low, j]
                                row[j] = new if abs(new) >= TINY else np.float32(0)
                        for t in range(n_steps):
                            values, entering = x[t, b], enter[s * n_steps + t, b]
                            for i in range(low, high):
                                value = values[i]
                                if value != 0:
                                    row = trace[b, i]
                                    for j in range(n):
                                        row[j] += value * entering[j]

    return compiled(run)
