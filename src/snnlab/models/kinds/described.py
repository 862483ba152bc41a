"""Layers of described neurons (:mod:`snnlab.models.neuron`), and the baselines without spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnlab.lazy import lazy
from snnlab.models.neuron import Neuron
from snnlab.models.neurons.adlif import AdLIF
from snnlab.models.neurons.brf import BRF
from snnlab.models.neurons.cuba_lif import CuBaLIF
from snnlab.models.neurons.lif import LIF
from snnlab.models.neurons.se_adlif import SEAdLIF

if TYPE_CHECKING:
    from snnlab.models.drawing import Draw

np = lazy("numpy")
baselines, spiking = lazy("snnlab.models.baselines"), lazy("snnlab.models.spiking")


def layer_of(
    draw: Draw, n_in: int, neuron: Neuron, recurrent: bool = True, scaled: bool = False
) -> Any:
    """A layer of a neuron: ``W`` from U(-n_in^-1/2, n_in^-1/2), ``V`` orthogonal, no diagonal.

    ``scaled``: the variance of ``W`` is ``ff_scale / n_in``, that of ``V`` ``rec_scale / n``.

    Args:
        draw: with the options of :class:`snnlab.models.options.Maps` and ``Spiking``, and of
            ``RecurrentMap`` if there is a V.
        n_in: inputs of the layer.
        neuron: its equations.
        recurrent: whether it has a V.
    """
    c, n = draw.config, draw.config.n_rec
    bound = (3 * c.ff_scale / n_in) ** 0.5 if scaled else n_in**-0.5
    gain = c.rec_scale**0.5 if scaled else 1.0
    w = draw.input_map(draw.uniform(-bound, bound, n_in, n), c.fix_w_in)
    value = draw.values(neuron.values(n, draw.rng), c.fix_tau_rec)
    v = None
    if recurrent:
        no_self = 1.0 - np.eye(n)
        v = draw.map(draw.orthogonal(n) * (gain * no_self), c.fix_w_rec, mask=no_self)
    return spiking.SpikingLayer(
        neuron, w, value, v=v, norm=draw.norm(n), single=c.single_spike,
        surrogate_of=c.surrogate_of, noise=draw.noise(), levels=draw.levels(), adc=draw.adc(),
        bias=c.trains_bias, detach_reset=c.detach_reset,
    )  # fmt: skip


def lif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, LIF(), recurrent=False)


def adlif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, AdLIF(), recurrent=False)


def radlif(draw: Draw, n_in: int) -> Any:
    return layer_of(draw, n_in, AdLIF())


def se_adlif(draw: Draw, n_in: int) -> Any:
    """Times in ms."""
    return layer_of(draw, n_in, SEAdLIF(draw.dt_ms), scaled=True)


def brf(draw: Draw, n_in: int) -> Any:
    """A step is the source's, 0.01 of its unit of time, whatever it lasts."""
    return layer_of(draw, n_in, BRF(0.01 / draw.repeat), scaled=True)


def cuba_lif(draw: Draw, n_in: int) -> Any:
    """Times in ms."""
    return layer_of(draw, n_in, CuBaLIF(draw.dt_ms), scaled=True)


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
