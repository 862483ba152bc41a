"""Populations of GIF neurons: one dense map, or excitation and inhibition with projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from snnlab.config import option
from snnlab.lazy import lazy
from snnlab.models.options import AfterSpike, MembraneTime, Options, Scales, Synapse, Threshold
from snnlab.models.surrogates import surrogate

if TYPE_CHECKING:
    from snnlab.models.drawing import Draw

bst, brainstate, u, np = map(lazy, ("brainpy.state", "brainstate", "brainunit", "numpy"))
jnp = lazy("jax.numpy")
brainpy_neurons, maps, pathways, trained = (
    lazy(f"snnlab.models.{m}") for m in ("brainpy_neurons", "maps", "pathways", "trained")
)

#: Smallest time constant of an after-spike current, ms.
TAU_I2_MIN_MS = 100.0
#: ``--trainable`` -> attribute of a neuron.
OF_NEURON = {
    "tau_mem": "tau",
    **{name: name for name in ("V_th", "tau_I2", "A2", "tau_I1", "A1", "tau_th", "Ath")},
}


class Population(Options):
    """Further currents and a moving threshold of GIF neurons."""

    diff_spike: bool = option(
        default=False, help="let gradients flow through the reset and the after-spike jumps"
    )
    tau_I1: float = option(
        default=10.0, help="time constant of a second, fast after-spike current", unit="ms", gt=0,
        only={"A1": "set"},
    )  # fmt: skip
    A1: float = option(
        default=0.0, help="what a spike adds to it (of A2: takes away); 0 leaves it out", unit="mA"
    )
    tau_I2_of: Literal["each", "all"] = option(
        default="each", only={"A2": "set"},
        help="--tau_I2 is the scale of time constants that are drawn for each neuron, or that of "
        "all",
    )  # fmt: skip
    V_init: Literal["rest", "uniform", "threshold"] = option(
        default="rest",
        help="the membrane that sequences start with; uniform: between rest and threshold, drawn "
        "once for each neuron",
    )
    tau_th: float = option(
        default=100.0, help="time constant of the moving threshold", unit="ms", gt=0,
        only={"Ath": "set"},
    )  # fmt: skip
    Ath: float = option(default=0.0, help="its jump at a spike; 0 leaves it out", unit="mV", ge=0)
    Ath_acts: Literal["all", "spikes"] = option(
        default="all", only={"Ath": "set"},
        help="on spikes, reset, what --reads membrane sees and the surrogate's slope, which are "
        "relative to the moving threshold; or on spikes alone",
    )  # fmt: skip
    th_step: Literal["exponential", "euler"] = option(
        default="exponential", only={"Ath": "set"},
        help="a step of the moving threshold: exact, times exp(-dt / tau_th), or plain Euler, "
        "times 1 - dt / tau_th, as published",
    )  # fmt: skip
    trains = {"tau_I1": ("A1",), "A1": ("A1",), "tau_th": ("Ath",), "Ath": ("Ath",)}  # noqa: RUF012

    @staticmethod
    def check(config: Any) -> None:
        if config.tau_I2 < TAU_I2_MIN_MS:
            raise ValueError(
                f"--tau_I2 {config.tau_I2:g}: must be greater than or equal to {TAU_I2_MIN_MS:g}"
            )
        if config.Ath and config.th_step == "euler" and config.tau_th < config.dt:
            raise ValueError(
                f"--th_step euler with --tau_th {config.tau_th:g}: must be at least a step, "
                f"--dt {config.dt:g}"
            )


class Projections(Options):
    """Excitatory and inhibitory neurons with sign-constrained sparse projections."""

    net: Literal["coba", "cuba"] = option(
        basic=True,
        default="coba",
        help="synapses are conductances with reversal potentials, or currents",
    )
    n_exc: int = option(
        default=0, help="excitatory neurons of the n_rec; 0: 80 %", ge=0, le=1_000_000
    )
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
    dale: Literal["weights", "sums"] = option(
        default="weights",
        help="what keeps its sign: each weight, or the sum of all inputs of a neuron from a "
        "projection, |x W + b|",
    )
    weight_scale: Literal["drive", "plain"] = option(
        default="drive", only={"net": ("coba",)},
        help="drive: weights are divided by their reversal potential, and by the root of "
        "--sparsity, so that the drive does not depend on these; plain: they are not",
    )  # fmt: skip
    E_exc: float = option(
        default=5.0, help="excitatory reversal potential above rest (coba)", unit="mV", gt=0,
        only={"net": ("coba",)},
    )  # fmt: skip
    E_inh: float = option(
        default=-10.0, help="inhibitory reversal potential (coba)", unit="mV", lt=0,
        only={"net": ("coba",)},
    )  # fmt: skip

    @staticmethod
    def check(config: Any) -> None:
        if config.n_exc > config.n_rec:
            raise ValueError(
                f"--n_exc {config.n_exc}: more excitatory neurons than neurons (--n_rec "
                f"{config.n_rec})"
            )
        if n_excitatory(config) == config.n_rec:
            raise ValueError(
                f"--n_exc {config.n_exc} of --n_rec {config.n_rec} leaves no inhibitory neuron"
            )


GIF = (Threshold, MembraneTime, Scales, Synapse, AfterSpike, Population)
EI = (*GIF, Projections)


def n_excitatory(config: Any) -> int:
    """Excitatory neurons of ``ei``: ``n_exc``, or 80 %, at least one of each kind."""
    return config.n_exc or max(1, min(config.n_rec - 1, round(0.8 * config.n_rec)))


def gif(draw: Draw, n_in: int) -> Any:
    """One dense map of ``concat(input, spikes)``, an exponential current synapse, GIF neurons."""
    c, n = draw.config, draw.config.n_rec
    neuron = _neurons(c)
    weight = maps.stacked(
        maps.kaiming_normal(n_in, n, c.ff_scale), maps.kaiming_normal(n, n, c.rec_scale)
    )
    synapse = pathways.exponential_current(n, c.tau_syn, "tau_syn" in c.trained)
    dense = maps.DenseMap(weight, draw.operator)
    pathway = pathways.Pathway(dense, synapse=synapse, bias=c.trains_bias)
    return pathways.PathwayLayer(neuron, [pathway])


def ei(draw: Draw, n_in: int) -> Any:
    """Input, excitatory and inhibitory projections onto one population (Dale's law).

    Every weight keeps its sign: a projection multiplies by ``sign |W| mask``. With currents
    (cuba) the inhibitory sign is -1; with conductances (coba) all are +1 and the sign is that of
    the driving force ``E - V``; there weights are divided by ``|E|``, so that a spike moves a
    resting membrane as far as in the current model. A sparse projection has its weights divided
    by ``sqrt(sparsity)``: the variance of the drive stays. ``--weight_scale plain`` divides by
    neither. A trained bias is a current of each neuron, for both kinds of synapses.

    With ``--dale sums`` weights are free and a projection gives ``sign |x W + b|``, with a trained
    bias b of its own, if there is one.
    """
    c, n, n_exc = draw.config, draw.config.n_rec, n_excitatory(draw.config)
    coba, sums = c.net == "coba", c.dale == "sums"
    plain = coba and c.weight_scale == "plain"
    synapse = pathways.exponential_conductance if coba else pathways.exponential_current

    def pathway(n_from: int, scale: float, reversal: float, own: slice | None) -> Any:
        weight = maps.kaiming_normal(n_from, n, scale if plain else scale / c.sparsity)
        mask = None
        if c.sparsity < 1:
            mask = np.asarray(brainstate.random.rand(n_from, n)) < c.sparsity
        sign = 1.0 if coba or reversal > 0 else -1.0
        of_weights = None if sums else np.full(n_from, sign)
        if coba and not plain:
            weight = weight / abs(reversal)
        return pathways.Pathway(
            maps.DenseMap(weight, draw.operator, sign=of_weights, mask=mask),
            bias=sums and c.trains_bias,
            sign=sign if sums else 0.0,
            takes_input=own is None,
            own=own or slice(0, 0),
            synapse=synapse(n, c.tau_syn, "tau_syn" in c.trained),
            output=bst.COBA(E=reversal * c.V_th * u.mV) if coba else None,
        )

    neuron = _neurons(c)
    paths = [
        pathway(n_in, c.ff_scale, c.E_exc, None),
        pathway(n_exc, c.rec_scale, c.E_exc, slice(0, n_exc)),
        pathway(n - n_exc, c.rec_scale * c.w_ei_ratio, c.E_inh, slice(n_exc, n)),
    ]
    layer = pathways.PathwayLayer(neuron, paths, bias=c.trains_bias and not sums)
    layer.populations = (("E", n_exc), ("I", n - n_exc))
    return layer


def _neurons(c: Any) -> Any:
    """The population; time constants of the after-spike current are drawn."""
    low, high = TAU_I2_MIN_MS, 1.5 * c.tau_I2
    drawn = low + (high - low) * np.asarray(brainstate.random.rand(c.n_rec))
    if c.tau_I2_of == "all":
        drawn = np.full(c.n_rec, c.tau_I2)
    start = None
    if c.V_init != "rest":
        share = np.asarray(brainstate.random.rand(c.n_rec)) if c.V_init == "uniform" else 1.0
        start = jnp.asarray(c.V_th * share, jnp.float32) * u.mV
    kind: Any = brainpy_neurons.GIF
    kind = kind if c.diff_spike else brainpy_neurons.detach_reset(kind)
    kind = trained.training(kind, *(OF_NEURON[k] for k in c.trained if k in OF_NEURON))
    return kind(
        c.n_rec,
        tau=c.tau_mem * u.ms,
        tau_I2=jnp.asarray(drawn, jnp.float32) * u.ms,
        A2=c.A2 * u.mA,
        V_th=c.V_th * u.mV,
        spk_fun=surrogate(c.spk_fun),
        spk_reset=c.spk_reset,
        tau_I1=c.tau_I1 * u.ms,
        A1=c.A1 * u.mA,
        tau_th=c.tau_th * u.ms,
        Ath=c.Ath * u.mV,
        V_init=start,
        whole_theta=c.Ath_acts == "all",
        th_step=c.th_step,
    )
