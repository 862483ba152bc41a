"""The algebra of chunked D-RTRL and ES-D-RTRL: from derivatives of steps to gradients.

Notation of the chunk ``t0+1 .. t0+K``: old state ``a``, new state ``b``, cut ``r``;
``D[b, a]``, ``f[b, r]``, ``d[b]`` are ``(K, B, n)``; ``e[r][b] (B, i, n)`` is the trace of the
map ``(i, n)``, or ``(B, i, k)`` of a sparse map with ``k`` synapses from each of its inputs. Per
neuron a sum over states is a product of small matrices, written out over the blocks that are not
zero by structure.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Set
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.graph.derivatives import Blocks
from snnlab.learners.graph.evaluate import ByPiece, Frame, Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import products
from snnlab.learners.stores.kernels import traces as kernels
from snnlab.learners.tuning import current

ByState = dict[int, jax.Array]
ByCut = dict[int, jax.Array]
#: (cut, piece, state).
TraceKey = tuple[int, int, int]
#: Eligibility traces ``(B, i, n)``.
Traces = dict[TraceKey, jax.Array]


def total(terms: list[jax.Array], like: jax.Array) -> jax.Array:
    """Sum of arrays; for none, zeros like ``like``."""
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(like)


def over_steps(
    body: Callable[..., tuple[Any, Any]],
    carry: Any,
    length: int,
    blocks: tuple[Blocks, ...],
    signals: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """``jax.lax.scan`` over the steps of a chunk.

    Args:
        body: (carry, signals of the step, blocks of the step ...) -> (carry, result).
        carry: at its start.
        length: K.
        blocks: those that are the same at every step are not scanned over.
        signals: arrays ``(K, B, n)``.
        reverse: from the last step to the first.
    """
    moving = tuple({k: v for k, v in b.items() if v.ndim == 3} for b in blocks)

    def step(carry, xs):
        signals, now = xs
        return body(carry, signals, *({**b, **m} for b, m in zip(blocks, now, strict=True)))

    return jax.lax.scan(step, carry, (signals, moving), length=length, reverse=reverse)


def plus(a: ByCut, b: ByCut) -> ByCut:
    """The sum, cut by cut, where a cut may be in one of them only."""
    both = {r: a[r] + b[r] for r in a if r in b}
    return {**a, **b, **both}


# ---------------------------------------------------------------------- D-RTRL


def backward(graph: StepGraph, d: ByState, big_d: Blocks, f: Blocks) -> tuple[ByState, ByCut]:
    """Learning signals carried back through the chunk along the diagonal.

    ``l_t = d_t + D_{t+1}^T l_{t+1}``; returns ``c = D_{t0+1}^T l_{t0+1}`` by state ``(B, n)``
    and ``dL/dy_t = f_t . l_t`` by cut ``(K, B, n)``.
    """

    def body(carried, d, big_d):
        signal = {b: d[b] + carried[b] for b in d}
        carried = {
            a: total([big_d[b, a] * signal[b] for b in d if (b, a) in big_d], like=signal[a])
            for a in d
        }
        return carried, signal

    nothing = {b: jnp.zeros_like(value[0]) for b, value in d.items()}
    length = next(iter(d.values())).shape[0]
    blocks = (_among(big_d, graph),)
    carried, signal = over_steps(body, nothing, length, blocks, d, reverse=True)
    return carried, through_maps(graph, f, signal)


def through_maps(graph: StepGraph, f: Blocks, signal: ByState) -> ByCut:
    """``f_t . l_t``: the adjoint of each map's output."""
    return {
        r: functools.reduce(
            jnp.add, [f[b, r] * signal[b] for b in graph.trace_states if (b, r) in f]
        )
        for r, cut in enumerate(graph.cuts) if cut.reach
    }  # fmt: skip


def propagators(graph: StepGraph, length: int, big_d: Blocks, f: Blocks) -> tuple[Blocks, Blocks]:
    """What a chunk of ``length`` steps does to traces.

    ``P_s = D_{t0+K} ... D_{s+1}``; returns ``P_{t0}`` by (new, old) state ``(B, n)`` and
    ``P_s f_s`` by (state, cut) ``(K, B, n)``.
    """
    entries = [(b, r) for r, cut in enumerate(graph.cuts) for b in cut.reach]
    states = graph.trace_states

    def body(p, _, big_d, f):
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
    return over_steps(body, start, length, (_among(big_d, graph), f), reverse=True)


def _among(big_d: Blocks, graph: StepGraph) -> Blocks:
    return {(b, a): v for (b, a), v in big_d.items() if a in graph.trace_states}


def within_chunk(frame: Frame, pieces: Inputs, y_bar: ByCut) -> ByPiece:
    """Gradient ``(i, n)`` of the products ``x_t @ W`` of the chunk, one product per piece."""
    graph = frame.graph
    return {
        (r, k): products.outer(x, y_bar[r], graph.post(r, k), graph.dtype)
        for (r, k), x in pieces.items() if r in y_bar
    }  # fmt: skip


