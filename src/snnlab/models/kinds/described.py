"""Layers of described neurons (:mod:`snnlab.models.neuron`), and the baselines without spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnlab.lazy import lazy
from snnlab.models.neuron import Neuron
from snnlab.models.neurons.adlif import AdLIF
from snnlab.models.neurons.lif import LIF

if TYPE_CHECKING:
    from snnlab.models.drawing import Draw

np = lazy("numpy")
baselines, spiking = lazy("snnlab.models.baselines"), lazy("snnlab.models.spiking")


def layer_of(draw: Draw, n_in: int, neuron: Neuron, recurrent: bool = True) -> Any:
    """A layer of a neuron: ``W`` from U(-n_in^-1/2, n_in^-1/2), ``V`` orthogonal, no diagonal.

    Args:
        draw: with the options of :class:`snnlab.models.options.Maps` and ``Spiking``, and of
            ``RecurrentMap`` if there is a V.
        n_in: inputs of the layer.
        neuron: its equations.
        recurrent: whether it has a V.
    """
    c, n = draw.config, draw.config.n_rec
    bound = n_in**-0.5
    w = draw.map(draw.uniform(-bound, bound, n_in, n), c.fix_w_in)
    value = draw.values(neuron.values(n, draw.rng), c.fix_tau_rec)
    v = None
    if recurrent:
        no_self = 1.0 - np.eye(n)
        v = draw.map(draw.orthogonal(n) * no_self, c.fix_w_rec, mask=no_self)
    return spiking.SpikingLayer(
        neuron, w, value, v=v, norm=draw.norm(n), single=c.single_spike, adc=draw.adc(),
        bias="bias" in c.trained,
    )  # fmt: skip


def lif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, LIF(), recurrent=False)


def adlif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, AdLIF(), recurrent=False)


def radlif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, AdLIF())


def baseline(draw: Draw, n_in: int) -> Any:
    """MLP, RNN, LiGRU or GRU, as the config's model says."""
    c, n = draw.config, draw.config.n_rec
    gates = {"MLP": 1, "RNN": 1, "LiGRU": 2, "GRU": 3}[c.model]
    bound = n_in**-0.5
    w = [draw.map(draw.uniform(-bound, bound, n_in, n), c.fix_w_in) for _ in range(gates)]
    v = [] if c.model == "MLP" else [
        draw.map(draw.orthogonal(n), c.fix_w_rec) for _ in range(gates)
    ]  # fmt: skip
    norms = [] if c.normalization == "none" else [draw.norm(n) for _ in range(gates)]
    return baselines.BaselineLayer(c.model, w, v, norms)
