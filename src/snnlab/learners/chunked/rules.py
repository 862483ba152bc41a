"""The algebra of chunked D-RTRL and ES-D-RTRL: from derivatives of steps to gradients.

Notation of the chunk ``t0+1 .. t0+K``: old state ``a``, new state ``b``, cut ``r``;
``D[b, a]``, ``f[b, r]``, ``d[b]`` are ``(K, B, n)``; ``e[r][b] (B, i, n)`` is the trace of the
map ``(i, n)``. Per neuron a sum over states is a product of small matrices, written out over the
blocks that are not zero by structure.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from snnlab.learners.chunked.derivatives import Blocks
from snnlab.learners.chunked.evaluate import ByPiece
from snnlab.learners.chunked.graph import StepGraph

ByState = dict[int, jax.Array]
ByCut = dict[int, jax.Array]
#: (cut, piece, first row of a block of its rows, state).
TraceKey = tuple[int, int, int, int]
#: Eligibility traces ``(B, i, n)``.
Traces = dict[TraceKey, jax.Array]
#: Rows of a block at most.
ROWS = 512


def total(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    """Sum of arrays; zeros for none."""
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)


# ---------------------------------------------------------------------- D-RTRL


def backward(graph: StepGraph, d: ByState, big_d: Blocks, f: Blocks) -> tuple[ByState, ByCut]:
    """Learning signals carried back through the chunk along the diagonal.

    ``l_t = d_t + D_{t+1}^T l_{t+1}``; returns ``c = D_{t0+1}^T l_{t0+1}`` by state ``(B, n)``
    and ``dL/dy_t = f_t . l_t`` by cut ``(K, B, n)``.
    """

    def body(carried, step):
        d, big_d = step
        signal = {b: d[b] + carried[b] for b in d}
        carried = {
            a: total([big_d[b, a] * signal[b] for b in d if (b, a) in big_d], like=signal[a])
            for a in d
        }
        return carried, signal

    nothing = {b: jnp.zeros_like(value[0]) for b, value in d.items()}
    carried, signal = jax.lax.scan(body, nothing, (d, _among(big_d, graph)), reverse=True)
    return carried, through_maps(graph, f, signal)


def through_maps(graph: StepGraph, f: Blocks, signal: ByState) -> ByCut:
    """``f_t . l_t``: the adjoint of each map's output."""
    return {
        r: functools.reduce(
            jnp.add, [f[b, r] * signal[b] for b in graph.trace_states if (b, r) in f]
        )
        for r, cut in enumerate(graph.cuts) if cut.reach
    }  # fmt: skip


def propagators(graph: StepGraph, big_d: Blocks, f: Blocks) -> tuple[Blocks, Blocks]:
    """What the chunk does to traces.

    ``P_s = D_{t0+K} ... D_{s+1}``; returns ``P_{t0}`` by (new, old) state ``(B, n)`` and
    ``P_s f_s`` by (state, cut) ``(K, B, n)``.
    """
    entries = [(b, r) for r, cut in enumerate(graph.cuts) for b in cut.reach]
    states = graph.trace_states

    def body(p, step):
        big_d, f = step
        enter = {
            (b, r): total(
                [p[b, a] * f[a, r] for a in states if (b, a) in p and (a, r) in f], like=p[b, b]
            )
            for b, r in entries
        }
        p = {
            (b, a): total(
                [p[b, c] * big_d[c, a] for c in states if (b, c) in p and (c, a) in big_d],
                like=p[b, a],
            )
            for b, a in p
        }
        return p, enter

    start = {}
    for b, a in graph.reaches():
        aval = graph.state_vars[b].aval
        start[b, a] = jnp.full(aval.shape, float(a == b), aval.dtype)
    return jax.lax.scan(body, start, (_among(big_d, graph), f), reverse=True)


def _among(big_d: Blocks, graph: StepGraph) -> Blocks:
    return {(b, a): v for (b, a), v in big_d.items() if a in graph.trace_states}


def within_chunk(pieces: ByPiece, y_bar: ByCut) -> ByPiece:
    """Gradient ``(i, n)`` of the products ``x_t @ W`` of the chunk, one product per piece."""
    return {
        (r, k): jnp.einsum("tbi,tbn->in", x, y_bar[r])
        for (r, k), x in pieces.items() if r in y_bar
    }  # fmt: skip


def trace_keys(graph: StepGraph) -> list[TraceKey]:
    """Keys of all traces; those of one map's rows (its states) follow each other."""
    return [
        (r, k, start, b)
        for r, k in graph.trained_pieces()
        for start in range(0, graph.cuts[r].pieces[k].size, ROWS)
        for b in graph.cuts[r].reach
    ]


def n_rows(graph: StepGraph, key: TraceKey) -> int:
    r, k, start, _ = key
    return min(ROWS, graph.cuts[r].pieces[k].size - start)