def trace_keys(graph: StepGraph, only: Set[str] | None = None) -> list[TraceKey]:
    """Keys of all traces, or of those of the parameters in ``only``."""
    return [
        (r, k, b)
        for r, k in graph.trained_pieces()
        if graph.cuts[r].pieces[k].size
        and (only is None or not only.isdisjoint(graph.cuts[r].trained))
        for b in graph.cuts[r].reach
    ]


def first_traces(graph: StepGraph, keys: list[TraceKey], enter: Blocks, pieces: Inputs) -> Traces:
    """The traces after a first chunk: ``sum_s x_s (P_s f_s)``, a product for each sample."""
    return {
        (r, k, b): products.outer_by_sample(
            pieces[r, k], enter[b, r], graph.post(r, k), graph.dtype
        ).astype(graph.dtype)
        for r, k, b in keys
    }


def join(graph: StepGraph, found: ByPiece) -> ByCut:
    """Gradients of whole maps ``(i, n)`` from those of all their pieces that are not empty."""
    whole: ByCut = {}
    for r in dict.fromkeys(r for r, _ in found):
        pieces = graph.cuts[r].pieces
        parts = [found[r, k] for k, piece in enumerate(pieces) if piece.size]
        whole[r] = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
    return whole


def pass_over_traces(
    graph: StepGraph, traces: Traces, c: ByState | None, entering: tuple[Blocks, Blocks] | None,
    pieces: Inputs, y_bar: ByCut,
) -> tuple[Traces, ByCut]:  # fmt: skip
    """One pass over the traces.

    They are changed where they are, a few samples at a time, so that the products of a chunk need
    the room of these samples and not that of all traces.

    Args:
        graph: the cut step.
        traces: before the chunk.
        c: adjoint of the states before the chunk; ``None`` if it has no loss.
        entering: see :func:`propagators`; ``None`` if nobody needs the traces after the chunk.
        pieces: the maps' inputs.
        y_bar: adjoints of the maps' outputs in the chunk whose products are to be made in the
            same pass; of maps that :func:`cuts_of_kernel` names.

    Returns:
        with ``entering`` the next traces ``P e + sum_s x_s (P_s f_s)`` (otherwise the old ones),
        and with ``c`` the gradient through what happened before the chunk, ``sum_b c_b . e_b``,
        and that of ``y_bar``.
    """
    if entering is None:
        return traces, {} if c is None else join(graph, _read(graph, traces, c))
    own = cuts_of_kernel(graph, traces)
    mine = {key: e for key, e in traces.items() if key[0] in own}
    new, found = pass_in_one(graph, mine, c, entering, pieces, y_bar)
    traces = {key: e for key, e in traces.items() if key not in mine}
    read = {} if c is None else _read(graph, traces, c)
    for r, k in dict.fromkeys((r, k) for r, k, _ in traces):
        states = [b for cut, piece, b in traces if (cut, piece) == (r, k)]
        old = {b: traces[r, k, b] for b in states}
        # Says that the old traces have been read before they are changed: without it, compilers
        # keep a copy of all of them for the reader.
        done = 0.0 * read[r, k][0, 0] if (r, k) in read else 0.0
        x = products.dense(pieces[r, k])
        after = _advance(old, done, entering, r, x, graph.post(r, k))
        new.update({(r, k, b): value for b, value in after.items()})
    return new, {**found, **join(graph, read)}


def cuts_of_kernel(graph: StepGraph, traces: dict[TraceKey, Any]) -> list[int]:
    """Cuts whose traces (arrays or their shapes) our own loop passes over: dense, and large."""
    large = {r for (r, k, _), e in traces.items() if kernels.usable(e)}
    return sorted(r for r in large if graph.cuts[r].post is None)


def pass_in_one(
    graph: StepGraph, traces: Traces, c: ByState | None, entering: tuple[Blocks, Blocks],
    pieces: Inputs, y_bar: ByCut, advance: Any = True, steps: Any = None,
    live: ByPiece | None = None,
) -> tuple[Traces, ByCut]:  # fmt: skip
    """:func:`pass_over_traces` by kernels that read and write in the same pass.

    ``advance``, ``steps`` and ``live`` (by piece): see :func:`kernels.read_and_advance`.
    """
    p, enter = entering
    new: Traces = {}
    found: ByCut = {}
    last: jax.Array | None = None
    for r, k in dict.fromkeys((r, k) for r, k, _ in traces):
        states = [b for cut, piece, b in traces if (cut, piece) == (r, k)]
        cut = graph.cuts[r]
        wanted = c is not None or r in y_bar
        total = sum(piece.size for piece in cut.pieces)
        rows = kernels.Rows(cut.pieces[k].start, total, found.get(r), last)
        after, last = kernels.read_and_advance(
            [traces[r, k, b] for b in states],
            None if c is None else [c[b] for b in states],
            [[p.get((b, a)) for a in states] for b in states],
            [enter[b, r] for b in states],
            products.dense(pieces[r, k]),
            y_bar.get(r),
            rows=rows, advance=advance, steps=steps, live=(live or {}).get((r, k)),
        )  # fmt: skip
        new.update({(r, k, b): e for b, e in zip(states, after, strict=True)})
        if wanted:
            found[r] = last
    return new, {r: share[0] for r, share in found.items()}


