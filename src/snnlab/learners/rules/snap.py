"""SnAp-n: the influence of a parameter on the neurons that it reaches within n steps.

    J_t = M_n . (A_t J_{t-1} + x_t f_t) ,    dL/dW = sum_t d_t . J_t

``A_t`` is the Jacobian of the layer's states, its recurrent map included, ``d_t`` the exact signal
of a step. SnAp-1 keeps the states of the neuron that a parameter acts on: D-RTRL with the neuron's
synapse onto itself, and its traces. SnAp-2 keeps also the neurons that this one acts on, the whole
layer if all are connected.

Memory: SnAp-1 as D-RTRL; SnAp-2 B numbers for every parameter, state and neuron of its layer, for
small networks.

Source: Menick et al. 2021 (ICLR), "Practical real time recurrent learning with a sparse
approximation". Departure: a layer's own recurrence; layers above are in the signal of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from snnlab.learners.base import Learner
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.base import Setting
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.influence import Influence
from snnlab.learners.rules.per_parameter import PerParameter
from snnlab.learners.stores import influence
from snnlab.learners.stores.dynamics import Dynamics

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class SnAp1(PerParameter):
    """The recursion of D-RTRL, and what a neuron's spike does to itself."""

    def __init__(self, graph: StepGraph, mine: Sequence[int], setting: Setting, kept: bool) -> None:
        super().__init__(graph, mine, setting, kept)
        self.sources = influence.sources(graph)

    def reach_of(self, r: int) -> tuple[int, ...]:
        groups = influence.layers(self.graph)
        return next((tuple(g) for g in groups if influence.acts_on(self.graph, r, g)), ())

    def edges(self) -> set[tuple[int, int]]:
        groups = influence.layers(self.graph)
        return super().edges() | {(b, a) for states in groups for a in states for b in states}

    def dynamics(self, chunk: Chunk) -> Dynamics:
        of = chunk.dynamics
        own = influence.own_synapses(chunk.frame, chunk.steps, self.sources)
        blocks = dict(of.state_jacobian), dict(of.drive_jacobian)
        for table, moved in zip(blocks, own, strict=True):
            for (r, i), change in moved.items():
                for (b, relation), f in of.drive_jacobian.items():
                    if relation == r:
                        table[b, i] = table[b, i] + f * change if (b, i) in table else f * change
        return Dynamics(of.reach, *blocks, of.shapes)


class SnAp2(Influence):
    nearby = True


def make(of: Request) -> Learner:
    rule = SnAp1 if of.config.method == "snap-1" else SnAp2
    return of.online(lambda _graph, _r: rule)
