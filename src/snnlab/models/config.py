"""The section of the config that describes the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from snnlab.config import SET, option, section
from snnlab.errors import shown

ModelName = Literal[
    "lif-delta", "lif-exp-cu", "alif-delta", "alif-exp-cu", "if-delta", "lif-exp-co",
    "lif-std-exp-cu", "lif-stp-exp-cu", "gif-delta",
]  # fmt: skip
WITH_SYNAPSE = (
    "lif-exp-cu", "alif-exp-cu", "lif-exp-co", "lif-std-exp-cu", "lif-stp-exp-cu",
)  # fmt: skip
ADAPTIVE = ("alif-delta", "alif-exp-cu")
GIF_MODEL, DEPRESSING, FACILITATING = (
    ("gif-delta",), ("lif-std-exp-cu", "lif-stp-exp-cu"), ("lif-stp-exp-cu",),
)  # fmt: skip
#: Decoding weights, see :func:`snnlab.models.integrator.decoders`.
DecoderInit = Literal[
    "boerlin-fix", "boerlin-rand", "rand", "kaiming-normal", "kaiming-uniform", "custom"
]  # fmt: skip
#: Shortest and longest step, ms.
DT_MIN, DT_MAX = 1e-3, 1000.0


def trainable(names: str) -> Any:
    """The option ``--trainable``, whose help says that it may have ``names``."""
    return option(
        default="",
        help="comma list of what is trained beside the weights, with a value for each neuron: "
        f"{names}; time constants, thresholds and strengths start where they are without it and "
        "keep their sign, biases (the readout's too) start at 0",
    )


def chosen(text: str, there: Mapping[str, bool], where: str) -> tuple[str, ...]:
    """What ``--trainable text`` names, each once, in the order of ``there``.

    Args:
        text: the option.
        there: everything that it may name -> whether this config has it.
        where: what has not, for the message (``--model lif-delta``).

    Raises:
        ValueError: something else is named.
    """
    names = {n.strip() for n in text.strip("[]() ").replace(" ", ",").split(",") if n.strip()}
    for name in sorted(names):
        if not there.get(name):
            valid, at = (
                ", ".join(n for n, has in there.items() if has),
                f" with {where}" * bool(where),
            )
            raise ValueError(f"--trainable {shown(name)}: no such choice{at}; valid: {valid}")
    return tuple(n for n in there if n in names)


@section("Model")
class ModelConfig:
    """Neurons, synapses and size of the layered recurrent network."""

    model: ModelName = option(
        basic=True,
        default="lif-delta",
        help="layer model: neuron, then synapse (delta, exp-cu = exponential current, "
        "exp-co = exponential conductance; std/stp = short-term depression/plasticity)",
    )
    n_rec: int = option(
        basic=True, default=200, help="neurons of each recurrent layer", gt=0, le=1_000_000
    )
    n_layer: int = option(
        basic=True, default=2, help="recurrent layers", aliases=("n_layers",), gt=0, le=100
    )
    connectivity: float = option(
        default=1.0,
        help="share of a layer's neurons that each input and each neuron of the layer connects to, "
        "drawn at random; below 1 only existing synapses have weights and traces (--backend "
        "snnlab, or plain for bptt); 1 = all, dense",
        gt=0,
        le=1,
    )
    spk_fun: Literal["relu", "s2nn", "multi_gaussian", "boxcar"] = option(
        default="relu", help="surrogate gradient of the spike"
    )
    spk_reset: Literal["soft", "hard"] = option(
        default="soft",
        help="a spike subtracts the threshold (soft) or sets the membrane to rest (hard)",
    )
    detach_reset: bool = option(
        default=False, help="let no gradient flow through the reset after a spike"
    )
    V_th: float = option(default=1.0, help="firing threshold above rest", unit="mV", gt=0)
    tau_mem: float = option(
        default=10.0, help="mean membrane time constant", unit="ms", ge=1, aliases=("tau_neu",)
    )
    tau_mem_sigma: float = option(
        default=1.0,
        help="its standard deviation over neurons (each at least 1 ms)",
        unit="ms",
        ge=0,
    )
    tau_syn: float = option(
        default=10.0, help="synaptic time constant", unit="ms", gt=0, only={"model": WITH_SYNAPSE}
    )
    tau_o: float = option(
        default=10.0, help="time constant of the readout; 0 = no memory", unit="ms", ge=0
    )
    tau_a: float = option(
        default=100.0, help="time constant of adaptation (alif)", unit="ms", gt=0,
        only={"model": ADAPTIVE, "beta": SET},
    )  # fmt: skip
    beta: float = option(
        default=1.0, help="strength of adaptation (alif)", unit="mV", ge=0, only={"model": ADAPTIVE}
    )
    tau_I2: float = option(
        default=100.0, help="time constant of the after-spike current (gif)", unit="ms", gt=0,
        only={"model": GIF_MODEL, "A2": SET},
    )  # fmt: skip
    A2: float = option(
        default=1.0, help="jump of the after-spike current (gif)", unit="mA", ge=0,
        only={"model": GIF_MODEL},
    )  # fmt: skip
    tau_std: float = option(
        default=200.0, help="recovery from short-term depression", unit="ms", gt=0,
        only={"model": DEPRESSING},
    )  # fmt: skip
    tau_f: float = option(
        default=100.0, help="decay of short-term facilitation", unit="ms", gt=0,
        only={"model": FACILITATING},
    )  # fmt: skip
    release: float = option(
        default=0.15, help="fraction of resources that a spike uses (std, stp)", gt=0, le=1,
        only={"model": DEPRESSING},
    )  # fmt: skip
    ff_scale: float = option(default=10.0, help="Kaiming-normal scale of the input weights", ge=0)
    rec_scale: float = option(
        default=2.0, help="Kaiming-normal scale of the recurrent weights", ge=0
    )
    out_scale: float = option(default=2.0, help="Kaiming-normal scale of the readout weights", ge=0)
    dt: float = option(
        default=1.0,
        help="simulated length of a step, in which the time constants are; a step is one time bin "
        "of a recording, whose recorded length (see --data_length) it does not change, and rates "
        "and axes are in recorded time",
        unit="ms",
        ge=DT_MIN,
        le=DT_MAX,
    )
    trainable: str = trainable(
        "bias, V_th, tau_mem, tau_syn, tau_o, tau_a, beta, tau_I2, A2, tau_std, tau_f (the last "
        "two with --method bptt alone)"
    )

    @pydantic.model_validator(mode="after")
    def _trainable(self) -> ModelConfig:
        _ = self.trained
        return self

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of ``trainable``.

        A time constant or strength is none where nothing depends on it: tau_mem of if-delta, of
        which a drive is a jump of the membrane, or that of an adaptation of strength 0.
        """
        adapts, after = self.beta > 0 and self.model in ADAPTIVE, self.model in GIF_MODEL
        there = {
            "bias": True, "V_th": True, "tau_mem": self.model != "if-delta",
            "tau_syn": self.model in WITH_SYNAPSE, "tau_o": self.tau_o > 0, "tau_a": adapts,
            "beta": adapts, "tau_I2": after and self.A2 > 0, "A2": after and self.A2 > 0,
            "tau_std": self.model in DEPRESSING, "tau_f": self.model in FACILITATING,
        }  # fmt: skip
        off = [f"--{n} 0" for n in ("tau_o", "beta", "A2") if n in there and not getattr(self, n)]
        return chosen(self.trainable, there, " with ".join([f"--model {self.model}", *off]))


