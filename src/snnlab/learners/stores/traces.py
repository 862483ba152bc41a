"""Traces of every parameter: ``e[r, k, b] (B, *block)`` of relation r, its block k and state b.

They are read, advanced and written in one pass for a chunk: on a CPU large ones by loops of our own
(:mod:`snnlab.learners.stores.kernels.traces` of dense maps, :mod:`snnlab.learners.stores.synapses`
of sparse ones), on a GPU those of dense maps by a kernel
(:mod:`snnlab.learners.stores.pallas.traces`), others by XLA's operations, a few samples at a time
so that the products of a chunk need the room of these samples alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.graph.derivatives import Blocks, ByState
from snnlab.learners.graph.evaluate import ByBlock, ByRelation, Frame, Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import Relation
from snnlab.learners.relations.inputs import Input
from snnlab.learners.stores import synapses
from snnlab.learners.stores.kernels import traces as kernels
from snnlab.learners.tuning import current

#: (relation, block, state).
TraceKey = tuple[int, int, int]
Traces = dict[TraceKey, jax.Array]


def trace_keys(graph: StepGraph, reach: dict[int, tuple[int, ...]]) -> list[TraceKey]:
    """Keys of the traces of some relations: no trace for a block of no inputs."""
    return [
        (r, k, b)
        for r, k in graph.trained_blocks(reach)
        if graph.relations[r].blocks[k].size
        for b in reach[r]
    ]


def within_chunk(frame: Frame, inputs: Inputs, y_bar: ByRelation) -> ByRelation:
    """Gradient of relations from the adjoints of their drives in a chunk, one product per block."""
    graph, found = frame.graph, {}
    for r, g in y_bar.items():
        one = graph.relations[r]
        mine = [inputs.get((r, k)) for k in range(len(one.blocks))]
        found[r] = one.gradient(mine, g, graph.dtype)
    return found


def first_traces(graph: StepGraph, keys: list[TraceKey], enter: Blocks, inputs: Inputs) -> Traces:
    """The traces after a first chunk: ``sum_s x_s (P_s f_s)``, a product for each sample."""
    return {
        (r, k, b): graph.relations[r]
        .outer_by_sample(inputs.get((r, k)), enter[b, r], k, graph.dtype)
        .astype(graph.dtype)
        for r, k, b in keys
    }


def join(graph: StepGraph, found: ByBlock) -> ByRelation:
    """Gradients of whole relations from those of all their blocks that are not empty."""
    return {
        r: graph.relations[r].join({k: v for (one, k), v in found.items() if one == r})
        for r in dict.fromkeys(r for r, _ in found)
    }


def kernel_relations(graph: StepGraph, traces: dict[TraceKey, Any], length: int) -> list[int]:
    """Relations whose traces (or their shapes) one kernel passes over after a chunk of ``length``
    steps: dense, on a CPU large."""
    pallas = length <= graph.kernels.pass_steps
    mine = {r for (r, _, _), e in traces.items() if pallas or kernels.usable(e)}
    return sorted(r for r in mine if graph.relations[r].dense)


def by_block(traces: Traces) -> Iterable[tuple[int, int, list[int]]]:
    """Relation, block, and the states that it has traces for."""
    for r, k in dict.fromkeys((r, k) for r, k, _ in traces):
        yield r, k, [b for one, block, b in traces if (one, block) == (r, k)]


def pass_over_traces(
    graph: StepGraph, traces: Traces, c: ByState | None, entering: tuple[Blocks, Blocks] | None,
    inputs: Inputs, y_bar: ByRelation,
) -> tuple[Traces, ByRelation]:  # fmt: skip
    """One pass over the traces.

    Args:
        graph: the cut step.
        traces: before the chunk.
        c: adjoint of the states before the chunk; ``None`` if it has no loss.
        entering: see :func:`snnlab.learners.stores.dynamics.propagators`; ``None`` if nobody
            needs the traces after the chunk.
        inputs: of the maps.
        y_bar: adjoints of drives in the chunk whose products are to be made in the same pass; of
            relations that :func:`kernel_relations` or :func:`synapses.relations` names.

    Returns:
        with ``entering`` the next traces ``P e + sum_s x_s (P_s f_s)`` (otherwise the old ones),
        and with ``c`` the gradient through what happened before the chunk, ``sum_b c_b . e_b``,
        and that of ``y_bar``.
    """
    listed = set(synapses.relations(graph, traces))
    if listed:
        mine = {key: e for key, e in traces.items() if key[0] in listed}
        others = {key: e for key, e in traces.items() if key[0] not in listed}
        left = {r: g for r, g in y_bar.items() if r not in listed}
        new, found = synapses.pass_over(graph, mine, c, entering, inputs, y_bar)
        rest, more = pass_over_traces(graph, others, c, entering, inputs, left)
        return {**new, **rest}, {**found, **more}
    if entering is None:
        return traces, {} if c is None else join(graph, _read(graph, traces, c))
    length = max((f.shape[0] for f in entering[1].values()), default=0)  # of all the same
    own = kernel_relations(graph, traces, length)
    mine = {key: e for key, e in traces.items() if key[0] in own}
    one_pass = pass_in_pallas if length <= graph.kernels.pass_steps else pass_in_one
    new, found = one_pass(graph, mine, c, entering, inputs, y_bar)
    others = {key: e for key, e in traces.items() if key not in mine}
    read = {} if c is None else _read(graph, others, c)
    for r, k, states in by_block(others):
        old = {b: others[r, k, b] for b in states}
        if (r, k) in read:
            # The old traces are read before they are changed: without this, compilers keep a copy
            # of all of them for the reader.
            old, read[r, k] = jax.lax.optimization_barrier((old, read[r, k]))
        after = _advance(old, entering, r, k, graph.relations[r], inputs.get((r, k)))
        new.update({(r, k, b): value for b, value in after.items()})
    return new, {**found, **join(graph, read)}


def pass_in_one(
    graph: StepGraph, traces: Traces, c: ByState | None, entering: tuple[Blocks, Blocks],
    inputs: Inputs, y_bar: ByRelation, advance: Any = True, steps: Any = None,
    live: ByBlock | None = None,
) -> tuple[Traces, ByRelation]:  # fmt: skip
    """:func:`pass_over_traces` by a CPU's kernels, which read and write in the same pass.

    ``advance``, ``steps`` and ``live`` (by block): see :func:`kernels.read_and_advance`.
    """
    p, enter = entering
    new: Traces = {}
    found: ByRelation = {}
    last: jax.Array | None = None
    for r, k, states in by_block(traces):
        one = graph.relations[r]
        wanted = c is not None or r in y_bar
        total = sum(block.size for block in one.blocks)
        rows = kernels.Rows(one.blocks[k].start, total, found.get(r), last)
        after, last = kernels.read_and_advance(
            [traces[r, k, b] for b in states],
            None if c is None else [c[b] for b in states],
            [[p.get((b, a)) for a in states] for b in states],
            [enter[b, r] for b in states],
            inputs[r, k].array,
            y_bar.get(r),
            rows=rows, advance=advance, steps=steps, live=(live or {}).get((r, k)),
        )  # fmt: skip
        new.update({(r, k, b): e for b, e in zip(states, after, strict=True)})
        if wanted:
            found[r] = last
    return new, {r: share[0] for r, share in found.items()}


def pass_in_pallas(
    graph: StepGraph, traces: Traces, c: ByState | None, entering: tuple[Blocks, Blocks],
    inputs: Inputs, y_bar: ByRelation,
) -> tuple[Traces, ByRelation]:  # fmt: skip
    """The same by those of an accelerator."""
    from snnlab.learners.stores.pallas import traces as pallas  # takes a fifth of a second

    p, enter = entering
    new: Traces = {}
    found: ByBlock = {}
    for r, k, states in by_block(traces):
        after, gradient = pallas.read_and_advance(
            [traces[r, k, b] for b in states],
            None if c is None else [c[b] for b in states],
            [[p.get((b, a)) for a in states] for b in states],
            [enter[b, r] for b in states],
            inputs[r, k].array,
            y_bar.get(r),
        )
        new.update({(r, k, b): e for b, e in zip(states, after, strict=True)})
        if gradient is not None:
            found[r, k] = gradient
    return new, join(graph, found)


def _read(graph: StepGraph, traces: Traces, c: ByState) -> ByBlock:
    """``sum_b c_b . e_b`` by block."""
    found: ByBlock = {}
    for r, k, states in by_block(traces):
        one = graph.relations[r]
        mine = {b: traces[r, k, b] for b in states}

        def share(c: ByState, e: ByState, one: Relation = one, k: int = k) -> jax.Array:
            wide = {b: value.astype(jnp.float32) for b, value in e.items()}
            return functools.reduce(jnp.add, [one.spread(c[b], k) * wide[b] for b in wide])

        if current().at_once or not one.is_map:
            found[r, k] = one.over_samples(share(c, mine))
            continue
        first = next(iter(mine.values()))

        def add_sample(at: Any, total: jax.Array, mine: Any = mine, share: Any = share) -> Any:
            return total + share({b: c[b][at] for b in mine}, {b: e[at] for b, e in mine.items()})

        nothing = jnp.zeros(first.shape[1:], jnp.float32)
        found[r, k] = jax.lax.fori_loop(0, first.shape[0], add_sample, nothing)
    return found


def _advance(
    old: ByState, entering: tuple[Blocks, Blocks], r: int, k: int, one: Relation, x: Input | None
) -> ByState:
    """The traces by state of one block of a relation, after a chunk with its input ``x``."""
    p, enter = entering
    first = next(iter(old.values()))
    batch = first.shape[0]
    size = samples_at_once(batch, 4 * first.size // batch * len(old))

    def some(at: Any, e: ByState) -> ByState:
        """New traces of a few samples."""

        def of(a: jax.Array, axis: int) -> jax.Array:
            return a if size == batch else jax.lax.dynamic_slice_in_dim(a, at, size, axis)

        now = {b: of(value, 0).astype(jnp.float32) for b, value in e.items()}
        mine = None if x is None else Input(of(x.array, 1))
        found = {}
        for b in e:
            kept = [one.spread(of(p[b, a], 0), k) * now[a] for a in now if (b, a) in p]
            entered = one.outer_by_sample(mine, of(enter[b, r], 1), k, e[b].dtype)
            found[b] = functools.reduce(jnp.add, [*kept, entered]).astype(e[b].dtype)
        return found

    if size == batch:
        return some(0, old)

    def body(step: Any, e: ByState) -> ByState:
        at = step * size
        return {
            b: jax.lax.dynamic_update_slice_in_dim(e[b], value, at, 0)
            for b, value in some(at, e).items()
        }

    return jax.lax.fori_loop(0, batch // size, body, old)


def samples_at_once(batch: int, sample_bytes: int) -> int:
    """Samples of a part of a pass: a divisor of the batch, and of at most ``block_bytes``."""
    wanted = max(1, current().block_bytes // max(sample_bytes, 1))
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= wanted)
