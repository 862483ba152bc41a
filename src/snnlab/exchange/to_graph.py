"""From a network to a NIR graph.

Layer k is ``layer<k>.weights -> layer<k>.neuron``, with ``layer<k>.recurrence`` from the neuron and
back; then ``readout.weights -> readout.leak``. NIR multiplies from the left: its weights are the
transposes of ours, and what one map holds of input and own spikes is two nodes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from snnlab.errors import UsageError, nearest, shown
from snnlab.exchange.cells import Fault, cell_of, said
from snnlab.exchange.labels import Label, worst
from snnlab.exchange.packages import require_nir
from snnlab.exchange.readers import READERS, Reader
from snnlab.exchange.recipes import recorded
from snnlab.models.delays import Delayed
from snnlab.models.maps import SparseMap
from snnlab.models.networks import LayeredNetwork
from snnlab.models.pathways import PathwayLayer
from snnlab.models.spiking import SpikingLayer

if TYPE_CHECKING:
    import nir

#: Of recurrent maps.
LATER = "spikes arrive one step later"


class Graph(NamedTuple):
    """A network as a graph.

    Attributes:
        graph: of the package ``nir``.
        labels: of its nodes, in the order of the network.
        dt: length of a reader's step in s.
    """

    graph: nir.NIRGraph
    labels: tuple[Label, ...]
    dt: float


def to_nir(
    network: Any, reader: str = "nir", *, readout: bool = True, unsupported: bool = False
) -> Graph:
    """A network as a graph.

    Args:
        network: a :class:`~snnlab.models.networks.LayeredNetwork`, such as ``run.network()``.
        reader: name in :data:`~snnlab.exchange.readers.READERS`, for whose step parameters are
            chosen.
        readout: whether the graph has the readout; without it, it ends with the spikes of the
            last layer.
        unsupported: whether nodes are written that leave out a part of what the network does.

    Raises:
        UsageError: no such reader, a network of another kind, a node that is unsupported, or the
            package ``nir`` is missing.
    """
    package = require_nir()
    if reader not in READERS:
        raise UsageError(
            f"no reader '{shown(reader)}'{nearest(reader, READERS)}; valid: {', '.join(READERS)}"
        )
    if not isinstance(network, LayeredNetwork):
        raise UsageError(f"a {type(network).__name__} cannot be written as NIR: it has no layers")
    if network.bidirectional:
        raise UsageError("layers that read backwards (--bidirectional) cannot be written as NIR")
    made = _Writing(package, network, READERS[reader])
    for k in range(len(network.layers)):
        made.layer(k)
    if readout:
        made.readout()
    made.finish()
    lost = next((a for a in made.labels if a.kind == "unsupported"), None)
    if lost is not None and not unsupported:
        raise UsageError(
            f"{lost.node} ({lost.type}) is unsupported: {lost.reason}; --unsupported writes "
            "the graph all the same"
        )
    for label in made.labels:
        made.nodes[label.node].metadata = {"label": label.kind, "reason": label.reason}
    kept = recorded(network, made.nodes, made.sources)
    settings = {"reader": reader, "dt": made.dt, "readout": int(readout)}
    graph = package.NIRGraph(made.nodes, made.edges, metadata={"snnlab": {**settings, **kept}})
    return Graph(graph, tuple(made.labels), made.dt)


class _Writing:
    """A graph in the making.

    Attributes:
        sources: parameter of the network -> nodes whose weights, transposed, are its rows.
    """

    def __init__(self, package: Any, network: LayeredNetwork, reader: Reader) -> None:
        self.nir, self.network, self.reader = package, network, reader
        self.dt = reader.dt or network.dt_ms / 1000
        self.nodes: dict[str, Any] = {"input": package.Input(np.array([network.n_in]))}
        self.edges: list[tuple[str, str]] = []
        self.labels: list[Label] = [Label("input", "Input", "exact", f"{network.n_in} inputs")]
        self.sources: dict[str, list[str]] = {}
        self.last, self.n = "input", network.n_in

    def add(self, name: str, node: Any, faults: list[Fault], exact: str = "") -> None:
        kind = worst(fault.kind for fault in faults)
        reason = "; ".join(fault.reason for fault in faults) or exact
        self.nodes[name] = node
        self.labels.append(Label(name, type(node).__name__, kind, reason))

    def follow(self, name: str) -> None:
        self.edges.append((self.last, name))
        self.last = name

    def weights(self, name: str, w: Any, bias: Any, factor: np.ndarray, exact: str = "") -> None:
        """The node of a map ``w (n_from, n_to)``, whose columns are multiplied by ``factor``."""
        scaled = bool((factor != 1).any())
        w = np.asarray(w, np.float32)
        told = [exact] if exact else []
        if scaled:
            w = (w * factor).astype(np.float32)
            told.append("times the gain of each neuron")
        weight = np.ascontiguousarray(w.T)
        if bias is None:
            node = self.nir.Linear(weight)
        else:
            b = np.broadcast_to(np.asarray(bias, np.float32), (w.shape[1],))
            node = self.nir.Affine(weight, (b * factor).astype(np.float32) if scaled else b.copy())
        self.add(name, node, [], "; ".join(told))

    def delay(self, name: str, map_: Any) -> str:
        """The node of a map's delays, if it has some: its name."""
        if not isinstance(map_, Delayed):
            return ""
        faults = []
        if "Delay" not in self.reader.nodes:
            faults.append(Fault("unsupported", "this reader has no Delay"))
        node = self.nir.Delay(map_.steps * self.dt)
        self.add(name, node, faults, f"steps of {self.dt:g} s")
        return name

    def layer(self, k: int) -> None:
        layer, head = self.network.layers[k], f"layer{k}"
        found = cell_of(layer, self.network.dt_ms)
        if isinstance(found, Fault):
            raise UsageError(f"{head}.neuron is unsupported: {found.reason}")
        node = said(found, self.reader, self.dt)
        faults = list(node.faults)
        w, v, bias, sources = _maps(layer, self.n)
        if late := self.delay(f"{head}.delay", getattr(layer, "w", None)):
            self.follow(late)
        self.weights(f"{head}.weights", w, bias, node.factor)
        self.follow(f"{head}.weights")
        if v is not None and node.type not in self.reader.recurrent:
            faults.append(Fault("unsupported", f"this reader has no recurrence of {node.type}"))
        neuron = getattr(self.nir, node.type)(**node.parameters)
        step = "Euler forwards" if self.reader.scheme == "euler" else "decay exp(-dt/tau)"
        self.add(f"{head}.neuron", neuron, faults, f"for steps of {self.dt:g} s, {step}")
        self.follow(f"{head}.neuron")
        if v is not None:
            late = self.delay(f"{head}.recurrence_delay", getattr(layer, "v", None))
            self.weights(f"{head}.recurrence", v, None, node.factor, LATER)
            way = [self.last, *([late] if late else []), f"{head}.recurrence", self.last]
            self.edges += itertools.pairwise(way)
        if not (node.factor != 1).any():
            self.sources |= {
                self._name(weight): [f"{head}.{part}" for part in parts]
                for weight, parts in sources
            }
        self.n = layer.n

    def readout(self) -> None:
        network, readout = self.network, self.network.readout
        faults: list[Fault] = []
        if network.reads != "spikes":
            faults.append(Fault("unsupported", "NIR has no standardised membrane to read out"))
        if readout.norm is not None:
            faults.append(Fault("unsupported", "NIR has no normalisation"))
        bias = None if readout.bias is None else readout.bias.value
        decay = 0.0 if readout.decay is None else readout.decay()
        a = np.broadcast_to(np.asarray(decay, np.float64), (network.n_out,)).copy()
        w: Any = readout.map.effective_weight()
        if late := self.delay("readout.delay", readout.map):
            self.follow(late)
        self.weights("readout.weights", w, bias, np.ones(network.n_out))
        if hasattr(readout.map, "weight") and isinstance(readout.map.weight.value, dict):
            self.sources[self._name(readout.map.weight)] = ["readout.weights"]
        self.follow("readout.weights")
        if readout.summed == "softmax" or (readout.summed and readout.t_crop):
            faults.append(Fault("unsupported", "NIR has no sum of softmaxes, nor of late steps"))
        where = "readout.weights"
        if (a > 0).any():
            a = np.maximum(a, 1e-30)  # of units without memory
            tau = self.dt / (1 - a) if self.reader.scheme == "euler" else -self.dt / np.log(a)
            r = np.ones_like(a) if readout.scaled else 1 / (1 - a)
            leak = self.nir.LI(tau=tau, r=r, v_leak=np.zeros_like(a))
            where = "readout.leak"
            self._leak(where, leak, faults)
        elif faults:
            label = self.labels.pop()
            kind = worst(fault.kind for fault in faults)
            reason = "; ".join(fault.reason for fault in faults)
            self.labels.append(label._replace(kind=kind, reason=reason))
        if readout.summed == "linear":
            total = self.nir.I(r=np.full(network.n_out, 1 / self.dt))
            self._leak("readout.sum", total, [])
        self.n = network.n_out

    def _leak(self, name: str, node: Any, faults: list[Fault]) -> None:
        kind = type(node).__name__
        if kind not in self.reader.nodes:
            faults = [*faults, Fault("unsupported", f"this reader has no {kind}")]
        self.add(name, node, faults, f"for steps of {self.dt:g} s")
        self.follow(name)

    def finish(self) -> None:
        self.add("output", self.nir.Output(np.array([self.n])), [], f"{self.n} outputs")
        self.follow("output")

    def _name(self, state: Any) -> str:
        from snnlab.learners.functional import param_states

        return next(name for name, s in param_states(self.network).items() if s is state)


def _maps(layer: Any, n_in: int) -> tuple[Any, Any, Any, list[tuple[Any, list[str]]]]:
    """Weights of the input, of own spikes, the bias; trained states -> parts that hold them."""
    if isinstance(layer, PathwayLayer):
        pathway = layer.pathways[0]
        dense = pathway.map
        sparse = isinstance(dense, SparseMap)
        w = np.asarray(dense.dense_weight() if sparse else dense.effective_weight())
        plain = not sparse and dense.factor is None and dense.transform is None
        sources = [(dense.weight, ["weights", "recurrence"])] if plain else []
        bias = None if pathway.bias is None else pathway.bias.value
        return w[:n_in], w[n_in:], bias, sources
    assert isinstance(layer, SpikingLayer)
    parts, sources = {"weights": layer.w, "recurrence": layer.v}, []
    for part, map_ in parts.items():
        if (
            map_ is not None
            and getattr(map_, "transform", None) is None
            and hasattr(map_, "weight")
        ):
            sources.append((map_.weight, [part]))
    v = None if layer.v is None else layer.v.effective_weight()
    return layer.w.effective_weight(), v, None if layer.bias is None else layer.bias.value, sources
