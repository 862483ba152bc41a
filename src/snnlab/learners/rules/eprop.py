"""e-prop: traces of every synapse, filtered as the readout filters spikes, times a signal.

    eps_t = D_t eps_{t-1} + x_t f_t ,    e_t = (ds_t/dh_t) eps_t + ds_t/dW ,
    ebar_t = kappa ebar_{t-1} + e_t ,    dL/dW = sum_t L_t . ebar_t

``kappa`` is the readout's decay and ``L_t`` the error of step t as a layer's spikes feel it: by the
weights above (``--feedback symmetric``), or by random weights from the readout to every layer that
stay (``random``) or learn as the readout does (``adaptive``). ``ds_t/dW``, at given states, is that
of a threshold. The filter is one more state of each neuron in the recursion of
:mod:`snnlab.learners.rules.per_parameter`. Readouts have their exact gradient. As published with
``--detach_reset``: no gradient through the reset.

Memory: B numbers for every weight and state that it reaches, and one for the filter.

Source: Bellec et al. 2020 (Nature Communications 11:3625), Methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax

from snnlab.learners.base import Learner
from snnlab.learners.graph.derivatives import ByState
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.per_parameter import PerParameter
from snnlab.learners.signals import Exact, Signal
from snnlab.learners.stores.dynamics import Dynamics, filtered

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class EProp(PerParameter):
    """A state more for each layer, the filtered spikes, at which the signal arrives."""

    def filter_of(self, r: int) -> int | None:
        """The number of the filter that relation ``r`` has a trace of; none for a readout."""
        layer = self.graph.layer_of(r)
        return None if layer is None else len(self.graph.states) + layer

    def reach_of(self, r: int) -> tuple[int, ...]:
        last = self.filter_of(r)
        return super().reach_of(r) + (() if last is None else (last,))

    def edges(self) -> set[tuple[int, int]]:
        first = len(self.graph.states)
        seen = {(first + k, b) for k, states in enumerate(self.graph.observed) for b in states}
        return self.own_edges() | seen

    def own_edges(self) -> set[tuple[int, int]]:
        """Of the states, before the filter."""
        return super().edges()

    def dynamics(self, chunk: Chunk) -> Dynamics:
        return filtered(self.recursion(chunk), self.graph, chunk.observations, self.decay(chunk))

    def recursion(self, chunk: Chunk) -> Dynamics:
        """Of the states, before the filter."""
        return chunk.dynamics

    def decay(self, chunk: Chunk) -> jax.Array | float:
        """Of the filter."""
        return chunk.kappa

    def signal(self, chunk: Chunk) -> ByState:
        first, spikes = len(self.graph.states), chunk.found.spikes or []
        return {**chunk.found.states, **{first + k: d for k, d in enumerate(spikes)}}


def make(of: Request) -> Learner:
    def signal(graph: StepGraph) -> Signal:
        if of.config.feedback in (None, "symmetric"):
            of.require_spikes(graph)
            return Exact(of.objective, at_spikes=True)
        return of.feedback(graph, learned=of.config.feedback == "adaptive", at_spikes=True)

    return of.online(lambda _graph, _r: EProp, signal)
