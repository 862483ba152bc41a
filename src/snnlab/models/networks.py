"""Layered recurrent networks, built from a :class:`ModelConfig`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainpy.state
import brainstate
import brainunit as u
import jax
import numpy as np

from snnlab.models.base import Network, StepOutput
from snnlab.models.config import ModelConfig
from snnlab.models.layers import (
    Pathway,
    RecurrentLayer,
    exponential_conductance,
    exponential_current,
)
from snnlab.models.maps import DenseMap, Operator, SparseMap, kaiming_normal, stacked
from snnlab.models.neurons import GIF, PerfectIF, detach_reset, membrane_taus
from snnlab.models.readouts import LeakyReadout
from snnlab.models.sparse import fixed_out_degree
from snnlab.models.surrogates import SURROGATES
from snnlab.models.trained import training

#: Share of excitatory neurons in the conductance model (Dale's law, 80/20).
EXCITATORY_SHARE = 0.8
#: Reversal potentials in units of the threshold above rest: +60 mV and -10 mV around a rest of
#: -65 mV and a threshold 20 mV above it, as in Vogels & Abbott 2005 (J. Neurosci. 25:10786).
E_EXC, E_INH = 3.0, -0.5
#: ``--trainable`` -> attribute of a neuron.
OF_NEURON = {
    "tau_mem": "tau", "V_th": "V_th", "tau_a": "tau_a", "beta": "beta", "tau_I2": "tau_I2",
    "A2": "A2",
}  # fmt: skip


class LayeredNetwork(Network):
    """``n_layer`` recurrent layers, then a leaky linear readout."""

    def __init__(
        self,
        layers: list[RecurrentLayer],
        readout: LeakyReadout,
        n_in: int,
        dt_ms: float,
    ) -> None:
        super().__init__(n_in, readout.map.out_size[0], dt_ms)
        self.layers = layers
        self.readout = readout

    @property
    def thresholds(self) -> tuple[Any, ...]:  # type: ignore[override]
        return tuple(layer.threshold for layer in self.layers)

    def step(self, x: jax.Array) -> StepOutput:
        spikes = []
        for layer in self.layers:
            x = layer(x)
            spikes.append(x)
        membrane = tuple(layer.membrane for layer in self.layers)
        return StepOutput(self.readout(x), tuple(spikes), membrane)


# ------------------------------------------------------------------ layer models


def _neuron(kind: str, config: ModelConfig, n: int) -> brainpy.state.Neuron:
    common = {
        "tau": membrane_taus(n, config.tau_mem, config.tau_mem_sigma),
        "V_th": config.V_th * u.mV,
        "spk_fun": SURROGATES[config.spk_fun](),
        "spk_reset": config.spk_reset,
    }
    extra = {}
    if kind == "alif":
        extra = {"tau_a": config.tau_a * u.ms, "beta": config.beta * u.mV}
    elif kind == "gif":
        extra = {"tau_I2": config.tau_I2 * u.ms, "A2": config.A2 * u.mA}
    kinds = {
        "lif": brainpy.state.LIF, "alif": brainpy.state.ALIF, "if": PerfectIF, "gif": GIF,
    }  # fmt: skip
    made = detach_reset(kinds[kind]) if config.detach_reset else kinds[kind]
    return training(made, *(OF_NEURON[k] for k in config.trained if k in OF_NEURON))(
        n, **common, **extra
    )


def _map(
    config: ModelConfig,
    sources: list[tuple[int, float]],
    operator: Operator,
    reversal: float | None = None,
) -> DenseMap:
    """The map of the concatenated sources (units, Kaiming scale) onto a layer.

    Of a sparse map each input has the same number of targets, and the scale is over the mean
    number of a target's inputs, so that the variance of the drive is that of the dense map. With
    a reversal potential weights are positive and divided by its size.
    """
    n = config.n_rec
    k = n if config.connectivity == 1 else max(1, round(config.connectivity * n))
    weight = stacked(*(kaiming_normal(n_from, k, scale / (k / n)) for n_from, scale in sources))
    sign = None
    if reversal is not None:
        weight, sign = weight / abs(reversal), np.ones(weight.shape[0])
    if config.connectivity == 1:
        return DenseMap(weight, operator, sign=sign)
    seed = int(brainstate.random.randint(0, 2**31 - 1, ()))
    post = fixed_out_degree(weight.shape[0], n, k, seed)
    return SparseMap(weight, post, n, operator, sign=sign)


def _single(kind: str, synapse: bool, plasticity: str = "") -> Callable:
    """Builder of a layer with one pathway."""

    def build(config: ModelConfig, n_in: int, operator: Operator) -> RecurrentLayer:
        n = config.n_rec
        short_term, trained = None, config.trained
        if plasticity == "std":
            std = training(brainpy.state.STD, *(["tau"] if "tau_std" in trained else []))
            short_term = std(n, tau=config.tau_std * u.ms, U=config.release)
        elif plasticity == "stp":
            own = {"tau_f": "tau_f", "tau_std": "tau_d"}
            stp = training(brainpy.state.STP, *(a for k, a in own.items() if k in trained))
            short_term = stp(
                n, U=config.release, tau_f=config.tau_f * u.ms, tau_d=config.tau_std * u.ms
            )
        pathway = Pathway(
            _map(config, [(n_in, config.ff_scale), (n, config.rec_scale)], operator),
            plasticity=short_term,
            synapse=(
                exponential_current(n, config.tau_syn, "tau_syn" in trained) if synapse else None
            ),
            bias="bias" in trained,
        )
        return RecurrentLayer(_neuron(kind, config, n), [pathway])

    return build


def _conductance(config: ModelConfig, n_in: int, operator: Operator) -> RecurrentLayer:
    """Excitatory (input and 80 % of the neurons) and inhibitory (20 %) conductances.

    ``tau dV/dt = -V + g_e (E_e - V) + g_i (E_i - V)``, all weights non-negative (signs are in
    the reversal potentials, so Dale's law holds for every update). Weights are scaled by 1/E so
    that an input of the same scale moves a resting membrane as far as in the current model.
    """
    n = config.n_rec
    n_exc = max(1, min(n - 1, round(EXCITATORY_SHARE * n))) if n > 1 else 1
    neuron = _neuron("lif", config, n)

    def path(takes_input: bool, own: slice, n_own: int, reversal: float) -> Pathway:
        sources = [(n_in, config.ff_scale)] if takes_input else []
        sources.append((n_own, config.rec_scale))
        return Pathway(
            _map(config, sources, operator, reversal),
            takes_input=takes_input,
            own=own,
            synapse=exponential_conductance(n, config.tau_syn, "tau_syn" in config.trained),
            output=brainpy.state.COBA(E=reversal * config.V_th * u.mV),
        )

    pathways = [path(True, slice(0, n_exc), n_exc, E_EXC)]
    if n > n_exc:
        pathways.append(path(False, slice(n_exc, n), n - n_exc, E_INH))
    return RecurrentLayer(neuron, pathways, bias="bias" in config.trained)


#: ``--model`` -> builder of one layer ``(config, n_in, operator) -> RecurrentLayer``.
LAYER_MODELS: dict[str, Callable[[ModelConfig, int, Operator], RecurrentLayer]] = {
    "lif-delta": _single("lif", synapse=False),
    "lif-exp-cu": _single("lif", synapse=True),
    "alif-delta": _single("alif", synapse=False),
    "alif-exp-cu": _single("alif", synapse=True),
    "if-delta": _single("if", synapse=False),
    "lif-exp-co": _conductance,
    "lif-std-exp-cu": _single("lif", synapse=True, plasticity="std"),
    "lif-stp-exp-cu": _single("lif", synapse=True, plasticity="stp"),
    "gif-delta": _single("gif", synapse=False),
}


def build_network(
    config: ModelConfig, n_in: int, n_out: int, operator: Operator, seed: int
) -> LayeredNetwork:
    """A network with freshly drawn parameters, a pure function of ``seed``.

    Args:
        config: sizes, models, constants.
        n_in: inputs; n_out: readout units.
        operator: how maps are traced (see :mod:`snnlab.models.maps`).
        seed: of weights and time constants; the same for every operator.
    """
    build = LAYER_MODELS[config.model]
    with (
        brainstate.random.seed_context(seed),
        brainstate.environ.context(dt=config.dt * u.ms),
    ):
        layers = [
            build(config, n_in if i == 0 else config.n_rec, operator) for i in range(config.n_layer)
        ]
        out = DenseMap(kaiming_normal(config.n_rec, n_out, config.out_scale), operator)
        readout = LeakyReadout(out, config.tau_o, config.dt, config.trained)
    return LayeredNetwork(layers, readout, n_in, config.dt)
