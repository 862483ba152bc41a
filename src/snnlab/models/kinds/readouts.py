"""Readouts: options, and from options to a :class:`snnlab.models.readouts.Readout`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import option
from snnlab.lazy import lazy
from snnlab.models.neuron import Value, decay
from snnlab.models.options import DT_MAX, DT_MIN, Options, TimeRange

if TYPE_CHECKING:
    from snnlab.models.drawing import Draw

maps, readouts = lazy("snnlab.models.maps"), lazy("snnlab.models.readouts")
#: Time constants of the summed readout of a balanced network at the start, steps of input.
TAU_BALANCED = 15.0


class Leaky(Options):
    """Leaky linear units whose output is the prediction of each step."""

    tau_o: float = option(
        default=10.0, help="time constant of the readout; 0 = no memory", unit="ms", ge=0
    )
    out_scale: float = option(default=2.0, help="Kaiming-normal scale of the readout weights", ge=0)
    reads: Literal["spikes", "membrane"] = option(
        default="spikes",
        help="what the readout sees of the last layer: spikes, or the membrane, standardised over "
        "the neurons of a sample",
    )
    dt: float = option(
        default=1.0,
        help="simulated length of a step, in which the time constants are; a step is one time bin "
        "of a recording, whose recorded length (see --data_length) it does not change, and rates "
        "and axes are in recorded time; of generated trials there is no other time",
        unit="ms",
        ge=DT_MIN,
        le=DT_MAX,
    )
    trains = {"tau_o": ("tau_o",)}  # noqa: RUF012


class Summed(Options):
    """Units whose sum over time is the prediction."""

    fix_w_out: bool = option(default=False, help="do not train the readout weights")
    auto_encoder: bool = option(
        default=False, help="readout weights are the input weights, nothing is trained",
        only={"model": ("RLIF",)},
    )  # fmt: skip

    @staticmethod
    def check(config: Any) -> None:
        if not config.auto_encoder or config.model != "RLIF":
            return
        if config.n_layer != 1:
            raise ValueError("--auto_encoder needs one layer of --model RLIF")
        if config.bidirectional:
            raise ValueError("--auto_encoder decodes one copy of its layer, not --bidirectional")


class SummedLeak(Options):
    """Of spiking models alone: baselines have no leak."""

    fix_tau_out: bool = option(default=False, help="do not train the readout's time constants")
    tau_out: str = option(
        default="5,25",
        help="range LOW,HIGH of the readout's time constants, in which they are drawn and stay; "
        "with --balance they begin at 15",
        unit="steps of the input, before --repeat",
        only=({"balance": (False,)}, {"fix_tau_out": (False,)}),
    )

    @staticmethod
    def check(config: Any) -> None:
        TimeRange(config.tau_out, "tau_out", TAU_BALANCED if config.balance else None)


def leaky(
    draw: Draw, _layers: Any, _n_in: int, n_out: int, _summed: str, _t_crop: int
) -> Any:  # fmt: skip
    """Leaky linear units; nothing is summed."""
    c = draw.config
    weight = maps.kaiming_normal(c.outputs, n_out, c.out_scale)
    dense, norm = draw.map(weight), draw.norm(n_out)
    return readouts.leaky_readout(dense, c.tau_o, draw.dt_ms, c.trained, norm)


def summed(draw: Draw, layers: Any, n_in: int, n_out: int, summed: Any, t_crop: int) -> Any:
    """Units with decays of their own, summed; an auto-encoder has as many as inputs."""
    c, r = draw.config, draw.repeat
    n_out = n_in if c.auto_encoder else n_out
    bound = c.outputs**-0.5
    weight = draw.uniform(-bound, bound, c.outputs, n_out)
    if c.auto_encoder:
        weight = layers[-1].w.effective_weight().T
    leak = None
    if c.is_spiking:
        tau = TimeRange(c.tau_out, "tau_out")
        value = Value.uniform(draw.rng, decay(tau.low * r), decay(tau.high * r), n_out)
        if c.balance:
            value = value._replace(start=0 * value.start + decay(TAU_BALANCED * r))
        leak = draw.values({"alpha": value}, c.fix_tau_out)["alpha"]
    return readouts.Readout(
        draw.map(weight, c.fix_w_out), leak, scaled=True, summed=summed, t_crop=t_crop,
        norm=draw.norm(n_out), bias="bias" in c.trained,
    )  # fmt: skip