def _entering(graph: StepGraph, key: TraceKey, enter: Blocks, pieces: ByPiece) -> jax.Array:
    """``sum_s x_s (P_s f_s)`` of the chunk, ``(B, i, n)``: one product for each sample."""
    r, k, start, b = key
    x = pieces[r, k][..., start : start + n_rows(graph, key)]
    return jnp.einsum("tbi,tbn->bin", x, enter[b, r])


def first_traces(graph: StepGraph, enter: Blocks, pieces: ByPiece) -> Traces:
    """The traces after a first chunk."""
    return {key: _entering(graph, key, enter, pieces) for key in trace_keys(graph)}


def pass_over_traces(
    graph: StepGraph, traces: Traces, c: ByState, entering: tuple[Blocks, Blocks] | None,
    pieces: ByPiece,
) -> tuple[Traces | None, ByPiece]:  # fmt: skip
    """One pass over the traces.

    Returns:
        with ``entering`` (see :func:`propagators`) the next traces ``P e + sum_s x_s (P_s f_s)``,
        and the gradient through what happened before the chunk, ``sum_b c_b . e_b``.

    Rows are taken one block after the other (the barrier keeps compilers from interleaving
    them), so that the room for products is that of a block and not that of all traces.
    """
    new: Traces = {}
    rows: dict[tuple[int, int], list[jax.Array]] = {}
    previous: list[jax.Array] = []
    blocks: dict[tuple[int, int, int], list[TraceKey]] = {}
    for key in trace_keys(graph):
        blocks.setdefault(key[:3], []).append(key)
    for (r, k, start), keys in blocks.items():
        now = {key[3]: traces[key] for key in keys}
        x = pieces[r, k]
        if previous:
            now, x, *_ = jax.lax.optimization_barrier((now, x, previous))
        parts = [jnp.sum(c[b][:, None, :] * e, 0) for b, e in now.items()]
        rows.setdefault((r, k), []).append(functools.reduce(jnp.add, parts))
        previous = [rows[r, k][-1]]
        if entering is None:
            continue
        p, enter = entering
        for b in now:
            value = _entering(graph, (r, k, start, b), enter, {(r, k): x})
            for a, e in now.items():
                if (b, a) in p:
                    value = value + p[b, a][:, None, :] * e
            new[r, k, start, b] = value
        previous += [new[key] for key in keys]
    found = {key: jnp.concatenate(parts) for key, parts in rows.items()}
    return new if entering is not None else None, found


# ---------------------------------------------------------------------- ES-D-RTRL


def smooth_outputs(
    graph: StepGraph, big_d: Blocks, f: Blocks, f_bar: Blocks, decay: float
) -> tuple[Blocks, Blocks]:
    """``fbar_t = a D_t fbar_{t-1} + (1 - a) f_t`` by (state, cut), after and at all steps."""

    def body(f_bar, step):
        big_d, f = step
        new = {}
        for b, r in f_bar:
            old = [big_d[b, a] * f_bar[a, r] for a in graph.trace_states
                   if (b, a) in big_d and (a, r) in f_bar]  # fmt: skip
            value = decay * total(old, like=f_bar[b, r])
            new[b, r] = value + (1 - decay) * f[b, r] if (b, r) in f else value
        return new, new

    return jax.lax.scan(body, f_bar, (_among(big_d, graph), f))


def warm_up(decay: float, first: jax.Array, length: int) -> jax.Array:
    """``(length,)`` corrections ``1 - a^(t+1)`` of steps ``first ..`` (1 from step 1000 on)."""
    t = first + jnp.arange(length)
    value = jnp.maximum(1.0 - jnp.power(jnp.float32(decay), t + 1), 1e-8)
    return jnp.where(t < 1000, value, 1.0)


def smooth_signal(g: ByCut, decay: float) -> tuple[ByCut, ByCut]:
    """``G_s = sum_{t >= s} a^(t-s) g_t``, and ``a G_{t0+1}``, which meets what came before.

    Smoothing the map's input forwards or its signal backwards is the same product; the signal is
    the smaller of the two, and inputs stay as they were.
    """

    def body(carried, g):
        value = {r: g[r] + carried[r] for r in g}
        return {r: decay * value[r] for r in g}, value

    nothing = {r: jnp.zeros_like(value[0]) for r, value in g.items()}
    return jax.lax.scan(body, nothing, g, reverse=True)


def smooth_inputs(x_bar: ByPiece, pieces: ByPiece, decay: float) -> ByPiece:
    """``xbar`` at the end of the chunk, ``(B, i)``."""
    new: ByPiece = {}
    for key, old in x_bar.items():
        x = pieces[key]
        share = jnp.power(jnp.float32(decay), jnp.arange(x.shape[0] - 1, -1, -1))
        new[key] = decay ** x.shape[0] * old + jnp.einsum("t,tbi->bi", share, x)
    return new
