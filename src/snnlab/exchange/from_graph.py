"""From a NIR graph to a network that can be trained.

A graph that snnlab has written becomes the network that it was written from, bit for bit, as long
as its nodes say the same (:mod:`snnlab.exchange.recipes`). Any other that is a chain of layers
becomes layers of :class:`~snnlab.models.neurons.nir.NIRNeuron`, whose steps are those of a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from snnlab.devices import require_memory
from snnlab.errors import UsageError, shown
from snnlab.exchange.chains import MAPS, NEURONS, Block, chain, flattened, product, type_of
from snnlab.exchange.labels import Label
from snnlab.exchange.packages import require_nir
from snnlab.exchange.readers import READERS, Scheme
from snnlab.exchange.recipes import rebuilt
from snnlab.exchange.to_graph import LATER, to_nir
from snnlab.models.delays import Delayed
from snnlab.models.maps import DenseMap, FixedMap, Held, Operator
from snnlab.models.networks import LayeredNetwork
from snnlab.models.neurons.nir import NIRNeuron, Reset
from snnlab.models.readouts import Readout
from snnlab.models.spiking import SpikingLayer

if TYPE_CHECKING:
    import nir

ORIGINAL = "as it was in snnlab"


class Imported(NamedTuple):
    """A network of a graph.

    Attributes:
        network: with the parameters of the graph.
        labels: of its nodes.
        original: whether it is the network that the graph was written from.
    """

    network: LayeredNetwork
    labels: tuple[Label, ...]
    original: bool


def from_nir(
    graph: nir.NIRGraph, *, dt_ms: float | None = None, scheme: Scheme | None = None,
    reset: Reset | None = None, operator: Operator = "plain",
) -> Imported:  # fmt: skip
    """The network of a graph.

    Args:
        graph: of the package ``nir``, such as :func:`snnlab.exchange.read` returns.
        dt_ms: length of a step in ms; ``None``: what snnlab wrote, or 1 ms.
        scheme: how decays follow from time constants (:mod:`snnlab.exchange.readers`); ``None``:
            as snnlab wrote them, or by Euler forwards.
        reset: what a spike does: ``value`` sets v to v_reset, as NIR says; ``subtract`` subtracts
            the threshold, as norse's ``reset_subtract`` does and files do not say; ``None``: as
            snnlab wrote it, or ``value``.
        operator: how maps are traced (:mod:`snnlab.models.maps`).

    Raises:
        UsageError: it is no chain of layers, has a node of which no layer can be made, or was
            written for steps of another length or kind.
    """
    require_nir()
    meta = (graph.metadata or {}).get("snnlab", {})
    meta = meta if isinstance(meta, dict) else {}
    reader = READERS.get(str(meta.get("reader")))
    resets: Reset = "subtract" if reader is not None and reader.subtracts else "value"
    if reader is not None and scheme not in (None, reader.scheme):
        raise UsageError(
            f"the network was written for steps of the kind {reader.scheme}: leave out --nir_step"
        )
    if reader is not None and reset is not None:
        raise UsageError("snnlab has written the network, and its reset: leave out --nir_reset")
    found = _original(graph, meta, operator)
    if found is not None:
        original, labels = found
        if dt_ms is not None and abs(dt_ms - original.dt_ms) > 1e-6 * dt_ms:
            raise UsageError(
                f"the network was written for steps of {original.dt_ms:g} ms, not {dt_ms:g} ms: "
                f"--dt {original.dt_ms:g}"
            )
        same = (label._replace(kind="exact", reason=ORIGINAL) for label in labels)
        return Imported(original, tuple(same), True)
    step = dt_ms or 1.0
    dt, said = step / 1000, _number(meta.get("dt"))
    if said is not None and reader is not None:  # ours, changed by somebody since
        dt, scheme = said, reader.scheme
    return _Reading(graph, dt, step, scheme or "euler", reset or resets, operator).made()


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 < found < 1e6 else None


def _original(
    graph: Any, meta: dict[str, Any], operator: Operator
) -> tuple[LayeredNetwork, tuple[Label, ...]] | None:
    """The network that a graph was written from, if writing it gives this graph again."""
    if "model" not in meta or str(meta.get("reader")) not in READERS:
        return None
    network = rebuilt(meta, graph.nodes, operator)
    if network is None:
        return None
    readout = str(meta.get("readout", 1)) != "0"
    again = to_nir(network, str(meta["reader"]), readout=readout, unsupported=True)
    nodes, edges = again.graph.nodes, {tuple(edge) for edge in graph.edges}
    if nodes.keys() != graph.nodes.keys() or edges != set(again.graph.edges):
        return None
    if not all(_alike(nodes[name], node) for name, node in graph.nodes.items()):
        return None
    return network, again.labels


def _alike(a: Any, b: Any) -> bool:
    """Whether two nodes are the same, labels aside."""
    ours, theirs = a.to_dict(), b.to_dict()
    names = (ours.keys() | theirs.keys()) - {"metadata"}
    return all(np.array_equal(ours.get(name), theirs.get(name)) for name in names)


class _Reading:
    """A network in the making.

    Args:
        graph: of it.
        dt: length of a step in s of the graph's time.
        dt_ms: what the network calls it, in ms.
        scheme, reset, operator: see :func:`from_nir`.
    """

    def __init__(
        self,
        graph: Any,
        dt: float,
        dt_ms: float,
        scheme: Scheme,
        reset: Reset,
        operator: Operator,
    ) -> None:
        self.nodes, edges = flattened(graph)
        for name, node in self.nodes.items():
            kind = type_of(node)
            if kind not in ("Input", "Output", "LI", *MAPS, *NEURONS):
                raise UsageError(f"node '{shown(name)}' ({kind}) is unsupported: no layer of it")
        self.blocks = chain(self.nodes, edges)
        self.dt, self.dt_ms, self.scheme, self.operator = dt, dt_ms, scheme, operator
        self.reset: Reset = reset
        source = next(n for n in self.nodes.values() if type_of(n) == "Input")
        self.n_in = int(np.prod(np.asarray(source.input_type["input"], np.int64)))
        self.labels: list[Label] = []

    def made(self) -> Imported:
        layers, n = [], self.n_in
        for block in self.blocks:
            if block.neuron:
                layers.append(self._layer(block, n))
                n = layers[-1].n
        if not layers:
            raise UsageError("the graph has no neurons: nothing of it spikes")
        last = self.blocks[-1]
        readout = self._spikes(n) if last.neuron else self._readout(last.maps, n)
        network = LayeredNetwork(layers, readout, self.n_in, self.dt_ms)
        return Imported(network, tuple(self.labels), False)

    def _say(self, name: str, reason: str) -> None:
        self.labels.append(Label(name, type_of(self.nodes[name]), "exact", reason))

    def _values(self, name: str, parameter: str, n: int, default: float = 0.0) -> np.ndarray:
        """``(n,)`` of a node, float64.

        Raises:
            UsageError: another number of them, or one that is not finite.
        """
        given = np.asarray(getattr(self.nodes[name], parameter, default), np.float64)
        if given.size not in (1, n) or not np.isfinite(given).all():
            raise UsageError(
                f"node '{shown(name)}': {parameter} needs {n} finite values, it has {given.size}"
            )
        return np.broadcast_to(given.reshape(-1), (n,)).copy()

    def _decay(self, name: str, parameter: str, n: int) -> np.ndarray:
        tau = self._values(name, parameter, n)
        shortest = self.dt if self.scheme == "euler" else 0.0
        if (tau < shortest * (1 - 1e-9)).any() or (tau <= 0).any():
            raise UsageError(
                f"node '{shown(name)}': {parameter} of {tau.min():g} s is shorter than a step of "
                f"{self.dt:g} s; give a shorter --dt"
            )
        return (
            np.maximum(1 - self.dt / tau, 0) if self.scheme == "euler" else np.exp(-self.dt / tau)
        )

    def _map(self, names: tuple[str, ...], n: int, more: str = "") -> tuple[Any, Any]:
        """A map of ``n`` inputs, delayed or not, and its bias."""
        weights = [name for name in names if type_of(self.nodes[name]) in ("Linear", "Affine")]
        for name in names:
            kind = type_of(self.nodes[name])
            told = {"Flatten": "flattened, the last axis first", "Delay": ""}.get(kind, "trained")
            if len(weights) > 1 and name in weights:
                told = "trained, as one map with the others"
            self._say(name, told + (more if name in weights else ""))
        found = product(self.nodes, names, n)
        made: Any = DenseMap(jnp.asarray(found.weight), self.operator)
        steps = np.zeros(n, np.int64)
        for name in names:
            if type_of(self.nodes[name]) == "Delay":
                steps += self._delay(
                    name, n, weights and names.index(weights[0]) > names.index(name)
                )
        return (Delayed(made, steps) if steps.any() else made), found.bias

    def _delay(self, name: str, n: int, before: Any) -> np.ndarray:
        """``(n,)`` steps of a delay in front of a map; behind it, it is one for all."""
        given = np.asarray(self.nodes[name].delay, np.float64)
        if not before and np.unique(given).size == 1:
            given = given.reshape(-1)[:1]
        if given.size not in (1, n) or not np.isfinite(given).all() or (given < 0).any():
            raise UsageError(f"node '{shown(name)}': delays of {n} inputs of its map are needed")
        exact = np.broadcast_to(given.reshape(-1), (n,)) / self.dt
        steps = np.minimum(np.round(exact), 1e6).astype(np.int64)
        at = next(k for k, label in enumerate(self.labels) if label.node == name)
        if np.abs(exact - steps).max() > 1e-6 * max(1.0, exact.max()):
            self.labels[at] = self.labels[at]._replace(
                kind="approximate", reason=f"rounded to steps of {self.dt:g} s"
            )
        else:
            self.labels[at] = self.labels[at]._replace(reason=f"steps of {self.dt:g} s")
        return steps

    def _layer(self, block: Block, n_in: int) -> SpikingLayer:
        node, name = self.nodes[block.neuron], block.neuron
        w, bias = self._map(block.maps, n_in)
        n = w.out_size[0]
        size = int(np.asarray(node.v_threshold).size)
        if size not in (1, n):
            raise UsageError(f"node '{shown(name)}': {size} neurons behind a map of {n} outputs")
        kind = type_of(node)
        theta, v_reset = (self._values(name, p, n) for p in ("v_threshold", "v_reset"))
        r, alpha, gain_in, v_leak = self._values(name, "r", n), None, None, np.zeros(n)
        if kind == "IF":
            beta, gain = np.ones(n), r * self.dt
        else:
            beta = self._decay(name, "tau_mem" if kind == "CubaLIF" else "tau", n)
            gain, v_leak = (1 - beta) * r, self._values(name, "v_leak", n)
        if kind == "CubaLIF":
            alpha = self._decay(name, "tau_syn", n)
            gain_in = (1 - alpha) * self._values(name, "w_in", n, 1.0)
        neuron = NIRNeuron(beta, gain, theta, v_leak, v_reset, alpha, gain_in, self.reset)
        step = "Euler forwards" if self.scheme == "euler" else "decay exp(-dt/tau)"
        more = "; a spike subtracts v_threshold" if self.reset == "subtract" else ""
        self._say(name, f"steps of {self.dt:g} s, {step}{more}")
        v = None
        if block.recurrence:
            v, more = self._map(block.recurrence, n, f"; {LATER}")
            if v.out_size != (n,):
                raise UsageError(f"node '{shown(block.recurrence[-1])}': no map of {n} to {n}")
            if more is not None:
                bias = more if bias is None else bias + more
        value = {"theta": Held(jnp.asarray(theta, jnp.float32))}
        made = SpikingLayer(neuron, w, value, v=v, bias=bias is not None)
        if bias is not None and made.bias is not None:
            made.bias.value = jnp.asarray(bias, jnp.float32)
        return made

    def _spikes(self, n: int) -> Readout:
        """The graph ends with a layer: its spikes are what is read out."""
        require_memory(4.0 * n * n, f"a readout of {n:,} neurons")
        return Readout(FixedMap(jnp.eye(n, dtype=jnp.float32)), None)

    def _readout(self, names: tuple[str, ...], n: int) -> Readout:
        *maps, last = names
        leaks = type_of(self.nodes[last]) == "LI"
        if any(type_of(self.nodes[name]) == "LI" for name in maps):
            raise UsageError("the graph has a leak (LI) before its end: no layer of it")
        w, bias = self._map(tuple(maps) if leaks else names, n)
        n_out, decay = w.out_size[0], None
        if leaks:
            a = self._decay(last, "tau", n_out)
            gain = (1 - a) * self._values(last, "r", n_out)
            rest = (1 - a) * self._values(last, "v_leak", n_out)
            if not np.allclose(gain, 1, rtol=1e-7):
                _scale(w, gain)
                bias = None if bias is None else (bias * gain).astype(np.float32)
            if rest.any():
                bias = (rest if bias is None else bias + rest).astype(np.float32)
            decay = Held(jnp.asarray(a, jnp.float32))
            self._say(last, f"steps of {self.dt:g} s")
        made = Readout(w, decay, bias=bias is not None)
        if bias is not None and made.bias is not None:
            made.bias.value = jnp.asarray(bias, jnp.float32)
        return made


def _scale(w: Any, gain: np.ndarray) -> None:
    """Multiply the columns of a map's weights."""
    weight = (w.map if isinstance(w, Delayed) else w).weight
    weight.value = {"weight": jnp.asarray(np.asarray(weight.value["weight"]) * gain, jnp.float32)}
