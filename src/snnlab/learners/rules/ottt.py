"""OTTT: the trace of a synapse is its presynaptic neuron's.

    xbar_t = a xbar_{t-1} + x_t ,    dL/dW = sum_t xbar_t (d_t . f_t)

with the leak ``a`` of the neuron's membrane (``--etrace_decay``), and nothing through the reset.
For LIF neurons that all have this leak and a detached reset it is D-RTRL with B n_in numbers.
Readouts and parameters of neurons keep the exact trace of D-RTRL.

Memory: B n_in numbers for a map.

Source: Xiao et al. 2022 (NeurIPS 35); updates at the end of a sequence (OTTT_A), or at every step
with ``--update_every 1`` (OTTT_O).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snnlab.learners.base import Learner
from snnlab.learners.graph.evaluate import ByBlock, ByRelation
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Learned, Rule, Setting, hidden_maps
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.stores import factors
from snnlab.learners.stores.dynamics import through_drives

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class OTTT(Rule):
    """One smoothed vector for each map: of its inputs."""

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        super().__init__(graph, mine, setting, kept)
        self.initial = factors.resting_inputs(graph, self.mine)

    def chunk(self, chunk: Chunk, state: ByBlock) -> Learned:
        y_bar: ByRelation = {}
        before: ByRelation = {}
        if chunk.role.learns:
            g = through_drives(chunk.dynamics, chunk.found.states)
            mine = {r: g[r] for r in self.mine if r in g}
            before, y_bar = factors.smooth_signal(mine, self.setting.decay)
            y_bar = chunk.direct(y_bar, dict.fromkeys(self.mine))
        x_bar = factors.smooth_inputs(state, chunk.steps.inputs, self.setting.decay)
        return Learned(y_bar, factors.outer_before(self.graph, state, before), x_bar)


def make(of: Request) -> Learner:
    return of.online(hidden_maps(OTTT, DRTRL))
