"""What a learner must do at least: arithmetic of its products, traffic of weights and traces.

Arithmetic is counted from the shapes of every matrix product in the traced program (2 M N K, times
the rounds of the loops around it). Traffic is, in bytes of float32 for a step, with W weights,
B samples and chunks of K steps::

    weights  4 W forward, and again backward (BPTT; an online learner has no backward in time)
    traces   2 x 4 B W / K for each number that a rule keeps of a weight and sample: one reading and
             one writing for a chunk, where traces are kept (D-RTRL: one for a LIF neuron)

A learner's share of the machine is this over its time, over the rate that the machine reaches
(Williams et al. 2009, Commun. ACM 52:65).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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


def n_weights(cell: Cell, n_out: int = 10) -> int:
    """Weights of the cell's network, readout included."""
    inputs = [cell.n_in, *[cell.n_rec] * (cell.n_layer - 1)]
    return sum((n + cell.n_rec) * cell.n_rec for n in inputs) + cell.n_rec * n_out


def trace_bytes(cell: Cell) -> int:
    """Bytes of the traces of D-RTRL, for a layer model with one state beside the synapse's."""
    return 4 * cell.batch_size * n_weights(cell)


def traffic_bytes(cell: Cell, chunk: int) -> float:
    """Bytes of weights and traces that must be read and written for a step.

    Args:
        cell: sizes and learner.
        chunk: K; steps between two readings of the traces.
    """
    weights = 4 * n_weights(cell)
    if cell.method in ("bptt", "tbptt"):
        return 2 * weights
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
