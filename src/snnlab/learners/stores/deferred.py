"""D-RTRL with an update at every step: traces that are written once in several steps.

What a step does to the traces ``e`` is known without touching them: with ``t0`` the step of the
last writing, ``P_t = D_t ... D_{t0+1}`` and ``F_{t,s} = D_t ... D_{s+1} f_s``,

    e_t = P_t e_{t0} + sum_{s = t0+1 .. t} x_s F_{t,s} ,

so the gradient of step t, ``d_t . e_t = (d_t . P_t) e_{t0} + sum_s x_s (d_t . F_{t,s})``, reads
them once, and ``x_s``, ``F_{t,s}``, ``P_t`` (vectors of neurons) wait until they are written after
``WAITING`` steps. None of these depends on weights of later steps: the gradient is that of D-RTRL
with any schedule of updates, to rounding. In place of one reading and one writing of the
traces, a step costs one reading and ``1 / WAITING`` writings, of the rows whose input was active
before: the others are zero.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from snnlab.learners.graph.derivatives import Blocks
from snnlab.learners.graph.evaluate import Inputs
from snnlab.learners.graph.step import StepGraph
from snnlab.learners.relations import products
from snnlab.learners.stores import traces as rules

#: Steps after which traces are written: more save little and cost more products.
WAITING = 4

#: What waits: ``x`` by piece ``(WAITING, B, i)``, ``f`` by (state, cut) ``(WAITING, B, n)``, ``p``
#: by (new, old) state ``(B, n)``, and ``steps``, their number; and ``live`` by piece ``(B, i)``, 0
#: where a row of the traces is zero.
Waiting = dict[str, Any]


def nothing(graph: StepGraph, cuts: list[int]) -> Waiting:
    """No step waits: shapes of zeros, and arrays."""

    def zeros(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    found = [graph.cuts[r] for r in cuts]
    inputs = {
        f"{r}.{k}": piece.var.aval.shape
        for r, cut in zip(cuts, found, strict=True)
        for k, piece in enumerate(cut.pieces)
        if piece.size
    }
    return {
        "x": {name: zeros(WAITING, *shape) for name, shape in inputs.items()},
        "live": {name: zeros(*shape) for name, shape in inputs.items()},
        "f": {
            f"{b}<{r}": zeros(WAITING, *cut.y.aval.shape)
            for r, cut in zip(cuts, found, strict=True) for b in cut.reach
        },
        "p": {f"{b}<{a}": _identity(graph, b, a) for b, a in graph.reaches()},
        "steps": jax.ShapeDtypeStruct((), jnp.int32),
    }  # fmt: skip


def _identity(graph: StepGraph, b: int, a: int) -> jax.Array:
    return jnp.full(graph.state_vars[b].aval.shape, float(a == b), jnp.float32)


def step(
    graph: StepGraph, traces: rules.Traces, waiting: Waiting, pieces: Inputs,
    d: rules.ByState, big_d: Blocks, f: Blocks,
) -> tuple[rules.Traces, Waiting, rules.ByCut]:  # fmt: skip
    """One step.

    Args:
        graph: the cut step.
        traces: ``e_{t0}``.
        waiting: the steps before.
        pieces: the maps' inputs, ``(1, B, i)``.
        d: learning signal by state, ``(1, B, n)``.
        big_d, f: Jacobians, ``(1, B, n)``, or ``(B, n)`` where they are constant.

    Returns:
        traces, what waits now, and the gradients.
    """
    d = {b: value[0] for b, value in d.items()}
    big_d, f = ({k: v[0] if v.ndim == 3 else v for k, v in t.items()} for t in (big_d, f))
    at, states = waiting["steps"], graph.trace_states
    p_old, f_old = _by_pair(waiting["p"]), _by_pair(waiting["f"])
    p: Blocks = {
        (b, a): rules.total(
            [big_d[b, c] * p_old[c, a] for c in states if (b, c) in big_d and (c, a) in p_old],
            like=old,
        )
        for (b, a), old in p_old.items()
    }
    moved: Blocks = {}
    for (b, r), old in f_old.items():
        terms = [big_d[b, c] * f_old[c, r] for c in states if (b, c) in big_d and (c, r) in f_old]
        now = f.get((b, r), jnp.zeros_like(old[0]))
        moved[b, r] = rules.total(terms, like=old).at[at].set(now)
    x = {
        name: old.at[at].set(products.dense(pieces[_pair(name, ".")])[0])
        for name, old in waiting["x"].items()
    }
    c = {a: rules.total([d[b] * p[b, a] for b in d if (b, a) in p], like=d[a]) for a in states}
    y_bar = {
        r: functools.reduce(jnp.add, [d[b] * moved[b, r] for b in graph.cuts[r].reach])
        for r in dict.fromkeys(r for _, r in moved)
    }
    write = at + 1 == WAITING
    inputs = {_pair(name, "."): value for name, value in x.items()}
    live = waiting["live"]
    traces, gradients = rules.pass_in_one(
        graph,
        traces,
        c,
        (p, moved),
        inputs,
        y_bar,
        advance=write,
        steps=at + 1,
        live={_pair(name, "."): value for name, value in live.items()},
    )
    new = {
        "x": x,
        "live": {
            name: jnp.where(write, jnp.maximum(value, jnp.any(x[name] != 0, axis=0)), value)
            for name, value in live.items()
        },
        "f": {f"{b}<{r}": jnp.where(write, 0.0, value) for (b, r), value in moved.items()},
        "p": {
            f"{b}<{a}": jnp.where(write, _identity(graph, b, a), value)
            for (b, a), value in p.items()
        },
        "steps": jnp.where(write, 0, at + 1),
    }
    return traces, new, gradients


def _pair(name: str, sign: str) -> tuple[int, int]:
    a, b = name.split(sign)
    return int(a), int(b)


def _by_pair(table: dict[str, jax.Array]) -> Blocks:
    return {_pair(name, "<"): value for name, value in table.items()}
