"""OTPE: OTTT's traces, and what earlier spikes of the layer still do to the layer above.

    xbar_t = a xbar_{t-1} + x_t ,    R_t = a R_{t-1} + (ds_t/dh_t) f_t xbar_t ,
    dL/dW = sum_t L_t . R_t

``L_t`` is the exact signal of step t at the layer's spikes, ``a`` the leak of all neurons
(``--etrace_decay``). It is e-prop's filter on the trace of a neuron that leaks by ``a`` and does
nothing else; parameters of neurons have the same, with ``xbar`` of an input of 1. Readouts have
their exact gradient.

Memory: as e-prop.

Source: Summe, Schaefer & Joshi 2023 (arXiv:2311.16151); the form with factors (approximate OTPE) is
not here. Departures from public code of its experiments: there the trace before the filter follows
the neuron's own dynamics (the same for LIF neurons of leak ``a`` with ``--detach_reset``), and the
signal passes a layer by a running average of ``ds/dh``, here by that of the step. A step that keeps
spikes as a state beside the membrane is refused: a state leaks by ``a`` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from snnlab.errors import UsageError
from snnlab.learners.base import Learner
from snnlab.learners.graph.requirements import spikes_that_are_states
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.rules.build import Request
from snnlab.learners.rules.diag import DRTRL
from snnlab.learners.rules.eprop import EProp
from snnlab.learners.signals import Exact, Signal
from snnlab.learners.stores.dynamics import Dynamics

if TYPE_CHECKING:
    from snnlab.learners.chunks import Chunk


class OTPE(EProp):
    """A recursion of nothing but the leak, before a filter of the same leak."""

    def own_edges(self) -> set[tuple[int, int]]:
        return {(b, b) for b in self.graph.trace_states}

    def recursion(self, chunk: Chunk) -> Dynamics:
        of, decay = chunk.dynamics, self.setting.decay
        leak = {(b, b): jnp.full(shape, decay, jnp.float32) for b, shape in of.shapes.items()}
        return Dynamics(of.reach, leak, of.drive_jacobian, of.shapes)

    def decay(self, chunk: Chunk) -> float:
        return self.setting.decay


def make(of: Request) -> Learner:
    def signal(graph: StepGraph) -> Signal:
        of.require_spikes(graph)
        kept = spikes_that_are_states(graph)
        if kept is not None:
            raise UsageError(
                f"--method otpe has one leak for all states, which spikes have not: state "
                f"{graph.states[kept]} keeps them; make them of the membrane in each step"
            )
        return Exact(of.objective, at_spikes=True)

    return of.online(lambda graph, r: DRTRL if graph.layer_of(r) is None else OTPE, signal)
