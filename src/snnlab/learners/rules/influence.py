"""Rules that keep what parameters do to all neurons of their layer, or to some of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from snnlab.devices import require_memory
from snnlab.learners.base import at_rest
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations.inputs import Input
from snnlab.learners.rules.base import Learned, Rule, Setting
from snnlab.learners.stores import influence
from snnlab.learners.stores.traces import join

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class Influence(Rule):
    """All of a layer; with ``nearby`` only the neurons that the parameter's neuron acts on."""

    nearby = False

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        super().__init__(graph, mine, setting, kept)
        groups = influence.layers(graph)
        self.group = {r: g for r in self.mine for g in groups if influence.acts_on(graph, r, g)}
        shapes = {}
        for r, k in graph.trained_blocks(self.group):
            one = graph.relations[r]
            if one.blocks[k].size:
                shapes[r, k] = (*one.trace_shape(k), len(self.group[r]), one.shape[1])
        self.trace_bytes = 4 * sum(map(math.prod, shapes.values()))
        require_memory(self.trace_bytes, "the influence of all parameters on a layer's states")
        self.initial = {key: at_rest(shape) for key, shape in shapes.items()}
        self.keep = {tuple(g): self.kept_neurons(g) for g in groups}

    def kept_neurons(self, group: list[int]) -> jax.Array | None:
        if not self.nearby:
            return None
        return jnp.asarray(influence.neighbours(self.graph, group), jnp.float32)

    def chunk(self, chunk: Chunk, state: Any) -> Learned:
        graph, f, relations = self.graph, chunk.dynamics.drive_jacobian, self.graph.relations
        moving = {key: v for key, v in f.items() if v.ndim == 3}
        signal = chunk.found.states if chunk.role.learns else {}

        def step(state: Any, t: Any) -> tuple[Any, Any]:
            now = {**f, **{key: v[t] for key, v in moving.items()}}
            at = chunk.frame, *influence.of_steps(chunk.frame, chunk.steps, t)
            a = {key: influence.recurrence(*at, list(key)) for key in self.keep}
            new, found = {}, {}
            for (r, k), old in state.items():
                group, x = self.group[r], chunk.steps.inputs.get((r, k))
                entering: Any = [now.get((b, r)) for b in group]
                if not relations[r].is_map:
                    entering = influence.entering(*at, group, r)
                given = None if x is None else Input(x.array[t][None])
                keep = self.keep[tuple(group)]
                new[r, k] = influence.advance(
                    old, a[tuple(group)], relations[r], k, given, entering, keep
                )
                if signal:
                    d = jnp.stack([signal[b][t] for b in group], axis=1)
                    share = jnp.einsum("bsn,b...sn->b...", d, new[r, k])
                    found[r, k] = relations[r].over_samples(share)
            return new, found

        state, found = jax.lax.scan(step, state, jnp.arange(chunk.length))
        before = join(graph, {key: g.sum(0) for key, g in found.items()})
        y_bar = chunk.direct({}, dict.fromkeys(self.mine)) if signal else {}
        return Learned(y_bar, before, state)
