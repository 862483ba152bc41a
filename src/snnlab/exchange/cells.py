"""A layer as one step of a leaky neuron, whatever class computes it, and the node that says so.

Every neuron that NIR can say is, with spikes s of the step before,

    v <- v (1 - s) + v_reset s              (or v - theta s, which NIR has no word for)
    i = alpha i + gain_in I                 (without a synapse: i = I)
    v = beta v + (1 - beta) v_leak + gain i
    s = 1 where v > theta

of the drive I = W_in x + W_rec s + b, and what a node of it needs follows from the reader's step
(:mod:`snnlab.exchange.readers`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import brainpy.state
import numpy as np
from brainunit import get_magnitude

from snnlab.exchange.labels import Kind
from snnlab.exchange.readers import Reader
from snnlab.models.brainpy_neurons import GIF, PerfectIF
from snnlab.models.layer import Layer
from snnlab.models.neurons.cuba_lif import CuBaLIF
from snnlab.models.neurons.lif import LIF
from snnlab.models.neurons.nir import NIRNeuron
from snnlab.models.pathways import PathwayLayer
from snnlab.models.spiking import SpikingLayer

SUBTRACTS = "a spike subtracts {} from v here, and the reader sets v to v_reset"
SETS = "a spike sets v to v_reset here, and the reader subtracts the threshold"


class Fault(NamedTuple):
    """Why a node is not exact."""

    kind: Kind
    reason: str


@dataclasses.dataclass
class Cell:
    """A neuron of the module's form; float64, ``(n,)`` each.

    Attributes:
        beta, alpha: decays of a step; of ``beta`` 1 means no leak; no ``alpha``: no synapse.
        gain, gain_in: of the module.
        theta: threshold.
        v_leak, v_reset: potentials.
        subtracts: what a spike takes from v; ``None``: it sets v to ``v_reset``.
        at_threshold: whether v on the threshold spikes.
        faults: what the network does beside.
    """

    beta: np.ndarray
    gain: np.ndarray
    theta: np.ndarray
    v_leak: np.ndarray
    v_reset: np.ndarray
    alpha: np.ndarray | None = None
    gain_in: np.ndarray | None = None
    subtracts: np.ndarray | None = None
    at_threshold: bool = False
    faults: Sequence[Fault] = ()


def _all(n: int, value: Any) -> np.ndarray:
    """``value``, a number, an array or a quantity in ms, mV or ohm, for ``n`` neurons."""
    return np.broadcast_to(np.asarray(get_magnitude(value), np.float64), (n,)).copy()


def cell_of(layer: Layer, dt_ms: float) -> Cell | Fault:
    """The neurons of a layer, or why NIR has nothing for them."""
    if isinstance(layer, PathwayLayer):
        found = _of_pathways(layer, dt_ms)
    elif isinstance(layer, SpikingLayer):
        found = _of_description(layer)
    else:
        return Fault("unsupported", f"NIR has no {type(layer).__name__}")
    if isinstance(found, Fault) or (found.beta < 1).all():
        return found
    if found.alpha is None and (found.beta >= 1).all():
        return found
    return Fault("unsupported", "NIR has no neurons of which some leak")


def _of_pathways(layer: PathwayLayer, dt_ms: float) -> Cell | Fault:
    neuron, n = layer.neuron, layer.n
    pathway = layer.pathways[0]
    known = isinstance(neuron, brainpy.state.LIF | PerfectIF | brainpy.state.ALIF | GIF)
    if len(layer.pathways) > 1 or pathway.output is not None:
        return Fault("unsupported", "NIR has no conductances")
    if not known:
        return Fault("unsupported", f"NIR has no {type(neuron).__name__} neurons")
    faults = []
    if pathway.plasticity is not None:
        faults.append(Fault("unsupported", "NIR has no short-term plasticity"))
    if isinstance(neuron, brainpy.state.ALIF):
        faults.append(Fault("unsupported", "NIR has no adaptation of the threshold"))
    if isinstance(neuron, GIF):
        faults.append(Fault("unsupported", "NIR has no after-spike currents"))
    one, zero = np.ones(n), np.zeros(n)
    perfect = isinstance(neuron, PerfectIF)
    beta = one if perfect else np.exp(-dt_ms / _all(n, neuron.tau))
    # A delta synapse moves v; a current drives it.
    gain = one if pathway.synapse is None else 1 - beta
    theta = _all(n, neuron.V_th)
    cell = Cell(beta, gain, theta, zero, zero, at_threshold=True, faults=faults)
    if neuron.spk_reset == "soft":
        cell.subtracts = theta
    if pathway.synapse is not None:
        cell.alpha = np.exp(-dt_ms / _all(n, pathway.synapse.tau))
        cell.gain_in = one
    return cell


def _of_description(layer: SpikingLayer) -> Cell | Fault:
    neuron, n = layer.neuron, layer.n
    value = {name: _all(n, module()) for name, module in layer.value.items()}
    faults = [
        Fault("unsupported", f"NIR has no {what}")
        for what, there in {
            "normalisation of the drive": layer.norm is not None,
            "slow recurrence": layer._v_slow is not None,
            "limit to one spike of a layer": layer.single,
            "quantisation of the drive": layer.adc is not None or layer.levels is not None,
            "noise of the drive": layer.noise is not None,
        }.items() if there
    ]  # fmt: skip
    zero = np.zeros(n)
    if isinstance(neuron, NIRNeuron):
        theta, softly = value["theta"], neuron.reset == "subtract"
        return Cell(
            neuron.beta, neuron.gain, theta, neuron.v_leak, neuron.v_reset, neuron.alpha,
            neuron.gain_in, theta if softly else None, faults=faults,
        )  # fmt: skip
    if isinstance(neuron, LIF):
        if type(neuron) is not LIF:
            faults.append(Fault("unsupported", f"NIR has no adaptation ({type(neuron).__name__})"))
        beta, theta = value["alpha"], value["theta"]
        subtracts = {"one": np.ones(n), "threshold": theta, "none": zero}.get(neuron.reset)
        return Cell(beta, 1 - beta, theta, zero, zero, subtracts=subtracts, faults=faults)
    if isinstance(neuron, CuBaLIF):
        beta, alpha = (
            np.exp(-neuron.dt / np.exp(value[name])) for name in ("log_tau_mem", "log_tau_syn")
        )
        return Cell(
            beta, (1 - beta) * neuron.r, value["theta"], _all(n, neuron.v_leak),
            _all(n, neuron.v_reset), alpha, (1 - alpha) * neuron.w_in, faults=faults,
        )  # fmt: skip
    return Fault("unsupported", f"NIR has no {type(neuron).__name__} neurons")


class Said(NamedTuple):
    """A neuron in the words of NIR.

    Attributes:
        type: of the node.
        parameters: of it, float64 ``(n,)`` each.
        factor: by which the weights of each neuron are multiplied.
        faults: what of the network it does not say.
    """

    type: str
    parameters: dict[str, np.ndarray]
    factor: np.ndarray
    faults: list[Fault]


def time_constant(decay: np.ndarray, dt: float, reader: Reader) -> np.ndarray:
    """The tau, s, of which a reader's step makes this decay."""
    return dt / (1 - decay) if reader.scheme == "euler" else -dt / np.log(decay)


