"""Compiled loops of our own for the CPU, on all cores: what XLA's are slow at.

- One pass over the traces of a map: XLA's loops read a trace twice where a gradient and an update
  are wanted, and run on one core. The loop here reads and writes every trace once.
- Products with events: rows of a weight are visited for inputs that are not zero only, so that
  spikes cost what there is of them.

Accelerators and small arrays keep to XLA. The loops are numba's, called by the program itself.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Below this size of a trace (of one state) XLA's loops are used, which need no compiling
#: (a choice; the break-even was not measured).
LEAST_BYTES = 2**22
#: Multiplications of a dense product below which it is left to XLA (a choice, as above).
LEAST_PRODUCT = 2**24
#: Rows of traces of several states that are copied at once before they are changed.
AT_ONCE = 64
#: Inputs that are looked at together.
LANES = 8
#: Smaller numbers are slow, and nothing: XLA makes them 0 too.
TINY = np.finfo(np.float32).tiny


def _on_one_cpu() -> bool:
    return jax.default_backend() == "cpu" and jax.device_count() == 1


@functools.cache
def _parallel() -> bool:
    """Whether numba has threads that two loops of a program may use at the same time."""
    for pool in ("omppool", "tbbpool"):
        try:
            importlib.import_module(f"numba.np.ufunc.{pool}")
        except ImportError:
            continue
        return True
    return False


def usable(trace: jax.Array) -> bool:
    """Whether the pass over a trace ``(B, i, n)`` should be made here."""
    return _on_one_cpu() and 4 * trace.size >= LEAST_BYTES and trace.dtype == jnp.float32


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
    from brainevent import numba_kernel

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
    outs = [jax.ShapeDtypeStruct(e.shape, e.dtype) for e in traces]
    call = numba_kernel(
        _kernel(n_states, c is not None),
        outs=[*outs, jax.ShapeDtypeStruct((1, i, n), jnp.float32)],
        vmap_method="sequential",
        input_output_aliases={s: s for s in range(n_states)},
    )
    *new, gradient = call(*traces, *inputs)
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
    @numba.njit(parallel=_parallel(), nogil=True, fastmath={"contract"})
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

    compiled: Callable[..., None] = run
    return compiled


# ---------------------------------------------------------------------- products with events


def times_events(x: jax.Array, w: jax.Array) -> jax.Array:
    """``x W``: ``(K, B, i), (i, n) -> (K, B, n)``, for ``x`` that is mostly zero."""
    lead, (i, n) = x.shape[:-1], w.shape
    flat = x.reshape(-1, i)
    if not (_on_one_cpu() and flat.size * n >= LEAST_PRODUCT):
        return x @ w
    out = jax.ShapeDtypeStruct((flat.shape[0], n), jnp.float32)
    return _call(_times_kernel(), out)(flat, w).reshape(*lead, n)


def outer_events(x: jax.Array, g: jax.Array) -> jax.Array:
    """``x^T g``: ``(K, B, i), (K, B, n) -> (i, n)``, for ``x`` that is mostly zero."""
    i, n = x.shape[-1], g.shape[-1]
    flat, g = x.reshape(-1, i), g.reshape(-1, n)
    if not (_on_one_cpu() and flat.size * n >= LEAST_PRODUCT):
        return flat.T @ g
    return _call(_outer_kernel(), jax.ShapeDtypeStruct((i, n), jnp.float32))(flat, g)


def _call(kernel: Callable[..., None], out: jax.ShapeDtypeStruct) -> Callable[..., jax.Array]:
    from brainevent import numba_kernel

    made = numba_kernel(kernel, outs=out, vmap_method="sequential")

    def call(*args: jax.Array) -> jax.Array:
        found = made(*args)
        return found[0] if isinstance(found, (tuple, list)) else found

    return call


@functools.cache
def _silent() -> Callable[..., bool]:
    """Whether ``LANES`` inputs from ``start`` on are all 0, looked at together: most are."""
    import numba

    @numba.njit(nogil=True)
    def run(bits: Any, start: int, end: int) -> bool:
        some = np.int32(0)
        if start + LANES <= end:
            for q in range(LANES):
                some |= bits[start + q]
            return some == 0
        return False

    compiled: Callable[..., bool] = run
    return compiled


@functools.cache
def _times_kernel() -> Callable[..., None]:
    import numba

    silent = _silent()

    @numba.njit(parallel=_parallel(), nogil=True, fastmath={"contract"})
    def run(x: Any, w: Any, y: Any) -> None:
        n_rows, n_in = x.shape
        n = w.shape[1]
        for r in numba.prange(n_rows):
            row, values, bits = y[r], x[r], x[r].view(np.int32)
            for j in range(n):
                row[j] = 0
            for start in range(0, n_in, LANES):
                if silent(bits, start, n_in):
                    continue
                for i in range(start, min(start + LANES, n_in)):
                    value = values[i]
                    if value != 0:
                        weights = w[i]
                        for j in range(n):
                            row[j] += value * weights[j]

    compiled: Callable[..., None] = run
    return compiled


@functools.cache
def _outer_kernel() -> Callable[..., None]:
    import numba

    silent = _silent()
    parts = numba.get_num_threads()

    @numba.njit(parallel=_parallel(), nogil=True, fastmath={"contract"})
    def run(x: Any, g: Any, w: Any) -> None:
        n_rows, n_in = x.shape
        n = g.shape[1]
        rows = (n_in + parts - 1) // parts
        for part in numba.prange(parts):
            first, end = part * rows, min(n_in, part * rows + rows)
            w[first:end] = 0
            for r in range(n_rows):
                values, signal, bits = x[r], g[r], x[r].view(np.int32)
                for start in range(first, end, LANES):
                    if silent(bits, start, end):
                        continue
                    for i in range(start, min(start + LANES, end)):
                        value = values[i]
                        if value != 0:
                            row = w[i]
                            for j in range(n):
                                row[j] += value * signal[j]

    compiled: Callable[..., None] = run
    return compiled
