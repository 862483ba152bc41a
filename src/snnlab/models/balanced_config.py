"""The section of the config that describes balanced networks and their baselines."""

from __future__ import annotations

import re
from typing import Literal

import pydantic

from snnlab.config import SET, option, section
from snnlab.models.config import chosen, trainable

SPIKING = ("LIF", "adLIF", "RLIF", "RadLIF")
#: Models with a map of their own outputs.
RECURRENT = ("RLIF", "RadLIF", "RNN", "LiGRU", "GRU")
RLIF = {"model": ("RLIF",)}
BalancedModel = Literal["LIF", "adLIF", "RLIF", "RadLIF", "MLP", "RNN", "LiGRU", "GRU"]


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


@section("Model")
class BalancedConfig:
    """Layers, their initial values, and what of them is trained."""

    model: BalancedModel = option(
        basic=True,
        default="RLIF",
        help="LIF; adLIF: adaptive; RLIF: recurrent; RadLIF: both; MLP, RNN, LiGRU, GRU: baselines "
        "without spikes",
    )
    neurons: int = option(
        basic=True, default=128, help="neurons of each hidden layer", aliases=("n", "n_rec"), gt=0
    )
    n_layer: int = option(
        basic=True, default=1, help="hidden layers", aliases=("n_layers",), gt=0, le=100
    )
    dropout: float = option(
        default=0.0,
        help="training only: share of the hidden layers' outputs set to 0, anew in every step",
        ge=0,
        lt=1,
    )
    normalization: Literal["none", "layernorm", "batchnorm"] = option(
        default="none",
        help="of the feed-forward drive of all layers, the readout's too: over the neurons of a "
        "step, or for each neuron over steps and samples (running statistics in evaluation)",
    )
    bidirectional: bool = option(
        default=False,
        help="hidden layers read their input forwards and backwards, and output both",
    )
    single_spike: bool = option(
        default=False, help="at most one spike per layer, sample and step: the largest membrane's"
    )
    reset: Literal["default", "voltage", "threshold"] = option(
        default="default",
        only=RLIF,
        help="RLIF: what a spike subtracts: 1 (nothing where V is fixed: its diagonal resets), the "
        "membrane, or the threshold",
    )
    w_in_init: Literal["bernoulli", "uniform"] = option(
        default="bernoulli", help="RLIF: input weights", only=RLIF
    )
    fix_w_in: bool = option(default=False, help="do not train the input weights")
    fix_w_rec: bool = option(
        default=False, help="do not train the recurrent weights", only={"model": RECURRENT}
    )
    fix_w_out: bool = option(default=False, help="do not train the readout weights")
    fix_tau_rec: bool = option(
        default=False, help="do not train the layers' time constants", only={"model": SPIKING}
    )
    fix_tau_out: bool = option(
        default=False, help="do not train the readout's time constants", only={"model": SPIKING}
    )
    trainable: str = trainable("theta, bias (of spiking models; beside what --fix_ leaves free)")
    balance: bool = option(
        basic=True,
        default=False,
        help="RLIF: thresholds, recurrent weights and time constants of a balanced network",
    )
    balance_refit: bool = option(
        default=False, help="after every epoch, thresholds and V anew from the weights"
    )
    mu: float = option(
        default=0.0, help="balance: quadratic cost of a spike", ge=0, only={"balance": SET}
    )
    nu: float = option(
        default=0.0, help="balance: linear cost of a spike", ge=0, only={"balance": SET}
    )
    V_scale: float = option(
        default=1.0, help="balance: factor of the recurrent weights", ge=0, only={"balance": SET}
    )
    slow_dynamics: bool = option(default=False, help="RLIF: fixed slow recurrent weights")
    V_slow_scale: float = option(
        default=1.0, help="factor of the slow weights", ge=0, only={"slow_dynamics": SET}
    )
    auto_encoder: bool = option(
        default=False, help="readout weights are the input weights, nothing is trained"
    )
    quantize: str = option(
        default="", help="fixed-point format BITS.FRAC of all weights, such as 8.4"
    )
    quantize_adc: str = option(
        default="", help="fixed-point format BITS.FRAC of the drive", only={"model": SPIKING}
    )
    gauss: float = option(
        default=0.0, help="standard deviation of a fixed Gaussian error of each weight", ge=0
    )
    gauss_mul: bool = option(
        default=False, help="that error multiplies the weight instead of being added",
        only={"gauss": SET},
    )  # fmt: skip

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> BalancedConfig:
        if self.balance and self.model != "RLIF":
            raise ValueError(f"--balance is defined for --model RLIF, not {self.model}")
        if self.balance_refit:
            if not self.balance:
                raise ValueError("--balance_refit needs --balance")
            if "theta" in self.trained:
                raise ValueError(
                    "--balance_refit with --trainable theta: a refit replaces what was trained"
                )
            if self.fix_w_in:
                raise ValueError(
                    "--balance_refit with --fix_w_in: nothing is left to refit, since it follows "
                    "the input weights as they are trained"
                )
        if self.slow_dynamics and self.model != "RLIF":
            raise ValueError(f"--slow_dynamics is defined for --model RLIF, not {self.model}")
        if self.single_spike and self.model not in SPIKING:
            raise ValueError(f"--single_spike: {self.model} has no spikes")
        for flag in ("quantize", "quantize_adc"):
            if getattr(self, flag):
                FixedPoint(getattr(self, flag), flag)
        _ = self.trained
        if self.auto_encoder and (self.n_layer != 1 or self.model != "RLIF"):
            raise ValueError("--auto_encoder needs one layer of --model RLIF")
        if self.auto_encoder and self.bidirectional:
            raise ValueError("--auto_encoder decodes one copy of its layer, not --bidirectional")
        return self

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of ``trainable``."""
        there = dict.fromkeys(("theta", "bias"), self.is_spiking)
        return chosen(self.trainable, there, f"--model {self.model}")

    @property
    def outputs(self) -> int:
        """Outputs of a hidden layer."""
        return self.neurons * (1 + self.bidirectional)

    @property
    def needs_sequences(self) -> bool:
        """Whether the network runs layer after layer over whole sequences only."""
        return self.bidirectional or self.normalization == "batchnorm"

    @property
    def is_spiking(self) -> bool:
        return self.model in SPIKING

    def format_of(self, flag: str) -> FixedPoint | None:
        """The format of ``quantize`` or ``quantize_adc``, if given."""
        text = getattr(self, flag)
        return FixedPoint(text, flag) if text else None
