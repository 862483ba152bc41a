"""A graph as a chain of layers: from the input, maps, a neuron and its recurrence, the next maps.

Graphs in graphs (snnTorch writes recurrent layers so) are taken apart first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from snnlab.errors import UsageError, shown

MAPS = ("Linear", "Affine", "Scale", "Flatten", "Delay")
NEURONS = ("LIF", "CubaLIF", "IF")


class Block(NamedTuple):
    """Maps, and the neuron behind them.

    Attributes:
        maps: names of maps and delays, in order.
        neuron: name of a node, empty where the graph ends with maps.
        recurrence: names of those from the neuron to itself, empty for none.
    """

    maps: tuple[str, ...]
    neuron: str
    recurrence: tuple[str, ...]


def type_of(node: Any) -> str:
    """Its type in the words of NIR."""
    return type(node).__name__


def flattened(graph: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges, those of inner graphs as ``outer.inner``."""
    nodes, edges = dict[str, Any](), []
    entry, leave = dict[str, str](), dict[str, str]()
    for name, node in graph.nodes.items():
        if type_of(node) != "NIRGraph":
            nodes[name] = node
            continue
        inner, between = flattened(node)
        own = {k: k if k.startswith(f"{name}.") else f"{name}.{k}" for k in inner}
        ends = {kind: [k for k, n in inner.items() if type_of(n) == kind]
                for kind in ("Input", "Output")}  # fmt: skip
        if any(len(found) != 1 for found in ends.values()):
            raise UsageError(
                f"graph '{shown(name)}' in the graph: it needs one input and one output"
            )
        (first,), (final,) = ends["Input"], ends["Output"]
        after = [b for a, b in between if a == first]
        before = [a for a, b in between if b == final]
        if len(after) != 1 or len(before) != 1 or after[0] == final:
            raise UsageError(f"graph '{shown(name)}' in the graph: it is no layer")
        entry[name], leave[name] = own[after[0]], own[before[0]]
        kept = {own[k]: n for k, n in inner.items() if k not in (first, final)}
        if taken := kept.keys() & (nodes.keys() | graph.nodes.keys()):
            raise UsageError(f"two nodes of the graph are called '{shown(min(taken))}'")
        nodes |= kept
        edges += [(own[a], own[b]) for a, b in between if a != first and b != final]
    edges += [(leave.get(a, a), entry.get(b, b)) for a, b in graph.edges]
    return nodes, edges


def chain(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> list[Block]:
    """The blocks of a graph, which ends with a neuron, or with maps and a leak.

    Raises:
        UsageError: it is no chain; a node that a layer cannot be made of.
    """
    after: dict[str, list[str]] = {name: [] for name in nodes}
    before: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in dict.fromkeys(edges):
        for name in (a, b):
            if name not in nodes:
                raise UsageError(f"an edge of the graph names '{shown(name)}', which is no node")
        after[a].append(b)
        before[b].append(a)
    inputs = [name for name, node in nodes.items() if type_of(node) == "Input"]
    if len(inputs) != 1:
        raise UsageError(f"the graph has {len(inputs)} inputs, needed is one")

    def loops(name: str) -> list[tuple[str, ...]]:
        """Ways of maps alone from a neuron back to itself."""
        found = []
        for first in after[name] if type_of(nodes[name]) in NEURONS else ():
            way, here = [first], first
            while type_of(nodes[here]) in MAPS and len(after[here]) == len(before[here]) == 1:
                (here,) = after[here]
                if here == name:
                    found.append(tuple(way))
                if here in way or here == name:
                    break
                way.append(here)
        return found

    blocks, maps, seen = list[Block](), list[str](), {inputs[0]}
    here = inputs[0]
    while type_of(nodes[here]) != "Output":
        own = loops(here)
        if len(own) > 1:
            raise UsageError(f"node '{shown(here)}' has {len(own)} maps of its own spikes")
        recurrence = own[0] if own else ()
        if type_of(nodes[here]) in NEURONS:
            blocks.append(Block(tuple(maps), here, recurrence))
            maps, seen = [], seen | set(recurrence)
        elif here != inputs[0]:
            maps.append(here)
        onward = [m for m in after[here] if m not in recurrence[:1]]
        if len(onward) != 1:
            raise UsageError(
                f"node '{shown(here)}' leads to {len(onward)} others: a chain of layers is needed"
            )
        if set(before[onward[0]]) - {here} - {way[-1] for way in loops(onward[0])}:
            raise UsageError(
                f"node '{shown(onward[0])}' has several inputs: a chain of layers is needed"
            )
        here = onward[0]
        if here in seen:
            raise UsageError(f"node '{shown(here)}' is reached twice: a chain of layers is needed")
        seen.add(here)
    if lost := sorted(set(nodes) - seen):
        raise UsageError(f"node '{shown(lost[0])}' is not reached from the input")
    if maps:
        blocks.append(Block(tuple(maps), "", ()))
    return blocks


class Affine(NamedTuple):
    """``x W + b`` of maps one after another; ``b`` is ``None`` where none has one."""

    weight: np.ndarray
    bias: np.ndarray | None


def product(nodes: dict[str, Any], names: tuple[str, ...], n: int) -> Affine:
    """Maps in a row, of ``n`` inputs, as one.

    Raises:
        UsageError: none of them has weights, or a shape that does not fit.
    """
    weight, bias = None, None
    scale = np.ones(n, np.float32)
    for name in names:
        node, kind = nodes[name], type_of(nodes[name])
        if kind in ("Flatten", "Delay"):
            continue
        if kind == "Scale":
            s = np.asarray(node.scale, np.float32).reshape(-1)
            if weight is None:
                scale = scale * _of_size(s, n, name)
            else:
                weight = weight * _of_size(s, weight.shape[1], name)
                bias = None if bias is None else bias * s
            continue
        w = np.asarray(node.weight, np.float32)
        if w.ndim != 2 or w.shape[1] != (n if weight is None else weight.shape[1]):
            raise UsageError(f"node '{shown(name)}': weights of shape {w.shape} do not fit")
        if weight is None:
            weight = w.T if (scale == 1).all() else scale[:, None] * w.T
        else:
            weight, bias = weight @ w.T, None if bias is None else bias @ w.T
        if kind == "Affine":
            b = _of_size(np.asarray(node.bias, np.float32).reshape(-1), w.shape[0], name)
            bias = b if bias is None else bias + b
    if weight is None:
        raise UsageError(f"no map leads to '{shown(names[-1] if names else 'a neuron')}'")
    finite = np.isfinite(weight).all() and (bias is None or np.isfinite(bias).all())
    if not finite:
        raise UsageError(f"node '{shown(names[-1])}': weights that are not finite")
    return Affine(np.ascontiguousarray(weight), bias)


def _of_size(values: np.ndarray, n: int, name: str) -> np.ndarray:
    if values.shape != (n,):
        raise UsageError(f"node '{shown(name)}': {values.size} values for {n} units")
    return values