def _of_reset(cell: Cell, reader: Reader) -> list[Fault]:
    """What differs after a spike."""
    if cell.subtracts is None:
        return [Fault("approximate", SETS)] if reader.subtracts else []
    of_threshold = np.array_equal(cell.subtracts, cell.theta)
    if reader.subtracts and of_threshold:
        return []
    what = "the threshold" if of_threshold else "1" if cell.subtracts.any() else "nothing"
    other = (
        SUBTRACTS.replace("sets v to v_reset", "the threshold") if reader.subtracts else SUBTRACTS
    )
    return [Fault("approximate", other.format(what))]


def said(cell: Cell, reader: Reader, dt: float) -> Said:
    """A neuron as a node that a reader with steps of ``dt`` s reads."""
    theta, faults = cell.theta, [*cell.faults, *_of_reset(cell, reader)]
    if cell.alpha is None and "LIF" not in reader.nodes and (cell.beta < 1).all():
        # A current that lasts for one step is the drive itself.
        cell = dataclasses.replace(cell, alpha=0 * theta, gain_in=1 + 0 * theta)
    if cell.at_threshold and not reader.at_threshold:  # the float32 below: the same spikes
        theta = np.nextafter(theta.astype(np.float32), np.float32(-np.inf)).astype(np.float64)
    elif reader.at_threshold and not cell.at_threshold:
        theta = np.nextafter(theta.astype(np.float32), np.float32(np.inf)).astype(np.float64)
    found = {"v_threshold": theta, "v_reset": cell.v_reset}
    one = np.ones_like(theta)
    leaks = bool((cell.beta < 1).any())
    if not leaks and cell.alpha is None:
        kind, factor = "IF", one
        found["r"] = cell.gain / dt
    else:
        tau = time_constant(cell.beta, dt, reader)
        found["v_leak"] = cell.v_leak
        if cell.alpha is None or cell.gain_in is None:
            kind = "LIF"
            r, factor = {
                "any": (cell.gain / (1 - cell.beta), one),
                "one": (one, cell.gain / (1 - cell.beta)),
                "gain": (tau / dt, cell.gain),
            }[reader.lif_r]
            found |= {"tau": tau, "r": r}
        else:
            kind, tau_syn = "CubaLIF", time_constant(cell.alpha, dt, reader)
            found |= {"tau_mem": tau, "tau_syn": tau_syn}
            if reader.cuba_r == "any":
                factor = one
                found |= {
                    "r": cell.gain / (1 - cell.beta), "w_in": cell.gain_in / (1 - cell.alpha),
                }  # fmt: skip
            else:
                factor = cell.gain_in * cell.gain
                found |= {"r": tau / dt, "w_in": tau_syn / dt}
    if kind not in reader.nodes:
        faults.append(Fault("unsupported", f"this reader has no {kind}"))
    for name in sorted(reader.alike & found.keys()):
        if np.unique(found[name]).size > 1:
            faults.append(Fault("unsupported", f"this reader takes one {name} for all neurons"))
    for name in ("v_leak", "v_reset"):
        if reader.zero_rest and np.any(found.get(name, 0) != 0):
            faults.append(Fault("unsupported", f"this reader takes no {name} but 0"))
    return Said(kind, found, np.where(np.isclose(factor, 1, rtol=1e-12), 1.0, factor), faults)
