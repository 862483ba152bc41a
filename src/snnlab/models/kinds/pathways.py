"""Layers of brainpy's neurons with one map of input and own spikes, and two maps of conductances.

``NEURON-SYNAPSE``: lif, alif, if or gif neurons; delta synapses, exponential currents (exp-cu) or
conductances (exp-co), with short-term depression (std) or plasticity (stp) of their own spikes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnlab.config import option
from snnlab.lazy import lazy
from snnlab.models.options import AfterSpike, MembraneTime, Options, Reset, Scales, Threshold
from snnlab.models.surrogates import surrogate

if TYPE_CHECKING:
    from snnlab.models.drawing import Draw

bst, brainstate, u, np = map(lazy, ("brainpy.state", "brainstate", "brainunit", "numpy"))
brainpy_neurons, maps, pathways, sparse, trained_values = (
    lazy(f"snnlab.models.{m}") for m in ("brainpy_neurons", "maps", "pathways", "sparse", "trained")
)

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


class Layered(Options):
    """Of all of them."""

    connectivity: float = option(
        default=1.0,
        help="share of a layer's neurons that each input and each neuron of the layer connects to, "
        "drawn at random; below 1 only existing synapses have weights and traces (--backend "
        "snnlab, or plain for bptt); 1 = all, dense",
        gt=0,
        le=1,
    )
    tau_mem_sigma: float = option(
        default=1.0,
        help="standard deviation of tau_mem over neurons (each at least 1 ms)",
        unit="ms",
        ge=0,
    )

    @staticmethod
    def check(config: Any) -> None:
        if config.tau_mem < 1:
            raise ValueError(f"--tau_mem {config.tau_mem:g}: must be greater than or equal to 1")


class JumpTime(MembraneTime):
    """Nothing depends on tau_mem where a drive is a jump of the membrane: it is not trained."""

    trains = {}  # noqa: RUF012


class Adaptation(Options):
    tau_a: float = option(
        default=100.0, help="time constant of adaptation", unit="ms", gt=0, only={"beta": "set"}
    )
    beta: float = option(default=1.0, help="strength of adaptation", unit="mV", ge=0)
    trains = {"tau_a": ("beta",), "beta": ("beta",)}  # noqa: RUF012


class Depression(Options):
    tau_std: float = option(
        default=200.0, help="recovery from short-term depression; trained with --method bptt alone",
        unit="ms", gt=0,
    )  # fmt: skip
    release: float = option(
        default=0.15, help="fraction of resources that a spike uses", gt=0, le=1
    )
    trains = {"tau_std": ()}  # noqa: RUF012


class Facilitation(Options):
    tau_f: float = option(
        default=100.0, help="decay of short-term facilitation; trained with --method bptt alone",
        unit="ms", gt=0,
    )  # fmt: skip
    trains = {"tau_f": ()}  # noqa: RUF012


IF = (Threshold, JumpTime, Layered, Reset, Scales)
LIF = (Threshold, MembraneTime, Layered, Reset, Scales)
ALIF, GIF = (*LIF, Adaptation), (*LIF, AfterSpike)


def single(draw: Draw, n_in: int) -> Any:
    """A layer with one pathway, of the model whose name the config has."""
    c, (neuron, *synapse) = draw.config, draw.config.model.split("-")
    n, trained, plasticity = c.n_rec, c.trained, None
    if "std" in synapse:
        std = trained_values.training(bst.STD, *(["tau"] if "tau_std" in trained else []))
        plasticity = std(n, tau=c.tau_std * u.ms, U=c.release)
    elif "stp" in synapse:
        own = {"tau_f": "tau_f", "tau_std": "tau_d"}
        stp = trained_values.training(bst.STP, *(a for k, a in own.items() if k in trained))
        plasticity = stp(n, U=c.release, tau_f=c.tau_f * u.ms, tau_d=c.tau_std * u.ms)
    pathway = pathways.Pathway(
        _map(draw, [(n_in, c.ff_scale), (n, c.rec_scale)]),
        plasticity=plasticity,
        synapse=(
            pathways.exponential_current(n, c.tau_syn, "tau_syn" in trained)
            if "exp" in synapse else None
        ),
        bias=c.trains_bias,
    )  # fmt: skip
    return pathways.PathwayLayer(_neuron(neuron, draw), [pathway])


def conductance(draw: Draw, n_in: int) -> Any:
    """Excitatory (input and 80 % of the neurons) and inhibitory (20 %) conductances.

    ``tau dV/dt = -V + g_e (E_e - V) + g_i (E_i - V)``, all weights non-negative (signs are in
    the reversal potentials, so Dale's law holds for every update). Weights are scaled by 1/E so
    that an input of the same scale moves a resting membrane as far as in the current model.
    """
    c, n = draw.config, draw.config.n_rec
    n_exc = max(1, min(n - 1, round(EXCITATORY_SHARE * n))) if n > 1 else 1
    neuron = _neuron("lif", draw)

    def path(takes_input: bool, own: slice, n_own: int, reversal: float) -> Any:
        sources = [(n_in, c.ff_scale)] if takes_input else []
        sources.append((n_own, c.rec_scale))
        return pathways.Pathway(
            _map(draw, sources, reversal),
            takes_input=takes_input,
            own=own,
            synapse=pathways.exponential_conductance(n, c.tau_syn, "tau_syn" in c.trained),
            output=bst.COBA(E=reversal * c.V_th * u.mV),
        )

    paths = [path(True, slice(0, n_exc), n_exc, E_EXC)]
    if n > n_exc:
        paths.append(path(False, slice(n_exc, n), n - n_exc, E_INH))
    return pathways.PathwayLayer(neuron, paths, bias=c.trains_bias)


def _neuron(kind: str, draw: Draw) -> Any:
    c = draw.config
    extra = {}
    if kind == "alif":
        extra = {"tau_a": c.tau_a * u.ms, "beta": c.beta * u.mV}
    elif kind == "gif":
        extra = {"tau_I2": c.tau_I2 * u.ms, "A2": c.A2 * u.mA}
    tau = brainpy_neurons.membrane_taus(c.n_rec, c.tau_mem, c.tau_mem_sigma)
    made = {
        "lif": bst.LIF, "alif": bst.ALIF, "if": brainpy_neurons.PerfectIF,
        "gif": brainpy_neurons.GIF,
    }[kind]  # fmt: skip
    made = brainpy_neurons.detach_reset(made) if c.detach_reset else made
    return trained_values.training(made, *(OF_NEURON[k] for k in c.trained if k in OF_NEURON))(
        c.n_rec, tau=tau, V_th=c.V_th * u.mV, spk_fun=surrogate(c.spk_fun),
        spk_reset=c.spk_reset, **extra,
    )  # fmt: skip


def _map(draw: Draw, sources: list[tuple[int, float]], reversal: float | None = None) -> Any:
    """The map of the concatenated sources (units, Kaiming scale) onto a layer.

    Of a sparse map each input has the same number of targets, and the scale is over the mean
    number of a target's inputs, so that the variance of the drive is that of the dense map. With
    a reversal potential weights are positive and divided by its size.
    """
    c, n = draw.config, draw.config.n_rec
    k = n if c.connectivity == 1 else max(1, round(c.connectivity * n))
    weight = maps.stacked(
        *(maps.kaiming_normal(n_from, k, scale / (k / n)) for n_from, scale in sources)
    )
    sign = None
    if reversal is not None:
        weight, sign = weight / abs(reversal), np.ones(weight.shape[0])
    if c.connectivity == 1:
        return maps.DenseMap(weight, draw.operator, sign=sign)
    seed = int(brainstate.random.randint(0, 2**31 - 1, ()))
    post = sparse.fixed_out_degree(weight.shape[0], n, k, seed)
    return maps.SparseMap(weight, post, n, draw.operator, sign=sign)
