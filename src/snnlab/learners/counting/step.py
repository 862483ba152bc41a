"""Counts of a step that is cut at its relations: :class:`snnlab.learners.graph.step.StepGraph`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnlab.learners.counting.base import (
    Activity,
    Connection,
    connecting,
    fan_out,
    of_layers,
    operations,
    total,
)
from snnlab.learners.graph import jaxprs
from snnlab.learners.graph.derivatives import Steps
from snnlab.learners.graph.evaluate import Arrays, Frame, run_given
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Events, Input


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
        self, frame: Frame, steps: Steps, xs: Input, connections: tuple[Connection, ...],
        last: tuple[jax.Array, ...], real: jax.Array,
    ) -> tuple[Activity, tuple[jax.Array, ...]]:  # fmt: skip
        """Of a chunk with input ``xs (K, B, n_in)``; and the membranes after it.

        Args:
            frame, steps, xs: the chunk.
            connections: of the segment.
            last: membranes before it.
            real: ``(B,)``, 0 for padding, else 1.
        """
        graph = self.graph

        def one_step(x: jax.Array, h: Arrays, ys: Any, extra: Arrays) -> Any:
            env = {**frame.static, graph.input_var: x}
            jaxprs.evaluate(graph.input_eqns, env)
            _, out, blocks = run_given(frame, h, extra, frame.drives(ys))
            made = [blocks[s.block] if s.block in blocks else env[s.x] for s in self._sources]
            return made, out.spikes, out.membrane

        _, h, ys, extra = steps.each
        inputs, spikes, membrane = jax.vmap(one_step)(xs.array, h, ys, extra)
        acs, macs = [], []
        for source, x, to in zip(self._sources, inputs, connections, strict=True):
            known = isinstance(xs, Events) and source.x is graph.input_var
            made = _listed(xs, to.fan_out, source.n_out) if known else None
            both = operations(x, to.fan_out) if made is None else made
            acs.append(both[0])
            macs.append(both[1])
        outputs, updates = of_layers(spikes, membrane, last)
        sums = total([*acs, *macs, *outputs, *updates], real)
        ends = np.cumsum([len(acs), len(macs), len(outputs)]).tolist()
        return Activity(*jnp.split(sums, ends, axis=1)), tuple(v[-1] for v in membrane)


def _listed(xs: Any, fan: jax.Array, n_out: int) -> tuple[jax.Array, jax.Array] | None:
    """:func:`operations` of a list of events; ``None`` where it must be an array.

    Its product is in float32, which is exact below 2^24.
    """
    if not xs.binary or len(fan) * n_out >= 2**24:
        return None
    every = xs.times(fan.astype(jnp.float32)[:, None])[..., 0].astype(jnp.int32)
    return every, jnp.zeros_like(every)
