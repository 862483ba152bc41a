"""A trace for every parameter and state: what the exact recursion along the diagonal needs.

With the recursion ``e_t = D_t e_{t-1} + x_t f_t`` of a rule and its learning signal ``d_t``, the
gradient ``sum_t d_t . e_t`` of a chunk of K steps is

1. ``l_t = d_t + D_{t+1}^T l_{t+1}`` back through the chunk, and ``sum_t x_t (l_t . f_t)``;
2. the carried part, one pass over the traces: ``(D_{t0+1}^T l_{t0+1}) . e_{t0}``;
3. the next traces in the same pass: ``e_{t0+K} = P e_{t0} + sum_s x_s (P_s f_s)``.

It is that of single steps up to rounding, whatever the chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from snnlab.learners.base import at_rest
from snnlab.learners.graph.derivatives import ByState
from snnlab.learners.graph.evaluate import ByRelation
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Learned, Rule, Setting
from snnlab.learners.stores import deferred, synapses
from snnlab.learners.stores.dynamics import Dynamics, backward, pairs, plus, propagators
from snnlab.learners.stores.kernels.support import on_one_cpu
from snnlab.learners.stores.traces import (
    Traces,
    first_traces,
    kernel_relations,
    pass_over_traces,
    trace_keys,
    within_chunk,
)
from snnlab.learners.tuning import current

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class Memory(NamedTuple):
    """Traces, and what of large ones waits to be written."""

    traces: Traces
    waiting: deferred.Waiting | None = None


class PerParameter(Rule):
    """A rule is a recursion (:meth:`dynamics`) and a signal (:meth:`signal`) for it."""

    splits = True

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        super().__init__(graph, mine, setting, kept)
        self.reach = {r: self.reach_of(r) for r in self.mine if self.reach_of(r)}
        self.keys = trace_keys(graph, self.reach)
        self.traced = sorted({r for r, _, _ in self.keys})
        shapes = {(r, k, b): graph.relations[r].trace_shape(k) for r, k, b in self.keys}
        self.trace_bytes = graph.dtype.itemsize * sum(map(math.prod, shapes.values()))
        #: Relations whose traces are not written at every step.
        self.deferred: list[int] = []
        if setting.single and kept and not setting.window:
            self.deferred = deferred.worth_it(graph, shapes)
        if kept:
            waiting = None
            if self.deferred:
                late = {r: self.reach[r] for r in self.deferred}
                used = sorted({b for states in late.values() for b in states})
                waiting = deferred.nothing(graph, late, pairs(used, self.edges()))
            self.initial = Memory(
                {key: at_rest(shape, graph.dtype) for key, shape in shapes.items()},
                waiting,
            )

    def reach_of(self, r: int) -> tuple[int, ...]:
        """States that have a trace of relation ``r``."""
        return self.graph.relations[r].reach

    def edges(self) -> set[tuple[int, int]]:
        """Pairs ``(b, a)`` of states of which ``a`` enters ``b``."""
        return {(b, a) for b in self.graph.trace_states for a in self.graph.edges[b]}

    def dynamics(self, chunk: Chunk) -> Dynamics:
        """The recursion of the traces in a chunk."""
        return chunk.dynamics

    def signal(self, chunk: Chunk) -> ByState:
        """The learning signal by state."""
        return chunk.found.states

    def chunk(self, chunk: Chunk, state: Memory | None) -> Learned:
        role, graph = chunk.role, self.graph
        if self.deferred and on_one_cpu():
            assert state is not None
            return self._late_step(chunk, state)
        c: ByState | None = None
        y_bar: ByRelation = {}
        if role.learns:
            c, y_bar = self._back(chunk, self.mine)
        within: ByRelation = {}
        traces = None if state is None else state.traces
        if role.reads:
            own = synapses.relations(graph, traces or {})
            if role.writes and chunk.length <= current().few_steps:
                own += kernel_relations(graph, traces or {}, chunk.length)
            within = {r: y_bar.pop(r) for r in own if r in y_bar}
        entering = None
        if role.writes:
            entering = propagators(self._mine(chunk, self.mine), chunk.length)
        before: ByRelation = {}
        if role.reads:
            assert traces is not None
            traces, before = pass_over_traces(
                graph, traces, c, entering, chunk.steps.inputs, within
            )
        elif entering is not None:
            traces = first_traces(graph, self.keys, entering[1], chunk.steps.inputs)
        after = None if traces is None else Memory(traces, state.waiting if state else None)
        return Learned(y_bar, before, after)

    def _mine(self, chunk: Chunk, relations: Sequence[int]) -> Dynamics:
        """The recursion of some relations only."""
        of = self.dynamics(chunk)
        reach = {r: self.reach[r] for r in relations if r in self.reach}
        used = {b for states in reach.values() for b in states}
        shapes = {b: shape for b, shape in of.shapes.items() if b in used}
        inside = {key: v for key, v in of.state_jacobian.items() if used.issuperset(key)}
        drives = {(b, r): v for (b, r), v in of.drive_jacobian.items() if r in reach and b in used}
        return Dynamics(reach, inside, drives, shapes)

    def _back(self, chunk: Chunk, relations: Sequence[int]) -> tuple[ByState, ByRelation]:
        of, windowed = self._mine(chunk, relations), bool(self.setting.window)
        d = chunk.windows.behind if windowed else self.signal(chunk)
        c: ByState = {}
        y_bar: ByRelation = {}
        if of.shapes and d:
            c, y_bar = backward(of, {b: d[b] for b in of.states})
        if not windowed:
            return c, chunk.direct(y_bar, dict.fromkeys(relations))
        c = plus(c, {b: chunk.windows.before[b] for b in of.states})
        return c, chunk.windows.joined(y_bar, relations)

    def _late_step(self, chunk: Chunk, state: Memory) -> Learned:
        """A chunk of one step, which large traces are not written in."""
        assert state.waiting is not None
        graph, inputs, signal = self.graph, chunk.steps.inputs, self.signal(chunk)
        late = {key: e for key, e in state.traces.items() if key[0] in self.deferred}
        late, waiting, gradients = deferred.step(
            graph, late, state.waiting, inputs, signal, self._mine(chunk, self.deferred)
        )
        others = [r for r in self.mine if r not in self.deferred]
        rest = {key: e for key, e in state.traces.items() if key not in late}
        c, y_bar = self._back(chunk, others)
        entering = propagators(self._mine(chunk, others), 1)
        rest, before = pass_over_traces(graph, rest, c, entering, inputs, {})
        passed = chunk.direct({}, dict.fromkeys(self.deferred))
        direct = within_chunk(chunk.frame, inputs, passed)
        gradients = {r: g + direct[r] if r in direct else g for r, g in gradients.items()}
        return Learned(y_bar, {**gradients, **before}, Memory({**late, **rest}, waiting))