@section("Model")
class GIFConfig:
    """One recurrent population of GIF neurons, read out from its standardised membrane."""

    n_rec: int = option(basic=True, default=200, help="neurons", gt=0, le=1_000_000)
    spk_fun: Literal["relu", "s2nn", "multi_gaussian", "boxcar"] = option(
        default="relu", help="surrogate gradient of the spike"
    )
    spk_reset: Literal["soft", "hard"] = option(
        default="soft",
        help="a spike subtracts the threshold (soft) or sets the membrane to rest (hard)",
    )
    diff_spike: bool = option(
        default=False, help="let gradients flow through the reset and the after-spike jumps"
    )
    V_th: float = option(default=1.0, help="firing threshold above rest", unit="mV", gt=0)
    tau_neu: float = option(
        default=100.0, help="membrane time constant", unit="ms", gt=0, aliases=("tau_mem",)
    )
    tau_syn: float = option(default=100.0, help="synaptic time constant", unit="ms", gt=0)
    tau_o: float = option(
        default=10.0, help="time constant of the readout; 0 = no memory", unit="ms", ge=0
    )
    tau_I2: float = option(
        default=1500.0,
        help="scale of the after-spike current's time constants: uniform on [100 ms, 1.5 tau_I2]",
        unit="ms",
        ge=100,
        only={"A2": SET},
    )
    A2: float = option(default=1.0, help="jump of the after-spike current", unit="mA", ge=0)
    tau_I1: float = option(
        default=10.0, help="time constant of a second, fast one", unit="ms", gt=0, only={"A1": SET}
    )
    A1: float = option(default=0.0, help="its jump; 0 leaves it out", unit="mA")
    tau_th: float = option(
        default=100.0, help="time constant of the moving threshold", unit="ms", gt=0,
        only={"Ath": SET},
    )  # fmt: skip
    Ath: float = option(default=0.0, help="its jump at a spike; 0 leaves it out", unit="mV", ge=0)
    ff_scale: float = option(default=6.0, help="Kaiming-normal scale of the input weights", ge=0)
    rec_scale: float = option(
        default=2.0, help="Kaiming-normal scale of the recurrent weights", ge=0
    )
    out_scale: float = option(
        default=0.02,
        help="Kaiming-normal scale of the readout weights (small: the readout sums its drive over "
        "tau_o, and large first guesses cost many updates to unlearn)",
        ge=0,
    )
    dt: float = option(
        default=1.0,
        help="simulated length of a step; of trials, which are made at this step, there is no "
        "other time",
        unit="ms",
        ge=DT_MIN,
        le=DT_MAX,
    )
    trainable: str = trainable(
        "bias, V_th, tau_neu, tau_syn, tau_o, tau_I2, A2, tau_I1, A1, tau_th, Ath"
    )

    @pydantic.model_validator(mode="after")
    def _trainable(self) -> GIFConfig:
        _ = self.trained
        return self

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of ``trainable``; those of a current or threshold that is left out are none."""
        there = dict.fromkeys(("bias", "V_th", "tau_neu", "tau_syn"), True)
        there["tau_o"] = self.tau_o > 0
        for tau, jump in (("tau_I2", "A2"), ("tau_I1", "A1"), ("tau_th", "Ath")):
            there[tau] = there[jump] = getattr(self, jump) != 0
        off = [f"--{n} 0" for n in ("tau_o", "A2", "A1", "Ath") if not getattr(self, n)]
        return chosen(self.trainable, there, " and ".join(off))


@section("Model")
class EIConfig(GIFConfig):
    """Excitatory and inhibitory GIF neurons with sign-constrained sparse projections."""

    net: Literal["coba", "cuba"] = option(
        basic=True,
        default="coba",
        help="synapses are conductances with reversal potentials, or currents",
    )
    n_rec: int = option(basic=True, default=800, help="neurons of both kinds", gt=1, le=1_000_000)
    n_exc: int = option(default=0, help="excitatory ones among them; 0: 80 %", ge=0, le=1_000_000)
    sparsity: float = option(
        default=1.0,
        help="connection probability of the three projections; 1: all connections",
        gt=0,
        le=1,
    )
    w_ei_ratio: float = option(
        default=4.0,
        help="Kaiming scale of the inhibitory weights over that of the excitatory ones",
        gt=0,
    )
    E_exc: float = option(
        default=5.0, help="excitatory reversal potential above rest (coba)", unit="mV", gt=0,
        only={"net": ("coba",)},
    )  # fmt: skip
    E_inh: float = option(
        default=-10.0, help="inhibitory reversal potential (coba)", unit="mV", lt=0,
        only={"net": ("coba",)},
    )  # fmt: skip
    tau_neu: float = option(
        default=200.0, help="membrane time constant", unit="ms", gt=0, aliases=("tau_mem",)
    )
    tau_syn: float = option(default=10.0, help="synaptic time constant", unit="ms", gt=0)
    tau_I2: float = option(
        default=2000.0,
        help="scale of the after-spike current's time constants: uniform on [100 ms, 1.5 tau_I2]",
        unit="ms",
        ge=100,
        only={"A2": SET},
    )
    ff_scale: float = option(default=4.0, help="Kaiming-normal scale of the input weights", ge=0)

    @pydantic.model_validator(mode="after")
    def _populations(self) -> EIConfig:
        if self.n_exc > self.n_rec:
            raise ValueError(
                f"--n_exc {self.n_exc}: more excitatory neurons than neurons (--n_rec {self.n_rec})"
            )
        if self.n_exc == self.n_rec:
            raise ValueError(
                f"--n_exc {self.n_exc} of --n_rec {self.n_rec} leaves no inhibitory neuron"
            )
        return self

    @property
    def n_excitatory(self) -> int:
        """Excitatory neurons: ``n_exc``, or 80 %, at least one of each kind."""
        return self.n_exc or max(1, min(self.n_rec - 1, round(0.8 * self.n_rec)))
