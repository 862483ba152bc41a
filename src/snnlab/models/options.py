"""Options that several models share.

A class here declares options (:func:`snnlab.config.option`), and what of them ``--trainable`` may
name: name -> options that must not be 0 for it, since nothing would depend on it otherwise. Models
choose such classes (:mod:`snnlab.models.registry`), so an option is declared once, and is refused
with models that did not choose it. ``check(config)`` raises ``ValueError`` for values that do not
fit together. ``kept`` says which options name a file, of which a run folder keeps a copy: option ->
name of the copy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from snnlab.config import option
from snnlab.models.surrogates import SURROGATES

if TYPE_CHECKING:
    Surrogate = str
else:
    Surrogate = Literal[SURROGATES.names()]

#: Shortest and longest step, ms.
DT_MIN, DT_MAX = 1e-3, 1000.0


class Options:
    """Base of classes that declare options."""

    trains: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    kept: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    def check(config: Any) -> None:
        """Refuse values that do not fit together."""


class Size(Options):
    """Of every model."""

    n_rec: int = option(
        basic=True,
        default=200,
        help="neurons of each layer",
        aliases=("neurons", "n"),
        gt=0,
        le=1_000_000,
    )
    n_layer: int = option(
        basic=True, default=2, help="recurrent layers", aliases=("n_layers",), gt=0, le=100
    )
    dropout: float = option(
        default=0.0,
        help="training only: share of the layers' outputs set to 0, anew in every step",
        ge=0,
        lt=1,
    )
    bidirectional: bool = option(
        default=False,
        help="layers read their input forwards and backwards, and output both",
    )


class Reset(Options):
    """Of neurons that a spike resets."""

    detach_reset: bool = option(
        default=False,
        help="let no gradient flow through the reset after a spike, nor through what else a spike "
        "does to its own neuron (adaptation, refractoriness)",
    )


# ------------------------------------------------------------- neurons with times in ms


class Threshold(Options):
    """Neurons of brainpy."""

    spk_fun: Surrogate = option(default="relu", help="surrogate gradient of the spike")
    spk_reset: Literal["soft", "hard"] = option(
        default="soft",
        help="a spike subtracts the threshold (soft) or sets the membrane to rest (hard)",
    )
    V_th: float = option(default=1.0, help="firing threshold above rest", unit="mV", gt=0)
    trains = {"bias": (), "map_bias": (), "V_th": ()}  # noqa: RUF012


class MembraneTime(Options):
    tau_mem: float = option(
        default=10.0, help="membrane time constant (mean over neurons)", unit="ms", gt=0,
        aliases=("tau_neu",),
    )  # fmt: skip
    trains = {"tau_mem": ()}  # noqa: RUF012


class Scales(Options):
    """Initial weights."""

    ff_scale: float = option(default=10.0, help="Kaiming-normal scale of the input weights", ge=0)
    rec_scale: float = option(
        default=2.0, help="Kaiming-normal scale of the recurrent weights", ge=0
    )


class Synapse(Options):
    tau_syn: float = option(default=10.0, help="synaptic time constant", unit="ms", gt=0)
    trains = {"tau_syn": ()}  # noqa: RUF012


class AfterSpike(Options):
    """The after-spike current of GIF neurons."""

    tau_I2: float = option(
        default=100.0,
        help="time constant of the after-spike current (gif, ei: its scale; the constants are "
        "uniform on [100 ms, 1.5 tau_I2])",
        unit="ms",
        gt=0,
        only={"A2": "set"},
    )
    A2: float = option(default=1.0, help="jump of the after-spike current", unit="mA", ge=0)
    trains = {"tau_I2": ("A2",), "A2": ("A2",)}  # noqa: RUF012


# ---------------------------------------------------------- layers with times in steps


class FixedPoint:
    """A two's-complement fixed-point format ``BITS.FRAC``: BITS in all, FRAC of them fractions.

    Raises:
        ValueError: the text is no such format.
    """

    def __init__(self, text: str, flag: str) -> None:
        found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})", text.strip())
        if not found or not 0 < int(found[1]) <= 32 or int(found[2]) > int(found[1]):
            raise ValueError(
                f"--{flag} {text}: must be BITS.FRAC, bits in all (at most 32) and how many of "
                "them are fractions, such as 8.4"
            )
        self.bits, self.fraction = int(found[1]), int(found[2])

    @property
    def step(self) -> float:
        return 2.0**-self.fraction

    @property
    def limits(self) -> tuple[float, float]:
        """Smallest and largest number."""
        return -(2.0 ** (self.bits - 1)) * self.step, (2.0 ** (self.bits - 1) - 1) * self.step


class TimeRange:
    """A range of time constants ``LOW,HIGH``.

    Attributes:
        low, high: its ends.

    Raises:
        ValueError: the text is no such range, or ``within`` is a time constant outside of it.
    """

    def __init__(self, text: str, flag: str, within: float | None = None) -> None:
        try:
            self.low, self.high = (float(part) for part in text.split(","))
            if not 0 < self.low < self.high < math.inf:
                raise ValueError
        except ValueError:
            raise ValueError(
                f"--{flag} {text}: must be LOW,HIGH, two numbers above 0, the second one the "
                "larger, such as 5,25"
            ) from None
        if within is not None and not self.low <= within <= self.high:
            raise ValueError(
                f"--{flag} {text}: with --balance time constants begin at {within:,g}, which must "
                "be in the range"
            )


class Maps(Options):
    """Maps and normalisation of the layers, and of the readout beside them."""

    normalization: Literal["none", "layernorm", "batchnorm"] = option(
        default="none",
        help="of the feed-forward drive of all layers, the readout's too: over the neurons of a "
        "step, or for each neuron over steps and samples (running statistics in evaluation)",
    )
    fix_w_in: bool = option(default=False, help="do not train the input weights")
    quantize: str = option(
        default="", help="format BITS.FRAC of the weights, such as 8.4; see --quantize_as"
    )
    gauss: float = option(
        default=0.0, ge=0,
        help="standard deviation of a Gaussian error, fixed and of each weight (or --gauss_on)",
    )  # fmt: skip
    gauss_mul: bool = option(
        default=False, help="that error multiplies the weight instead of being added",
        only={"gauss": "set"},
    )  # fmt: skip

    @staticmethod
    def check(config: Any) -> None:
        config.format_of("quantize")


class RecurrentMap(Options):
    """Of models with a map of their own outputs."""

    fix_w_rec: bool = option(default=False, help="do not train the recurrent weights")


class Spiking(Options):
    """Of neurons that are described (:mod:`snnlab.models.neuron`)."""

    single_spike: bool = option(
        default=False, help="at most one spike per layer, sample and step: the largest membrane's"
    )
    surrogate_of: Literal["membrane", "spikes"] = option(
        default="membrane", only={"single_spike": "set"},
        help="where the surrogate derivative is taken; spikes: at the threshold's distance from "
        "the 0 or 1 that came out, as published, and not from the membrane",
    )  # fmt: skip
    fix_tau_rec: bool = option(default=False, help="do not train the layers' time constants")
    quantize_adc: str = option(default="", help="format BITS.FRAC of the drive")
    quantize_as: Literal["fixed-point", "affine"] = option(
        default="fixed-point", only=({"quantize": "set"}, {"quantize_adc": "set"}),
        help="fixed-point: all weights as they are used, and the whole drive, in steps of 2^-FRAC; "
        "affine: 2^BITS even levels from the smallest to the largest value, whatever FRAC is, of "
        "the input weights, which are kept rounded, and of x W over a batch, as published",
    )  # fmt: skip
    gauss_on: Literal["weights", "drive"] = option(
        default="weights", only={"gauss": "set"},
        help="drive: noise of x W, anew in every step, in evaluation too; with --gauss_mul x W is "
        "multiplied by the noise, whose mean is 0, as published",
    )  # fmt: skip
    trains = {"V_th": (), "bias": (), "map_bias": ()}  # noqa: RUF012

    @staticmethod
    def check(config: Any) -> None:
        config.format_of("quantize_adc")


#: Options of a model with a :class:`snnlab.models.neuron.Neuron`, without a map of its own spikes.
FEED_FORWARD = (Maps, Spiking, Reset)
#: Options of such a model with a map of its own spikes.
RECURRENT = (Maps, RecurrentMap, Spiking, Reset)
