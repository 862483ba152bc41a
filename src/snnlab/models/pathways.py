"""A pathway layer is a population of brainpy's neurons and the pathways that drive it.

A pathway takes the layer's input and the population's own last spikes (all of them, or those of
its excitatory or inhibitory part), sends them through ONE dense map and delivers the result as
a voltage jump (delta), through an exponential current synapse, or as a conductance.
"""

from __future__ import annotations

from typing import Any

import brainpy.state
import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp

from snnlab.models.layer import Layer
from snnlab.models.maps import DenseMap
from snnlab.models.trained import training, zero_bias


def settle(module: brainstate.nn.Module) -> None:
    """Store a module's states as values of their own, apart from those that the step goes on with.

    An online learner asks how the loss of a step changes with each state *after* the step. If a
    synapse's new state were the very value that drives the membrane in the same step, its part
    would be counted twice: as the synapse's and as the membrane's (braintrace and brainscale
    perturb the value itself). A copy separates the two; compilers remove it.
    """
    for state in module.states(brainstate.HiddenState).values():
        state.value = state.value * 1.0


class Pathway(brainstate.nn.Module):
    """Map, optional plasticity of the recurrent spikes before it, optional synapse after it.

    Args:
        dense: map of ``concat(input, own spikes)``, or of own spikes alone.
        takes_input: whether the layer's input enters.
        own: slice of the population whose spikes enter.
        plasticity: short-term plasticity of those spikes (brainpy.state STD or STP).
        synapse: brainpy.state synapse of the map's output, or ``None`` for a delta synapse.
        output: brainpy.state COBA for conductances, else ``None``.
        bias: whether a trained bias is added to the map's output, ``y = x @ W + b``: mV in every
            step for a delta synapse, mA for a current synapse, which sums it as it sums spikes.
        sign: of ``sign |y|``, which then takes the place of y; 0: y is what it is.
    """

    def __init__(
        self,
        dense: DenseMap,
        *,
        takes_input: bool = True,
        own: slice = slice(None),
        plasticity: brainstate.nn.Module | None = None,
        synapse: brainpy.state.Expon | None = None,
        output: brainpy.state.COBA | None = None,
        bias: bool = False,
        sign: float = 0.0,
    ) -> None:
        super().__init__()
        self.map, self.sign = dense, sign
        self.takes_input = takes_input
        self.own = own
        self.plasticity = plasticity
        self.synapse = synapse
        self.output = output
        self.bias = zero_bias(dense.out_size[0]) if bias else None

    def update(self, x: jax.Array, spikes: jax.Array) -> Any:
        own = spikes[..., self.own]
        if self.plasticity is not None:
            own = self.plasticity(own)
            settle(self.plasticity)
        y = self.map(jnp.concatenate([x, own], axis=-1) if self.takes_input else own)
        if self.bias is not None:
            y = y + self.bias.value
        if self.sign:
            y = self.sign * jnp.abs(y)
        if self.synapse is None:
            return y * u.mV
        drive = self.synapse(y * self.synapse_unit)
        settle(self.synapse)
        return drive

    @property
    def synapse_unit(self) -> Any:
        return u.siemens if self.output is not None else u.mA


class PathwayLayer(Layer):
    """Neurons driven by pathways; ``update(x (B, n_in)) -> spikes (B, n)``.

    A pathway multiplies input and own spikes with one map, so no part of a step needs the input
    alone: ``drive`` is the input.

    Args:
        neuron, pathways: of the layer.
        bias: whether each neuron has a trained constant current, mA. (Where drives are
            conductances, which have no sign, this stands for the bias of a map.)
    """

    def __init__(
        self, neuron: brainpy.state.Neuron, pathways: list[Pathway], bias: bool = False
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.pathways = pathways
        self.n = neuron.varshape[0]
        self.bias = zero_bias(self.n) if bias else None
        for i, pathway in enumerate(pathways):
            if pathway.output is not None:
                neuron.add_current_input(f"conductance{i}", pathway.output)

    def advance(self, drive: jax.Array) -> jax.Array:
        spikes = self.neuron.get_spike()
        current = (0.0 if self.bias is None else self.bias.value) * u.mA
        for i, pathway in enumerate(self.pathways):
            received = pathway(drive, spikes)
            if pathway.output is not None:
                pathway.output.bind_cond(received)
            elif pathway.synapse is not None:
                current = current + received
            else:
                self.neuron.add_delta_input(f"delta{i}", received)
        return self.neuron(current)

    def currents(self, x: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        """In mA, of synapses of either sign alone.

        Conductances are turned into currents at the membrane potential that the step began with,
        as the neuron does.
        """
        exc = inh = jnp.zeros_like(before)
        for pathway in self.pathways:
            if pathway.synapse is None:
                return super().currents(x, before)
            received = u.get_magnitude(pathway.synapse.g.value)
            if pathway.output is None:
                exc, inh = exc + jnp.maximum(received, 0.0), inh + jnp.minimum(received, 0.0)
                continue
            reversal = float(u.get_magnitude(pathway.output.E))
            current = received * (reversal - before)
            exc, inh = (exc + current, inh) if reversal > 0 else (exc, inh + current)
        return exc, inh

    @property
    def membrane(self) -> jax.Array:
        """``(B, n)`` membrane potential in mV."""
        return self.neuron.V.value.to_decimal(u.mV)

    @property
    def threshold(self) -> Any:
        """Firing threshold in mV: a number, ``(n,)`` where it is trained."""
        return self.neuron.V_th.to_decimal(u.mV)

    @property
    def above(self) -> jax.Array:
        """Relative to a threshold that moves, where one acts on all (:class:`GIF`)."""
        if getattr(self.neuron, "whole_theta", False):
            return self.neuron.above(self.neuron.V.value)
        return super().above


def exponential_current(n: int, tau_ms: float, trained: bool = False) -> brainpy.state.Expon:
    """``dI/dt = -I / tau``, jump by the map's output; mA. ``trained``: tau is, of each neuron."""
    return _exponential(n, tau_ms, u.mA, trained)


def exponential_conductance(n: int, tau_ms: float, trained: bool = False) -> brainpy.state.Expon:
    """``dg/dt = -g / tau``, jump by the map's output; siemens. ``trained``: as above."""
    return _exponential(n, tau_ms, u.siemens, trained)


def _exponential(n: int, tau_ms: float, unit: Any, trained: bool) -> brainpy.state.Expon:
    kind = training(brainpy.state.Expon, *(["tau"] if trained else []))
    return kind(n, tau=tau_ms * u.ms, g_initializer=braintools.init.Constant(0.0 * unit))
