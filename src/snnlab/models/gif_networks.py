"""One recurrent population of GIF neurons whose standardised membrane is read out.

Two of them: the memory network of delayed match to sample (one dense map of input and own
spikes), and the excitatory/inhibitory network (three sign-constrained sparse projections).
"""

from __future__ import annotations

from typing import Any

import brainpy.state
import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from snnlab.models.base import Network, StepOutput
from snnlab.models.config import EIConfig, GIFConfig
from snnlab.models.layers import (
    Pathway,
    RecurrentLayer,
    exponential_conductance,
    exponential_current,
)
from snnlab.models.maps import DenseMap, Operator, kaiming_normal, stacked
from snnlab.models.neurons import GIF, detach_reset
from snnlab.models.readouts import LeakyReadout
from snnlab.models.surrogates import SURROGATES
from snnlab.models.trained import training

#: Smallest time constant of an after-spike current, ms.
TAU_I2_MIN_MS = 100.0
#: ``--trainable`` -> attribute of a neuron.
OF_NEURON = {
    "tau_neu": "tau",
    **{name: name for name in ("V_th", "tau_I2", "A2", "tau_I1", "A1", "tau_th", "Ath")},
}


class GIFNetwork(Network):
    """A recurrent layer, then a leaky readout of ``standardise(V - V_th)``.

    The membrane is standardised over the neurons of a trial, to mean 0 and variance 1, so that
    the readout sees the pattern and not the common drive.
    """

    def __init__(
        self, layer: RecurrentLayer, readout: LeakyReadout, n_in: int, dt_ms: float
    ) -> None:
        super().__init__(n_in, readout.map.out_size[0], dt_ms)
        self.layer = layer
        self.readout = readout

    @property
    def thresholds(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self.layer.threshold,)

    def step(self, x: jax.Array) -> StepOutput:
        spikes = self.layer(x)
        membrane = self.layer.membrane
        shown = jax.nn.standardize(membrane - self.layer.threshold, axis=-1)
        return StepOutput(self.readout(shown), (spikes,), (membrane,))


class EINetwork(GIFNetwork):
    """A population with excitatory and inhibitory pathways; shows the two input currents."""

    def step_with_currents(
        self, x: jax.Array
    ) -> tuple[StepOutput, tuple[tuple[jax.Array, jax.Array], ...]]:
        """One step, and for the population (excitatory, inhibitory) input, ``(B, n)`` mA each.

        Conductances are turned into currents at the membrane potential that the step starts
        with, as the neuron does.
        """
        v = self.layer.membrane
        out = self.update(x)
        exc, inh = jnp.zeros_like(v), jnp.zeros_like(v)
        for pathway in self.layer.pathways:
            assert pathway.synapse is not None
            drive = u.get_magnitude(pathway.synapse.g.value)
            if pathway.output is None:
                exc, inh = exc + jnp.maximum(drive, 0.0), inh + jnp.minimum(drive, 0.0)
                continue
            reversal = float(u.get_magnitude(pathway.output.E))
            current = drive * (reversal - v)
            exc, inh = (exc + current, inh) if reversal > 0 else (exc, inh + current)
        return out, ((exc, inh),)


def _gif(config: GIFConfig) -> brainpy.state.Neuron:
    """The population; time constants of the after-spike current are drawn."""
    low, high = TAU_I2_MIN_MS, 1.5 * config.tau_I2
    draw = low + (high - low) * np.asarray(brainstate.random.rand(config.n_rec))
    kind = GIF if config.diff_spike else detach_reset(GIF)
    kind = training(kind, *(OF_NEURON[k] for k in config.trained if k in OF_NEURON))
    return kind(
        config.n_rec,
        tau=config.tau_neu * u.ms,
        tau_I2=jnp.asarray(draw, jnp.float32) * u.ms,
        A2=config.A2 * u.mA,
        V_th=config.V_th * u.mV,
        spk_fun=SURROGATES[config.spk_fun](),
        spk_reset=config.spk_reset,
        tau_I1=config.tau_I1 * u.ms,
        A1=config.A1 * u.mA,
        tau_th=config.tau_th * u.ms,
        Ath=config.Ath * u.mV,
    )


