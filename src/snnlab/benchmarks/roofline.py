"""What a learner must do at least: arithmetic of its products, traffic of weights and traces.

Arithmetic is counted from the shapes of every matrix product in the traced program (2 M N K, times
the rounds of the loops around it). Traffic is, in bytes of float32 for a step, with W weights,
B samples and chunks of K steps::

    weights  4 W forward, and again backward (BPTT; an online learner has no backward in time);
             of sparse maps W are the synapses that exist, of those the rows of active units alone,
             each with its target: 8 bytes
    traces   2 x 4 B W / K for each number that a rule keeps of a weight and sample: one reading and
             one writing for a chunk, where traces are kept (D-RTRL: one for a LIF neuron)

A learner's share of the machine is this over its time, over the rate that the machine reaches
(Williams et al. 2009, Commun. ACM 52:65).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from snnlab.benchmarks.cells import Cell

#: Numbers that a rule keeps of a weight and sample, of neurons with one state.
TRACES = {"diag": 1, "rflo": 1, "decolle": 1, "ostl-without-h": 1, "eprop": 2, "otpe": 2}
FLOP, BYTES = "product_flop_per_step", "traffic_bytes_per_step"


def product_flop(program: Any, *args: Any) -> int:
    """Floating point operations of the matrix products of ``program(*args)``; nothing is run.

    Products whose result is not used do not count. Of a conditional the costlier branch
    counts, of a loop without a known number of rounds one round.
    """
    import jax
    from jax.interpreters.partial_eval import dce_jaxpr

    jaxpr = jax.make_jaxpr(program)(*args).jaxpr
    used, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))  # as the compiler will
    return _flop(used)


def _flop(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod(left[i] for i in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        elif name == "cond":
            total += max(_flop(branch.jaxpr) for branch in params["branches"])
        else:
            rounds = params["length"] if name == "scan" else 1
            total += rounds * sum(_flop(inner) for inner in _inside(params.values()))
    return total


def _inside(values: Any) -> Iterator[Any]:
    """Programs among the parameters of an operation."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _inside(value)
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value


def fan_out(cell: Cell) -> int:
    """Targets of each unit in a layer."""
    if cell.connectivity == 1:
        return cell.n_rec
    return max(1, round(cell.connectivity * cell.n_rec))


def n_weights(cell: Cell, n_out: int = 10) -> int:
    """Weights of the cell's network, readout included; of sparse maps those that exist."""
    inputs = [cell.n_in, *[cell.n_rec] * (cell.n_layer - 1)]
    return sum((n + cell.n_rec) * fan_out(cell) for n in inputs) + cell.n_rec * n_out


def trace_bytes(cell: Cell) -> int:
    """Bytes of the traces of D-RTRL, for a layer model with one state beside the synapse's."""
    return 4 * cell.batch_size * n_weights(cell)


def weight_bytes(cell: Cell, rates: Sequence[float], n_out: int = 10) -> float:
    """Bytes of weights that a forward pass reads in a step.

    Args:
        cell: sizes.
        rates: of each layer's neurons, Hz at 1 ms a step; all count as active if not given.
        n_out: outputs of the readout.
    """
    if cell.connectivity == 1:
        return 4 * n_weights(cell, n_out)
    active = [1e-3 * rate for rate in rates] or [1.0] * cell.n_layer
    units = cell.n_in * cell.density
    spikes = [cell.n_rec * share for share in active]
    rows = sum(below + own for below, own in zip([units, *spikes[:-1]], spikes, strict=True))
    return 8 * cell.batch_size * rows * fan_out(cell) + 4 * cell.n_rec * n_out


def traffic_bytes(cell: Cell, chunk: int, rates: Sequence[float] = ()) -> float:
    """Bytes of weights and traces that must be read and written for a step.

    Args:
        cell: sizes and learner.
        chunk: K; steps between two readings of the traces.
        rates: see :func:`weight_bytes`.
    """
    weights = weight_bytes(cell, rates)
    if cell.method in ("bptt", "tbptt"):
        back = 8 * n_weights(cell) if cell.connectivity < 1 else weights
        return weights + back
    numbers = TRACES.get(cell.method, 0) if chunk < cell.data_length else 0
    return weights + 2 * numbers * trace_bytes(cell) / chunk


def shares(row: dict[str, Any], machine: dict[str, Any]) -> dict[str, float]:
    """``product_share`` and ``memory_share`` of what the machine reaches, where both are known."""
    found = {}
    for name, count, rate in (
        ("product_share", FLOP, "product_flop_per_second"),
        ("memory_share", BYTES, "memory_bytes_per_second"),
    ):
        if row.get(count) and row.get("ms_per_step"):
            found[name] = round(row[count] / (row["ms_per_step"] * 1e-3) / machine[rate], 3)
    return found
