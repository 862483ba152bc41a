"""Models and readouts by name, with their options; read without JAX.

A line of :data:`MODELS` makes a model: every task takes it, its own options are refused with other
models, and `config.yaml`, `--help` and `--trainable` know them. A package adds one by an entry
point (:mod:`snnlab.registry`) of the group ``snnlab.models``, a :class:`Model`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from snnlab.models import options as of
from snnlab.models.kinds import nir_file, pathways, populations, readouts, rlif
from snnlab.registry import Registry


@dataclasses.dataclass(frozen=True)
class Model:
    """A kind of layer.

    Attributes:
        summary: for ``--help``.
        options: classes of :mod:`snnlab.models.options` (or of your own) that it reads.
        build: ``"module:attribute"``: a function ``(draw, n_in) -> Layer``
            (:class:`snnlab.models.drawing.Draw`, :class:`snnlab.models.layer.Layer`), or a
            :class:`snnlab.models.neuron.Neuron`, which gets a recurrent map.
        defaults: its own, of shared options.
        spiking: whether its outputs are spikes.
        currents: whether excitation and inhibition can be told apart.
        network: ``"module:class"`` of what is a whole network, and no layer: called with the
            section, it has ``layers``, names, and ``build(n_in, n_out, operator, dt_ms)``. Then
            ``build`` is empty, and options of sizes and readouts are those of other models.
        readouts: kinds of readout of the tasks that take it; empty: all.
    """

    summary: str
    options: tuple[type[of.Options], ...]
    build: str = ""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    spiking: bool = True
    currents: bool = False
    network: str = ""
    readouts: tuple[str, ...] = ()

    @functools.cached_property
    def trains(self) -> dict[str, tuple[str, ...]]:
        """What ``--trainable`` may name -> options that must not be 0 for it."""
        return {name: needs for kind in self.options for name, needs in kind.trains.items()}


_SINGLE = "snnlab.models.kinds.pathways:single"
_DESCRIBED = "snnlab.models.kinds.described"
_DEPRESSING = (*pathways.LIF, of.Synapse, pathways.Depression)
_BASELINE = (of.Maps, of.RecurrentMap)
MODELS: Registry[Model] = Registry(
    "model",
    "snnlab.models",
    Model,
    {
        "lif-delta": Model("LIF neurons, spikes move the membrane", pathways.LIF, _SINGLE),
        "lif-exp-cu": Model("LIF, exponential currents", (*pathways.LIF, of.Synapse), _SINGLE),
        "alif-delta": Model("adaptive LIF", pathways.ALIF, _SINGLE),
        "alif-exp-cu": Model(
            "adaptive LIF, exponential currents", (*pathways.ALIF, of.Synapse), _SINGLE
        ),
        "if-delta": Model("integrate-and-fire without a leak", pathways.IF, _SINGLE),
        "lif-exp-co": Model(
            "LIF neurons, exponential conductances", (*pathways.LIF, of.Synapse),
            "snnlab.models.kinds.pathways:conductance", currents=True,
        ),
        "lif-std-exp-cu": Model("lif-exp-cu with short-term depression", _DEPRESSING, _SINGLE),
        "lif-stp-exp-cu": Model(
            "lif-exp-cu with short-term plasticity", (*_DEPRESSING, pathways.Facilitation), _SINGLE
        ),
        "gif-delta": Model("GIF neurons, spikes move the membrane", pathways.GIF, _SINGLE),
        "gif": Model(
            "GIF neurons with slow currents, for memory over seconds", populations.GIF,
            "snnlab.models.kinds.populations:gif",
            {"tau_mem": 100.0, "tau_syn": 100.0, "tau_I2": 1500.0, "ff_scale": 6.0},
        ),
        "ei": Model(
            "excitatory and inhibitory GIF neurons", populations.EI,
            "snnlab.models.kinds.populations:ei",
            {"tau_mem": 200.0, "tau_I2": 2000.0, "ff_scale": 4.0}, currents=True,
        ),
        "LIF": Model(
            "LIF neurons with times in steps, no recurrence", of.FEED_FORWARD,
            f"{_DESCRIBED}:lif", currents=True,
        ),
        "adLIF": Model(
            "LIF with adaptation", of.FEED_FORWARD, f"{_DESCRIBED}:adlif", currents=True
        ),
        "RLIF": Model(
            "recurrent LIF, balanced or not", rlif.RLIF, "snnlab.models.kinds.rlif:rlif",
            currents=True,
        ),
        "RadLIF": Model("recurrent adLIF", of.RECURRENT, f"{_DESCRIBED}:radlif", currents=True),
        "SE-adLIF": Model(
            "adaptive, symplectic Euler", (*of.RECURRENT, of.Scales), f"{_DESCRIBED}:se_adlif",
            {"ff_scale": 130.0, "rec_scale": 1.0}, currents=True,
        ),
        "BRF": Model(
            "balanced resonate-and-fire", (*of.RECURRENT, of.Scales), f"{_DESCRIBED}:brf",
            {"ff_scale": 13000.0, "rec_scale": 1.0}, currents=True,
        ),
        "CuBaLIF": Model(
            "LIF neurons with synaptic currents", (*of.RECURRENT, of.Scales),
            f"{_DESCRIBED}:cuba_lif", {"ff_scale": 200.0, "rec_scale": 1.0}, currents=True,
        ),
        "MLP": Model("no spikes, no memory", (of.Maps,), f"{_DESCRIBED}:baseline", spiking=False),
        **{
            name: Model("recurrent, no spikes", _BASELINE, f"{_DESCRIBED}:baseline", spiking=False)
            for name in ("RNN", "LiGRU", "GRU")
        },
        "nir": Model(
            "the network of a NIR file, readout included", (nir_file.NIRFile,),
            network="snnlab.exchange.training:FileNetwork", readouts=("leaky",),
        ),
    },
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ReadoutKind:
    """A kind of readout.

    Attributes:
        options: that it reads, with any model.
        build: ``"module:function"``, ``(draw, layers, n_in, n_out, summed, t_crop) -> Readout``.
        of_spiking: options that it reads with spiking models alone.
    """

    options: tuple[type[of.Options], ...]
    build: str
    of_spiking: tuple[type[of.Options], ...] = ()


READOUTS: dict[str, ReadoutKind] = {
    "leaky": ReadoutKind((readouts.Leaky,), "snnlab.models.kinds.readouts:leaky"),
    "summed": ReadoutKind(
        (readouts.Summed,), "snnlab.models.kinds.readouts:summed", (readouts.SummedLeak,)
    ),
}
