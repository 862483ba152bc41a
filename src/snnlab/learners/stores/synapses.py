"""The pass over traces of existing synapses, by loops of our own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from snnlab.learners.graph.derivatives import Blocks, ByState
from snnlab.learners.graph.evaluate import ByRelation, Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import Sparse
from snnlab.learners.stores.kernels import sparse as kernels


def relations(graph: StepGraph, keys: Iterable[tuple[int, int, int]]) -> list[int]:
    """Relations, of those with traces ``(relation, block, state)``, that are passed over here."""
    found = {r: graph.relations[r] for r, _, _ in keys}
    return sorted(r for r, one in found.items() if isinstance(one, Sparse) and one.own)


def pass_over(
    graph: StepGraph, traces: dict[Any, jax.Array], c: ByState | None,
    entering: tuple[Blocks, Blocks] | None, inputs: Inputs, y_bar: ByRelation,
) -> tuple[dict[Any, jax.Array], ByRelation]:  # fmt: skip
    """See :func:`snnlab.learners.stores.traces.pass_over_traces`.

    A row of targets is read once for all that is done with it: the gradient of the chunk's own
    steps (``y_bar``), that through what was before (``c``), and the next traces.
    """
    if c is None and entering is None and not y_bar:  # steps without loss, and nothing after them
        return traces, {}
    new: dict[Any, jax.Array] = {}
    found: ByRelation = {}
    last: jax.Array | None = None
    for r in dict.fromkeys(r for r, _, _ in traces):
        one = graph.relations[r]
        assert isinstance(one, Sparse)
        states = sorted({b for at, _, b in traces if at == r})
        p, enter = entering or ({}, {})
        for k, block in enumerate(one.blocks):
            if not block.size:
                continue
            into = kernels.Into(block.start, block.start, one.w.aval.shape[0], found.get(r), last)
            after, last = kernels.read_and_advance(
                [traces[r, k, b] for b in states],
                None if c is None else [c[b] for b in states],
                entering and [[p.get((b, a)) for a in states] for b in states],
                entering and [enter[b, r] for b in states],
                inputs[r, k].array,
                y_bar.get(r),
                one.post,
                into,
            )  # fmt: skip
            new.update({(r, k, b): e for b, e in zip(states, after, strict=True)})
            if c is not None or r in y_bar:
                found[r] = last
    return new, {r: share[0] for r, share in found.items()}