def _readout(config: GIFConfig, n_out: int, operator: Operator) -> LeakyReadout:
    weight = kaiming_normal(config.n_rec, n_out, config.out_scale)
    return LeakyReadout(DenseMap(weight, operator), config.tau_o, config.dt, config.trained)


def build_memory_network(
    config: GIFConfig, n_in: int, n_out: int, operator: Operator, seed: int
) -> GIFNetwork:
    """One dense map of ``concat(input, spikes)``, an exponential current synapse, GIF neurons.

    Args:
        config: sizes and constants.
        n_in: inputs; n_out: readout units.
        operator: how maps are traced (see :mod:`snnlab.models.maps`).
        seed: of weights and time constants; the same for every operator.
    """
    with (
        brainstate.random.seed_context(seed),
        brainstate.environ.context(dt=config.dt * u.ms),
    ):
        neuron = _gif(config)
        weight = stacked(
            kaiming_normal(n_in, config.n_rec, config.ff_scale),
            kaiming_normal(config.n_rec, config.n_rec, config.rec_scale),
        )
        trained = config.trained
        synapse = exponential_current(config.n_rec, config.tau_syn, "tau_syn" in trained)
        dense = DenseMap(weight, operator)
        pathway = Pathway(dense, synapse=synapse, bias="bias" in trained)
        layer = RecurrentLayer(neuron, [pathway])
        readout = _readout(config, n_out, operator)
    return GIFNetwork(layer, readout, n_in, config.dt)


def build_ei_network(
    config: EIConfig, n_in: int, n_out: int, operator: Operator, seed: int
) -> EINetwork:
    """Input, excitatory and inhibitory projections onto one population (Dale's law).

    Every weight keeps its sign: a projection multiplies by ``sign |W| mask``. With currents
    (cuba) the inhibitory sign is -1; with conductances (coba) all are +1 and the sign is that of
    the driving force ``E - V``; there weights are divided by ``|E|``, so that a spike moves a
    resting membrane as far as in the current model. A sparse projection has its weights divided
    by ``sqrt(sparsity)``: the variance of the drive stays. A trained bias is a current of each
    neuron, for both kinds of synapses.

    Args: as :func:`build_memory_network`.
    """
    n, n_exc = config.n_rec, config.n_excitatory
    coba = config.net == "coba"
    synapse = exponential_conductance if coba else exponential_current

    def pathway(n_from: int, scale: float, reversal: float, own: slice | None) -> Pathway:
        weight = kaiming_normal(n_from, n, scale / config.sparsity)
        mask = None
        if config.sparsity < 1:
            mask = np.asarray(brainstate.random.rand(n_from, n)) < config.sparsity
        sign = np.ones(n_from) if coba or reversal > 0 else -np.ones(n_from)
        if coba:
            weight = weight / abs(reversal)
        return Pathway(
            DenseMap(weight, operator, sign=sign, mask=mask),
            takes_input=own is None,
            own=own or slice(0, 0),
            synapse=synapse(n, config.tau_syn, "tau_syn" in config.trained),
            output=brainpy.state.COBA(E=reversal * config.V_th * u.mV) if coba else None,
        )

    with (
        brainstate.random.seed_context(seed),
        brainstate.environ.context(dt=config.dt * u.ms),
    ):
        neuron = _gif(config)
        inhibitory = config.rec_scale * config.w_ei_ratio
        pathways = [
            pathway(n_in, config.ff_scale, config.E_exc, None),
            pathway(n_exc, config.rec_scale, config.E_exc, slice(0, n_exc)),
            pathway(n - n_exc, inhibitory, config.E_inh, slice(n_exc, n)),
        ]
        layer = RecurrentLayer(neuron, pathways, bias="bias" in config.trained)
        readout = _readout(config, n_out, operator)
    return EINetwork(layer, readout, n_in, config.dt)
