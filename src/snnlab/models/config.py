"""The sections of the config that describe a task's network: its default model, and its readout."""

from __future__ import annotations

from typing import Literal

from snnlab.models.section import ModelSection, model_section

#: Decoding weights, see :func:`snnlab.models.integrator.decoders`.
DecoderInit = Literal[
    "boerlin-fix", "boerlin-rand", "rand", "kaiming-normal", "kaiming-uniform", "custom"
]  # fmt: skip


@model_section("lif-delta")
class ModelConfig(ModelSection):
    """Layers of recorded events, read out in every step."""


@model_section("alif-delta", n_rec=60, n_layer=1)
class AdaptiveConfig(ModelSection):
    """A small layer of adaptive neurons, read out in every step."""


@model_section("gif", n_layer=1, reads="membrane", out_scale=0.02)
class GIFConfig(ModelSection):
    """A population that remembers, read out from its standardised membrane.

    Small readout weights: the readout sums its drive over tau_o, and large first guesses cost many
    updates to unlearn.
    """


@model_section("ei", n_rec=800, n_layer=1, reads="membrane", out_scale=0.02)
class EIConfig(ModelSection):
    """Excitatory and inhibitory neurons, read out from their standardised membrane."""


@model_section("RLIF", readout="summed", n_rec=128, n_layer=1)
class BalancedConfig(ModelSection):
    """Balanced networks and their baselines, whose readout is summed over time."""
