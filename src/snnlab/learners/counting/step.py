"""Counts of a step that is cut at its relations: :class:`snnlab.learners.graph.step.StepGraph`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.counting.base import (
    Activity,
    Connection,
    active,
    connecting,
    fan_out,
    of_layers,
)
from snnlab.learners.graph import jaxprs
from snnlab.learners.graph.derivatives import Steps
from snnlab.learners.graph.evaluate import Arrays, Frame, run_given
from snnlab.learners.graph.step import StepGraph


@dataclasses.dataclass(frozen=True)
class _Source:
    """One connection of a cut step.

    Attributes:
        block: ``(relation, block)`` of a relation, or ``None``.
        x, w: variables of its input and of its weight.
        n_out: outputs.
    """

    block: tuple[int, int] | None
    x: Any
    w: Any
    n_out: int


class StepCounter:
    """Counts what the connections of a cut step do in the chunks of a sequence.

    Args:
        graph: the step.

    Attributes:
        unknown: names of operations that connect neurons in a form that is not known here.
    """

    def __init__(self, graph: StepGraph) -> None:
        self.graph = graph
        self._sources = [
            _Source((r, k), block.var, one.w, one.shape[1])
            for r, one in enumerate(graph.relations) if one.is_map
            for k, block in enumerate(one.blocks) if block.size
        ]  # fmt: skip
        moving = {graph.input_var, *(v for eqn in graph.input_eqns for v in eqn.outvars)}
        found: list[str] = []
        for eqn in graph.input_eqns:
            if jaxprs.is_product(eqn, moving.__contains__):  # the input meets fixed weights
                x, w, *_ = eqn.invars
                self._sources.append(_Source(None, x, w, eqn.outvars[0].aval.shape[1]))
            else:
                found += connecting(eqn)
        for eqn in graph.state_eqns:
            found += connecting(eqn) if graph.relation_of(eqn) is None else []
        self.unknown = tuple(dict.fromkeys(found))

    def connections(self, frame: Frame, times: int) -> tuple[Connection, ...]:
        """What the connections are, of a sequence of ``times`` steps."""
        rows = [
            (frame.static[one.w] if one.block is None else self._rows(frame, *one.block), one.n_out)
            for one in self._sources
        ]
        return tuple(Connection(fan_out(w), jnp.int32(n), jnp.int32(times)) for w, n in rows)

    def _rows(self, frame: Frame, r: int, k: int) -> jax.Array:
        relation: Any = self.graph.relations[r]
        found: jax.Array = relation.values(frame.static[relation.w], k)
        return found

    def rest(self) -> tuple[jax.Array, ...]:
        """Membranes before the first step, equal to no number: all are updated in it."""
        return tuple(jnp.full(v.aval.shape, jnp.nan, v.aval.dtype) for v in self.graph.out.membrane)

    def activity(
        self, frame: Frame, steps: Steps, xs: jax.Array, last: tuple[jax.Array, ...],
        real: jax.Array,
    ) -> tuple[Activity, tuple[jax.Array, ...]]:  # fmt: skip
        """Of a chunk with input ``xs (K, B, n_in)``; and the membranes after it."""
        graph = self.graph

        def one_step(x: jax.Array, h: Arrays, ys: Any, extra: Arrays) -> Any:
            env = {**frame.static, graph.input_var: x}
            jaxprs.evaluate(graph.input_eqns, env)
            _, out, blocks = run_given(frame, h, extra, frame.drives(ys))
            made = [blocks[s.block] if s.block in blocks else env[s.x] for s in self._sources]
            return made, out.spikes, out.membrane

        _, h, ys, extra = steps.each
        inputs, spikes, membrane = jax.vmap(one_step)(xs, h, ys, extra)
        acts = tuple(active(x, real) for x in inputs)
        return Activity(acts, *of_layers(spikes, membrane, last, real)), tuple(
            v[-1] for v in membrane
        )