def _read(graph: StepGraph, traces: Traces, c: ByState) -> ByPiece:
    """``sum_b c_b . e_b`` by piece ``(i, n)``."""
    found: ByPiece = {}
    for r, k in dict.fromkeys((r, k) for r, k, _ in traces):
        mine = {b: e for (cut, piece, b), e in traces.items() if (cut, piece) == (r, k)}
        batch, i, n = next(iter(mine.values())).shape

        post = graph.post(r, k)
        if current().at_once:
            terms = [(products.spread(c[b], post) * e).sum(0) for b, e in mine.items()]
            found[r, k] = functools.reduce(jnp.add, terms)
            continue

        def add_sample(at: Any, share: jax.Array, mine: dict = mine, post: Any = post) -> jax.Array:
            terms = [products.spread(c[b][at], post) * e[at] for b, e in mine.items()]
            return functools.reduce(jnp.add, [share, *terms])

        found[r, k] = jax.lax.fori_loop(0, batch, add_sample, jnp.zeros((i, n), jnp.float32))
    return found


def _advance(
    old: dict[int, jax.Array], done: jax.Array | float, entering: tuple[Blocks, Blocks], r: int,
    x: jax.Array, post: products.Post,
) -> dict[int, jax.Array]:  # fmt: skip
    """The traces by state of one piece ``x (K, B, i)`` of map ``r``, after a chunk."""
    p, enter = entering
    batch, i, n = next(iter(old.values())).shape
    size = samples_at_once(batch, 4 * i * n * len(old))

    def some(at: Any, e: dict[int, jax.Array]) -> dict[int, jax.Array]:
        """New traces of a few samples."""

        def of(a: jax.Array, axis: int) -> jax.Array:
            return a if size == batch else jax.lax.dynamic_slice_in_dim(a, at, size, axis)

        now = {b: of(value, 0) for b, value in e.items()}
        found = {}
        for b in e:
            kept = [products.spread(of(p[b, a], 0), post) * now[a] for a in now if (b, a) in p]
            entered = products.outer_by_sample(of(x, 1), of(enter[b, r], 1), post, e[b].dtype)
            found[b] = (functools.reduce(jnp.add, [*kept, entered]) + done).astype(e[b].dtype)
        return found

    if size == batch:
        return some(0, old)

    def body(step: Any, e: dict[int, jax.Array]) -> dict[int, jax.Array]:
        at = step * size
        return {
            b: jax.lax.dynamic_update_slice_in_dim(e[b], value, at, 0)
            for b, value in some(at, e).items()
        }

    return jax.lax.fori_loop(0, batch // size, body, old)


def samples_at_once(batch: int, sample_bytes: int) -> int:
    """Samples of a part of a pass: a divisor of the batch, and of at most ``block_bytes``."""
    wanted = max(1, current().block_bytes // sample_bytes)
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= wanted)


# ---------------------------------------------------------------------- ES-D-RTRL


def smooth_outputs(
    graph: StepGraph, length: int, big_d: Blocks, f: Blocks, f_bar: Blocks, decay: float
) -> tuple[Blocks, Blocks]:
    """``fbar_t = a D_t fbar_{t-1} + (1 - a) f_t`` by (state, cut), after and at all steps."""

    def body(f_bar, _, big_d, f):
        new = {}
        for b, r in f_bar:
            old = [big_d[b, a] * f_bar[a, r] for a in graph.trace_states
                   if (b, a) in big_d and (a, r) in f_bar]  # fmt: skip
            value = decay * total(old, like=f_bar[b, r])
            new[b, r] = value + (1 - decay) * f[b, r] if (b, r) in f else value
        return new, new

    return over_steps(body, f_bar, length, (_among(big_d, graph), f))


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


def smooth_inputs(x_bar: ByPiece, pieces: Inputs, decay: float) -> ByPiece:
    """``xbar`` at the end of a chunk, ``(B, i)``."""
    new: ByPiece = {}
    for key, old in x_bar.items():
        length = products.dense(pieces[key]).shape[0]
        share = jnp.power(jnp.float32(decay), jnp.arange(length - 1, -1, -1))
        new[key] = decay**length * old + products.weighted_sum(share, pieces[key])
    return new
