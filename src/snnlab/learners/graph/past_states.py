"""Paths from a state before the step that pass the states after it, which no rule would follow.

What a rule without windows knows of a step's loss is its derivative by the states *after* the step.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.base import Objective
from snnlab.learners.graph.jaxprs import BLOCK, depends, is_literal, variables
from snnlab.learners.graph.requirements import refuse
from snnlab.learners.graph.step import StepGraph


def _past_states(graph: StepGraph) -> dict[Any, int]:
    """Variables that a derivative reaches from a state before the step, past all states after it
    and all maps; the first such state of each."""
    after = {v for v in graph.new_vars if not is_literal(v)}
    read_from: dict[Any, int] = {graph.state_vars[b]: b for b in sorted(graph.acting)}
    for eqn in graph.state_eqns:
        if graph.relation_of(eqn) is not None or eqn.primitive.name == BLOCK:
            continue
        found = [read_from[v] for v in variables(eqn.invars) if v in read_from]
        for v in eqn.outvars:
            if found and v not in after and jnp.issubdtype(v.aval.dtype, jnp.inexact):
                read_from[v] = found[0]
    return read_from


def check_maps(graph: StepGraph) -> None:
    """Refuse a map of what this step has made that reads states before the step beside.

    Spikes that the step begins with enter maps of the recurrence, which rules along the diagonal
    leave out by definition. Those of this step enter the maps above, and what a rule knows of
    them is their derivative by the states after the step: where they are computed from what such
    a state is a copy of, or from a state before it, that path would be lost without a word.

    Raises:
        UsageError: the state that is read, and the map.
    """
    read_from = _past_states(graph)
    for one in graph.relations:
        for block in one.blocks:
            if one.is_map and block.live and block.var in read_from:
                name = one.trained[0] if one.trained else "that is not trained"
                reason = (
                    f"what enters the map {name} in this step is computed from its value "
                    "before the step, not from the value that the step stores"
                )
                refuse(graph, read_from[block.var], reason)


def check_loss(graph: StepGraph, objective: Objective, batch: Any) -> None:
    """Refuse a loss that a derivative reaches from states before the step, past those after it.

    What a rule without windows knows of a step's loss is its derivative by the states after it:
    such a path would be lost without a word. Windows of backpropagation have no such gap.

    Raises:
        UsageError: the state that is read.
    """
    read_from = _past_states(graph)
    sources = [None if is_literal(v) else read_from.get(v) for v in graph.out_vars]
    if all(b is None for b in sources):
        return
    outs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in graph.out_vars]

    def loss(*leaves: jax.Array) -> jax.Array:
        return objective.step(jax.tree.unflatten(graph.out_tree, leaves), jnp.int32(0), batch)[0]

    traced = jax.make_jaxpr(loss)(*outs)
    for k, b in enumerate(sources):
        if b is not None and depends(traced.jaxpr, [i == k for i in range(len(outs))])[0]:
            refuse(graph, b, "the loss of a step reads its value before the step")
